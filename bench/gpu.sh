#!/usr/bin/env bash
# Measures a GPU with random weights of two shapes, beside PyTorch on the same card where Python has it, and prints a table.
#
#     bench/gpu.sh [DEVICE] [PRECISION]      gpu f16; `gpu:software f32` is for machines without one
#
# DEVICE_BENCH names a prebuilt binary (`cargo build --release --example device_bench`), which is all that
# it needs besides the Vulkan loader and the card's driver; without it, it is built. BATCHES, LENGTHS and SHAPES choose
# what is measured, and TEXTS how many go through a flow.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${1:-gpu}
precision=${2:-f16}
batches=${BATCHES:-1,4,16,64,256}
lengths=${LENGTHS:-32,128,512}
texts=${TEXTS:-2000}
read -ra shapes <<<"${SHAPES:-minilm bert-base}"
python=${PYTHON:-python3}
peers=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/peers/bin/python
[[ -x "$peers" ]] && python=$peers

if [[ -z "${DEVICE_BENCH:-}" ]]; then
    cargo build --quiet --release --example device_bench
    DEVICE_BENCH=${CARGO_TARGET_DIR:-target}/release/examples/device_bench
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT
label() { sed "s/^{/{\"by\": \"$1\", /"; }
for shape in "${shapes[@]}"; do
    "$DEVICE_BENCH" "$device" "$precision" "$shape" "$batches" "$lengths" "$texts" | label forebay >>"$results"
    if "$python" -c 'import torch, transformers' 2>/dev/null; then
        "$python" bench/gpu_peer.py run "$precision" "$shape" "$batches" "$lengths" | label pytorch >>"$results"
    else
        echo "no PyTorch with transformers: Forebay alone" >&2
    fi
done
"$python" bench/gpu_peer.py table "$results"
