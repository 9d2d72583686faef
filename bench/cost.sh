#!/usr/bin/env bash
# Measures what Forebay costs beside a bare loop of librdkafka's consumer and producer, on a real Kafka, and prints the
# tables of docs/performance.md.
#
#     bench/cost.sh [rounds]          throughput, the latency of a lone request, memory
#     bench/cost.sh parts [rounds]    where the time goes: the source alone, source and sink, the whole pipeline
#
# Starts a broker of its own and stops it, unless KAFKA_BROKERS names one. A round runs every contender once, so that
# what a busy machine does to one it does to all; the tables have medians. Needs cargo and what scripts/kafka.sh needs.
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
