#!/usr/bin/env bash
# Compares Forebay with a hand-written consumer loop (bench/loop_peer.py): all-MiniLM-L6-v2 on the CPU, with the same Kafka,
# clients and number of threads. Prints the tables of docs/performance.md.
#
#     bench/loop.sh [rounds]
#
# A round measures every combination once: short and mixed texts; 1, 16, 64 and 256 clients; the loop with batches of at
# most 8 and 64, Forebay in f32 and bf16. Needs the requirements of scripts/kafka.sh and bench/peers.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-3}
seconds=${SECONDS_EACH:-4}
clients=(1 16 64 256)
threads=$(nproc)
python=$(bench/peers.sh)
model=$(scripts/fetch-minilm.sh)
cargo build --quiet --release --bin forebay --example load
target=${CARGO_TARGET_DIR:-target}/release

work=$(mktemp -d)
server=
cleanup() {
    [[ -z "$server" ]] || kill "$server" 2>/dev/null || true
    scripts/kafka.sh stop --dir "$work/kafka" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
"$python" bench/cpu_peers.py texts "$work"
"$python" bench/cpu_peers.py export "$model" "$work/model.onnx" >"$work/export.log" 2>&1 ||
    { cat "$work/export.log" >&2 && exit 1; }

servers=(loop-8 loop-64 forebay forebay-bf16)
topics=""
for name in "${servers[@]}"; do topics+=",$name.requests,$name.replies"; done
started=$(scripts/kafka.sh start --port "${KAFKA_PORT:-49192}" --dir "$work/kafka" --topics "${topics#,}")
brokers=${started#*=}
sed 's/^task = .*/&\nprecision = "bf16"/' config/embed.toml >"$work/bf16.toml"

# Starts the server $1 in the background and waits until it is ready for requests.
serve() {
    case $1 in
    loop-*)
        "$python" bench/loop_peer.py "$brokers" "$1.requests" "$1.replies" "$1" "$model" \
            "$work/model.onnx" "${1#loop-}" "$threads" >"$work/server.log" 2>&1 &
        ;;
    *)
        local file=config/embed.toml
        [[ $1 == forebay ]] || file=$work/bf16.toml
        KAFKA_BROKERS=$brokers REQUESTS_TOPIC=$1.requests REPLIES_TOPIC=$1.replies CONSUMER_GROUP=$1 \
            MINILM=$model DEVICE=cpu "$target/forebay" run "$file" >"$work/server.log" 2>&1 &
        ;;
    esac
    server=$!
    for _ in $(seq 300); do
        if grep -q ready "$work/server.log"; then return; fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/server.log" >&2
    exit 1
}

for round in $(seq "$rounds"); do
    for name in "${servers[@]}"; do
        echo "round $round of $rounds: $name" >&2
        serve "$name"
        for texts in short mixed; do
            for count in "${clients[@]}"; do
                figures=$("$target/examples/load" "$brokers" "$name.requests" "$name.replies" "$work/$texts.txt" \
                    "$count" "$seconds")
                echo "$name $texts $count $figures" >>"$work/results"
            done
        done
        kill -TERM "$server"
        wait "$server" || true
        server=
    done
done
"$python" - "$work/results" <<'PYTHON'
import statistics
import sys
from collections import defaultdict

cells = defaultdict(list)
for line in open(sys.argv[1]):
    name, texts, clients, *figures = line.split()
    cells[texts, int(clients), name].append([float(figure) for figure in figures])
middle = {key: [statistics.median(column) for column in zip(*runs)] for key, runs in cells.items()}
names = ["loop-8", "loop-64", "forebay", "forebay-bf16"]
for texts in ("short", "mixed"):
    print(f"\n| {texts}, clients | " + " | ".join(f"`{name}`" for name in names) + " | `forebay` / better loop |")
    print("|---|" + "---|" * (len(names) + 1))
    for clients in sorted({key[1] for key in middle}):
        row = [middle[texts, clients, name] for name in names]
        ratios = []
        for run in range(len(cells[texts, clients, "forebay"])):
            rate = {name: cells[texts, clients, name][run][0] for name in names}
            ratios.append(rate["forebay"] / max(rate["loop-8"], rate["loop-64"]))
        shown = [f"{rate:.0f}/s, {p50:.1f} / {p95:.1f} / {p99:.1f} ms" for rate, p50, p95, p99 in row]
        print(f"| {clients} | " + " | ".join(shown) + f" | {statistics.median(ratios):.2f} |")
PYTHON
