//! Memory: bounded by events and by bytes, and released with the last reference. (`tests/alloc.rs`,
//! which is a separate binary, counts allocations.)

use fanout::{Bus, Dispatch, GapReason, Message, Overflow, RecvError, Subscriber, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    FOR_EVER, OnDrop, Random, StreamItem, bus, ends, ids, in_every_mode_and_shards, manual,
    publish_each, read_out,
};

#[test]
fn a_payload_is_dropped_with_its_last_reference() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let gone = || dropped.load(Ordering::SeqCst);
    let bus = manual();
    let publish = |topic: &str| {
        bus.publish(topic, OnDrop::counts(&dropped)).expect("open");
        bus.drive();
    };

    publish("nobody.listens");
    assert_eq!(gone(), 1, "no subscriber, no reference");

    let mut one = bus.subscribe("a").expect("open");
    let mut two = bus.subscribe("**").expect("open");
    publish("a");
    one.recv().expect("there");
    assert_eq!(one.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(gone(), 1, "the other has not read it");
    let kept = two.recv().expect("there").share();
    assert_eq!(two.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(gone(), 1, "it is shared");
    let clone = kept.clone();
    drop(kept);
    assert_eq!(gone(), 1);
    drop(clone);
    assert_eq!(gone(), 2, "at once, not when its memory is used again");

    publish("b");
    let batch = two.next_batch().expect("there");
    assert_eq!(two.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!((gone(), batch.len()), (2, 1));
    drop(two);
    assert_eq!(gone(), 2, "a batch outlives its subscriber");
    drop(batch);
    assert_eq!(gone(), 3);

    publish("a");
    drop(one);
    assert_eq!(gone(), 4, "unread");
}

#[test]
fn a_batch_and_an_event_outlive_the_bus() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    (0..64).for_each(|_| bus.publish("a", OnDrop::counts(&dropped)).expect("open"));
    bus.drive();
    let first = sub.recv().expect("there").share();
    let batch = sub.next_batch().expect("there");
    assert_eq!(batch.len(), 63, "the rest of the slot");
    drop((bus, sub));
    assert_eq!(
        (
            first.id(),
            batch.iter().map(|event| event.id()).sum::<u64>()
        ),
        (1, (2..=64).sum())
    );
    drop(batch);
    assert_eq!(
        dropped.load(Ordering::SeqCst),
        0,
        "one event keeps its block"
    );
    drop(first);
    assert_eq!(dropped.load(Ordering::SeqCst), 64);
}

/// Payloads that are received, lost, unread, cancelled, refused or never sequenced.
#[test]
fn every_payload_is_dropped_exactly_once() {
    in_every_mode_and_shards(|mode, dispatchers| {
        for seed in 0..30 {
            once(mode, dispatchers, &mut Random::new(seed));
        }
    });
}

fn once(mode: Dispatch, dispatchers: usize, random: &mut Random) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(16));
    let mut publisher = bus.publisher();
    let mut subs: Vec<Subscriber<OnDrop>> = Vec::new();
    let mut made = 0;
    for _ in 0..1000 {
        match random.below(20) {
            0 => {
                let overflow = if random.one_in(4) {
                    Overflow::Block
                } else {
                    Overflow::DropNewest
                };
                let capacity = 1 + random.below(100);
                let sub = bus.subscription("a").capacity(capacity).overflow(overflow);
                subs.push(sub.open().expect("open"));
            }
            1 if !subs.is_empty() => {
                let sub = subs.swap_remove(random.below(subs.len()));
                if random.one_in(2) {
                    sub.handle().cancel();
                }
            }
            2..7 if !subs.is_empty() => {
                let sub = random.below(subs.len());
                let _ = subs[sub].try_recv();
            }
            7 => drop(bus.drive()),
            n => {
                made += 1;
                let payload = OnDrop::counts(&dropped);
                // A refused payload is returned, and is dropped here.
                let _ = if n % 2 == 0 {
                    publisher.try_publish("a", payload)
                } else {
                    bus.try_publish("a", payload)
                };
            }
        }
    }
    match random.below(3) {
        0 => drop(bus.close_within(std::time::Duration::ZERO)),
        1 => bus.close(),
        _ => {}
    }
    drop((publisher, bus, subs));
    crate::support::eventually("the pool has released all blocks", || {
        dropped.load(Ordering::SeqCst) >= made
    });
    assert_eq!(dropped.load(Ordering::SeqCst), made);
}

const WEIGHT: usize = 100_000;

/// A manual bus whose events are published one by one, each in its own block, which weighs slightly
/// more than [`WEIGHT`].
fn heavy(pin_bytes: usize, overflow: Overflow) -> (Bus<u64>, Subscriber<u64>) {
    let bus = bus(|b| {
        b.dispatch(Dispatch::Manual)
            .weigh(|_| WEIGHT)
            .pin_bytes(pin_bytes)
    });
    let sub = bus
        .subscription("a")
        .overflow(overflow)
        .open()
        .expect("open");
    (bus, sub)
}

fn publish_singly(bus: &Bus<u64>, events: u64) {
    for n in 0..events {
        bus.publish("a", n).expect("open");
        bus.drive();
    }
}

#[test]
fn a_ring_pins_no_more_bytes_than_its_bound() {
    for fit in [2, 3, 10] {
        let (bus, mut sub) = heavy(fit * WEIGHT + WEIGHT / 2, Overflow::DropNewest);
        publish_singly(&bus, 20);
        let (items, _) = read_out(&mut sub);
        assert_eq!(
            items[..fit],
            (1..=fit as u64).map(StreamItem::Id).collect::<Vec<_>>()
        );
        let [StreamItem::Lost(gap)] = items[fit..] else {
            panic!("{items:?}")
        };
        assert_eq!(
            (gap.first_id(), gap.last_id(), gap.reason()),
            (fit as u64 + 1, 20, GapReason::Overflow)
        );
        publish_singly(&bus, 1);
        assert_eq!(ids(&mut sub), [21], "there is room again");
    }
}

#[test]
fn a_block_heavier_than_the_bound_is_delivered_alone() {
    for pin_bytes in [1, WEIGHT / 2] {
        let (bus, mut sub) = heavy(pin_bytes, Overflow::DropNewest);
        publish_singly(&bus, 5);
        let (items, _) = read_out(&mut sub);
        assert!(
            matches!(items[..], [StreamItem::Id(1), StreamItem::Lost(gap)]
                if (gap.first_id(), gap.last_id()) == (2, 5)),
            "{items:?}"
        );
        publish_singly(&bus, 1);
        assert_eq!(ids(&mut sub), [6]);
        // A whole block is one slot: either all of it enters the ring, or none.
        publish_each(&bus, 0..64);
        bus.drive();
        assert_eq!(ids(&mut sub), (7..71).collect::<Vec<_>>());
    }
}

/// The shard waits for bytes as it waits for events: it sleeps until a reader makes room.
#[test]
fn the_bus_waits_for_a_block_subscriber_at_its_bound_in_bytes() {
    for pin_bytes in [1, WEIGHT / 2, WEIGHT + WEIGHT / 2, 2 * WEIGHT + WEIGHT / 2] {
        ends(&format!("manual with {pin_bytes} bytes"), move || {
            let (bus, mut sub) = heavy(pin_bytes, Overflow::Block);
            publish_singly(&bus, 20);
            let mut seen = Vec::new();
            while seen.len() < 20 {
                let more = ids(&mut sub);
                assert!(
                    !more.is_empty() && more.len() <= pin_bytes / WEIGHT + 1,
                    "{more:?}"
                );
                seen.extend(more);
                bus.drive();
            }
            assert_eq!(seen, (1..=20).collect::<Vec<_>>());
        });
        for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
            ends(&format!("{mode:?} with {pin_bytes} bytes"), move || {
                let bus = bus(|b| b.dispatch(mode).weigh(|_| WEIGHT).pin_bytes(pin_bytes));
                let mut sub = bus
                    .subscription("a")
                    .overflow(Overflow::Block)
                    .open()
                    .expect("open");
                let mut publisher = bus.publisher();
                let reading = std::thread::spawn(move || {
                    (1..=5000)
                        .for_each(|id| assert_eq!(sub.recv().map(|event| event.id()), Ok(id)));
                    sub.recv().map(|event| event.id())
                });
                (0..5000).for_each(|n| publisher.publish("a", n).expect("open"));
                assert!(bus.flush_within(FOR_EVER));
                drop((bus, publisher));
                assert_eq!(reading.join().expect("read"), Err(RecvError::Closed));
            });
        }
    }
}

/// Three types that own memory have a weight by default.
#[test]
fn bytes_vectors_and_strings_are_weighed_by_default() {
    fn unread<T: Send + Sync + 'static>(payload: impl Fn() -> T) -> u64 {
        let bus = bus(|b| b.dispatch(Dispatch::Manual).pin_bytes(10 * WEIGHT));
        let sub = bus.subscribe("a").expect("open");
        for _ in 0..100 {
            bus.publish("a", payload()).expect("open");
            bus.drive();
        }
        sub.stats().unread
    }
    for unread in [
        unread(|| bytes::Bytes::from(vec![0; WEIGHT])),
        unread(|| vec![0_u8; WEIGHT]),
        unread(|| "x".repeat(WEIGHT)),
    ] {
        assert_eq!(
            unread, 9,
            "slightly less than ten, because the block itself has a weight, too"
        );
    }
    assert_eq!(
        unread(|| Box::new([0_u8; WEIGHT])),
        100,
        "the memory that a box owns is not known"
    );
    assert!(
        unread(|| [0_u8; 4096]) < 100_000,
        "its own size counts in any case"
    );
}

#[test]
fn payloads_of_any_size_are_delivered() {
    fn travels<T: Send + Sync + PartialEq + std::fmt::Debug + 'static>(payload: impl Fn() -> T) {
        let bus = manual();
        let mut sub = bus.subscribe("a").expect("open");
        for _ in 0..200 {
            bus.publish("a", payload()).expect("open");
        }
        bus.drive();
        for _ in 0..200 {
            assert_eq!(sub.recv().expect("there").data(), &payload());
        }
    }
    #[derive(Debug, PartialEq)]
    #[repr(align(256))]
    struct Aligned(u8);
    travels(|| ());
    travels(|| Aligned(7));
    travels(|| [3_u8; 10_000]);
    travels(|| String::from("x"));
}

/// What `guide::memory` says about payloads without a weigher: three types weigh their lengths, and
/// all others weigh 0.
#[test]
fn default_weights_are_lengths_for_three_types_and_zero_for_others() {
    /// The bytes that one event pins.
    fn pinned<T: Send + Sync + 'static>(payload: T) -> u64 {
        let bus = manual::<T>();
        let sub = bus.subscribe("a").expect("open");
        assert!(bus.publish("a", payload).is_ok());
        bus.drive();
        sub.stats().pinned_bytes
    }
    const LENGTH: usize = 100_000;
    let grows = |empty: u64, full: u64| full - empty;
    let vec = |length| vec![0_u8; length];
    let text = |length| "x".repeat(length);
    let length = LENGTH as u64;
    assert_eq!(grows(pinned(vec(0)), pinned(vec(LENGTH))), length);
    assert_eq!(grows(pinned(text(0)), pinned(text(LENGTH))), length);
    let bytes = |length| bytes::Bytes::from(vec(length));
    assert_eq!(grows(pinned(bytes(0)), pinned(bytes(LENGTH))), length);
    // The length, not the capacity.
    let mut roomy = Vec::with_capacity(LENGTH);
    roomy.push(0_u8);
    assert_eq!(grows(pinned(vec(0)), pinned(roomy)), 1);
    // Every other type counts only with its own size.
    let boxed = |length| vec(length).into_boxed_slice();
    assert_eq!(grows(pinned(boxed(0)), pinned(boxed(LENGTH))), 0);
    assert_eq!(grows(pinned((0, vec(0))), pinned((0, vec(LENGTH)))), 0);
    let words = |length| vec![0_u64; length];
    assert_eq!(grows(pinned(words(0)), pinned(words(LENGTH))), 0);
}

/// What `guide::memory` and `BusBuilder::weigh` say: a block weighs its own memory, which includes
/// the size of the payload type for each place, and the sum of what the weigher returns.
#[test]
fn a_block_weighs_its_memory_and_the_sum_of_the_weigher() {
    /// The bytes that `events` events pin, which share a block.
    fn pinned<T: Copy + Send + Sync + 'static>(payload: T, events: u64, weight: usize) -> u64 {
        let bus = bus::<T>(|b| b.dispatch(Dispatch::Manual).weigh(move |_| weight));
        let sub = bus.subscribe("a").expect("open");
        (0..events).for_each(|_| assert!(bus.publish("a", payload).is_ok()));
        bus.drive();
        assert_eq!(bus.stats().blocks, 1);
        sub.stats().pinned_bytes
    }
    // The weigher's number is added for each event, and the size of the type is not.
    assert_eq!(pinned(0_u8, 64, 1000) - pinned(0_u8, 64, 0), 64 * 1000);
    // The size of the type counts for each place of the block: 1, 8 or 64.
    for (events, places) in [(1, 1), (2, 8), (8, 8), (9, 64), (64, 64)] {
        let grows = pinned([0_u8; 4096], events, 0) - pinned([0_u8; 0], events, 0);
        assert!(grows.abs_diff(places * 4096) <= places * 8, "{grows}");
        // About 40 bytes for each place, and 400 bytes for the block.
        let block = pinned((), events, 0);
        assert!(
            block.abs_diff(places * 40 + 400) <= 200,
            "{places}: {block}"
        );
    }
}

/// What an event keeps alive beside its payload counts, too.
#[test]
fn topics_names_and_sources_count() {
    const BOUND: usize = 1 << 20;
    const LONG: usize = 100_000;
    let topic = |n: usize| format!("{n:04}.{}", "t".repeat(1000));
    let text = |n: usize| format!("{n:04}{}", "n".repeat(LONG - 4));
    let waiting = |long: usize, send: &dyn Fn(&Bus<u8>, usize)| {
        let bus = bus::<u8>(|b| b.dispatch(Dispatch::Manual).lane_capacity(4096));
        let subscription = bus.subscription("**").capacity(4096).pin_bytes(BOUND);
        let mut sub = subscription.open().expect("open");
        (0..2000).for_each(|n| send(&bus, n));
        bus.drive();
        let stats = sub.stats();
        assert!(stats.pinned_bytes as usize >= stats.depth as usize * long);
        let items = read_out(&mut sub).0;
        let events = items
            .iter()
            .filter(|item| matches!(item, StreamItem::Id(_)));
        let events = events.count();
        // One block of 64 may be heavier than the bound by itself.
        assert!(events * long <= BOUND.max(64 * (long + 2000)), "{events}");
        events
    };
    let by_topic = waiting(1000, &|bus, n| {
        bus.publish(topic(n), 0).expect("open");
    });
    assert!(by_topic > 500, "{by_topic}");
    waiting(LONG, &|bus, n| {
        let message = Message::new("a", 0_u8).name(text(n));
        bus.send(message).expect("open");
    });
    waiting(LONG, &|bus, n| {
        let message = Message::new("a", 0_u8).source(text(n));
        bus.send(message).expect("open");
    });
}
