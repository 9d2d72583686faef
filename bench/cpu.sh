#!/usr/bin/env bash
# Measures all-MiniLM-L6-v2 on the CPU beside ONNX Runtime and sentence-transformers (PyTorch), and prints the tables of
# docs/performance.md.
#
#     bench/cpu.sh [rounds]
#
# A round measures everything once, each with as many threads as there are cores, tokenising included. Needs cargo and
# Python 3.10 or newer; the peers (3 GB) go into an environment of their own in the cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
packages=(torch==2.15.0 sentence-transformers==6.2.0 onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/forebay
environment=$cache/peers
python=$environment/bin/python
threads=$(nproc)

if [[ ! -e "$environment/ready" ]]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    touch "$environment/ready"
fi
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
