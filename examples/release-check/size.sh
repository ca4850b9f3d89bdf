#!/bin/sh
# How much is it? Lines of code per crate (blank lines and comments left out), the binary, the repository.
. examples/release-check/say.sh

total=0 list='' number=0
crates=$(find crates -name Cargo.toml -type f | sed 's|/Cargo.toml$||' | sort)
of=$(printf '%s\n' "$crates" | wc -l)
for crate in $crates; do
    number=$((number + 1))
    progress $((number * 90 / of)) "counting ${crate#crates/}"
    lines=$(find "$crate" -type f -name '*.rs' -exec cat {} + | awk '!/^[ \t]*(\/\/|$)/ { n++ } END { print n + 0 }')
    total=$((total + lines))
    list="$list${list:+,}$(json "${crate#crates/}"):$lines"
done
[ "$total" -gt 0 ] || fail 'there is no line of code in crates/'

words="$(count "$total" line) of code in $(count "$number" crate)"
fields="\"lines\":$total,\"crates\":{$list}"
if [ -f target/release/quorate ]; then
    binary=$(wc -c < target/release/quorate)
    words="$words, a binary of $((binary / 1048576)).$((binary % 1048576 * 10 / 1048576)) MiB"
    fields="$fields,\"binary_bytes\":$((binary))"
fi
if has git && git rev-parse --git-dir > /dev/null 2>&1; then
    progress 95 'measuring the repository'
    kept=$(git ls-files -z | xargs -0 cat 2> /dev/null | wc -c)
    words="$words, $((kept / 1024)) KiB of files"
    fields="$fields,\"tracked_bytes\":$((kept))"
fi
result "$words" "$fields"
