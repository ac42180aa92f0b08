//! Parser and matcher agree with the naive implementation of the language of NATS.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("match_nats", data));
