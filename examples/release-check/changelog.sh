#!/bin/sh
# Does CHANGELOG.md say what is new in the version that Cargo.toml names?
. examples/release-check/say.sh

version=$(sed -n 's/^version = "\([^"]*\)".*/\1/p' Cargo.toml | head -n 1)
[ -n "$version" ] || fail 'Cargo.toml names no version'
[ -f CHANGELOG.md ] || fail "there is no CHANGELOG.md to say what is new in $version"
# The entry: a heading with the version, or with `Unreleased`, and something below it.
entries=$(awk -v version="$version" '
    /^#/ { inside = index($0, version) > 0 || tolower($0) ~ /unreleased/; next }
    inside && NF { n++ }
    END { print n + 0 }
' CHANGELOG.md)
[ "$entries" -gt 0 ] || fail "CHANGELOG.md has no entry for $version"
result "CHANGELOG.md has an entry for $version" "\"version\":$(json "$version"),\"lines\":$entries"
