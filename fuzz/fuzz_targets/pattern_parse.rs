//! The parser never panics, and the canonical form is what it says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout::pattern::fuzzing::check_parse(data));
