//! Feeds bytes to `quorate_fuzz::claude::merge`, where what must hold is written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::claude::merge::check(data));
