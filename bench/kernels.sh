#!/usr/bin/env bash
# Checks that the kernels of the CPU encoder are fast in the release profile, in the development profile, and with link-time
# optimisation, which users of the library may enable. Compares them with the matrix product of the gemm crate in the same
# run, with the widest vectors of this processor and with narrower ones, and checks the machine code.
#
#     bench/kernels.sh
#
# The exit code is not 0 if a kernel is too slow in two measurements, or calls a function that should be inlined.
set -euo pipefail
cd "$(dirname "$0")"

target=${CARGO_TARGET_DIR:-target}
check() { # BINARY
    python3 disassembly.py "$1"
    for lanes in 16 8 4; do
        "$1" check --lanes "$lanes"
    done
}
build() { cargo build --quiet --locked --package forebay-bench-kernels "$@"; }

# Keeps symbols for disassembly.py; otherwise this is the release profile.
export CARGO_PROFILE_RELEASE_STRIP=none
build --release
check "$target/release/forebay-bench-kernels"
build
check "$target/debug/forebay-bench-kernels"
CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=4 build --release --target-dir "$target/lto"
check "$target/lto/release/forebay-bench-kernels"
