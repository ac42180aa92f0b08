//! Block timeouts.

use std::time::Duration;

use super::super::loss::BlockTimeout;
use crate::limits::BLOCK_TIMEOUT_MAX;

#[test]
fn a_block_timeout_is_rounded_up_and_has_a_bound() {
    let limit = |wait| BlockTimeout::new(wait).map(BlockTimeout::duration);
    let ms = |ms| Some(Some(Duration::from_millis(ms)));
    assert_eq!(limit(Duration::ZERO), ms(0));
    assert_eq!(limit(Duration::from_nanos(1)), ms(1));
    assert_eq!(limit(Duration::from_millis(1)), ms(1));
    assert_eq!(limit(Duration::from_nanos(1_000_001)), ms(2));
    assert_eq!(limit(BLOCK_TIMEOUT_MAX), Some(Some(BLOCK_TIMEOUT_MAX)));
    assert_eq!(limit(BLOCK_TIMEOUT_MAX + Duration::from_nanos(1)), None);
    assert_eq!(limit(Duration::MAX), None);
    assert_eq!(BlockTimeout::NONE.duration(), None);
}
