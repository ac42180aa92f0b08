//! Parser and matcher agree with the naive implementation of the native language.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("pattern_match", data));
