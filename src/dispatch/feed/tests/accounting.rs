//! Feeds: bounds, gaps in their places, room for blocks that wait, and ends. Under Miri, which is
//! slow, the longest tests take fewer steps.

use proptest::prelude::*;

use crate::dispatch::feed::{End, FeedConsumer, Found};
use crate::dispatch::loss::{Gap, GapReason, Overflow};
use crate::dispatch::tests::{BlockMaker, all_of, offer, offer_again, read, ring};

/// Two blocks are offered in each of these rounds.
const ROUNDS: usize = if cfg!(miri) { 8 } else { 50 };

#[test]
fn a_ring_holds_its_capacity_and_no_more() {
    for capacity in [1, 2, 63, 64, 65, 100] {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::DropNewest);
        while (maker.next_id - 1) < capacity as u64 {
            let left = capacity as u64 - (maker.next_id - 1);
            assert_eq!(
                offer(&mut producer, &maker.block(left.min(7) as usize, 0)),
                0
            );
        }
        assert_eq!(consumer.shared().stats().lost, [0; GapReason::COUNT]);
        offer(&mut producer, &maker.block(1, 0));
        let past = capacity as u64 + 1;
        assert_eq!(
            consumer.shared().stats().lost[GapReason::Overflow as usize],
            1
        );
        let (ids, gaps, end) = read(&mut consumer);
        assert_eq!(ids, (1..past).collect::<Vec<_>>());
        assert_eq!((gaps, end), (vec![(past, past, 1)], Found::Empty));
    }
}

#[test]
fn a_block_is_split_where_the_room_ends() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(5, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &maker.block(3, 0));
    offer(&mut producer, &maker.block(4, 0)); // ids 4 to 7, of which 4 and 5 fit
    offer(&mut producer, &maker.block(2, 0)); // none of 8 and 9
    assert_eq!(
        read(&mut consumer),
        (vec![1, 2, 3, 4, 5], vec![(6, 9, 4)], Found::Empty)
    );
    // An event that does not match is not counted, and does not end a run.
    offer(&mut producer, &maker.block(5, 0)); // 10 to 14
    let sparse = maker.block(4, 0); // 15 to 18
    assert!(producer.matched(&sparse, 0b1010));
    assert_eq!(offer_again(&mut producer, &sparse, 0b1010), 0);
    producer.close(18);
    let (ids, gaps, end) = read(&mut consumer);
    assert_eq!(ids, [10, 11, 12, 13, 14]);
    assert_eq!((gaps, end), (vec![(16, 18, 2)], Found::Closed));
    let stats = consumer.shared().stats();
    assert_eq!(stats.matched, 3 + 4 + 2 + 5 + 2);
    assert_eq!(
        stats.received + stats.lost.iter().sum::<u64>(),
        stats.matched
    );
    assert_eq!(stats.last_id, Some(18));
}

#[test]
fn a_gap_travels_in_front_of_what_came_after_it() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &maker.block(3, 0)); // 3 is lost
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take::<()>().id(), 1);
    // The slot is claimed, so there is room for two, while 2 is still to be read.
    offer(&mut producer, &maker.block(1, 0));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take::<()>().id(), 2);
    assert_eq!(consumer.check(), Found::Gap);
    let gap = consumer.gap();
    assert_eq!((gap.first_id(), gap.last_id()), (3, 3));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take::<()>().id(), 4);
}

/// A reader that never catches up: nearly every event has a gap in front of it, and all gaps are in
/// their places.
#[test]
fn gaps_take_no_room_from_events() {
    for capacity in [1, 2, 5] {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::DropNewest);
        let mut seen = Vec::new();
        for _ in 0..ROUNDS {
            offer(&mut producer, &maker.block(1, 0));
            offer(&mut producer, &maker.block(64, 0)); // lost, once the ring is full
            match consumer.check() {
                Found::Event => seen.push((consumer.take::<()>().id(), 1)),
                Found::Gap => {
                    let gap = consumer.gap();
                    seen.push((gap.first_id(), gap.count()));
                }
                end => panic!("{end:?}"),
            }
        }
        producer.close(maker.next_id - 1);
        loop {
            match consumer.check() {
                Found::Event => seen.push((consumer.take::<()>().id(), 1)),
                Found::Gap => {
                    let gap = consumer.gap();
                    seen.push((gap.first_id(), gap.count()));
                }
                end => break assert_eq!(end, Found::Closed),
            }
        }
        let mut next = 1;
        for (first_id, count) in seen {
            assert_eq!(
                first_id, next,
                "capacity {capacity}: everything is reported, in order"
            );
            next = first_id + count;
        }
        assert_eq!(next, maker.next_id);
    }
}

#[test]
fn a_full_block_ring_hands_the_rest_back() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::Block);
    let block = maker.block(5, 0);
    let mut rest = offer(&mut producer, &block);
    assert_eq!(rest, 0b11100);
    assert!(!producer.request_wake(block.weight(), 3));
    let mut ids = Vec::new();
    while rest != 0 {
        ids.extend(read(&mut consumer).0);
        rest = offer_again(&mut producer, &block, rest);
        producer.commit();
    }
    ids.extend(read(&mut consumer).0);
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert!(!producer.take_wake_request(), "the reader arrived");
    // The subscriber was dropped: the feed does not make the shard wait for it.
    offer(&mut producer, &maker.block(2, 0));
    drop(consumer);
    let late = maker.block(1, 0);
    assert!(!producer.matched(&late, 1));
    assert_eq!(offer_again(&mut producer, &late, 1), 0);
}

/// After a block timeout, a claim alone makes the shard wait again, even if a block is still too
/// heavy for the ring.
#[test]
fn a_claim_ends_giving_up_at_once() {
    let mut maker = BlockMaker::new();
    let weight = maker.block(1, 0).weight();
    let first = maker.next_id;
    let (mut producer, mut consumer) = ring(100, 2 * weight, Overflow::Block);
    for _ in 0..2 {
        assert_eq!(offer(&mut producer, &maker.block(1, 0)), 0);
    }
    let heavy = maker.block(2, 2 * weight);
    assert_eq!(offer(&mut producer, &heavy), 0b11, "the shard waits");
    producer.stop_waiting();
    assert_eq!(offer_again(&mut producer, &heavy, 0b11), 0, "given up");
    assert_eq!(
        offer(&mut producer, &maker.block(3, 0)),
        0,
        "given up at once"
    );
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take::<()>().id(), first);
    let heavy = maker.block(2, 2 * weight);
    assert_eq!(offer(&mut producer, &heavy), 0b11, "something was claimed");
    producer.stop_waiting();
    assert_eq!(offer_again(&mut producer, &heavy, 0b11), 0);
    let (ids, gaps, _) = read(&mut consumer);
    assert_eq!(ids, [first + 1]);
    assert_eq!(
        gaps,
        [(first + 2, first + 8, 7)],
        "no event in between had room"
    );
    assert_eq!(
        consumer.shared().stats().lost[GapReason::BlockTimeout as usize],
        7
    );
}

#[test]
fn pinned_bytes_are_bounded_to_the_byte() {
    let mut maker = BlockMaker::new();
    let weight = maker.block(1, 0).weight();
    for (pin_bytes, fit) in [(3 * weight - 1, 2), (3 * weight, 3), (3 * weight + 1, 3)] {
        let (mut producer, mut consumer) = ring(100, pin_bytes, Overflow::DropNewest);
        let first = maker.next_id;
        (0..5).for_each(|_| assert_eq!(offer(&mut producer, &maker.block(1, 0)), 0));
        let (ids, gaps, _) = read(&mut consumer);
        assert_eq!(ids.len(), fit, "{pin_bytes} for blocks of {weight}");
        assert_eq!(gaps, [(first + fit as u64, first + 4, 5 - fit as u64)]);
        // All is claimed: there is room again.
        offer(&mut producer, &maker.block(1, 0));
        assert_eq!(read(&mut consumer).0.len(), 1);
    }
}

#[test]
fn a_block_heavier_than_the_bound_goes_alone() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(100, 1, Overflow::DropNewest);
    for heavy in [0, 1 << 20, usize::MAX] {
        let first = maker.next_id;
        offer(&mut producer, &maker.block(2, heavy));
        offer(&mut producer, &maker.block(1, heavy));
        offer(&mut producer, &maker.block(1, 0));
        let (ids, gaps, _) = read(&mut consumer);
        assert_eq!(ids, [first, first + 1]);
        assert_eq!(gaps, [(first + 2, first + 3, 2)]);
    }
}

/// The ring is nearly empty, but the next block is too heavy for the rest: the reader arrives when
/// it has read everything. If the request counted as met before, the shard would try for ever.
#[test]
fn a_block_that_is_too_heavy_waits_for_an_empty_ring() {
    let mut maker = BlockMaker::new();
    let light = maker.block(1, 0);
    let heavy = maker.block(1, 100);
    let (mut producer, mut consumer) = ring(8, light.weight() + 50, Overflow::Block);
    assert_eq!(offer(&mut producer, &light), 0);
    assert_eq!(offer(&mut producer, &heavy), 1);
    assert!(
        !producer.request_wake(heavy.weight(), 1),
        "not before the ring is empty"
    );
    assert_eq!(read(&mut consumer).0, [1]);
    assert!(!producer.take_wake_request(), "the reader has arrived");
    assert_eq!(offer_again(&mut producer, &heavy, 1), 0);
    producer.commit();
    assert_eq!(read(&mut consumer).0, [2]);
}

#[test]
fn a_ring_without_room_asks_for_half_of_it() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(4, usize::MAX, Overflow::Block);
    for _ in 0..4 {
        assert_eq!(offer(&mut producer, &maker.block(1, 0)), 0);
    }
    let block = maker.block(3, 0);
    assert_eq!(offer(&mut producer, &block), 0b111);
    assert!(!producer.request_wake(block.weight(), 3));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take::<()>().id(), 1);
    assert!(producer.take_wake_request(), "one is not enough");
    assert!(!producer.request_wake(block.weight(), 3));
    assert_eq!(consumer.check(), Found::Event);
    assert!(!producer.take_wake_request(), "two are");
    assert!(
        producer.request_wake(block.weight(), 3),
        "there is room: the reader will not arrive"
    );
}

/// The shard requests no more room than the block needs.
#[test]
fn a_ring_without_room_requests_what_it_needs() {
    for capacity in [1, 2, 3, 8, 100_usize] {
        if cfg!(miri) && capacity > 8 {
            continue;
        }
        for events in 1..=capacity.div_ceil(2).min(64) {
            let mut maker = BlockMaker::new();
            let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::Block);
            for _ in 0..capacity {
                assert_eq!(offer(&mut producer, &maker.block(1, 0)), 0);
            }
            let block = maker.block(events, 0);
            let rest = offer(&mut producer, &block);
            assert_eq!(rest, all_of(&block));
            assert!(!producer.request_wake(block.weight(), events as u32));
            for read in 0..events {
                assert!(
                    read == 0 || producer.take_wake_request(),
                    "{read} are not enough"
                );
                assert!(!producer.request_wake(block.weight(), events as u32));
                assert_eq!(consumer.check(), Found::Event);
                consumer.take::<()>();
            }
            assert!(!producer.take_wake_request(), "the reader has arrived");
            assert_eq!(offer_again(&mut producer, &block, rest), 0);
        }
    }
}

#[test]
fn a_whole_slot_is_taken_at_once() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(8, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &maker.block(3, 0));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take::<()>().id(), 1);
    assert_eq!(consumer.check(), Found::Event);
    let (block, mask) = consumer.take_slot::<()>();
    assert_eq!((block.first_id(), mask), (1, 0b110));
    assert_eq!(consumer.check(), Found::Empty);
    assert_eq!(consumer.shared().stats().received, 3);
}

#[test]
fn the_first_end_counts() {
    let (mut producer, mut consumer) = ring(8, usize::MAX, Overflow::DropNewest);
    let mut maker = BlockMaker::new();
    offer(&mut producer, &maker.block(1, 0));
    producer.mark_broken();
    assert!(
        !consumer.shared().finish(End::Cancelled),
        "it has ended before"
    );
    // What is in the ring can still be read.
    assert_eq!(
        read(&mut consumer),
        (vec![1], vec![], Found::Ended(End::Broken))
    );

    let (mut producer, mut consumer) = ring(8, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &maker.block(1, 0));
    assert!(consumer.shared().finish(End::Cancelled));
    assert_eq!(
        read(&mut consumer),
        (vec![], vec![], Found::Ended(End::Cancelled))
    );
    let late = maker.block(1, 0);
    assert!(!producer.matched(&late, 1));
    assert_eq!(consumer.shared().stats().last_id, Some(late.first_id() - 1));
    producer.detach(99);
    assert_eq!(consumer.shared().stats().last_id, Some(late.first_id() - 1));
}

/// Whether the shard closes or detaches its end afterwards, the reader gets the loss, and nothing
/// else.
#[test]
fn disconnected_is_for_ever() {
    let check_end = |consumer: &FeedConsumer, end| {
        assert_eq!(end, Found::Disconnected);
        let gap = consumer.gap();
        assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (3, 4, 2));
    };
    for close in [false, true] {
        for read_first in [false, true] {
            let mut maker = BlockMaker::new();
            let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::Disconnect);
            producer.begin(1);
            offer(&mut producer, &maker.block(4, 0));
            let late = maker.block(1, 0);
            assert!(!producer.matched(&late, 1), "the feed takes no more events");
            if read_first {
                let (ids, gaps, end) = read(&mut consumer);
                assert!(ids == [1, 2] && gaps.is_empty());
                check_end(&consumer, end);
            }
            if close {
                producer.close(5);
            } else {
                producer.detach(5);
            }
            for round in 0..3 {
                let (ids, gaps, end) = read(&mut consumer);
                let fresh = round == 0 && !read_first;
                assert_eq!(ids.len(), if fresh { 2 } else { 0 });
                assert!(gaps.is_empty());
                check_end(&consumer, end);
            }
            assert!(!consumer.request_wake(), "it has ended");
            assert!(
                !consumer.shared().finish(End::Cancelled),
                "it has ended before"
            );
            let stats = consumer.shared().stats();
            assert_eq!((stats.matched, stats.received), (4, 2));
            assert_eq!(stats.lost[GapReason::Overflow as usize], 2);
            assert_eq!(stats.gauges.reported_lost, 2, "reported once");
            assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(4)));
        }
    }
}

/// The shard detaches the feed after the bus broke.
#[test]
fn broken_is_for_ever() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &maker.block(1, 0));
    producer.mark_broken();
    producer.detach(1);
    let end = Found::Ended(End::Broken);
    assert_eq!(read(&mut consumer), (vec![1], vec![], end));
    assert_eq!(consumer.check(), end);
}

/// A gap is reported in its place. So after a cancel it is reported only if no unread event was in
/// front of it; and once.
#[test]
fn a_cancel_reports_a_gap_right_there_and_no_other() {
    let end = Found::Ended(End::Cancelled);
    // Five events, and room for two. Under `DropOldest` the gap is in front of the newest two:
    // right where the reader is, unless it is in the middle of a slot. Under `DropNewest` the gap
    // is behind the oldest two.
    for (overflow, reads, seen) in [
        (Overflow::DropOldest, 0, vec![(1, 3, 3)]),
        (Overflow::DropOldest, 1, vec![]),
        (Overflow::DropOldest, 2, vec![(3, 3, 1)]),
        (Overflow::DropNewest, 0, vec![]),
        (Overflow::DropNewest, 1, vec![]),
        (Overflow::DropNewest, 2, vec![]),
    ] {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = ring(2, usize::MAX, overflow);
        offer(&mut producer, &maker.block(2, 0));
        for id in 1..=reads {
            assert_eq!(consumer.check(), Found::Event);
            assert_eq!(consumer.take::<()>().id(), id);
        }
        offer(&mut producer, &maker.block(3, 0));
        assert!(consumer.shared().finish(End::Cancelled));
        let lost = seen.iter().map(|(_, _, count)| count).sum::<u64>();
        assert_eq!(
            read(&mut consumer),
            (vec![], seen, end),
            "{overflow:?}, {reads} read"
        );
        assert_eq!(consumer.check(), end);
        assert_eq!(consumer.shared().stats().gauges.reported_lost, lost);
    }
    // A gap behind the last event that was read, and behind one that was not read.
    for read_all in [true, false] {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropNewest);
        offer(&mut producer, &maker.block(3, 0));
        for _ in 0..1 + usize::from(read_all) {
            assert_eq!(consumer.check(), Found::Event);
            consumer.take::<()>();
        }
        assert!(consumer.shared().finish(End::Cancelled));
        let (ids, gaps, found) = read(&mut consumer);
        let seen = if read_all { vec![(3, 3, 1)] } else { vec![] };
        assert_eq!((ids, gaps, found), (vec![], seen, end));
    }
}

/// Events that were evicted behind a claimed slot do not count for the unread events of that slot.
#[test]
fn passed_events_are_those_received_or_reported() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropOldest);
    offer(&mut producer, &maker.block(2, 0));
    assert_eq!(consumer.check(), Found::Event);
    consumer.take::<()>(); // 1; and 2 is claimed
    let shared = consumer.shared().clone();
    assert!(shared.has_passed(1) && !shared.has_passed(2));
    for _ in 0..10 {
        offer(&mut producer, &maker.block(1, 0)); // 3 to 12, of which 11 and 12 are left
    }
    assert_eq!(shared.stats().lost[GapReason::Overflow as usize], 8);
    assert!(!shared.has_passed(2));
    assert_eq!(consumer.check(), Found::Event);
    consumer.take::<()>();
    assert!(shared.has_passed(2) && !shared.has_passed(3));
    assert_eq!(consumer.check(), Found::Gap);
    assert!(shared.has_passed(10) && !shared.has_passed(11));
    assert_eq!(read(&mut consumer).0, [11, 12]);
    assert!(shared.has_passed(12) && !shared.has_passed(13));
    drop(consumer);
    assert!(shared.has_passed(13));
}

#[test]
fn a_reader_does_not_sleep_before_events_gaps_and_ends() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(1, usize::MAX, Overflow::DropNewest);
    assert!(consumer.request_wake());
    offer(&mut producer, &maker.block(2, 0));
    assert!(!consumer.request_wake(), "an event");
    assert_eq!(consumer.check(), Found::Event);
    consumer.take::<()>();
    assert!(!consumer.request_wake(), "a gap");
    assert_eq!(consumer.check(), Found::Gap);
    assert!(consumer.request_wake());
    consumer.shared().finish(End::Cancelled);
    assert!(!consumer.request_wake(), "the end");
}

#[test]
fn what_is_given_up_is_reported_with_its_reason() {
    let mut maker = BlockMaker::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::Block);
    let block = maker.block(4, 0);
    let rest = offer(&mut producer, &block);
    assert!(producer.give_up(&block, rest, GapReason::Closed));
    producer.close(4);
    let gap = |consumer: &mut FeedConsumer| -> Option<Gap> {
        loop {
            match consumer.check() {
                Found::Event => _ = consumer.take::<()>(),
                Found::Gap => return Some(consumer.gap()),
                _ => return None,
            }
        }
    };
    let seen = gap(&mut consumer).expect("two were given up");
    assert_eq!(
        (seen.first_id(), seen.count(), seen.reason()),
        (3, 2, GapReason::Closed)
    );
    assert_eq!(
        consumer.shared().stats().lost[GapReason::Closed as usize],
        2
    );
    assert_eq!(gap(&mut consumer), None);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 500 },
        failure_persistence: None,
        ..Default::default()
    })]

    /// For any sequence of offers and reads: received + lost + unread = matched, in order, within
    /// the bounds.
    #[test]
    fn random_turns_keep_the_accounting_invariant(
        capacity in 1..80_usize,
        turns in prop::collection::vec((any::<bool>(), 1..=64_usize, any::<u64>()), 1..60),
    ) {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::DropNewest);
        let (mut offered, mut seen) = (Vec::new(), Vec::new());
        for (reads, n, mask) in turns {
            if reads {
                for _ in 0..n {
                    let found = consumer.check();
                    match found {
                        Found::Event => seen.push(consumer.take::<()>().id()),
                        Found::Gap => {
                            let gap = consumer.gap();
                            let run = gap.first_id()..=gap.last_id();
                            let before = seen.len();
                            seen.extend(offered.iter().filter(|id| run.contains(id)));
                            prop_assert_eq!((seen.len() - before) as u64, gap.count());
                        }
                        _ => break,
                    }
                }
            } else {
                let block = maker.block(n, 0);
                let mask = mask & all_of(&block);
                if mask != 0 {
                    let first_id = block.first_id();
                    let bits = (0..64).filter(|bit| mask & (1 << bit) != 0);
                    offered.extend(bits.map(|bit| first_id + bit));
                    prop_assert!(producer.matched(&block, mask));
                    prop_assert_eq!(offer_again(&mut producer, &block, mask), 0);
                    producer.commit();
                }
            }
            let stats = consumer.shared().stats();
            let unread = stats.matched - stats.received - stats.lost.iter().sum::<u64>();
            prop_assert!(unread <= capacity as u64 + 63, "{unread} of {capacity}");
        }
        producer.close(maker.next_id - 1);
        loop {
            match consumer.check() {
                Found::Event => seen.push(consumer.take::<()>().id()),
                Found::Gap => {
                    let gap = consumer.gap();
                    let run = gap.first_id()..=gap.last_id();
                    seen.extend(offered.iter().filter(|id| run.contains(id)));
                }
                end => break prop_assert_eq!(end, Found::Closed),
            }
        }
        prop_assert_eq!(seen, offered);
    }
}
