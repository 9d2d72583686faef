"""Measures three chains of Streamz in events per second, and prints JSON.

Each chain is built as in the documentation of Streamz, in the way that is fastest for Streamz: events are pushed with
`emit` and without metadata, and so without the reference counters that correspond to Forebay's receipts. The time is that
of all `emit` calls, including the events that are still in flight at the end. The results `*_refs` are those with one
`RefCounter` per event, which a Kafka source of Streamz attaches to commit its offsets.

- `map`: `Stream().map(f).sink(g)`, with the plain, synchronous `emit`; no event loop is involved.
- `partition_32`: `Stream(asynchronous=True).partition(32).sink(g)`, each `emit` awaited.
- `map_async_8`: `Stream(asynchronous=True).map_async(f, parallelism=8).sink(g)`, each `emit` awaited; `f` is a coroutine
  function that returns at once.
"""

import asyncio
import json
import logging
import sys
import time
from importlib.metadata import version

from streamz import Stream
from streamz.core import RefCounter

EVENTS = 20_000


def metadata(refs, settled):
    """Returns metadata with a new reference counter, which calls `settled` when the event is done; None without `refs`."""
    return [{"ref": RefCounter(cb=settled)}] if refs else None


class Count:
    """Counts its calls."""

    def __init__(self):
        self.count = 0

    def __call__(self, *_):
        self.count += 1


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


async def rate(build, emits, refs, awaited):
    """Returns the events per second from the source to the sink of `build`; the sink is called `emits` times."""
    source = Stream(asynchronous=True) if awaited else Stream()
    delivered, settled = Count(), Count()
    build(source).sink(delivered)
    start = time.perf_counter()
    for value in range(EVENTS):
        event_metadata = metadata(refs, settled)
        if awaited:
            await source.emit(value, metadata=event_metadata)
        else:
            source.emit(value, metadata=event_metadata)
    await until(lambda: delivered.count == emits and (not refs or settled.count >= EVENTS))
    return EVENTS / (time.perf_counter() - start)


async def increment(value):
    return value + 1


async def main():
    logging.disable()
    results = {}
    for suffix, refs in (("", False), ("_refs", True)):
        chains = {
            "map": (lambda source: source.map(lambda value: value + 1), EVENTS, False),
            "partition_32": (lambda source: source.partition(32), EVENTS // 32, True),
            "map_async_8": (lambda source: source.map_async(increment, parallelism=8), EVENTS, True),
        }
        for name, (build, emits, awaited) in chains.items():
            results[name + suffix] = await asyncio.wait_for(rate(build, emits, refs, awaited), 120)
    json.dump({"streamz": version("streamz"), "python": sys.version.split()[0], **results}, sys.stdout)
    print()


asyncio.run(main())
