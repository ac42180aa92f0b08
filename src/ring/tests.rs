//! Tests of several rings: random operations, and items that are read in their slots.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::fuzzing::check_ops;
use super::support::{Counted, DropCounter};
use super::{Consume, Front, mpsc, spsc};

/// Reads the first of three items in its slot, leaves it there, pops it, and fails at the second.
fn read_and_fail<'a>(consumer: &mut impl Consume<Counted<'a>>, counters: &'a [DropCounter]) {
    for _ in 0..2 {
        let first = consumer.front().expect("three items");
        assert!(std::ptr::eq(first.item().0, &counters[0]));
    }
    assert_eq!(DropCounter::dropped(counters), 0, "read, and not popped");
    let first = consumer.front().expect("three items").pop_into(|item| item);
    assert!(std::ptr::eq(first.0, &counters[0]));
    let second = consumer.front().expect("two items");
    let failed = catch_unwind(AssertUnwindSafe(|| {
        second.pop_into(|_item| panic!("a panic while the item is owned"));
    }));
    assert!(failed.is_err());
    assert_eq!(DropCounter::dropped(counters), 1, "the second item");
    let third = consumer.front().expect("one item");
    assert!(std::ptr::eq(third.item().0, &counters[2]));
    drop(first);
    assert_eq!(DropCounter::dropped(counters), 2);
}

#[test]
fn an_item_is_read_in_its_slot_and_popped_once_even_if_it_panics() {
    let counters = DropCounter::one_panics(3, usize::MAX);
    let (mut producer, mut consumer) = spsc::ring(3);
    for counter in &counters {
        assert!(producer.push(Counted(counter)).is_ok());
    }
    producer.commit().expect("open");
    read_and_fail(&mut consumer, &counters);
    consumer.release();
    assert_eq!(producer.room(), 2, "two items were popped");
    drop((producer, consumer));
    assert_eq!(DropCounter::dropped(&counters), 3);
}

#[test]
fn the_slot_of_a_shared_ring_is_free_even_if_the_pop_panics() {
    let counters = DropCounter::one_panics(3, usize::MAX);
    let others = DropCounter::one_panics(3, usize::MAX);
    let (producers, mut consumer) = mpsc::ring(4);
    for counter in &counters {
        assert!(producers.try_push(Counted(counter)).is_ok());
    }
    read_and_fail(&mut consumer, &counters);
    assert_eq!(consumer.ready(), 1);
    for counter in &others {
        assert!(
            producers.try_push(Counted(counter)).is_ok(),
            "three free slots"
        );
    }
    drop((producers, consumer));
    assert_eq!(DropCounter::dropped(&counters), 3);
    assert_eq!(DropCounter::dropped(&others), 3);
}

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
