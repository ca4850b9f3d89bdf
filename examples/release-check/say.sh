# How the scripts of this folder speak to their supervisor. Sourced by them, never run.
#
# A line of standard output that is a JSON object with the key `quorate` is a message; all else is kept as text.
# The supervisor keeps the last 40 lines of an attempt in the ledger, so `fail` prints less than that.
# shellcheck shell=sh

set -u
export LC_ALL=C

# Where the full output of tools is kept.
kept_in=${QUORATE_DIR:-.}/.quorate/release-check
mkdir -p "$kept_in"

# Prints words as a JSON string of one line.
json() {
    printf '"%s"' "$(printf '%s' "$1" | tr '\t\r\n' '   ' | tr -d '\000-\037\177' | sed 's/[\\"]/\\&/g')"
}

# progress PERCENT WORDS
progress() {
    printf '{"quorate":"progress","percent":%d,"message":%s}\n' "$1" "$(json "$2")"
}

# result WORDS [FIELDS]: FIELDS is what programs want to know, as members of a JSON object.
result() {
    printf '%s\n' "$1"
    printf '{"quorate":"result","value":{"summary":%s%s}}\n' "$(json "$1")" "${2:+,$2}"
}

# Ends the check without a verdict: it cannot be made here.
skip() {
    printf 'skipped: %s\n' "$1"
    printf '{"quorate":"result","value":{"skipped":%s}}\n' "$(json "$1")"
    exit 0
}

# fail REASON [FILE]: ends the check, after the first lines of a file that says more. The last line of output is
# what the ledger keeps as the reason.
fail() {
    if [ -n "${2:-}" ]; then
        cut -c 1-160 "$2" | head -n 20
        [ "$(wc -l < "$2")" -le 20 ] || printf 'and more: %s\n' "$2"
    fi
    printf '%s\n' "$1"
    exit 1
}

# count N WORD: `no file`, `1 file`, `2 files`.
count() {
    case $(($1)) in
        0) printf 'no %s' "$2" ;;
        1) printf '1 %s' "$2" ;;
        *) printf '%d %ss' "$1" "$2" ;;
    esac
}

has() {
    command -v "$1" > /dev/null 2>&1
}
