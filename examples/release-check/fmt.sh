#!/bin/sh
# Is every Rust file formatted as rustfmt would?
. examples/release-check/say.sh
. examples/release-check/cargo.sh
needs_component fmt rustfmt

unformatted=$kept_in/fmt.txt
progress 10 'comparing with rustfmt'
if cargo fmt --all --check -- --files-with-diff > "$unformatted.said" 2>&1 < /dev/null; then
    files=$(find crates xtask -type f -name '*.rs' | wc -l)
    result "all $((files)) Rust files are formatted" "\"files\":$((files))"
    exit 0
fi
awk -v here="$PWD/" '
    /^\/.*\.rs$/ { print index($0, here) == 1 ? substr($0, length(here) + 1) : $0 }
' "$unformatted.said" | sort -u > "$unformatted"
[ -s "$unformatted" ] || fail 'cargo fmt could not check the files' "$unformatted.said"
fail "$(count "$(wc -l < "$unformatted")" file) not formatted; \`cargo fmt --all\` mends that" "$unformatted"
