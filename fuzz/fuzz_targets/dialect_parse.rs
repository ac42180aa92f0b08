//! No text makes a parser panic, and each canonical form parses to an equal pattern.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("dialect_parse", data));
