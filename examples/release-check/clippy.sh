#!/bin/sh
# Does clippy find nothing to warn of?
. examples/release-check/say.sh
. examples/release-check/cargo.sh
needs_component clippy clippy
build_in clippy

# SQLite is compiled to be looked past, not run: without optimisation that takes half a minute less.
quick_sqlite='profile.dev.package.libsqlite3-sys.opt-level=0'
said=$kept_in/clippy.txt
progress 1 'looking at the packages'
if watch_cargo "$said" "$(packages --workspace)" \
    clippy --config "$quick_sqlite" --workspace --all-targets --locked --message-format short -- -D warnings; then
    crates=$(find crates xtask -name Cargo.toml -type f | wc -l)
    result "no warning in $((crates)) crates and their tests" "\"crates\":$((crates))"
    exit 0
fi
grep -E '^[^ ]+:[0-9]+:[0-9]+: (error|warning)' "$said" > "$said.found"
found=$(wc -l < "$said.found")
[ "$((found))" -gt 0 ] || { grep -A 9 '^error' "$said" > "$said.found"; fail 'clippy could not check the code' "$said.found"; }
fail "clippy finds $(count "$found" problem)" "$said.found"
