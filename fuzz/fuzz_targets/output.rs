//! Feeds bytes to `quorate_fuzz::output`, where what must hold is written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::output::check(data));
