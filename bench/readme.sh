#!/usr/bin/env bash
# Prints the figures that README.md quotes: the demo, the shipped model through Kafka, and MiniLM beside ONNX Runtime.
#
#     bench/readme.sh [rounds]
#
# Needs what scripts/kafka.sh and bench/cpu.sh need.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --release
forebay=${CARGO_TARGET_DIR:-target}/release/forebay
echo "== demo"
"$forebay" demo --device cpu --rows 8
echo "== through Kafka"
dir=$(mktemp -d)
trap 'scripts/kafka.sh stop --dir "$dir"' EXIT
started=$(scripts/kafka.sh start --port "${KAFKA_PORT:-49092}" --dir "$dir")
# The second of two, because a broker is slow at its start.
"$forebay" bench --device cpu --brokers "${started#*=}" --concurrency 100 >/dev/null
"$forebay" bench --device cpu --brokers "${started#*=}" --concurrency 1,100
scripts/kafka.sh stop --dir "$dir"
echo "== beside ONNX Runtime"
bench/cpu.sh "${1:-3}"
