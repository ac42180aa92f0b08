//! Rings and gap cell agree with a `VecDeque` and an `Option`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout::ring_fuzzing::check_ops(data));
