#!/bin/sh
# Writes down what the other checks found. Their results come on standard input, as those of all needs do.
. examples/release-check/say.sh

file=${QUORATE_DIR:-.}/.quorate/release-check.md
values=$kept_in/results.txt
tab=$(printf '\t')
rm -f "$file"
awk -f examples/release-check/json.awk > "$values" || fail 'the task on standard input is not one JSON document'

# value PATH: the value there, if any.
value() {
    awk -F '\t' -v path="$1" '$1 == path { print $2; exit }' "$values"
}

# All checks that are needed, and which of them could not be made.
checks=$(awk -F '[/\t]' '/^\/needs\// && !seen[$3]++ { print $3 }' "$values")
skipped=$(awk -F '[/\t]' '/^\/needs\/[^\/]*\/skipped\t/ { print $3 }' "$values")
[ -n "$checks" ] || fail 'the task on standard input has no results of other checks'
made=$(($(printf '%s\n' "$checks" | wc -l) - $(printf '%s' "$skipped" | grep -c .)))
[ "$made" -gt 0 ] || fail 'not one check could be made here'
progress 30 "writing down $(count "$made" check)"

verdict="ready: $(count "$made" check) passed"
[ -z "$skipped" ] || verdict="$verdict, not checked: $(printf '%s' "$skipped" | tr '\n' ' ' | sed 's/ /, /g')"

cell() {
    printf '%s' "$1" | sed 's/|/\\|/g'
}

{
    version=$(value /needs/changelog/version)
    printf '# Release check\n\nIs %s ready to release?\n\n' "${version:+version }${version:-this folder}"
    printf '**%s**\n\n' "$verdict"
    printf '| check | found |\n|---|---|\n'
    for check in $checks; do
        why=$(value "/needs/$check/skipped")
        found=$(value "/needs/$check/summary")
        printf '| %s | %s |\n' "$check" "$(cell "${why:+not checked: $why}$found")"
    done
    if grep "^/needs/size/crates/" "$values" > /dev/null; then
        printf '\n## Lines of code\n\n| crate | lines |\n|---|---:|\n'
        sed -n "s|^/needs/size/crates/\([^$tab]*\)$tab\(.*\)|\| \1 \| \2 \||p" "$values"
        printf '| **all** | **%s** |\n' "$(value /needs/size/lines)"
    fi
    if [ "$(value /needs/history/not_committed)" != 0 ]; then
        printf '\nWhat was checked is the folder as it is, which no commit holds.\n'
    else
        printf '\nWhat was checked is commit %s.\n' "$(value /needs/history/commit)"
    fi
} > "$file"
result "$verdict" "\"file\":\".quorate/release-check.md\",\"passed\":$made"
