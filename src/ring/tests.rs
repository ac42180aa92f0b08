use proptest::prelude::*;

use super::fuzzing::check_ops;

/// Random sequences of operations that are tried, for each property.
const CASES: u32 = if cfg!(miri) { 20 } else { 3000 };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn random_operations_agree_with_the_judges(data in prop::collection::vec(any::<u8>(), 1..300)) {
        check_ops(&data);
    }
    #[test]
    fn the_evicting_ring_agrees_with_its_judge(
        kind in 0..32_u8,
        data in prop::collection::vec(any::<u8>(), 1..400),
    ) {
        let ops = [&[128 | kind << 2 | 3], &data[..]].concat();
        check_ops(&ops);
    }
}
