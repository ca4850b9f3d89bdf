#!/bin/sh
# Has every dependency a licence that deny.toml allows, and is none of them banned?
. examples/release-check/say.sh

said=$kept_in/licences.txt
packages=$(grep -c '^name = ' Cargo.lock)

# With cargo-deny, for all platforms. Its exit code is a sum: 2 for bans, 4 for licences; 1 is an error of its own.
if cargo deny --version > /dev/null 2>&1; then
    progress 30 'asking cargo-deny'
    cargo deny --offline check licenses bans > "$said" 2>&1 < /dev/null
    case $? in
        0) result "licences of all $packages packages are allowed, none is banned (cargo-deny)" \
            "\"packages\":$packages,\"by\":\"cargo-deny\""
            exit 0 ;;
        2 | 4 | 6)
            grep -E '^error' "$said" > "$said.found"
            fail "cargo-deny objects to $(count "$(wc -l < "$said.found")" thing)" "$said" ;;
        *) echo 'cargo-deny could not tell; the rules of this repository are asked' ;;
    esac
fi

# Without it, by the repository's own reading of the same lists, for this machine's platform.
progress 50 'asking cargo xtask tidy'
CARGO_TARGET_DIR=target/release-check/xtask cargo xtask tidy > "$said" 2>&1 < /dev/null
grep -E '^[0-9]+ files, [0-9]+ findings$' "$said" > /dev/null || fail 'the licences cannot be read' "$said"
if grep '^deny.toml:' "$said" > "$said.found"; then
    fail "deny.toml is broken in $(count "$(wc -l < "$said.found")" place)" "$said.found"
fi
result 'licences of all dependencies for this platform are allowed, none is banned (cargo xtask tidy)' \
    "\"packages\":$packages,\"by\":\"cargo xtask tidy\""
