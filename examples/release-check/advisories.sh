#!/bin/sh
# Is any dependency known to be vulnerable? Asks cargo-deny or cargo-audit, if the database can be reached.
. examples/release-check/say.sh

database=https://github.com/RustSec/advisory-db
said=$kept_in/advisories.txt

if cargo deny --version > /dev/null 2>&1; then
    tool='cargo-deny'
elif cargo audit --version > /dev/null 2>&1; then
    tool='cargo-audit'
else
    skip 'neither cargo-deny nor cargo-audit is installed (cargo install cargo-deny)'
fi
has git || skip 'the advisory database is fetched with git, which is not installed'
has timeout || skip 'without timeout(1) nothing bounds the wait for the advisory database'

progress 10 'looking for the advisory database'
GIT_TERMINAL_PROMPT=0 timeout 10 git ls-remote --exit-code "$database" HEAD > "$said" 2>&1 < /dev/null ||
    skip "the advisory database $database cannot be reached from here"

progress 30 "asking $tool"
case $tool in
    cargo-deny) timeout 120 cargo deny check advisories > "$said" 2>&1 < /dev/null ;;
    cargo-audit) timeout 120 cargo audit > "$said" 2>&1 < /dev/null ;;
esac
code=$?
if [ "$code" -eq 124 ] || grep -E 'failed to fetch advisory database|couldn.t fetch advisory database' "$said" > /dev/null; then
    skip "$tool could not fetch the advisory database"
fi
[ "$code" -eq 0 ] || fail "$tool knows of advisories against the dependencies" "$said"
packages=$(grep -c '^name = ' Cargo.lock)
result "no advisory against any of $packages packages ($tool)" "\"packages\":$packages,\"by\":\"$tool\""
