#!/usr/bin/env bash
# Creates a Python environment with the packages that Forebay is compared with (3 GB, in the cache folder), and prints the
# path of its interpreter. Needs Python 3.10 or newer.
set -euo pipefail

packages=(
    torch==2.15.0 sentence-transformers==6.2.0 onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2 confluent-kafka==2.15.0
)
environment=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/peers
if [[ "$(cat "$environment/ready" 2>/dev/null)" != "${packages[*]}" ]]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    echo "${packages[*]}" >"$environment/ready"
fi
echo "$environment/bin/python"
