#!/usr/bin/env bash
# Checks that the CPU encoder's kernels are fast, in the release and in the development profile: beside the product of the
# gemm crate in the same run, with the vectors that this processor has and with narrower ones, and in the machine code.
#
#     bench/kernels.sh
#
# The exit code is not 0 if a kernel is too slow, when it is measured again too, or calls what it should contain.
set -euo pipefail
cd "$(dirname "$0")"

for profile in release dev; do
    # With symbols, which are all that differs from what is released.
    CARGO_PROFILE_RELEASE_STRIP=none cargo build --quiet --locked --profile "$profile" --package forebay-bench-kernels
    binary=${CARGO_TARGET_DIR:-target}/${profile/dev/debug}/forebay-bench-kernels
    python3 disassembly.py "$binary"
    for lanes in 16 8 4; do
        "$binary" check --lanes "$lanes"
    done
done
