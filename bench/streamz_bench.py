"""What Streamz does with the same three chains, in events a second; prints JSON.

Every chain is built and fed the way Streamz's own documentation does it, and in the way that is fastest for it: events
are pushed with `emit`, without metadata, so without the reference counters that stand for Forebay's receipts. The
time is that of all `emit` calls, with what is still under way at the end. Beside them, under `*_refs`, the same with
one `RefCounter` for each event, which is what a Kafka source attaches to commit its offsets.

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
    """A fresh reference counter that calls back when the event is done, or nothing."""
    return [{"ref": RefCounter(cb=settled)}] if refs else None


class Count:
    """Counts what it is called for."""

    def __init__(self):
        self.count = 0

    def __call__(self, *_):
        self.count += 1


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


async def rate(build, emits, refs, awaited):
    """Events a second from `build`'s source to its sink, of which `emits` calls are expected."""
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
