#!/usr/bin/env bash
# Compares Forebay on a GPU with PyTorch on the same card, in steps. Each step has a time limit and prints a table.
#
#     bench/gpu.sh                 runs all steps
#     bench/gpu.sh facts lone      runs these steps
#
# Results are in OUT (default target/gpu). A step that has results is not measured again, so that an interrupted run can
# be continued. Steps: facts, rectangles, graph, mixed, warm, lone, clients, tasks. The targets are printed at the end.
#
# KIT is the folder with the binaries of `bench/gpu-kit.sh` (default target/gpu-kit). Besides them, only the Vulkan loader
# and the driver of the card are needed. MINILM and BERT list the batch shapes to measure, as ROWSxTOKENS. ROWS, TOKENS and
# TEXTS are the batch size, the length limit and the number of texts for texts of all lengths. For a trial run without a
# GPU, set `DEVICE=gpu:software SMALL=1`.
set -euo pipefail
cd "$(dirname "$0")/.."

# An absolute path, because programs ignore a relative XDG_CACHE_HOME, which is set below.
out=$(realpath -m "${OUT:-target/gpu}")
kit=${KIT:-target/gpu-kit}
device=${DEVICE:-gpu}
python=${PYTHON:-python3}
patience=1 seconds=0.4 requests=300 clients=1,10,50,100,500 shapes=(minilm bert-base)
minilm=${MINILM-1x32,8x32,64x32,256x32,1x128,8x128,64x128,256x128,1x512,8x512,32x512}
bert=${BERT-1x32,8x32,64x32,1x128,8x128,64x128,256x128,8x512,32x512}
most=${ROWS:-64} tokens=${TOKENS:-128} texts=${TEXTS:-20000}
if [[ -n "${SMALL:-}" ]]; then
    patience=5 seconds=0.1 minilm=1x32,2x32 bert=1x32 tokens=32 most=2 texts=8 requests=5 clients=1,10 shapes=(minilm)
fi
mkdir -p "$out"
compgen -G "$kit/*.xz" >/dev/null || { echo "no binaries in $kit: run bench/gpu-kit.sh, or set KIT" >&2 && exit 1; }
# The binaries are compressed, so unpack them to a temporary folder.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for packed in "$kit"/*.xz; do
    name=$(basename "$packed" .xz)
    xz -dc "$packed" >"$work/$name" && chmod +x "$work/$name"
done
# Keeps the results of kernel tuning between steps.
export XDG_CACHE_HOME=$out/cache

# measure LIMIT WHO FILE COMMAND..: runs COMMAND for at most LIMIT seconds and appends its lines of JSON to FILE, each with
# the field `by` set to WHO.
measure() {
    local limit=$1 who=$2 file=$3 rc=0
    shift 3
    timeout $((limit * patience)) "$@" 2>>"$out/log" | sed -u "s/^{/{\"by\": \"$who\", /" >>"$file" || rc=$?
    ((rc == 0)) || echo "$who ended with $rc: $*" | tee -a "$out/log"
}
bench() { # LIMIT BUILD PRECISION FILE ARGUMENTS..
    local limit=$1 build=$2 precision=$3 file=$4
    shift 4
    [[ -x "$work/device_bench-$build" ]] || { echo "$kit has no device_bench-$build: left out" && return 0; }
    DECISIONS="$out/decisions-$build-$precision.json" \
        measure "$limit" "$build $precision" "$file" "$work/device_bench-$build" "$device" "$precision" "$@"
}
peer() { # LIMIT PRECISION FILE ARGUMENTS..
    measure "$1" "pytorch $2" "$3" "$python" bench/gpu_peer.py "$4" "$2" "${@:5}"
}

facts() {
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
    bench 60 spirv f32 "$1" minilm rectangles 1x32 0.1
    bench 60 wgsl f32 "$1" minilm rectangles 1x32 0.1
}

rectangles() {
    local shape list
    for shape in "${shapes[@]}"; do
        list=$bert
        [[ $shape == minilm ]] && list=$minilm
        [[ -n $list ]] || continue
        peer 40 f16 "$1" rectangles "$shape" "$list" "$seconds"
        bench 90 spirv f16 "$1" "$shape" rectangles "$list" "$seconds"
        if [[ $shape == bert-base && $list == *64x128* ]]; then
            bench 60 spirv f16-plain "$1" "$shape" rectangles 64x128 "$seconds"
            bench 60 wgsl f16 "$1" "$shape" rectangles 64x128 "$seconds"
            peer 30 f32 "$1" rectangles "$shape" 1x32,64x128 "$seconds"
            bench 60 spirv f32 "$1" "$shape" rectangles 1x32,64x128 "$seconds"
        fi
    done
}

# Measures the overhead of a call on top of the device's time.
graph() {
    local shape
    for shape in "${shapes[@]}"; do
        bench 30 spirv f16 "$1" "$shape" graph 1x32 "$seconds"
    done
}

mixed() {
    peer 40 f16 "$1" mixed minilm "$tokens" "$texts"
    bench 140 spirv f16 "$1" minilm flow "$most" "$tokens" "$texts"
}

# Measures a second start, which reuses the tuning results of the first.
warm() {
    bench 60 spirv f16 "$1.again" minilm flow "$most" "$tokens" "$texts"
    sed 's/"by": "spirv f16"/"by": "spirv f16 warm"/' "$1.again" >>"$1" && rm "$1.again"
}

lone() {
    local folder=$work/model
    "$work/device_bench-spirv" "$device" f16 minilm write "$folder"
    cat >"$work/lone.toml" <<TOML
[source.stdin]
[[step]]
adaptive_window = { max_size = 1 }
[[step]]
map_batch = { model = "minilm" }
[sink.stdout]
[model.minilm]
path = "$folder"
task = "text-embedding"
device = "$device"
precision = "f16"
max_tokens = 32
TOML
    measure 50 "spirv f16" "$1" "$python" bench/gpu_peer.py lone "$requests" "$work/forebay-spirv" run "$work/lone.toml"
}

clients() {
    timeout $((150 * patience)) "$work/forebay-spirv" bench --device "$device" --concurrency "$clients" 2>>"$out/log" | tee "$1.txt" ||
        echo "clients ended with $?"
}

# Varies the number of kernels per submission to the device; Burn's default is 32.
tasks() {
    local most
    for most in 16 64 256; do
        CUBECL_WGPU_MAX_TASKS=$most bench 30 spirv f16 "$1.$most" minilm rectangles 1x32,64x128 "$seconds"
        sed "s/\"by\": \"spirv f16\"/\"by\": \"spirv f16, $most at once\"/" "$1.$most" >>"$1" && rm "$1.$most"
    done
}

steps=("$@")
((${#steps[@]})) || steps=(facts rectangles graph mixed warm lone clients tasks)
for step in "${steps[@]}"; do
    file=$out/$step.jsonl
    printf '\n== %s\n' "$step"
    if [[ ! -e "$out/$step.done" ]]; then
        began=$SECONDS
        : >"$file"
        "$step" "$file"
        echo "$((SECONDS - began)) s" >"$out/$step.done"
    fi
    "$python" bench/gpu_peer.py table "$file"
    echo "(took $(cat "$out/$step.done"))"
done
printf '\n== bars\n'
cat "$out"/*.jsonl >"$work/all"
"$python" bench/gpu_peer.py bars "$work/all"
