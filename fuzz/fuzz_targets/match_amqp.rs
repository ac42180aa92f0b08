//! Parser and matcher agree with the naive implementation of the language of AMQP.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("match_amqp", data));
