//! Feeds: bounds, gaps in their places, room for blocks that wait, and ends.

use proptest::prelude::*;

use super::super::feed::{End, FeedConsumer, Found};
use super::super::loss::{Gap, GapReason, Overflow};
use super::{Layer, all_of, offer, offer_again, read, ring};

#[test]
fn a_ring_holds_its_capacity_and_no_more() {
    for capacity in [1, 2, 63, 64, 65, 100] {
        let mut layer = Layer::new();
        let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::DropNewest);
        while (layer.next_id - 1) < capacity as u64 {
            let left = capacity as u64 - (layer.next_id - 1);
            assert_eq!(
                offer(&mut producer, &layer.block(left.min(7) as usize, 0)),
                0
            );
        }
        assert_eq!(consumer.shared().stats().lost, [0; GapReason::COUNT]);
        offer(&mut producer, &layer.block(1, 0));
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
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(5, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &layer.block(3, 0));
    offer(&mut producer, &layer.block(4, 0)); // ids 4 to 7, of which 4 and 5 fit
    offer(&mut producer, &layer.block(2, 0)); // none of 8 and 9
    assert_eq!(
        read(&mut consumer),
        (vec![1, 2, 3, 4, 5], vec![(6, 9, 4)], Found::Empty)
    );
    // What did not match is not counted, and does not end a run.
    offer(&mut producer, &layer.block(5, 0)); // 10 to 14
    let sparse = layer.block(4, 0); // 15 to 18
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
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &layer.block(3, 0)); // 3 is lost
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take().id(), 1);
    // The slot is claimed, so there is room for two, while 2 is still to be read.
    offer(&mut producer, &layer.block(1, 0));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take().id(), 2);
    assert!(matches!(consumer.check(), Found::Gap(gap) if (gap.from(), gap.to()) == (3, 3)));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take().id(), 4);
}

/// A reader who is never done: nearly every event has a gap in front of it, and all find their places.
#[test]
fn gaps_take_no_room_from_events() {
    for capacity in [1, 2, 5] {
        let mut layer = Layer::new();
        let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::DropNewest);
        let mut told = Vec::new();
        for _ in 0..50 {
            offer(&mut producer, &layer.block(1, 0));
            offer(&mut producer, &layer.block(64, 0)); // lost, once the ring is full
            match consumer.check() {
                Found::Event => told.push((consumer.take().id(), 1)),
                Found::Gap(gap) => told.push((gap.from(), gap.count())),
                end => panic!("{end:?}"),
            }
        }
        producer.close(layer.next_id - 1);
        loop {
            match consumer.check() {
                Found::Event => told.push((consumer.take().id(), 1)),
                Found::Gap(gap) => told.push((gap.from(), gap.count())),
                end => break assert_eq!(end, Found::Closed),
            }
        }
        let mut next = 1;
        for (from, count) in told {
            assert_eq!(
                from, next,
                "capacity {capacity}: everything is told, in order"
            );
            next = from + count;
        }
        assert_eq!(next, layer.next_id);
    }
}

#[test]
fn a_full_block_ring_hands_the_rest_back() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::Block);
    let block = layer.block(5, 0);
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
    // Ended: nothing is held back for nobody.
    offer(&mut producer, &layer.block(2, 0));
    drop(consumer);
    let late = layer.block(1, 0);
    assert!(!producer.matched(&late, 1));
    assert_eq!(offer_again(&mut producer, &late, 1), 0);
}

/// After a wait in vain, a claim makes room, and not only what then fits: here a block is too heavy to fit.
#[test]
fn a_claim_is_room() {
    let mut layer = Layer::new();
    let weight = layer.block(1, 0).weight();
    let first = layer.next_id;
    let (mut producer, mut consumer) = ring(100, 2 * weight, Overflow::Block);
    for _ in 0..2 {
        assert_eq!(offer(&mut producer, &layer.block(1, 0)), 0);
    }
    let heavy = layer.block(2, 2 * weight);
    assert_eq!(offer(&mut producer, &heavy), 0b11, "worth waiting for");
    producer.stop_waiting();
    assert_eq!(offer_again(&mut producer, &heavy, 0b11), 0, "given up");
    assert_eq!(offer(&mut producer, &layer.block(3, 0)), 0, "at once");
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take().id(), first);
    let heavy = layer.block(2, 2 * weight);
    assert_eq!(offer(&mut producer, &heavy), 0b11, "something was claimed");
    producer.stop_waiting();
    assert_eq!(offer_again(&mut producer, &heavy, 0b11), 0);
    let (ids, gaps, _) = read(&mut consumer);
    assert_eq!(ids, [first + 1]);
    assert_eq!(gaps, [(first + 2, first + 8, 7)], "nothing came in between");
    assert_eq!(
        consumer.shared().stats().lost[GapReason::BlockTimeout as usize],
        7
    );
}

#[test]
fn pinned_bytes_are_bounded_to_the_byte() {
    let mut layer = Layer::new();
    let weight = layer.block(1, 0).weight();
    for (pin_bytes, fit) in [(3 * weight - 1, 2), (3 * weight, 3), (3 * weight + 1, 3)] {
        let (mut producer, mut consumer) = ring(100, pin_bytes, Overflow::DropNewest);
        let first = layer.next_id;
        (0..5).for_each(|_| assert_eq!(offer(&mut producer, &layer.block(1, 0)), 0));
        let (ids, gaps, _) = read(&mut consumer);
        assert_eq!(ids.len(), fit, "{pin_bytes} for blocks of {weight}");
        assert_eq!(gaps, [(first + fit as u64, first + 4, 5 - fit as u64)]);
        // All is claimed: there is room again.
        offer(&mut producer, &layer.block(1, 0));
        assert_eq!(read(&mut consumer).0.len(), 1);
    }
}

#[test]
fn a_block_heavier_than_the_bound_goes_alone() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(100, 1, Overflow::DropNewest);
    for heavy in [0, 1 << 20, usize::MAX] {
        let first = layer.next_id;
        offer(&mut producer, &layer.block(2, heavy));
        offer(&mut producer, &layer.block(1, heavy));
        offer(&mut producer, &layer.block(1, 0));
        let (ids, gaps, _) = read(&mut consumer);
        assert_eq!(ids, [first, first + 1]);
        assert_eq!(gaps, [(first + 2, first + 3, 2)]);
    }
}

/// Little waits, but what comes is too heavy to join it: the reader arrives when it has read everything, and the wish
/// is not taken for granted before, or the shard would try for ever.
#[test]
fn a_block_that_is_too_heavy_waits_for_an_empty_ring() {
    let mut layer = Layer::new();
    let light = layer.block(1, 0);
    let heavy = layer.block(1, 100);
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
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(4, usize::MAX, Overflow::Block);
    for _ in 0..4 {
        assert_eq!(offer(&mut producer, &layer.block(1, 0)), 0);
    }
    let block = layer.block(3, 0);
    assert_eq!(offer(&mut producer, &block), 0b111);
    assert!(!producer.request_wake(block.weight(), 3));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take().id(), 1);
    assert!(producer.take_wake_request(), "one is not enough");
    assert!(!producer.request_wake(block.weight(), 3));
    assert_eq!(consumer.check(), Found::Event);
    assert!(!producer.take_wake_request(), "two are");
    assert!(
        producer.request_wake(block.weight(), 3),
        "there is room: nobody will arrive"
    );
}

/// But for no more than has to go in.
#[test]
fn a_ring_without_room_asks_for_what_it_needs() {
    for capacity in [1, 2, 3, 8, 100_usize] {
        for events in 1..=capacity.div_ceil(2).min(64) {
            let mut layer = Layer::new();
            let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::Block);
            for _ in 0..capacity {
                assert_eq!(offer(&mut producer, &layer.block(1, 0)), 0);
            }
            let block = layer.block(events, 0);
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
                consumer.take();
            }
            assert!(!producer.take_wake_request(), "the reader has arrived");
            assert_eq!(offer_again(&mut producer, &block, rest), 0);
        }
    }
}

#[test]
fn a_whole_slot_is_taken_at_once() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(8, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &layer.block(3, 0));
    assert_eq!(consumer.check(), Found::Event);
    assert_eq!(consumer.take().id(), 1);
    assert_eq!(consumer.check(), Found::Event);
    let (block, mask) = consumer.take_slot();
    assert_eq!((block.first_id(), mask), (1, 0b110));
    assert_eq!(consumer.check(), Found::Empty);
    assert_eq!(consumer.shared().stats().received, 3);
}

#[test]
fn the_first_end_counts() {
    let (mut producer, mut consumer) = ring(8, usize::MAX, Overflow::DropNewest);
    let mut layer = Layer::new();
    offer(&mut producer, &layer.block(1, 0));
    producer.mark_broken();
    assert!(!consumer.shared().finish(End::Cancelled), "too late");
    // What is in the ring is still read.
    assert_eq!(
        read(&mut consumer),
        (vec![1], vec![], Found::Ended(End::Broken))
    );

    let (mut producer, mut consumer) = ring(8, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &layer.block(1, 0));
    assert!(consumer.shared().finish(End::Cancelled));
    assert_eq!(
        read(&mut consumer),
        (vec![], vec![], Found::Ended(End::Cancelled))
    );
    let late = layer.block(1, 0);
    assert!(!producer.matched(&late, 1));
    assert_eq!(consumer.shared().stats().last_id, Some(late.first_id() - 1));
    producer.detach(99);
    assert_eq!(consumer.shared().stats().last_id, Some(late.first_id() - 1));
}

/// Whatever becomes of the shard's end afterwards: the loss is told, and nothing else.
#[test]
fn disconnected_is_for_ever() {
    let lost = |found| matches!(found, Found::Disconnected(gap) if (gap.from(), gap.to(), gap.count()) == (3, 4, 2));
    for close in [false, true] {
        for read_first in [false, true] {
            let mut layer = Layer::new();
            let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::Disconnect);
            producer.begin(1);
            offer(&mut producer, &layer.block(4, 0));
            let late = layer.block(1, 0);
            assert!(!producer.matched(&late, 1), "nothing more is looked at");
            if read_first {
                let (ids, gaps, end) = read(&mut consumer);
                assert!(ids == [1, 2] && gaps.is_empty() && lost(end), "{end:?}");
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
                assert!(gaps.is_empty() && lost(end), "{end:?}");
            }
            assert!(!consumer.request_wake(), "it has ended");
            assert!(!consumer.shared().finish(End::Cancelled), "too late");
            let stats = consumer.shared().stats();
            assert_eq!((stats.matched, stats.received), (4, 2));
            assert_eq!(stats.lost[GapReason::Overflow as usize], 2);
            assert_eq!(stats.gauges.report_lost, 2, "told once");
            assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(4)));
        }
    }
}

/// The shard lets go of a subscription that the bus broke under.
#[test]
fn broken_is_for_ever() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropNewest);
    offer(&mut producer, &layer.block(1, 0));
    producer.mark_broken();
    producer.detach(1);
    let end = Found::Ended(End::Broken);
    assert_eq!(read(&mut consumer), (vec![1], vec![], end));
    assert_eq!(consumer.check(), end);
}

/// A gap is told in its place, so behind a cancel only if nothing was let go in front of it; and once.
#[test]
fn a_cancel_tells_a_gap_that_lies_right_there_and_no_other() {
    let end = Found::Ended(End::Cancelled);
    // Five events and room for two. In front of the newest two lie those that were evicted: right where the reader is, unless
    // it is in the middle of a slot. Behind the oldest two lies what did not fit.
    for (overflow, reads, told) in [
        (Overflow::DropOldest, 0, vec![(1, 3, 3)]),
        (Overflow::DropOldest, 1, vec![]),
        (Overflow::DropOldest, 2, vec![(3, 3, 1)]),
        (Overflow::DropNewest, 0, vec![]),
        (Overflow::DropNewest, 1, vec![]),
        (Overflow::DropNewest, 2, vec![]),
    ] {
        let mut layer = Layer::new();
        let (mut producer, mut consumer) = ring(2, usize::MAX, overflow);
        offer(&mut producer, &layer.block(2, 0));
        for id in 1..=reads {
            assert_eq!(consumer.check(), Found::Event);
            assert_eq!(consumer.take().id(), id);
        }
        offer(&mut producer, &layer.block(3, 0));
        assert!(consumer.shared().finish(End::Cancelled));
        let lost = told.iter().map(|(_, _, count)| count).sum::<u64>();
        assert_eq!(
            read(&mut consumer),
            (vec![], told, end),
            "{overflow:?}, {reads} read"
        );
        assert_eq!(consumer.check(), end);
        assert_eq!(consumer.shared().stats().gauges.report_lost, lost);
    }
    // Behind the last event that was read, and behind one that was not.
    for read_all in [true, false] {
        let mut layer = Layer::new();
        let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropNewest);
        offer(&mut producer, &layer.block(3, 0));
        for _ in 0..1 + usize::from(read_all) {
            assert_eq!(consumer.check(), Found::Event);
            consumer.take();
        }
        assert!(consumer.shared().finish(End::Cancelled));
        let (ids, gaps, found) = read(&mut consumer);
        let told = if read_all { vec![(3, 3, 1)] } else { vec![] };
        assert_eq!((ids, gaps, found), (vec![], told, end));
    }
}

/// What was evicted behind a slot that was claimed does not stand for what is left of that slot.
#[test]
fn what_was_passed_is_what_was_received_or_told() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::DropOldest);
    offer(&mut producer, &layer.block(2, 0));
    assert_eq!(consumer.check(), Found::Event);
    consumer.take(); // 1; and 2 is claimed
    let shared = consumer.shared().clone();
    assert!(shared.has_passed(1) && !shared.has_passed(2));
    for _ in 0..10 {
        offer(&mut producer, &layer.block(1, 0)); // 3 to 12, of which 11 and 12 are left
    }
    assert_eq!(shared.stats().lost[GapReason::Overflow as usize], 8);
    assert!(!shared.has_passed(2));
    assert_eq!(consumer.check(), Found::Event);
    consumer.take();
    assert!(shared.has_passed(2) && !shared.has_passed(3));
    assert!(matches!(consumer.check(), Found::Gap(_)));
    assert!(shared.has_passed(10) && !shared.has_passed(11));
    assert_eq!(read(&mut consumer).0, [11, 12]);
    assert!(shared.has_passed(12) && !shared.has_passed(13));
    drop(consumer);
    assert!(shared.has_passed(13));
}

#[test]
fn a_reader_that_dozes_hears_of_events_gaps_and_ends() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(1, usize::MAX, Overflow::DropNewest);
    assert!(consumer.request_wake());
    offer(&mut producer, &layer.block(2, 0));
    assert!(!consumer.request_wake(), "an event");
    assert_eq!(consumer.check(), Found::Event);
    consumer.take();
    assert!(!consumer.request_wake(), "a gap");
    assert!(matches!(consumer.check(), Found::Gap(_)));
    assert!(consumer.request_wake());
    consumer.shared().finish(End::Cancelled);
    assert!(!consumer.request_wake(), "the end");
}

#[test]
fn what_is_given_up_is_told_with_its_reason() {
    let mut layer = Layer::new();
    let (mut producer, mut consumer) = ring(2, usize::MAX, Overflow::Block);
    let block = layer.block(4, 0);
    let rest = offer(&mut producer, &block);
    assert!(producer.give_up(&block, rest, GapReason::Closed));
    producer.close(4);
    let gap = |consumer: &mut FeedConsumer<()>| -> Option<Gap> {
        loop {
            match consumer.check() {
                Found::Event => _ = consumer.take(),
                Found::Gap(gap) => return Some(gap),
                _ => return None,
            }
        }
    };
    let told = gap(&mut consumer).expect("two were given up");
    assert_eq!(
        (told.from(), told.count(), told.reason()),
        (3, 2, GapReason::Closed)
    );
    assert_eq!(
        consumer.shared().stats().lost[GapReason::Closed as usize],
        2
    );
    assert_eq!(gap(&mut consumer), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    /// Whatever is offered and read, in whatever turns: received + lost + unread = matched, in order, within bounds.
    #[test]
    fn random_turns_keep_the_delivery_law(
        capacity in 1..80_usize,
        turns in prop::collection::vec((any::<bool>(), 1..=64_usize, any::<u64>()), 1..60),
    ) {
        let mut layer = Layer::new();
        let (mut producer, mut consumer) = ring(capacity, usize::MAX, Overflow::DropNewest);
        let (mut offered, mut told) = (Vec::new(), Vec::new());
        for (reads, n, mask) in turns {
            if reads {
                for _ in 0..n {
                    let found = consumer.check();
                    match found {
                        Found::Event => told.push(consumer.take().id()),
                        Found::Gap(gap) => {
                            let run = gap.from()..=gap.to();
                            let before = told.len();
                            told.extend(offered.iter().filter(|id| run.contains(id)));
                            prop_assert_eq!((told.len() - before) as u64, gap.count());
                        }
                        _ => break,
                    }
                }
            } else {
                let block = layer.block(n, 0);
                let mask = mask & all_of(&block);
                if mask != 0 {
                    let first_id = block.first_id();
                    offered.extend((0..64).filter(|bit| mask & (1 << bit) != 0).map(|bit| first_id + bit));
                    prop_assert!(producer.matched(&block, mask));
                    prop_assert_eq!(offer_again(&mut producer, &block, mask), 0);
                    producer.commit();
                }
            }
            let stats = consumer.shared().stats();
            let unread = stats.matched - stats.received - stats.lost.iter().sum::<u64>();
            prop_assert!(unread <= capacity as u64 + 63, "{unread} of {capacity}");
        }
        producer.close(layer.next_id - 1);
        loop {
            match consumer.check() {
                Found::Event => told.push(consumer.take().id()),
                Found::Gap(gap) => {
                    let run = gap.from()..=gap.to();
                    told.extend(offered.iter().filter(|id| run.contains(id)));
                }
                end => break prop_assert_eq!(end, Found::Closed),
            }
        }
        prop_assert_eq!(told, offered);
    }
}
