#!/usr/bin/env bash
# Checks that the CPU encoder's kernels are fast in the release profile, in the development profile, and with link-time
# optimisation, which users of the library may have: beside the product of the gemm crate in the same run, with the vectors
# that this processor has and with narrower ones, and in the machine code.
#
#     bench/kernels.sh
#
# The exit code is not 0 if a kernel is too slow, when it is measured again too, or calls what it should contain.
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

# With symbols, which are all that differs from what is released.
export CARGO_PROFILE_RELEASE_STRIP=none
build --release
check "$target/release/forebay-bench-kernels"
build
check "$target/debug/forebay-bench-kernels"
CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=4 build --release --target-dir "$target/lto"
check "$target/lto/release/forebay-bench-kernels"
