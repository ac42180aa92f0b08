//! `covers` and `intersects` agree with the matcher.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("pattern_sets", data));
