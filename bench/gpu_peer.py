"""PyTorch beside device_bench, for bench/gpu.sh: the same shapes with random weights, eager.

    gpu_peer.py run f32|f16 SHAPE BATCHES LENGTHS   prints lines of JSON
    gpu_peer.py table FILE                          a table of both
"""

import json
import sys
import time
from pathlib import Path

SHAPES = {"minilm": (6, 384, 12, 1536), "bert-base": (12, 768, 12, 3072)}
SECONDS = 1.5


def run(precision, shape, batches, lengths):
    import torch
    from transformers import BertConfig, BertModel

    layers, hidden, heads, feed_forward = SHAPES[shape]
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, intermediate_size=feed_forward
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.float16 if precision == "f16" and device == "cuda" else torch.float32
    model = BertModel(config, add_pooling_layer=False).eval().to(device, kind)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(json.dumps({"case": "start", "device": f"PyTorch {torch.__version__} on {name}, {kind}"}), flush=True)

    @torch.inference_mode()
    def infer(batch, length):
        ids = torch.full((batch, length), 4)
        mask = torch.ones_like(ids)
        hidden = model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        # The mean, and back on the host: what an answer needs.
        return hidden.float().mean(1).cpu()

    for length in map(int, lengths.split(",")):
        for batch in map(int, batches.split(",")):
            for _ in range(3):
                infer(batch, length)
            times, started = [], time.perf_counter()
            while len(times) < 5 or time.perf_counter() - started < SECONDS:
                one = time.perf_counter()
                infer(batch, length)
                times.append(time.perf_counter() - one)
            times.sort()
            at = lambda share: times[int((len(times) - 1) * share)]
            row = {"case": "batch", "shape": shape, "batch": batch, "length": length}
            row |= {"texts_per_s": batch / at(0.5), "p50_ms": 1e3 * at(0.5), "p99_ms": 1e3 * at(0.99)}
            print(json.dumps(row), flush=True)


def table(file):
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    for row in rows:
        if row["case"] == "start":
            started = f", warmed up in {row['warm_up_s']:.1f} s" if "warm_up_s" in row else ""
            print(f"- {row['by']}: {row['device']}{started}")
        if row["case"] == "call":
            print(f"- {row['by']}: a call of {row['shape']} costs {row['fixed_ms']:.2f} ms")
        if row["case"] == "flow":
            share = f"{row['texts_per_s']:.0f} texts/s of all lengths, {100 * row['idle_share']:.1f}% of the time without a batch"
            print(f"- {row['by']}: a flow through {row['shape']}: {share}")
    by = {}
    for row in rows:
        if row["case"] == "batch":
            by.setdefault((row["shape"], row["length"], row["batch"]), {})[row["by"]] = row
    print("\n| shape | tokens | batch | Forebay texts/s | p50, p99 ms | PyTorch texts/s | p50, p99 ms | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for (shape, length, batch), both in sorted(by.items()):
        mine, peer = both.get("forebay"), both.get("pytorch")
        cell = lambda row: f"{row['texts_per_s']:.0f} | {row['p50_ms']:.2f}, {row['p99_ms']:.2f}" if row else " | "
        ratio = f"{mine['texts_per_s'] / peer['texts_per_s']:.2f}" if mine and peer else ""
        print(f"| {shape} | {length} | {batch} | {cell(mine)} | {cell(peer)} | {ratio} |")


if __name__ == "__main__":
    {"run": run, "table": table}[sys.argv[1]](*sys.argv[2:])
