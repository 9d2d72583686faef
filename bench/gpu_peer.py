"""The parts of bench/gpu.sh besides Forebay: PyTorch on the same card, a client with one request, and the tables.

    gpu_peer.py rectangles f32|f16 SHAPE ROWSxTOKENS,.. SECONDS   eager PyTorch (sdpa); prints lines of JSON
    gpu_peer.py mixed f32|f16 SHAPE TOKENS TEXTS                  sentence-transformers' encode with texts of all lengths
    gpu_peer.py lone TEXTS COMMAND..                              one request after the other to COMMAND's stdin
    gpu_peer.py table FILE                                        prints the measurements in FILE (lines of JSON) as a table
    gpu_peer.py bars FILE                                         prints whether the targets are met
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {"minilm": (6, 384, 12, 1536), "bert-base": (12, 768, 12, 3072)}


def say(**row):
    print(json.dumps(row), flush=True)


def config(shape):
    from transformers import BertConfig

    layers, hidden, heads, feed_forward = SHAPES[shape]
    return BertConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, intermediate_size=feed_forward
    )


def bert(precision, shape):
    import torch
    from transformers import BertModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.float16 if precision == "f16" else torch.float32
    model = BertModel(config(shape), add_pooling_layer=False).eval().to(device, kind)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    say(case="start", device=f"PyTorch {torch.__version__} on {name}, {kind}")
    return torch, device, model


def quantiles(times):
    times = sorted(times)
    return [1e3 * times[int((len(times) - 1) * share)] for share in (0.5, 0.99)]


def rectangles(precision, shape, rectangles, seconds):
    torch, device, model = bert(precision, shape)

    @torch.inference_mode()
    def infer(rows, tokens):
        ids = torch.full((rows, tokens), 4)
        mask = torch.ones_like(ids)
        hidden = model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        # The mean over the tokens is copied to the host, because an answer needs it there.
        return hidden.float().mean(1).cpu()

    for rectangle in rectangles.split(","):
        rows, tokens = map(int, rectangle.split("x"))
        started = time.perf_counter()
        infer(rows, tokens)
        first, times, started = time.perf_counter() - started, [], time.perf_counter()
        infer(rows, tokens)
        while len(times) < 5 or time.perf_counter() - started < float(seconds):
            one = time.perf_counter()
            infer(rows, tokens)
            times.append(time.perf_counter() - one)
        p50, p99 = quantiles(times)
        say(case="batch", shape=shape, batch=rows, length=tokens, texts_per_s=1e3 * rows / p50, p50_ms=p50, p99_ms=p99,
            first_s=first)  # fmt: skip


def mixed(precision, shape, tokens, count):
    """Measures the same texts as `device_bench .. flow`, including the tokenizer, and reports the better of two batch sizes."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertModel, BertTokenizerFast

    tokens, count = int(tokens), int(count)
    with tempfile.TemporaryDirectory() as folder:
        BertModel(config(shape)).save_pretrained(folder)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
        tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=tokens)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = SentenceTransformer(modules=[transformer, Pooling(config(shape).hidden_size)], device=device)
        if precision == "f16":
            model.half()
        texts = ["a " * (1 + n * n * 7 % (tokens - 2)) for n in range(count)]
        rates = {}
        for size in (64, 256):
            model.encode(texts[: 4 * size], batch_size=size)
            started = time.perf_counter()
            model.encode(texts, batch_size=size)
            rates[size] = count / (time.perf_counter() - started)
    best = max(rates, key=rates.get)
    say(case="flow", shape=shape, texts_per_s=rates[best], batch=best)


def lone(count, *command):
    """Sends each request when the reply to the last one has come."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    times = []
    started = time.perf_counter()
    for number in range(int(count)):
        one = time.perf_counter()
        process.stdin.write(json.dumps("a " * 20).encode() + b"\n")
        process.stdin.flush()
        reply = process.stdout.readline()
        if not reply:
            sys.exit("the pipeline ended")
        if number == 0:
            first = time.perf_counter() - started
        times.append(time.perf_counter() - one)
    process.stdin.close()
    process.wait()
    p50, p99 = quantiles(times[len(times) // 5 :])
    say(case="lone", p50_ms=p50, p99_ms=p99, first_s=first)


def off(row):
    """Returns the difference to the CPU as text. NaN is null in JSON."""
    return f"off by {row['difference']:.1e}" if row["difference"] is not None else "NOT A NUMBER"


def rows(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines() if line.startswith("{")]


def table(file):
    every = rows(file)
    for row in every:
        if row["case"] == "start":
            took = ", ".join(f"{key[:-2]} {row[key]:.1f} s" for key in ("load_s", "warm_up_s") if key in row)
            print(f"- {row['by']}: {row['device']}{'; ' if took else ''}{took}")
        if row["case"] == "flow":
            idle = f", {100 * row['idle_share']:.1f}% of the time without a batch" if "idle_share" in row else ""
            print(f"- {row['by']}: {row['shape']}, texts of all lengths: {row['texts_per_s']:.0f}/s{idle}")
        if row["case"] == "graph":
            kind = "a graph" if row["hardware"] else "no graph"
            print(f"- {row['by']}: {row['shape']} {row['batch']} x {row['length']}: called {row['called_ms']:.2f} ms, "
                  f"replayed from {kind} {row['replayed_ms']:.2f} ms, {off(row)}")  # fmt: skip
        if row["case"] == "lone":
            print(f"- {row['by']}: a lone request takes {row['p50_ms']:.2f} ms (p50), {row['p99_ms']:.2f} ms (p99)")
    batches = [row for row in every if row["case"] == "batch"]
    names = list(dict.fromkeys(row["by"] for row in batches))
    if not batches:
        return
    print(f"\n| shape | tokens | texts |{''.join(f' {name} |' for name in names)}")
    print("|" + "---|" * (3 + len(names)))
    by = {}
    for row in batches:
        by.setdefault((row["shape"], row["length"], row["batch"]), {})[row["by"]] = row
    for (shape, tokens, texts), cells in by.items():
        line = []
        for name in names:
            row = cells.get(name)
            if row is None:
                line.append("")
                continue
            difference = f", {off(row)}" if "difference" in row else ""
            line.append(f"{row['texts_per_s']:.0f}/s, {row['p50_ms']:.2f} ms, first {row['first_s']:.1f} s{difference}")
        print(f"| {shape} | {tokens} | {texts} | {' | '.join(line)} |")


def bars(file):
    every = rows(file)

    def batch(by, shape, texts, tokens, key):
        wanted = ("batch", by, shape, texts, tokens)
        found = [
            row[key] for row in every
            if (row["case"], row["by"], row.get("shape"), row.get("batch"), row.get("length")) == wanted
        ]  # fmt: skip
        return statistics.median(found) if found else None

    def one(by, case, key):
        found = [row[key] for row in every if (row["case"], row["by"]) == (case, by) and key in row]
        return found[-1] if found else None

    def bar(name, value, peer, passes):
        if value is None or peer is None:
            print(f"- {name}: not measured")
        else:
            print(f"- {name}: {value / peer:.2f} ({value:.4g} against {peer:.4g}): {'met' if passes(value / peer) else 'MISSED'}")

    found = [row["difference"] for row in every if row["case"] == "batch" and "difference" in row]
    wrong = [difference for difference in found if difference is None or difference > 5e-2]
    print(f"- every rectangle agrees with the CPU: {len(found) - len(wrong)} of {len(found)}: {'MISSED' if wrong else 'met'}")
    for shape in SHAPES:
        bar(f"a lone text of 32 tokens, {shape} f16, time beside PyTorch's",
            batch("spirv f16", shape, 1, 32, "p50_ms"), batch("pytorch f16", shape, 1, 32, "p50_ms"), lambda r: r <= 1)  # fmt: skip
    rate = batch("spirv f16", "bert-base", 64, 128, "texts_per_s")
    bar("bert-base 64 x 128 f16, SPIR-V beside WGSL", rate, batch("wgsl f16", "bert-base", 64, 128, "texts_per_s"), lambda r: r >= 4)  # fmt: skip
    bar("bert-base 64 x 128 f16 beside PyTorch", rate, batch("pytorch f16", "bert-base", 64, 128, "texts_per_s"), lambda r: r >= 0.35)  # fmt: skip
    bar("texts of all lengths beside sentence-transformers",
        one("spirv f16", "flow", "texts_per_s"), one("pytorch f16", "flow", "texts_per_s"), lambda r: r >= 0.8)  # fmt: skip
    warm = one("spirv f16 warm", "start", "warm_up_s")
    print(f"- a warm start: {'not measured' if warm is None else f'{warm:.1f} s: ' + ('met' if warm < 10 else 'MISSED')}")


if __name__ == "__main__":
    {"rectangles": rectangles, "mixed": mixed, "lone": lone, "table": table, "bars": bars}[sys.argv[1]](*sys.argv[2:])
