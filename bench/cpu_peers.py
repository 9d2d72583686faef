"""Texts and peers for bench/cpu.sh.

    cpu_peers.py texts FOLDER            writes short.txt and mixed.txt
    cpu_peers.py export MODEL FILE.onnx  converts the model for ONNX Runtime, with PyTorch
    cpu_peers.py run MODEL FILE.onnx TEXTS THREADS   prints "CASE TEXTS/S" lines
    cpu_peers.py table RESULTS           prints the tables of docs/performance.md
"""

import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

WORDS = (
    "the order came late and broken so we sent it back on monday with a note about which part was missing "
    "support answered within an hour which was good but nobody could say when another device would be there "
    "please restart your router then check if every light is green before you call again thank you"
).split()


def write_texts(folder):
    """Writes 512 texts with a mean of 11 tokens and 512 with a mean of 40, a few of which have the model's maximum length."""
    draw = random.Random(7)
    folder = Path(folder)
    for name, mean, spread, most in [("short", 9, 0.35, 20), ("mixed", 38, 0.95, 254)]:
        middle = mean / 2.718281828 ** (spread * spread / 2)
        lengths = [min(most, max(2, round(middle * draw.lognormvariate(0, spread)))) for _ in range(512)]
        lines = [" ".join(draw.choice(WORDS) for _ in range(length)) for length in lengths]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def export(model, target):
    import torch
    from transformers import AutoModel

    class Bert(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = AutoModel.from_pretrained(model, attn_implementation="eager")

        def forward(self, ids, mask, types):
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    bert = Bert().eval()
    ids = torch.ones(2, 8, dtype=torch.long)
    dynamic = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        bert, (ids, ids, torch.zeros_like(ids)), target, dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask", "token_type_ids"], output_names=["hidden"],
        dynamic_axes={"input_ids": dynamic, "attention_mask": dynamic, "token_type_ids": dynamic, "hidden": dynamic},
    )


def run(model, onnx, texts, threads):
    import torch
    from sentence_transformers import SentenceTransformer

    from onnx_embedder import MOST_TOKENS, embedder

    threads = int(threads)
    texts = Path(texts).read_text().splitlines()
    infer = embedder(model, onnx, threads)

    def measure(name, size, texts, call):
        call(texts[: min(size, 32)])
        started = time.perf_counter()
        for first in range(0, len(texts), size):
            call(texts[first : first + size])
        print(name, f"{len(texts) / (time.perf_counter() - started):.1f}", flush=True)

    by_length = sorted(texts, key=len)
    measure("onnx-1", 1, texts, infer)
    for size in (8, 32):
        measure(f"onnx-{size}", size, texts, infer)
        measure(f"onnx-{size}-sorted", size, by_length, infer)

    torch.set_num_threads(threads)
    for name, precision, sizes in [("torch", torch.float32, (1, 8, 32)), ("torch-bf16", torch.bfloat16, (8, 32))]:
        sentences = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": precision})
        sentences.max_seq_length = MOST_TOKENS
        # `encode` makes the batches: it sorts the texts by length and cuts the list.
        for size in sizes:
            call = lambda batch: sentences.encode(batch, batch_size=size)
            measure(f"{name}-{size}", 1 if size == 1 else len(texts), texts, call)


def table(results):
    """Prints a row for each runtime and batch size: the median rate of the rounds, and the median of the ratios to the
    best peer with the same precision in the same round."""
    rounds = [json.loads(line) for line in Path(results).read_text().splitlines()]
    for name in ("short", "mixed"):
        mine = [one for one in rounds if one["texts"] == name]
        cases = list(mine[0]["rates"])
        peers = [case for case in cases if not case.startswith("forebay")]
        print(f"\n| {name} | texts/s | spread | times the best peer of its precision in its round |\n|---|---|---|---|")
        for case in cases:
            like = [peer for peer in peers if ("bf16" in peer) == ("bf16" in case)]
            rates = [one["rates"][case] for one in mine]
            ratios = [one["rates"][case] / max(one["rates"][peer] for peer in like) for one in mine]
            spread = f"{min(rates):.0f} to {max(rates):.0f}"
            print(f"| `{case}` | {statistics.median(rates):.0f} | {spread} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    commands = {"texts": write_texts, "export": export, "run": run, "table": table}
    commands[sys.argv[1]](*sys.argv[2:])
