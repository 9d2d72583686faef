# !/usr/bin/env bash Measures the JSON lines per second from standard input to standard output through several steps.
# Without steps, only reading, parsing and writing are measured.
#
#   bench/lines.sh [rounds] [forebay binary]
#
# Without a binary, builds and measures the release binary.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
forebay=${2:-}
if [[ -z "$forebay" ]]; then
  cargo build --quiet --release
  forebay=${CARGO_TARGET_DIR:-target}/release/forebay
fi
lines=600000
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$lines" >"$folder/in.jsonl" <<'PYTHON'
import json, random, sys
random.seed(1)
for number in range(int(sys.argv[1])):
    print(json.dumps({"id": number, "user": f"u{random.randint(0, 99)}",
                      "text": f"hello there world {number}", "score": round(random.random(), 3)}))
PYTHON

pipeline() {
  { echo '[source.stdin]'; printf '[[step]]\n%s\n' "${@:2}"; echo '[sink.stdout]'; } >"$folder/$1.toml"
}
printf '[source.stdin]\n[sink.stdout]\n' >"$folder/nothing.toml"
pipeline field 'map = ".score"' 'filter = ". > 0.5"' 'partition = 32'
pipeline object 'map = "{id, score}"' 'filter = ".score > 0.5"' 'partition = 32'

echo "| steps | lines/s, median of $rounds | lowest | highest |"
echo "|---|---|---|---|"
for name in nothing field object; do
  for ((round = 0; round < rounds; round++)); do
    begun=$(date +%s%N)
    FOREBAY_LOG=error "$forebay" run "$folder/$name.toml" <"$folder/in.jsonl" >"$folder/out.jsonl"
    echo $((lines * 1000000000 / ($(date +%s%N) - begun)))
  done | sort -n >"$folder/rates"
  case $name in
    nothing) steps="none" ;;
    *) steps=$(grep -E '^(map|filter|partition)' "$folder/$name.toml" | paste -sd';' | sed 's/;/; /g') ;;
  esac
  echo "| \`$steps\` | $(sed -n "$(((rounds + 1) / 2))p" "$folder/rates") | $(head -1 "$folder/rates") | $(tail -1 "$folder/rates") |"
done
