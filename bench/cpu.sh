#!/usr/bin/env bash
# Compares all-MiniLM-L6-v2 on the CPU in Forebay, ONNX Runtime and sentence-transformers (PyTorch), and prints the tables
# of docs/performance.md.
#
#     bench/cpu.sh [rounds]
#
# A round measures every case once, with one thread per core and including the tokenizer. Needs cargo and the requirements
# of bench/peers.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
threads=$(nproc)
python=$(bench/peers.sh)
model=$(scripts/fetch-minilm.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" bench/cpu_peers.py texts "$work"
"$python" bench/cpu_peers.py export "$model" "$work/model.onnx" >"$work/export.log" 2>&1 ||
    { cat "$work/export.log" >&2 && exit 1; }
cargo build --quiet --release --example throughput
forebay=${CARGO_TARGET_DIR:-target}/release/examples/throughput

for round in $(seq "$rounds"); do
    for texts in short mixed; do
        echo "round $round of $rounds: $texts" >&2
        "$forebay" "$model" cpu f32 "$work/$texts.txt" 2>/dev/null | sed 's/^/forebay-/' >"$work/rates"
        "$forebay" "$model" cpu bf16 "$work/$texts.txt" 2>/dev/null | sed 's/^/forebay-bf16-/' >>"$work/rates"
        "$python" bench/cpu_peers.py run "$model" "$work/model.onnx" "$work/$texts.txt" "$threads" \
            2>/dev/null >>"$work/rates"
        "$python" -c 'import json, sys
rates = dict(line.split() for line in open(sys.argv[2]))
rates = {case: float(rate) for case, rate in rates.items()}
print(json.dumps({"texts": sys.argv[1], "rates": rates}))' "$texts" "$work/rates" >>"$work/rounds"
    done
done
"$python" bench/cpu_peers.py table "$work/rounds"
