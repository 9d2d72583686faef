#!/usr/bin/env bash
# Builds the binaries for `bench/gpu.sh`, which runs on a machine with a GPU and without a Rust toolchain: the device
# benchmark, with kernels compiled through SPIR-V and through WGSL, and `forebay`. They are stripped and compressed.
#
#     bench/gpu-kit.sh             writes to target/gpu-kit
#
# The SPIR-V build compiles Burn a second time, in a separate target folder, so that the other build is kept.
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
