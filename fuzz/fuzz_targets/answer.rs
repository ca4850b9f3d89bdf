//! Feeds bytes to `quorate_fuzz::answer`, where what must hold is written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::answer::check(data));
