"""The peer of bench/loop.sh: a hand-written consumer loop.

    loop_peer.py BROKERS REQUESTS REPLIES GROUP MODEL FILE.onnx BATCH THREADS

Polls at most BATCH records, tokenizes them, pads them to the longest, runs ONNX Runtime once, takes the mean over the tokens
of each text, scales it to length 1, produces the replies with the keys and headers of the requests, and commits once the
broker has confirmed the replies. Prints "ready" when its partitions are assigned.
"""

import json
import signal
import sys

from confluent_kafka import Consumer, Producer

from onnx_embedder import embedder


def main():
    brokers, requests, replies, group, model, onnx, batch, threads = sys.argv[1:]
    embed = embedder(model, onnx, int(threads))
    embed(["warm up"] * int(batch))
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 5,
    })
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0, "acks": "all"})
    consumer.subscribe([requests], on_assign=lambda _, __: print("ready", flush=True))

    going = True

    def stop(*_):
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    while going:
        # Waits for a first record and then takes the records that are already fetched, without waiting for a full batch.
        first = consumer.poll(0.2)
        if first is None:
            continue
        records = [first, *consumer.consume(int(batch) - 1, timeout=0)] if int(batch) > 1 else [first]
        records = [record for record in records if record.error() is None]
        if not records:
            continue
        vectors = embed([json.loads(record.value())["text"] for record in records])
        for record, vector in zip(records, vectors):
            value = json.dumps({"embedding": vector.tolist()})
            producer.produce(replies, value, record.key(), headers=record.headers())
        producer.flush()
        consumer.commit(asynchronous=True)
    consumer.close()


main()
