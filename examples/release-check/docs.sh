#!/bin/sh
# Does every relative link of the documents lead somewhere?
. examples/release-check/say.sh

links=$kept_in/links.txt
broken=$kept_in/broken-links.txt
documents=$(($(find . -maxdepth 1 -type f -name '*.md' | wc -l)))
[ ! -d docs ] || documents=$((documents + $(find docs -type f -name '*.md' | wc -l)))
[ "$documents" -gt 0 ] || skip 'there is no README.md and no document in docs/'
progress 10 'reading the documents'

# One line per link: the file, a tab, the target. Code, in fences and in backticks, holds no links.
{
    find . -maxdepth 1 -type f -name '*.md'
    if [ -d docs ]; then find docs -type f -name '*.md'; fi
} | sed 's|^\./||' | sort | while IFS= read -r file; do
    awk -v file="$file" '
        /^[ ]*(```|~~~)/ { code = !code; next }
        code { next }
        {
            gsub(/`[^`]*`/, "")
            while (match($0, /\]\([^() ]+/)) {
                print file "\t" substr($0, RSTART + 2, RLENGTH - 2)
                $0 = substr($0, RSTART + RLENGTH)
            }
        }
        /^\[[^]]+\]: / { print file "\t" $2 }
    ' "$file"
done > "$links"

tab=$(printf '\t')
while IFS=$tab read -r file target; do
    case $target in *://* | mailto:* | '#'*) continue ;; esac
    [ -e "$(dirname "$file")/${target%%#*}" ] || printf '%s: the link to %s leads nowhere\n' "$file" "$target"
done < "$links" > "$broken"

checked=$(wc -l < "$links")
dead=$(wc -l < "$broken")
[ "$((dead))" -eq 0 ] || fail "$(count "$dead" link) in the documents leading nowhere" "$broken"
result "$(count "$checked" link) in $(count "$documents" document), each relative one leads somewhere" \
    "\"links\":$((checked)),\"documents\":$((documents))"
