//! Index, cache and snapshots agree with a list.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanout::index::fuzzing::check_ops(data));
