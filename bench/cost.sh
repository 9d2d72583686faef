#!/usr/bin/env bash
# Compares Forebay with a bare loop of librdkafka's consumer and producer on a real Kafka, and prints the tables of
# docs/performance.md.
#
#     bench/cost.sh [rounds]          throughput, latency of a single request, and memory
#     bench/cost.sh parts [rounds]    throughput of the source alone, of source and sink, and of the whole pipeline
#
# Starts a broker and stops it, unless KAFKA_BROKERS names a cluster. A round runs every contender once, so that load on
# the machine affects all of them; the tables have medians. Needs cargo and the requirements of scripts/kafka.sh.
set -euo pipefail
cd "$(dirname "$0")"

what=compare
if [[ "${1:-}" == parts ]]; then
    what=parts
    shift
fi
rounds=${1:-5}

cargo build --quiet --locked --release --bin cost
if [[ -z "${KAFKA_BROKERS:-}" ]]; then
    dir=$(mktemp -d)
    trap '../scripts/kafka.sh stop --dir "$dir"' EXIT
    export "$(../scripts/kafka.sh start --port "${KAFKA_PORT:-49092}" --dir "$dir")"
fi
"${CARGO_TARGET_DIR:-target}/release/cost" "$what" "$rounds"
