//! Feeds bytes to `quorate_fuzz::api::model`, where what must hold is written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::api::model::check(data));
