#!/usr/bin/env bash
# Compares the operators with the adapters of the futures crate and with Streamz, and prints the tables of
# docs/performance.md.
#
#     bench/run.sh [rounds]
#
# A round measures every operator once, so that load on the machine affects all columns; the tables have medians. Needs
# cargo and Python 3.10 or newer. Streamz is installed into a separate environment in the cache folder.
set -euo pipefail
cd "$(dirname "$0")"

rounds=${1:-5}
streamz=0.6.6
packages=(streamz=="$streamz" tornado==6.6.1 toolz==1.2.0 zict==3.0.0)
environment=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/streamz-$streamz
target=${CARGO_TARGET_DIR:-$PWD/target}
results=$target/rounds

if [ ! -e "$environment/ready" ]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    touch "$environment/ready"
fi
cargo bench --locked --no-run

rm -rf "$results"
mkdir -p "$results"
for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    cargo bench --quiet --locked --bench operators -- --noplot \
        --warm-up-time 0.5 --measurement-time 1 --sample-size 20 >"$results/$round.log" 2>&1 ||
        { cat "$results/$round.log" >&2 && exit 1; }
    (cd "$target/criterion" && tar -cf "$results/$round.tar" ./*/*/new/estimates.json)
    "$environment/bin/python" streamz_bench.py >"$results/$round.streamz.json"
done
"$environment/bin/python" table.py "$results"
