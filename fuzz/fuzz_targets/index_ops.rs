//! Index, cache and snapshots agree with a list of pairs under any sequence of operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout_fuzz::run("index_ops", data));
