"""Prints the measurements of run.sh as Markdown: medians over the rounds, and targets."""

import json
import statistics
import sys
import tarfile
from pathlib import Path

# The same as EVENTS in benches/operators.rs.
EVENTS = 20_000

# The label of each operator, and the target for its time in nanoseconds.
OPERATORS = {
    "base": ("source and sink alone", None),
    "map": ("`map`", 60),
    "filter": ("`filter`", 60),
    "map_x4": ("4 × `map`", 200),
    "partition_32": ("`partition(32)`", 100),
    "buffer": ("`buffer(128)`, a task hop", 250),
    "map_async_8": ("`map_async(8)`", None),
    "map_async_unordered_8": ("`map_async_unordered(8)`", None),
}
AGAINST_STREAMZ = ["map", "partition_32", "map_async_8"]
MULTIPLE = 50


def criterion(archive):
    """Returns the nanoseconds per event of one round, by side and operator."""
    with tarfile.open(archive) as files:
        return {
            tuple(Path(name).parts[:2]): json.load(files.extractfile(name))["median"]["point_estimate"] / EVENTS
            for name in files.getnames()
        }


def spread(values):
    low, high = min(values), max(values)
    return f"{low:.0f} to {high:.0f}" if high >= 10 else f"{low:.1f} to {high:.1f}"


def main(results):
    rounds = [criterion(archive) for archive in sorted(results.glob("*.tar"))]
    streamz = [json.loads(path.read_text()) for path in sorted(results.glob("*.streamz.json"))]
    median = statistics.median

    print(
        f"Medians of {len(rounds)} rounds; Streamz {streamz[0]['streamz']} on Python {streamz[0]['python']}. "
        "ns/event; `through it` is the whole less the same round's source and sink alone.\n\n"
        "| operator | Forebay, whole | spread | through it | target | futures, whole | spread | ratio |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, (label, limit) in OPERATORS.items():
        forebay = [one["forebay", name] for one in rounds]
        futures = [one["futures", name] for one in rounds]
        over = median(one["forebay", name] - one["forebay", "base"] for one in rounds)
        target = f"{limit}: {'met' if over <= limit else 'MISSED'}" if limit else ""
        print(
            f"| {label} | {median(forebay):.0f} | {spread(forebay)} | {'' if name == 'base' else f'{over:.0f}'} "
            f"| {target} | {median(futures):.1f} | {spread(futures)} | {median(forebay) / median(futures):.1f} |"
        )
    print(
        f"\nEvents/s through a chain that ends in a sink; target: at least {MULTIPLE} times Streamz.\n\n"
        "| chain | receipts | Streamz | spread | Forebay | times Streamz |\n|---|---|---|---|---|---|"
    )
    for name in AGAINST_STREAMZ:
        label = OPERATORS[name][0]
        # Compares the two without receipts (reference counters in Streamz), both with them, and last Forebay with them
        # and Streamz without.
        for receipts, side, suffix in [
            ("neither", "detached", ""),
            ("both", "forebay", "_refs"),
            ("Forebay only", "forebay", ""),
        ]:
            rate = 1e9 / median(one[side, name] for one in rounds)
            theirs = [one[name + suffix] for one in streamz]
            times = rate / median(theirs)
            print(
                f"| {label} | {receipts} | {median(theirs):,.0f} | {min(theirs):,.0f} to {max(theirs):,.0f} "
                f"| {rate:,.0f} | {times:.0f} ({'met' if times >= MULTIPLE else 'MISSED'}) |"
            )


main(Path(sys.argv[1]))
