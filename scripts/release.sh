#!/usr/bin/env bash
# Builds the release binary, and fails if its throughput is below that of the development build.
#
#   scripts/release.sh                        builds both, compares them, prints the path of the release binary
#   scripts/release.sh RELEASE DEVELOPMENT    compares these binaries
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
release=${1:-$target/release/forebay}
development=${2:-$target/debug/forebay}
if (($# == 0)); then
    cargo build --release --locked --features persistence
    cargo build --locked
fi

# Prints the requests per second with 100 clients, batched.
rate() {
    "$1" bench --device cpu --concurrency 100 --requests 2000 | awk '$1 == 100 { print $2 }'
}

rates=()
for round in 1 2 3; do
    with=$(rate "$release")
    without=$(rate "$development")
    echo "round $round: release $with/s, development $without/s" >&2
    rates+=("$with $without")
done
printf '%s\n' "${rates[@]}" | awk '
    { ratio[NR] = $1 / $2 }
    END {
        # The median of three.
        low = ratio[1] < ratio[2] ? ratio[1] : ratio[2]
        high = ratio[1] < ratio[2] ? ratio[2] : ratio[1]
        median = ratio[3] < low ? low : ratio[3] > high ? high : ratio[3]
        printf "release is %.2f times as fast as development\n", median
        exit median < 0.9
    }' >&2 || { echo "release.sh: the release binary is slower than the development build" >&2 && exit 1; }
echo "$release"
