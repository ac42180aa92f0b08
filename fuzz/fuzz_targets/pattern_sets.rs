//! Covering and intersecting agree with the matcher.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fanout::pattern::fuzzing::check_sets(data);
});
