#!/bin/sh
# Is every Rust file formatted as rustfmt would?
. examples/release-check/say.sh
. examples/release-check/cargo.sh
needs_component fmt rustfmt

diff=$kept_in/fmt.txt
progress 10 'comparing with rustfmt'
if cargo fmt --all --check > "$diff" 2>&1; then
    files=$(find crates xtask -name '*.rs' -type f | wc -l)
    result "all $((files)) Rust files are formatted" "\"files\":$((files))"
    exit 0
fi
unformatted=$(sed -n 's/^Diff in \(.*\):[0-9]*:\{0,1\}$/\1/p' "$diff" | sort -u | wc -l)
[ "$((unformatted))" -gt 0 ] || fail 'cargo fmt could not check the files' "$diff"
fail "$(count "$unformatted" file) not formatted; \`cargo fmt --all\` mends it" "$diff"
