use proptest::prelude::*;

use super::fuzzing::check_ops;

/// How many random sequences of operations are tried for each property, and the longest of them.
const CASES_AND_OPS: (u32, usize) = if cfg!(miri) { (5, 80) } else { (3000, 400) };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES_AND_OPS.0,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn random_operations_agree_with_the_reference_models(
        data in prop::collection::vec(any::<u8>(), 1..CASES_AND_OPS.1),
    ) {
        check_ops(&data);
    }

    #[test]
    fn the_evicting_ring_agrees_with_its_reference_model(
        kind in 0..32_u8,
        data in prop::collection::vec(any::<u8>(), 1..CASES_AND_OPS.1),
    ) {
        let ops = [&[128 | kind << 2 | 3], &data[..]].concat();
        check_ops(&ops);
    }
}
