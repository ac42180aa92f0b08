//! The lanes of publishers: those of idle publishers cost nothing and lose nothing, and those of
//! dropped publishers are bounded.

use fanout::limits::DROPPED_LANES_MAX;
use fanout::{
    Bus, Dispatch, PublishError, PublishTimeoutError, Publisher, Subscriber, TryPublishError,
};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, Random, blocking, bus, eventually, fill, in_every_mode, in_every_mode_and_shards,
    in_modes_with_threads, payloads, yield_for_a_while,
};

// ---- dropped publishers -------------------------------------------------------------------------

const LANE: usize = 64;

/// The most events that the shards' input and the ring of the subscriber take.
const BEHIND_THE_SEQUENCER: u64 = 64 * 64 + 64 + 1;

/// Publishes each event through a new publisher that is dropped. Returns how many were accepted.
fn publish_through_dropped(bus: &Bus<u64>, events: u64) -> u64 {
    (0..events)
        .filter(|&n| bus.publisher().try_publish("a", n).is_ok())
        .count() as u64
}

/// A bus whose only subscriber is full, so that dropped publishers leave their events in lanes.
fn stalled_bus(mode: Dispatch) -> (Bus<u64>, Subscriber<u64>, u64) {
    let bus = bus(|b| b.dispatch(mode).lane_capacity(LANE));
    let sub = blocking(&bus, 1);
    let mut left = 100_000;
    let accepted = fill(&bus, || {
        left -= 1;
        assert!(left > 0, "there is no bound");
        bus.publisher().try_publish("a", 0).is_ok()
    });
    (bus, sub, accepted)
}

#[test]
fn events_of_dropped_publishers_are_bounded_and_delivered() {
    in_every_mode(|mode| {
        let (bus, mut sub, accepted) = stalled_bus(mode);
        let stats = bus.stats();
        assert!(stats.queued <= LANE as u64, "{stats:?}");
        assert!(accepted <= BEHIND_THE_SEQUENCER + LANE as u64, "{accepted}");
        assert_eq!((stats.publishers, stats.published), (0, accepted));
        let mut publisher = bus.publisher();
        let full = publisher.try_publish("a", 0);
        assert!(matches!(full, Err(TryPublishError::Full(0))), "{full:?}");
        bus.try_publish("a", 0).expect("the shared lane has room");
        for _ in 0..=accepted {
            bus.drive();
            sub.recv().expect("nothing is lost");
        }
        eventually("the lanes are drained", || {
            bus.drive();
            publisher.try_publish("a", 0).is_ok()
        });
        let stats = bus.stats();
        assert_eq!((stats.publishers, stats.published), (1, accepted + 2));
    });
}

/// A publisher that has a lane already does not share the bound.
#[test]
fn an_open_publisher_is_not_affected_by_dropped_ones() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(LANE));
        let _sub = blocking(&bus, 1);
        let mut open = bus.publisher();
        open.publish("a", 0).expect("open");
        while publish_through_dropped(&bus, 1000) > 0 {}
        open.try_publish("a", 0).expect("its own lane has room");
    });
}

#[test]
fn a_lane_with_many_events_counts_with_all_of_them() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual).lane_capacity(LANE));
    let mut open: Vec<_> = (0..3).map(|_| bus.publisher()).collect();
    for publisher in &mut open {
        publisher.try_publish("a", 0).expect("open");
    }
    for (n, mut publisher) in open.into_iter().enumerate() {
        assert!((1..LANE).all(|_| publisher.try_publish("a", 0).is_ok()));
        drop(publisher);
        let full = bus.publisher().try_publish("a", 0).is_err();
        assert!(full, "{n}: dropped publishers have as many as a lane holds");
    }
    assert_eq!(bus.stats().queued, 3 * LANE as u64);
    bus.drive();
    assert_eq!(
        (bus.stats().queued, bus.stats().sequenced),
        (0, 3 * LANE as u64)
    );
    assert_eq!(publish_through_dropped(&bus, 1000), LANE as u64);
}

#[test]
fn the_number_of_dropped_lanes_is_bounded() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual).lane_capacity(1 << 16));
    let max = DROPPED_LANES_MAX as u64;
    assert_eq!(publish_through_dropped(&bus, 3 * max), max);
    bus.drive();
    assert_eq!(publish_through_dropped(&bus, 3 * max), max);
}

/// Publishers that never publish leave nothing behind, whether or not the sequencer runs.
#[test]
fn publishers_that_never_publish_take_no_room() {
    in_every_mode(|mode| {
        let (bus, sub, _) = stalled_bus(mode);
        let kept: Vec<_> = (0..1000).map(|_| bus.publisher()).collect();
        (0..10_000).for_each(|_| drop(bus.publisher()));
        assert_eq!(bus.stats().publishers, 1000);
        drop((kept, sub));
        assert!(bus.flush_within(FOR_EVER));
        assert!(bus.publisher().try_publish("a", 0).is_ok());
        bus.close();
        (0..1000).for_each(|_| {
            let refused = bus.publisher().try_publish("a", 0);
            assert!(matches!(refused, Err(TryPublishError::Closed(0))));
        });
    });
}

struct WakesThread(thread::Thread);

impl Wake for WakesThread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until the future is ready. Every wake-up but the last may be missing, not the last one.
fn block_on<R>(future: impl Future<Output = R>) -> R {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(WakesThread(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// What publishers answer that wait for the lanes of dropped ones, after `event`.
fn answers_after(
    mode: Dispatch,
    event: impl FnOnce(&Bus<u64>, Subscriber<u64>),
) -> [Result<(), PublishError<u64>>; 2] {
    let (bus, sub, _) = stalled_bus(mode);
    let short = Duration::from_millis(1);
    let late = bus.publisher().publish_timeout("a", 7, short);
    assert!(matches!(late, Err(PublishTimeoutError::Timeout(7))));
    let (mut first, mut second) = (bus.publisher(), bus.publisher());
    let waiting = [
        thread::spawn(move || first.publish("a", 1)),
        thread::spawn(move || block_on(second.publish_async("a", 2))),
    ];
    yield_for_a_while();
    event(&bus, sub);
    waiting.map(|thread| thread.join().expect("no panic"))
}

#[test]
fn a_publisher_that_waits_for_dropped_lanes_is_woken() {
    in_modes_with_threads(|mode| {
        let answers = answers_after(mode, |_, sub| drop(sub));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let answers = answers_after(mode, |bus, _| bus.close());
        assert!(
            matches!(
                answers,
                [Err(PublishError::Closed(1)), Err(PublishError::Closed(2))]
            ),
            "{answers:?}"
        );
    });
}

// ---- idle publishers ----------------------------------------------------------------------------

/// Publishers whose lanes are parked: there are many, and rounds have found them empty.
fn parked(bus: &Bus<usize>, publishers: usize) -> Vec<Publisher<usize>> {
    let mut parked: Vec<_> = (0..publishers).map(|_| bus.publisher()).collect();
    for publisher in &mut parked {
        publisher.publish("warm", 0).expect("open");
    }
    for _ in 0..50 {
        assert!(bus.flush_within(FOR_EVER));
        bus.publish("warm", 0).expect("open");
    }
    assert!(bus.flush_within(FOR_EVER));
    parked
}

/// Two busy publishers among idle ones, and a slow subscriber that makes little room at a time:
/// each gets a fair part of that room, wherever their lanes are.
#[test]
fn publishers_share_the_room_that_a_slow_subscriber_makes() {
    let bus = bus::<usize>(|b| b.dispatch(Dispatch::Manual));
    let mut sub = blocking(&bus, 64);
    let mut publishers: Vec<_> = (0..16).map(|_| bus.publisher()).collect();
    for publisher in &mut publishers {
        publisher.publish("nobody", 0).expect("room");
    }
    bus.drive();
    let mut received = [0_u32; 2];
    for _ in 0..200 {
        for (n, publisher) in publishers[7..9].iter_mut().enumerate() {
            while publisher.try_publish("a", n).is_ok() {}
        }
        for _ in 0..256 {
            if let Ok(event) = sub.try_recv() {
                received[*event.data()] += 1;
            } else {
                bus.drive();
            }
        }
    }
    let [first, second] = received;
    let shares = f64::from(first) / f64::from(second);
    assert!((0.5..2.0).contains(&shares), "{received:?}");
}

#[test]
fn an_event_of_an_idle_publisher_is_flushed() {
    in_every_mode_and_shards(|mode, dispatchers| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers));
        let mut sub = bus.subscribe("a").expect("open");
        let mut publishers = parked(&bus, 100);
        for round in 0..5 {
            for (n, publisher) in publishers.iter_mut().enumerate() {
                publisher.publish("a", n).expect("open");
                if n % (round + 1) == 0 {
                    assert!(bus.flush_within(FOR_EVER));
                }
            }
            assert!(bus.flush_within(FOR_EVER));
            let mut received = payloads(&mut sub);
            received.sort_unstable();
            assert_eq!(received, (0..100).collect::<Vec<_>>());
        }
    });
}

#[test]
fn an_event_of_an_idle_publisher_wakes_the_pool() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let mut publishers = parked(&bus, 100);
        for n in 0..1000 {
            publishers[n * 7 % 100].publish("a", n).expect("open");
            assert_eq!(*sub.recv().expect("open").data(), n);
        }
    });
}

/// An event of a parked lane that was accepted before the close is delivered; none is afterwards.
#[test]
fn a_close_finds_idle_publishers() {
    in_every_mode(|mode| {
        for late in [0, 1, 50, 100] {
            let bus = bus(|b| b.dispatch(mode));
            let mut sub = bus.subscribe("a").expect("open");
            let mut publishers = parked(&bus, 100);
            let dropped = publishers.split_off(90);
            for publisher in publishers.iter_mut().take(late) {
                publisher.publish("a", 1).expect("open");
            }
            let late = late.min(90);
            drop(dropped);
            let report = bus.close_within(FOR_EVER);
            assert_eq!((report.in_time, report.unread), (true, late as u64));
            assert_eq!(payloads(&mut sub).len(), late);
            for publisher in &mut publishers {
                let refused = publisher.try_publish("a", 2);
                assert!(matches!(refused, Err(TryPublishError::Closed(2))));
            }
            assert_eq!(bus.stats().queued, 0);
        }
    });
}

#[test]
fn a_forced_close_finds_idle_publishers() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut publishers = parked(&bus, 100);
        let before = bus.stats().published;
        let _sub = blocking(&bus, 1);
        for _ in 0..10 {
            for publisher in &mut publishers {
                publisher.publish("a", 1).expect("room");
            }
        }
        let report = bus.close_within(Duration::from_millis(1));
        let stats = bus.stats();
        assert_eq!(stats.published, before + 1000);
        assert_eq!((stats.queued, stats.unsequenced), (0, report.unsequenced));
        assert_eq!(stats.published, stats.sequenced + stats.unsequenced);
    });
}

/// Threads publish through many publishers, in bursts and with pauses, and drop some of them:
/// nothing is lost, and the events of one publisher keep their order.
#[test]
fn busy_and_idle_publishers_keep_their_order() {
    const PUBLISHERS: usize = 64;
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(32));
        let subscription = bus.subscription("a").overflow(fanout::Overflow::Block);
        let mut sub = subscription.open().expect("open");
        let publishing: Vec<_> = (0..3)
            .map(|thread| {
                let bus = bus.clone();
                thread::spawn(move || {
                    let mut random = Random::new(thread as u64 + 1);
                    let mut lanes: Vec<_> = (0..PUBLISHERS)
                        .map(|n| (bus.publisher(), thread * 1000 + n, 0))
                        .collect();
                    let mut accepted = 0;
                    for _ in 0..3000 {
                        let (publisher, number, next) = &mut lanes[random.below(PUBLISHERS)];
                        for _ in 0..=random.below(3) {
                            while publisher.try_publish("a", (*number, *next)).is_err() {
                                thread::yield_now();
                            }
                            *next += 1;
                            accepted += 1;
                        }
                        if random.one_in(50) {
                            // Its events are still delivered, before those of its successor or
                            // after them: the successor has another number.
                            *number += 100_000;
                            *next = 0;
                            *publisher = bus.publisher();
                        }
                        if random.one_in(500) {
                            yield_for_a_while();
                        }
                    }
                    accepted
                })
            })
            .collect();
        let mut next = std::collections::HashMap::new();
        let mut received = 0;
        let mut take = |sub: &mut Subscriber<(usize, usize)>| {
            for (number, n) in payloads(sub) {
                let next = next.entry(number).or_insert(0);
                assert_eq!(n, *next, "publisher {number}");
                *next += 1;
                received += 1;
            }
            received
        };
        while publishing.iter().any(|thread| !thread.is_finished()) {
            bus.drive();
            take(&mut sub);
        }
        let accepted: usize = publishing
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum();
        eventually("everything is received", || {
            bus.drive();
            take(&mut sub) == accepted
        });
        assert_eq!(bus.stats().queued, 0);
    });
}
