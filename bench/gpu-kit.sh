#!/usr/bin/env bash
# Builds what `bench/gpu.sh` runs on a machine that has a GPU and nothing else: the device benchmark with kernels
# compiled through SPIR-V and through WGSL, and `forebay`, stripped and compressed.
#
#     bench/gpu-kit.sh             into target/gpu-kit
#
# The SPIR-V build compiles Burn once more; it has a target folder of its own, so that the other build stays.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
kit=$target/gpu-kit
mkdir -p "$kit"
cargo build --release --example device_bench
cargo build --release --features spirv,persistence --target-dir "$target/spirv" --example device_bench
cargo build --release --features spirv,persistence --target-dir "$target/spirv" --bin forebay
pack() { xz -6 -T0 -c "$1" >"$kit/$2.xz"; }
pack "$target/release/examples/device_bench" device_bench-wgsl
pack "$target/spirv/release/examples/device_bench" device_bench-spirv
pack "$target/spirv/release/forebay" forebay-spirv
du -bh "$kit"/*
