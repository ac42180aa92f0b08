//! Parser and matcher agree with the naive implementation of the language of Go's `path.Match`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("match_path", data));
