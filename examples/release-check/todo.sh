#!/bin/sh
# Is anything in the code marked as not finished? The limit is the first argument, 0 unless given.
. examples/release-check/say.sh

limit=${1:-0}
places=$kept_in/todo.txt
progress 10 'reading crates/*/src'
find crates -path 'crates/*/src/*' -type f -name '*.rs' -exec awk '
    /(^|[^A-Za-z0-9_])(TODO|FIXME|XXX)([^A-Za-z0-9_]|$)/ { sub(/^ +/, ""); print FILENAME ":" FNR ": " $0 }
' {} + | sort > "$places"
files=$(find crates -path 'crates/*/src/*' -type f -name '*.rs' | wc -l)
[ "$((files))" -gt 0 ] || fail 'there is no Rust file in crates/*/src'
found=$(wc -l < "$places")
[ "$((found))" -le "$limit" ] || fail "$(count "$found" mark) of unfinished work in crates/*/src; at most $limit allowed" "$places"
result "$(count "$found" mark) of unfinished work (TODO, FIXME, XXX) in $((files)) files" \
    "\"found\":$((found)),\"limit\":$limit,\"files\":$((files))"
