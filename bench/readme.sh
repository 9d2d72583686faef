#!/usr/bin/env bash
# Prints the figures in README.md and draws its plot: the demo, the shipped model through an embedded broker and through
# Kafka, and MiniLM compared with a hand-written consumer loop, ONNX Runtime and sentence-transformers.
#
#     bench/readme.sh [rounds]
#
# Needs the requirements of scripts/kafka.sh and bench/peers.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release
forebay=${CARGO_TARGET_DIR:-target}/release/forebay
echo "== demo"
"$forebay" demo --device cpu
echo "== plot"
"$forebay" bench --device cpu --svg docs/bench.svg
echo "== through Kafka"
dir=$(mktemp -d)
trap 'scripts/kafka.sh stop --dir "$dir"' EXIT
started=$(scripts/kafka.sh start --port "${KAFKA_PORT:-49092}" --dir "$dir")
# Runs a first benchmark without its figures, because a broker is slow after its start.
"$forebay" bench --device cpu --brokers "${started#*=}" --concurrency 100 >/dev/null
"$forebay" bench --device cpu --brokers "${started#*=}"
scripts/kafka.sh stop --dir "$dir"
echo "== compared with a consumer loop"
bench/loop.sh "${1:-3}"
echo "== compared with ONNX Runtime and sentence-transformers"
bench/cpu.sh "${1:-3}"
