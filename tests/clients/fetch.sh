#!/usr/bin/env bash
# Fetches the packages of a client in this folder into the cache folder, once for each version of them, and prints the path.
#
#   tests/clients/fetch.sh nest      needs npm; the packages are in the folder node_modules of the path
#   tests/clients/fetch.sh spring    needs Maven; the jars are in the folder lib of the path
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/forebay/clients"

nest() {
    cp "$here/nest/package.json" "$here/nest/package-lock.json" "$1"
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error
}

spring() {
    cp "$here/spring/pom.xml" "$1"
    mvn --batch-mode --quiet --file "$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib"
}

case "${1:-}" in
nest) versions="$here/nest/package-lock.json" ;;
spring) versions="$here/spring/pom.xml" ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 64
    ;;
esac

target="$cache/$1-$(cksum <"$versions" | tr ' ' '-')"
if [[ ! -d "$target" ]]; then
    mkdir -p "$cache"
    work="$(mktemp -d "$cache/$1.XXXXXX")"
    trap 'rm -rf "$work"' EXIT
    "$1" "$work" >&2
    # Only one of two processes that fetch at the same time succeeds in moving its folder here.
    mv --no-target-directory "$work" "$target" 2>/dev/null || [[ -d "$target" ]]
fi
echo "$target"
