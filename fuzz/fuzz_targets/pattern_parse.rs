//! Like `dialect_parse`, for the native language only, and for exact patterns of topics.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("pattern_parse", data));
