//! The rings and the gap cell agree with a `VecDeque` and an `Option`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("ring_ops", data));
