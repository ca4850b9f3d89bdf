#!/bin/sh
# Do the tests of one crate pass? The crate is the first argument.
. examples/release-check/say.sh
. examples/release-check/cargo.sh

crate=${1:?which crate}
build_in tests
said=$kept_in/tests-$crate.txt
progress 1 'looking at the packages'
if watch_cargo "$said" "$(packages --package "$crate")" test --package "$crate" --locked --no-fail-fast; then
    passed=$(grep -c '^test .* ok$' "$said")
    [ "$passed" -gt 0 ] || fail "no test of $crate was run" "$said"
    result "all $passed tests of $crate pass" "\"passed\":$passed"
    exit 0
fi
grep -E '^(test .* FAILED|thread .* panicked|error)' "$said" > "$said.found"
failed=$(grep -c '^test .* FAILED$' "$said")
[ "$failed" -gt 0 ] || fail "the tests of $crate cannot be built" "$said.found"
fail "$(count "$failed" test) of $crate failed" "$said.found"
