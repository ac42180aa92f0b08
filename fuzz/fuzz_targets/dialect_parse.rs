//! The parser never panics in any language, and the canonical form is what it says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout::pattern::fuzzing::check_dialect_parse(data));
