//! Parser and matcher agree with the judge.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout::pattern::fuzzing::check_match(data));
