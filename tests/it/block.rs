//! `Overflow::Block`: no event is lost, and the bus continues as soon as there is room, without any
//! other activity. With a block timeout, the bus continues when the timeout is over, and lost
//! events are reported.

use fanout::limits::BLOCK_TIMEOUT_MAX;
use fanout::{
    BuildError, Bus, Dispatch, Event, GapReason, Notice, Overflow, RecvError, RecvTimeoutError,
    SubscribeError, Subscriber, SubscriptionBuilder, TryRecvError,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    FOR_EVER, MODES, Random, StreamItem, bus, ends, eventually, fill, ids, in_every_mode,
    in_every_mode_and_shards, in_modes_with_threads, in_modes_with_threads_and_shards, manual,
    publish_each, read_out, read_to_end, rounds, yield_for_a_while,
};
use crate::tasks::block_on;

/// The last event of a burst must be delivered although no event follows it. The reader makes room
/// at any time, also while the dispatcher is about to request room.
#[test]
fn the_last_event_before_a_pause_is_delivered() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for (capacity, subscribers) in [(1, 1), (2, 1), (3, 2), (1, 3)] {
            ends(
                &format!("{mode:?}, {subscribers} of capacity {capacity}"),
                move || {
                    bursts(mode, capacity, subscribers);
                },
            );
        }
    }
}

fn bursts(mode: Dispatch, capacity: usize, subscribers: u64) {
    let bus = bus(|b| b.dispatch(mode));
    let mut publisher = bus.publisher();
    let received = Arc::new(AtomicU64::new(0));
    let reading: Vec<_> = (0..subscribers)
        .map(|_| {
            let sub = bus
                .subscription("a")
                .capacity(capacity)
                .overflow(Overflow::Block);
            let (mut sub, received) = (sub.open().expect("open"), received.clone());
            thread::spawn(move || {
                loop {
                    match sub.recv() {
                        Ok(_) => drop(received.fetch_add(1, Ordering::SeqCst)),
                        Err(ending) => return assert_eq!(ending, RecvError::Closed),
                    }
                }
            })
        })
        .collect();
    let mut published = 0;
    for burst in rounds(20_000) {
        for _ in 0..1 + burst % 5 {
            publisher.publish("a", burst).expect("open");
            published += subscribers;
        }
        while received.load(Ordering::SeqCst) < published {
            thread::yield_now();
        }
    }
    drop((bus, publisher));
    reading
        .into_iter()
        .for_each(|thread| thread.join().expect("closed"));
}

/// The reader sleeps in `recv` most of the time, and so does the pool.
#[test]
fn a_slow_subscriber_receives_all_events() {
    in_modes_with_threads_and_shards(|mode, dispatchers| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(8));
        let reading: Vec<_> = [1, 2, 7, 64, 100]
            .map(|capacity| {
                bus.subscription("a")
                    .capacity(capacity)
                    .overflow(Overflow::Block)
            })
            .map(|builder| builder.open().expect("open"))
            .map(|mut sub| {
                thread::spawn(move || {
                    let mut next = 1;
                    while let Ok(event) = sub.recv() {
                        assert_eq!(event.id(), next);
                        next += 1;
                        if next % 512 == 0 {
                            crate::support::yield_for_a_while();
                        }
                    }
                    next - 1
                })
            })
            .into();
        for n in 0..20_000_u32 {
            bus.publish("a", n).expect("open");
        }
        drop(bus);
        for reading in reading {
            assert_eq!(reading.join().expect("no loss"), 20_000);
        }
    });
}

/// Publishes events, each in its own block, and waits for each.
fn flush_each(bus: &Bus<u64>, events: u64) {
    for _ in 0..events {
        publish(bus, 1);
        assert!(bus.flush_within(FOR_EVER));
    }
}

/// If a few events of a block are left, the bus waits for room for these few, not for half of the
/// ring. Otherwise a reader that continues only after another reader has got the next event would
/// wait for ever.
#[test]
fn a_small_rest_of_a_block_needs_little_room() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut full = block(&bus, 100).open().expect("open");
        flush_each(&bus, 100);
        let mut other = bus.subscribe("a").expect("open");
        publish(&bus, 5);
        assert!(!bus.flush_within(Duration::from_millis(5)), "it is full");
        for id in 1..=10 {
            assert_eq!(one(&mut full), StreamItem::Id(id));
        }
        for id in 101..=105 {
            assert_eq!(
                one(&mut other),
                StreamItem::Id(id),
                "the bus continued by itself"
            );
        }
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(full.stats().depth, 95);
    });
}

/// Events that have room at the end of the time limit are delivered. Here the ring has room again
/// for the one waiting event, but the shard waits for an empty ring, because the event was too
/// heavy.
#[test]
fn a_close_with_a_limit_loses_no_event_that_has_room() {
    const WEIGHT: usize = 100_000;
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).weigh(|_| WEIGHT));
        let pin_bytes = 2 * WEIGHT + WEIGHT / 2;
        let mut sub = block(&bus, 100).pin_bytes(pin_bytes).open().expect("open");
        flush_each(&bus, 2);
        publish(&bus, 1);
        assert!(!bus.flush_within(Duration::from_millis(5)), "too heavy");
        assert_eq!(one(&mut sub), StreamItem::Id(1));
        let report = bus.close_within(Duration::from_millis(20));
        assert_eq!((report.lost, report.unsequenced), (0, 0));
        let seen = read_to_end(&mut sub);
        assert_eq!(
            seen,
            ([2, 3].map(StreamItem::Id).to_vec(), RecvError::Closed)
        );
    });
}

// ---- block timeout ---------------------------------------------------------------------------

/// Long enough to be measurable, and short enough for a test.
const WAIT: Duration = Duration::from_millis(20);

fn block<T: Send + Sync + 'static>(bus: &Bus<T>, capacity: usize) -> SubscriptionBuilder<T> {
    let subscription = bus.subscription("a").capacity(capacity);
    subscription.overflow(Overflow::Block)
}

/// A `Block` subscriber with a block timeout.
fn waiting<T: Send + Sync + 'static>(
    bus: &Bus<T>,
    capacity: usize,
    wait: Duration,
) -> Subscriber<T> {
    block(bus, capacity)
        .block_timeout(wait)
        .open()
        .expect("open")
}

fn publish(bus: &Bus<u64>, events: u64) {
    publish_each(bus, 0..events);
}

/// (first id, last id, count) of a gap after a block timeout.
fn gap_of(seen: StreamItem) -> (u64, u64, u64) {
    let StreamItem::Lost(gap) = seen else {
        panic!("{seen:?} is no gap")
    };
    assert_eq!(gap.reason(), GapReason::BlockTimeout);
    (gap.first_id(), gap.last_id(), gap.count())
}

fn timed_out<T: Send + Sync + 'static>(sub: &Subscriber<T>) -> u64 {
    let stats = sub.stats();
    let lost = stats.lost_by(GapReason::BlockTimeout);
    assert_eq!(
        stats.lost,
        lost + stats.lost_by(GapReason::Overflow) + stats.lost_by(GapReason::Closed)
    );
    lost
}

#[test]
fn after_the_block_timeout_all_others_continue() {
    in_every_mode_and_shards(|mode, dispatchers| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers));
        let mut hangs = waiting(&bus, 2, WAIT);
        let mut reads: Vec<_> = (0..3).map(|_| bus.subscribe("a").expect("open")).collect();
        let start = Instant::now();
        publish(&bus, 5);
        assert!(
            bus.flush_within(FOR_EVER),
            "the flush ends although the subscriber does not read"
        );
        assert!(start.elapsed() >= WAIT, "not before its time");
        for sub in &mut reads {
            assert_eq!(ids(sub), [1, 2, 3, 4, 5]);
        }
        let stats = hangs.stats();
        assert_eq!((stats.matched, stats.lost, stats.unread), (5, 3, 2));
        assert_eq!(timed_out(&hangs), 3);
        let (seen, _) = read_out(&mut hangs);
        assert_eq!(seen[..2], [1, 2].map(StreamItem::Id));
        assert_eq!((seen.len(), gap_of(seen[2])), (3, (3, 5, 3)));
        let stats = hangs.stats();
        assert_eq!((stats.received, stats.lost, stats.unread), (2, 3, 0));
        assert_eq!(bus.stats().lost_by(GapReason::BlockTimeout), 3);
    });
}

/// A reader that sleeps behind the stall is woken only by the end of the timeout: no thread
/// publishes, drives or flushes.
#[test]
fn the_block_timeout_needs_no_other_activity() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for dispatchers in [1, 2, 4] {
            ends(&format!("{mode:?}, {dispatchers} dispatchers"), move || {
                for round in rounds(150) {
                    let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers));
                    let wait = Duration::from_millis(round % 3 + 1);
                    let hanging: Vec<_> =
                        (0..dispatchers).map(|_| waiting(&bus, 1, wait)).collect();
                    let mut reads: Vec<_> = (0..dispatchers)
                        .map(|_| bus.subscribe("a").expect("open"))
                        .collect();
                    let mut publisher = bus.publisher();
                    for n in 1..=3 {
                        publisher.publish("a", n).expect("open");
                        if round % 2 == 0 {
                            // Each event is then in its own block, and the pool sleeps.
                            yield_for_a_while();
                        }
                    }
                    for sub in &mut reads {
                        (1..=3).for_each(|n| assert_eq!(*sub.recv().expect("open").data(), n));
                    }
                    for sub in &hanging {
                        eventually("the events are lost", || timed_out(sub) == 2);
                    }
                }
            });
        }
    }
}

#[test]
fn a_block_timeout_can_end_in_the_middle_of_a_block() {
    let bus = manual();
    // Longer than any pause within the first `drive`, which must not reach the timeout.
    let wait = Duration::from_millis(500);
    let mut sub = waiting(&bus, 2, wait);
    // One block. The subscriber matches the odd ids.
    for n in 1..=10_u64 {
        let topic = if n % 2 == 1 { "a" } else { "b" };
        bus.publish(topic, n).expect("open");
    }
    bus.drive(); // 1 and 3 are in, 5, 7 and 9 wait
    assert_eq!(sub.try_recv().expect("there").id(), 1);
    // The subscriber made room for two more events. Whether this was before the timeout or not:
    // events that fit at the end are not lost.
    let early = bus.drive(); // gives up if this thread has paused until the timeout
    thread::sleep(wait);
    assert!(bus.drive() || early, "the block is done");
    let (seen, _) = read_out(&mut sub);
    assert_eq!(seen[..3], [3, 5, 7].map(StreamItem::Id));
    assert_eq!((seen.len(), gap_of(seen[3])), (4, (9, 9, 1)));

    // The whole next block and the one after it are one gap.
    publish(&bus, 3); // 11 to 13: the ring is empty, two fit
    bus.drive();
    thread::sleep(wait);
    bus.drive();
    publish(&bus, 2);
    bus.publish("b", 0).expect("open");
    bus.drive();
    let (seen, _) = read_out(&mut sub);
    assert_eq!(seen[..2], [11, 12].map(StreamItem::Id));
    assert_eq!((seen.len(), gap_of(seen[2])), (3, (13, 15, 3)));
}

/// How the reader of a manual bus waits.
#[derive(Clone, Copy, Debug)]
enum Waits {
    InRecv,
    WithALimit,
    AsATask,
}

fn closed_after(sub: &mut Subscriber<u64>, waits: Waits, events: u64) {
    let mut next = 1;
    let ending = loop {
        let seen = match waits {
            Waits::InRecv => sub.recv().map(Event::id),
            Waits::WithALimit => {
                sub.recv_timeout(FOR_EVER)
                    .map(Event::id)
                    .map_err(|error| match error {
                        RecvTimeoutError::Closed => RecvError::Closed,
                        other => panic!("{other}"),
                    })
            }
            Waits::AsATask => block_on(sub.recv_async()).map(Event::id),
        };
        match seen {
            Ok(id) => assert_eq!(id, next),
            Err(ending) => break ending,
        }
        next += 1;
    };
    assert_eq!((ending, next), (RecvError::Closed, events + 1));
}

/// Only its readers are left to drive a manual bus that is closing, and they have no events to
/// read.
#[test]
fn a_reader_of_a_closing_manual_bus_wakes_up_after_the_block_timeout() {
    for waits in [Waits::InRecv, Waits::WithALimit, Waits::AsATask] {
        for asleep_before in [false, true] {
            ends(&format!("{waits:?}, {asleep_before}"), move || {
                let bus = manual();
                let wait = if asleep_before { 10 * WAIT } else { WAIT };
                let hangs = [waiting(&bus, 1, wait), waiting(&bus, 2, 2 * wait)];
                let mut reads = bus.subscribe("a").expect("open");
                publish(&bus, 3);
                if asleep_before {
                    bus.drive();
                }
                thread::scope(|scope| {
                    let reading = scope.spawn(|| closed_after(&mut reads, waits, 3));
                    if asleep_before {
                        eventually("it has read all", || hangs[0].stats().matched == 3);
                        thread::sleep(WAIT);
                    }
                    drop(bus);
                    reading.join().expect("closed");
                });
                assert_eq!(hangs.each_ref().map(timed_out), [2, 1]);
            });
        }
    }
}

/// Another thread begins the wait, and then ends.
#[test]
fn a_block_timeout_that_another_thread_began_is_noticed() {
    ends(
        "flush, or the reader of a closing bus, against drive",
        || {
            for round in rounds(600) {
                let bus = manual();
                let hangs = waiting(&bus, 1, Duration::from_millis(2));
                let mut reads = bus.subscribe("a").expect("open");
                publish(&bus, 3);
                let start = Barrier::new(2);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        start.wait();
                        bus.drive();
                    });
                    start.wait();
                    if round % 3 == 0 {
                        bus.close();
                        closed_after(&mut reads, Waits::InRecv, 3);
                    } else {
                        assert!(bus.flush_within(FOR_EVER));
                    }
                });
                assert_eq!(timed_out(&hangs), 2);
            }
        },
    );
}

/// The bus waits once for a subscriber that hangs. Otherwise the test would take 500 times as long,
/// and fail.
#[test]
fn a_subscriber_that_hangs_delays_the_bus_once() {
    in_every_mode(|mode| {
        let wait = Duration::from_millis(200);
        let bus = bus(|b| b.dispatch(mode).dispatchers(2));
        let mut hangs = waiting(&bus, 3, wait);
        let mut reads = bus.subscribe("a").expect("open");
        for n in 1..=500 {
            bus.publish("a", n).expect("open");
            assert!(bus.flush_within(FOR_EVER));
            assert_eq!(reads.try_recv().expect("flushed").id(), n);
        }
        assert_eq!(timed_out(&hangs), 497);
        let (seen, _) = read_out(&mut hangs);
        assert_eq!((seen.len(), gap_of(seen[3])), (4, (4, 500, 497)));
    });
}

#[test]
fn events_are_lost_at_once_in_the_same_round() {
    let bus = manual();
    let hangs = waiting(&bus, 1, WAIT);
    publish(&bus, 2);
    bus.drive();
    thread::sleep(WAIT);
    bus.drive();
    for lost in 2..100 {
        publish(&bus, 1);
        bus.drive();
        assert_eq!(timed_out(&hangs), lost);
    }
}

#[test]
fn the_bus_waits_again_for_a_subscriber_that_has_made_room() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = waiting(&bus, 1, WAIT);
        let publish_and_flush = |events| {
            let start = Instant::now();
            publish(&bus, events);
            assert!(bus.flush_within(FOR_EVER));
            start.elapsed()
        };
        assert!(publish_and_flush(3) >= WAIT); // 2 and 3 are lost
        publish_and_flush(1); // so is 4, at once
        assert_eq!(sub.try_recv().expect("there").id(), 1);
        publish_and_flush(1); // 5 has room
        assert!(publish_and_flush(1) >= WAIT, "waited for 6");
        publish_and_flush(1); // 7 has no room
        // The subscriber has claimed a slot. The room is used again before an event is lost, but
        // the subscriber has made room.
        let StreamItem::Lost(gap) = one(&mut sub) else {
            panic!("2 to 4 are lost")
        };
        assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (2, 4, 3));
        assert_eq!(one(&mut sub), StreamItem::Id(5));
        assert!(publish_and_flush(2) >= WAIT, "8 has room, waited for 9");
        let (seen, _) = read_out(&mut sub);
        assert_eq!(gap_of(seen[0]), (6, 7, 2), "a separate run");
        assert_eq!(seen[1], StreamItem::Id(8));
        assert_eq!((seen.len(), gap_of(seen[2])), (3, (9, 9, 1)));
        assert_eq!(timed_out(&sub), 6);
    });
}

fn one(sub: &mut Subscriber<u64>) -> StreamItem {
    match sub.recv() {
        Ok(event) => StreamItem::Id(event.id()),
        Err(RecvError::Lost(gap)) => StreamItem::Lost(gap),
        Err(ending) => panic!("{ending}"),
    }
}

/// Each subscriber has its own deadline.
#[test]
fn two_subscribers_without_room_for_a_block_have_separate_timeouts() {
    for mode in MODES {
        for impatient_first in [true, false] {
            ends(&format!("{mode:?}, {impatient_first}"), move || {
                let bus = bus(|b| b.dispatch(mode));
                let waits = if impatient_first {
                    [WAIT, FOR_EVER]
                } else {
                    [FOR_EVER, WAIT]
                };
                let mut subs = waits.map(|wait| waiting(&bus, 1, wait));
                if !impatient_first {
                    subs.reverse();
                }
                let [short, mut long] = subs;
                publish(&bus, 1);
                assert!(bus.flush_within(FOR_EVER));
                publish(&bus, 1);
                eventually("the short wait is over", || {
                    bus.drive(); // under manual dispatch no other thread drives
                    timed_out(&short) == 1
                });
                assert!(
                    !bus.flush_within(Duration::from_millis(1)),
                    "the long one is not"
                );
                assert_eq!(timed_out(&long), 0);
                assert_eq!(one(&mut long), StreamItem::Id(1));
                assert!(bus.flush_within(FOR_EVER));
                assert_eq!(one(&mut long), StreamItem::Id(2));
                assert_eq!(timed_out(&short), 1);
            });
        }
    }
}

#[test]
fn the_timeouts_for_one_block_begin_at_the_same_time() {
    let bus = manual();
    let subs = [1, 3, 2].map(|n| waiting(&bus, 1, n * WAIT));
    publish(&bus, 2);
    bus.drive();
    thread::sleep(3 * WAIT);
    bus.drive();
    assert_eq!(subs.each_ref().map(timed_out), [1; 3]);
}

/// A subscriber that reads loses no event because of one that does not, also with a ring that takes
/// a block in many parts.
#[test]
fn a_subscriber_that_reads_loses_nothing_because_of_another() {
    ends("a small ring beside one that hangs", || {
        let bus = manual(); // so that 64 events are one block
        let hangs = waiting(&bus, 1, FOR_EVER);
        let mut small = waiting(&bus, 3, FOR_EVER);
        publish(&bus, 64);
        for id in 1..=64 {
            let received = small.try_recv().map(Event::id);
            if received == Err(TryRecvError::Empty) {
                bus.drive();
                assert_eq!(one(&mut small), StreamItem::Id(id));
            } else {
                assert_eq!(received, Ok(id));
            }
        }
        assert_eq!((timed_out(&small), timed_out(&hangs)), (0, 0));
    });
}

#[test]
fn with_a_block_timeout_of_zero_the_bus_never_waits() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = waiting(&bus, 2, Duration::ZERO);
        publish(&bus, 5);
        // Under manual dispatch a wait would need a second drive.
        bus.drive();
        assert!(mode != Dispatch::Manual || timed_out(&sub) == 3);
        assert!(bus.flush_within(FOR_EVER));
        let (seen, _) = read_out(&mut sub);
        assert_eq!(seen[..2], [1, 2].map(StreamItem::Id));
        assert_eq!((seen.len(), gap_of(seen[2])), (3, (3, 5, 3)));
        publish(&bus, 3);
        assert!(bus.flush_within(FOR_EVER));
        let (seen, _) = read_out(&mut sub);
        assert_eq!(seen[..2], [6, 7].map(StreamItem::Id));
        assert_eq!((seen.len(), gap_of(seen[2])), (3, (8, 8, 1)));
    });
}

#[test]
fn a_subscription_overrides_the_block_timeout_of_the_bus() {
    let bus = bus(|b| {
        b.dispatch(Dispatch::Manual)
            .overflow(Overflow::Block)
            .block_timeout(Duration::ZERO)
    });
    let inherits = bus.subscription("a").capacity(1).open().expect("open");
    let never = block(&bus, 1).block_timeout(None).open().expect("open");
    let mut own = waiting(&bus, 1, FOR_EVER);
    // The timeout has no effect under other policies, whether it is set for the bus or for the
    // subscription.
    let drops = bus
        .subscription("a")
        .capacity(1)
        .overflow(Overflow::DropNewest);
    let drops_too = bus
        .subscription("a")
        .capacity(1)
        .overflow(Overflow::DropNewest);
    let drops = [drops, drops_too.block_timeout(WAIT)].map(|sub| sub.open().expect("open"));
    publish(&bus, 2);
    bus.drive();
    assert_eq!(timed_out(&inherits), 1);
    for sub in &drops {
        assert_eq!(sub.stats().lost_by(GapReason::Overflow), 1);
    }
    assert_eq!((never.stats().lost, own.stats().lost), (0, 0));
    drop(never);
    assert!(
        !bus.flush_within(Duration::from_millis(1)),
        "the subscription's own timeout is not over"
    );
    assert_eq!(ids(&mut own), [1]);
    assert!(bus.flush_within(FOR_EVER));
    assert_eq!(ids(&mut own), [2]);
}

#[test]
fn the_block_timeout_is_bounded() {
    let bus = bus::<u64>(|b| b.block_timeout(BLOCK_TIMEOUT_MAX));
    let past = BLOCK_TIMEOUT_MAX + Duration::from_nanos(1);
    for wait in [Duration::ZERO, Duration::from_nanos(1), BLOCK_TIMEOUT_MAX] {
        drop(waiting(&bus, 1, wait));
    }
    for policy in [Overflow::Block, Overflow::DropNewest] {
        let sub = bus.subscription("a").overflow(policy).block_timeout(past);
        let refused = sub.open().unwrap_err();
        assert_eq!(refused, SubscribeError::BlockTimeout(past));
        assert_eq!(
            refused.to_string(),
            "a block timeout of 2592000.000000001s is more than 30 days (2592000s)"
        );
    }
    for past in [past, Duration::MAX] {
        let refused = Bus::<u64>::builder().block_timeout(past).build();
        let refused = refused.unwrap_err();
        assert!(matches!(refused, BuildError::BlockTimeout(wait) if wait == past));
        assert!(
            refused
                .to_string()
                .ends_with("s is more than 30 days (2592000s)")
        );
    }
}

#[test]
fn a_handler_that_hangs_loses_events_after_the_block_timeout() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for dedicated in [false, true] {
            ends(&format!("{mode:?}, dedicated: {dedicated}"), move || {
                let (lost, lost_gaps) = mpsc::channel();
                let bus = bus(|b| {
                    b.dispatch(mode).handler_threads(1).observer(move |notice| {
                        if let Notice::Lost { gap, .. } = notice {
                            lost.send(*gap).expect("the test listens");
                        }
                    })
                });
                let (release, released) = mpsc::channel::<()>();
                let (begin, began) = mpsc::channel();
                let subscription = block(&bus, 2).block_timeout(WAIT);
                let subscription = if dedicated {
                    subscription.dedicated()
                } else {
                    subscription
                };
                let handler = subscription
                    .handler(move |_| {
                        begin.send(()).expect("the test listens");
                        let _ = released.recv(); // hangs until the sender is dropped
                    })
                    .expect("open");
                let mut reads = bus.subscribe("a").expect("open");
                bus.publish("a", 1).expect("open");
                began.recv().expect("it has claimed the first");
                assert_eq!(*reads.recv().expect("open").data(), 1);
                for n in 2..=200 {
                    bus.publish("a", n).expect("open");
                    assert_eq!(*reads.recv().expect("open").data(), n);
                }
                drop(release); // continues, and handles the waiting events
                bus.close();
                eventually("all is handled", || handler.stats().unread == 0);
                let stats = handler.stats();
                assert_eq!(stats.received + stats.lost, 200);
                // One claimed, two waiting.
                assert_eq!(
                    (stats.received, stats.lost_by(GapReason::BlockTimeout)),
                    (3, 197)
                );
                let gap = lost_gaps.recv().expect("it was seen");
                assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (4, 200, 197));
                assert_eq!(gap.reason(), GapReason::BlockTimeout);
            });
        }
    }
}

#[test]
fn publishers_that_wait_for_room_continue_after_the_block_timeout() {
    in_modes_with_threads_and_shards(|mode, dispatchers| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(4));
        let hangs = waiting(&bus, 1, WAIT);
        let publishing: Vec<_> = (0..3)
            .map(|n| {
                let (bus, mut publisher) = (bus.clone(), bus.publisher());
                thread::spawn(move || match n {
                    0 => publish(&bus, 2000),
                    _ => (0..2000).for_each(|n| publisher.publish("a", n).expect("open")),
                })
            })
            .collect();
        publishing
            .into_iter()
            .for_each(|thread| thread.join().expect("published"));
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(timed_out(&hangs), 5999);
    });
}

#[test]
fn a_close_with_a_limit_does_not_wait_for_the_block_timeout() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(8));
        let mut hangs = waiting(&bus, 3, FOR_EVER);
        let accepted = fill(&bus, || bus.try_publish("a", 0).is_ok());
        let report = bus.close_within(Duration::from_millis(1));
        assert!(!report.in_time);
        assert_eq!(report.lost + report.unsequenced, accepted - 3);
        let (seen, ending) = read_to_end(&mut hangs);
        assert_eq!((seen.len(), ending), (4, RecvError::Closed));
        let StreamItem::Lost(gap) = seen[3] else {
            panic!("{seen:?}")
        };
        assert_eq!(gap.reason(), GapReason::Closed);
        assert_eq!((gap.first_id(), gap.count()), (4, report.lost));
        assert_eq!((timed_out(&hangs), hangs.stats().lost), (0, report.lost));
    });
}

#[test]
fn a_close_waits_for_the_block_timeout() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut hangs = waiting(&bus, 3, WAIT);
        publish(&bus, 100);
        let report = bus.close_within(FOR_EVER);
        assert_eq!(
            (report.in_time, report.lost, report.unread),
            (true, 0, 3),
            "events that were lost before do not count for the close"
        );
        let (seen, ending) = read_to_end(&mut hangs);
        assert_eq!(ending, RecvError::Closed);
        assert_eq!((seen.len(), gap_of(seen[3])), (4, (4, 100, 97)));
    });
}

/// The reason of a run is that of its first loss; the statistics count each reason.
#[test]
fn a_run_of_losses_that_continues_into_the_close_is_one_gap() {
    let bus = manual();
    let mut subs = [waiting(&bus, 1, Duration::ZERO), waiting(&bus, 1, FOR_EVER)];
    publish(&bus, 3);
    bus.close_within(Duration::from_millis(1));
    let counts = subs.each_ref().map(|sub| {
        let stats = sub.stats();
        (timed_out(sub), stats.lost_by(GapReason::Closed))
    });
    assert_eq!(counts, [(2, 0), (0, 2)]);
    let [(first, _), (second, _)] = subs.each_mut().map(read_to_end);
    assert_eq!(gap_of(first[1]), (2, 3, 2));
    assert!(matches!(second[1], StreamItem::Lost(gap) if gap.reason() == GapReason::Closed));
}

#[test]
fn a_stall_ends_with_the_subscription() {
    for mode in MODES {
        for how in 0..3 {
            ends(&format!("{mode:?}, {how}"), move || {
                let bus = bus(|b| b.dispatch(mode));
                let mut hangs = waiting(&bus, 1, FOR_EVER);
                let mut reads = bus.subscribe("a").expect("open");
                publish(&bus, 3);
                assert!(!bus.flush_within(Duration::from_millis(1)));
                let handle = hangs.handle();
                match how {
                    0 => drop(hangs),
                    1 => assert!(handle.cancel()),
                    _ => {
                        handle.cancel();
                        assert_eq!(hangs.recv().err(), Some(RecvError::Cancelled));
                    }
                }
                publish(&bus, 1);
                assert!(bus.flush_within(FOR_EVER));
                assert_eq!(ids(&mut reads), [1, 2, 3, 4]);
                let stats = handle.stats();
                assert_eq!(
                    (stats.lost, stats.unread + stats.received),
                    (0, stats.matched)
                );
            });
        }
    }
}

/// Whatever the readers do and however short the timeouts are: every event is received or lost, and
/// a run of losses is one gap.
#[test]
fn all_counters_balance_whatever_is_lost() {
    in_modes_with_threads_and_shards(|mode, dispatchers| {
        for seed in rounds(20) {
            give_up_at_random(mode, dispatchers, seed);
        }
    });
}

fn give_up_at_random(mode: Dispatch, dispatchers: usize, seed: u64) {
    const EVENTS: u64 = 3000;
    let mut random = Random::new(seed);
    let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(16));
    let reading: Vec<_> = (0..4)
        .map(|n| {
            let capacity = [1, 2, 7, 64, 100][random.below(5)];
            let wait = Duration::from_micros(500 * random.below(4) as u64);
            let mut sub = waiting(&bus, capacity, wait);
            let mut random = Random::new(seed << 8 | n);
            thread::spawn(move || {
                let mut next = 1;
                let mut reported_gap = false;
                loop {
                    match sub.recv() {
                        Ok(event) => {
                            assert_eq!(event.id(), next, "seed {seed}");
                            next += 1;
                            reported_gap = false;
                        }
                        Err(RecvError::Lost(gap)) => {
                            assert_eq!(
                                (gap.first_id(), gap.reason()),
                                (next, GapReason::BlockTimeout)
                            );
                            assert_eq!(gap.count(), gap.last_id() - gap.first_id() + 1);
                            // A run that was reported while it grew ends there: the reader has made
                            // room since.
                            next = gap.last_id() + 1;
                            assert!(!reported_gap, "seed {seed}: two gaps in a row");
                            reported_gap = true;
                        }
                        Err(ending) => {
                            assert_eq!(ending, RecvError::Closed);
                            break;
                        }
                    }
                    if random.one_in(100) {
                        thread::sleep(Duration::from_micros(200 * random.below(8) as u64));
                    }
                }
                let stats = sub.stats();
                assert_eq!(stats.received + timed_out(&sub), EVENTS, "seed {seed}");
                assert_eq!((next, stats.matched), (EVENTS + 1, EVENTS));
            })
        })
        .collect();
    publish(&bus, EVENTS);
    drop(bus);
    for reading in reading {
        reading.join().expect("the accounts balance");
    }
}
