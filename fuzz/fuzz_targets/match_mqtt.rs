//! Parser and matcher agree with the judge, in the language of that name.
#![no_main]

use fanout::Syntax;
use fanout::pattern::fuzzing::check_match_as;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check_match_as(data, Syntax::Mqtt);
});
