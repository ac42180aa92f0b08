//! Measures the memory that subscribers which have stopped reading keep alive, and compares it with
//! the formula of `fanout::guide::memory`.
//!
//! This is a separate binary, because a global allocator counts for the whole process. Its tests
//! take turns.

mod counting_allocator;

use counting_allocator::live_bytes;
use fanout::{Bus, Dispatch, Overflow, Subscriber};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Only one test at a time may use the counter.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The threads of the last test's buses may still be releasing memory.
    let mut before = live_bytes();
    loop {
        thread::sleep(Duration::from_millis(50));
        let now = live_bytes();
        if now == before {
            return turn;
        }
        before = now;
    }
}

const PAYLOAD: usize = 64 << 10;

/// The memory of a block of up to 64 events with payloads of a few words.
const BLOCK_MAX: usize = 8 << 10;

const POLICIES: [Overflow; 4] = [
    Overflow::DropNewest,
    Overflow::DropOldest,
    Overflow::Disconnect,
    Overflow::Conflate,
];

/// The memory of a block of one event.
const LONE_BLOCK: usize = 640;

/// The formula of the guide, without a block that the subscriber has begun to read.
fn bound(overflow: Overflow, capacity: usize, pin_bytes: usize, heaviest: usize) -> usize {
    let ring = match overflow {
        Overflow::DropOldest => 128 * (capacity + 1).next_power_of_two(),
        Overflow::Conflate => 512 * (capacity + 1).next_power_of_two(),
        _ => 32 * (4 * (capacity + 1)).next_power_of_two(),
    };
    pin_bytes.max(heaviest) + ring
}

/// Subscribers with different topics that read nothing.
fn stalled(
    bus: &Bus<Vec<u8>>,
    overflow: Overflow,
    many: usize,
    capacity: usize,
    pin_bytes: usize,
) -> Vec<Subscriber<Vec<u8>>> {
    let open = |n| {
        let builder = bus.subscription(format!("t.{n}.*")).capacity(capacity);
        builder.pin_bytes(pin_bytes).overflow(overflow).open()
    };
    (0..many).map(|n| open(n).expect("open")).collect()
}

fn bus() -> Bus<Vec<u8>> {
    let builder = Bus::<Vec<u8>>::builder().dispatch(Dispatch::Manual);
    builder.weigh(Vec::capacity).build().expect("in range")
}

#[test]
fn a_thousand_stalled_subscribers_stay_within_the_bound() {
    const SUBSCRIBERS: usize = 1000;
    const CAPACITY: usize = 64;
    const PIN_BYTES: usize = 200 << 10; // three payloads, with their blocks
    let _turn = turn();
    // Each event alone in its block, and all events of a round together.
    for (at_once, heaviest) in [(1, PAYLOAD + BLOCK_MAX), (16, 16 * PAYLOAD + BLOCK_MAX)] {
        for overflow in POLICIES {
            let bus = bus();
            let subs = stalled(&bus, overflow, SUBSCRIBERS, CAPACITY, PIN_BYTES);
            let mut publisher = bus.publisher();
            // The publisher's cache of topics is filled before the measurement.
            for n in 0..SUBSCRIBERS {
                for m in 0..6 {
                    publisher
                        .publish(format!("t.{n}.{m}.not"), Vec::new())
                        .expect("open");
                    bus.drive();
                }
            }
            let before = live_bytes();
            let mut published = 0;
            for m in 0..6 {
                for n in 0..SUBSCRIBERS {
                    publisher
                        .publish(format!("t.{n}.{m}"), vec![0; PAYLOAD])
                        .expect("open");
                    published += 1;
                    if published % at_once == 0 {
                        bus.drive();
                    }
                }
            }
            bus.drive();
            let grown = (live_bytes() - before) as usize;
            // Events that share a block pin it together. The total is small, so only the bound of
            // each subscriber is checked, below.
            if at_once == 1 {
                let each = bound(overflow, CAPACITY, PIN_BYTES, heaviest);
                assert!(
                    grown <= SUBSCRIBERS * each,
                    "{overflow:?}: {grown} bytes in all, {each} for each"
                );
                // The bound is not kept merely because they pin little.
                let pinned = SUBSCRIBERS * 3 * PAYLOAD;
                assert!(
                    grown >= pinned,
                    "{overflow:?}: {grown} bytes, and {pinned} wait"
                );
            }
            for sub in &subs {
                let pinned = sub.stats().pinned_bytes as usize;
                assert!(
                    (1..=PIN_BYTES.max(heaviest)).contains(&pinned),
                    "{overflow:?}: {pinned} bytes pinned"
                );
            }
            drop(subs);
            bus.drive();
            let left = live_bytes() - before;
            assert!(left < (16 << 20), "{overflow:?}: {left} bytes are left");
        }
    }
}

/// Under `Block` the bus waits: besides the ring, there are the current block, the blocks behind
/// it, and the publisher's lane.
#[test]
fn a_block_subscriber_pins_its_ring_and_the_bus_behind_it() {
    /// The number of blocks that a dispatcher has behind its current block, and the capacity of a
    /// lane in events.
    const BEHIND: usize = 64;
    const LANE: usize = 16;
    let _turn = turn();
    for (capacity, pin_bytes) in [(8, usize::MAX), (1024, 3 * (PAYLOAD + BLOCK_MAX))] {
        let builder = Bus::<Vec<u8>>::builder().dispatch(Dispatch::Manual);
        let builder = builder.dispatchers(1).lane_capacity(LANE).blocking(true);
        let bus = builder.weigh(Vec::capacity).build().expect("in range");
        let subs = stalled(&bus, Overflow::Block, 1, capacity, pin_bytes);
        let mut publisher = bus.publisher();
        let before = live_bytes();
        let mut accepted = 0;
        // Each event is alone in its block.
        while publisher.try_publish("t.0.x", vec![0; PAYLOAD]).is_ok() {
            accepted += 1;
            bus.drive();
        }
        let grown = (live_bytes() - before) as usize;
        let weight = PAYLOAD + BLOCK_MAX;
        let waiting = bound(
            Overflow::Block,
            capacity,
            pin_bytes.min(capacity * weight),
            weight,
        );
        let behind = (1 + BEHIND + LANE) * weight;
        assert!(
            grown <= waiting + behind,
            "{grown} bytes, {waiting} in the ring and {behind} behind it"
        );
        assert!(
            grown >= accepted * PAYLOAD && accepted > BEHIND,
            "{grown} bytes of {accepted} events"
        );
        let pinned = subs[0].stats().pinned_bytes as usize;
        assert!(
            (PAYLOAD..=waiting).contains(&pinned),
            "{pinned} bytes pinned by the subscriber"
        );
    }
}

#[test]
fn a_ring_grows_no_further_than_its_bound() {
    let _turn = turn();
    for overflow in POLICIES {
        for capacity in [1, 2, 63, 64, 65, 1000] {
            let bus = bus();
            let subs = stalled(&bus, overflow, 100, capacity, usize::MAX);
            let events = 4 * capacity;
            // All subscribers share the blocks: the blocks count once, and the rings a hundred
            // times.
            for sub in &subs {
                sub.handle().add("all.*").expect("open");
            }
            let publish = |n: usize| {
                bus.publish(format!("all.{n}"), Vec::new()).expect("open");
                bus.drive();
            };
            (0..events).for_each(|n| publish(n + events));
            let warm = bus.subscription("all.*").capacity(capacity);
            let warm = warm.overflow(overflow).open().expect("open");
            (0..events).for_each(publish);
            let before = live_bytes();
            drop(subs);
            bus.drive();
            drop(warm);
            let freed = (before - live_bytes()) as usize;
            // Shadows are not shared. They also count as pinned bytes.
            let shadows = match overflow {
                Overflow::Conflate => capacity * LONE_BLOCK,
                _ => 0,
            };
            let each = bound(overflow, capacity, shadows, 0) + 1024;
            // The blocks that one of them pinned and the others shared.
            let shared = capacity * LONE_BLOCK + (64 << 10);
            assert!(
                freed <= 101 * each + 2 * shared,
                "{overflow:?}, {capacity}: {freed} bytes of 101 rings, {each} for each"
            );
        }
    }
}

/// `cargo test --release --test bounds -- --ignored --nocapture`
#[test]
#[ignore = "takes more than a gigabyte"]
fn a_million_subscriptions_take_a_gigabyte_and_a_half_at_most() {
    const SUBSCRIPTIONS: usize = 1_000_000;
    const ALL_MAX: isize = 3 << 29;
    let _turn = turn();
    for overflow in POLICIES {
        let bus = bus();
        let before = live_bytes();
        let subs = stalled(&bus, overflow, SUBSCRIPTIONS, 1024, 64 << 20);
        let all = live_bytes() - before;
        println!(
            "{overflow:?}: {all} bytes for {} idle subscriptions",
            subs.len()
        );
        assert!(all <= ALL_MAX, "{overflow:?}: {all} bytes");
    }
}
