//! Slow subscribers are reported once when they fall behind, and once when they have recovered,
//! without delaying any thread.

use fanout::{BuildError, Bus, Dispatch, Overflow, SlowLimit, SlowNotice, SlowStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::{
    FOR_EVER, PATIENCE, bus, ends, eventually, panics_quietly, publish_each, read_out,
};

/// The number of the subscription, the status and the lag.
type Report = (u64, SlowStatus, u64);

fn reporting(sender: mpsc::Sender<Report>) -> impl FnMut(&SlowNotice<u64>) + Send + 'static {
    move |notice| {
        let seen = (
            notice.subscription().number(),
            notice.status(),
            notice.stats().lag,
        );
        let _ = sender.send(seen); // the test may be over
    }
}

fn manual(limit: SlowLimit) -> (Bus<u64>, mpsc::Receiver<Report>) {
    let (sender, seen) = mpsc::channel();
    let bus = bus::<u64>(|b| {
        b.dispatch(Dispatch::Manual)
            .on_slow(limit, reporting(sender))
    });
    (bus, seen)
}

fn publish(bus: &Bus<u64>, events: u64) {
    for n in 0..events {
        bus.try_publish("a", n).expect("there is room");
        bus.drive(); // each in its own block
    }
}

fn all(seen: &mpsc::Receiver<Report>) -> Vec<Report> {
    seen.try_iter().collect()
}

#[test]
fn a_notice_comes_once_exactly_at_the_limit() {
    for (limit, capacity, at) in [
        (SlowLimit::events(6), 1000, 6),
        (SlowLimit::percent(60), 10, 6),
        (SlowLimit::percent(100), 7, 7),
        (SlowLimit::percent(1), 4, 1),
        (SlowLimit::percent(50), 7, 4),
        (SlowLimit::percent(90).or_events(5), 10, 5),
    ] {
        let (bus, seen) = manual(limit);
        let mut sub = bus
            .subscription("a")
            .capacity(capacity)
            .open()
            .expect("open");
        publish(&bus, at - 1);
        assert_eq!(
            all(&seen),
            [],
            "{limit:?}: one less does not reach the limit"
        );
        publish(&bus, 1);
        assert_eq!(all(&seen), [(1, SlowStatus::Slow, at)], "{limit:?}");
        publish(&bus, 1);
        bus.drive();
        assert_eq!(all(&seen), [], "{limit:?}: reported already");

        // It has recovered at half of the limit, and not before.
        for left in (at / 2 + 1..=at).rev() {
            sub.try_recv().expect("unread");
            bus.drive();
            assert_eq!(all(&seen), [], "{limit:?}: {left} are left");
        }
        read_out(&mut sub);
        bus.drive();
        assert_eq!(all(&seen), [(1, SlowStatus::Recovered, 0)], "{limit:?}");
        bus.drive();
        publish(&bus, at);
        assert_eq!(all(&seen), [(1, SlowStatus::Slow, at)], "{limit:?}: again");
    }
}

#[test]
fn losses_beyond_the_capacity_count_towards_the_lag() {
    let (bus, seen) = manual(SlowLimit::events(100));
    let mut sub = bus.subscription("a").capacity(10).open().expect("open");
    publish(&bus, 99);
    assert_eq!(all(&seen), []);
    publish(&bus, 1);
    assert_eq!(all(&seen), [(1, SlowStatus::Slow, 100)]);
    read_out(&mut sub);
    bus.drive();
    assert_eq!(all(&seen), [(1, SlowStatus::Recovered, 0)]);
}

#[test]
fn a_limit_in_time() {
    let seconds = Arc::new(AtomicU64::new(1000));
    let clock = seconds.clone();
    let (sender, seen) = mpsc::channel();
    let bus = bus::<u64>(|b| {
        b.dispatch(Dispatch::Manual)
            .clock(move || {
                SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
            })
            .on_slow(SlowLimit::time(Duration::from_secs(10)), reporting(sender))
    });
    let mut sub = bus.subscribe("a").expect("open");
    publish(&bus, 1);
    seconds.store(1009, Ordering::SeqCst);
    publish(&bus, 1);
    assert_eq!(all(&seen), []);
    seconds.store(1010, Ordering::SeqCst);
    publish(&bus, 1);
    assert_eq!(all(&seen), [(1, SlowStatus::Slow, 3)]);
    sub.try_recv().expect("of second 1000");
    bus.drive();
    assert_eq!(all(&seen), []);
    sub.try_recv().expect("of second 1009");
    bus.drive();
    assert_eq!(all(&seen), [(1, SlowStatus::Recovered, 1)]);
}

#[test]
fn each_subscription_is_reported_separately_until_it_ends() {
    let (bus, seen) = manual(SlowLimit::events(2));
    let first = bus.subscribe("a").expect("open");
    let mut second = bus.subscribe("a").expect("open");
    publish(&bus, 2);
    assert_eq!(
        all(&seen),
        [(1, SlowStatus::Slow, 2), (2, SlowStatus::Slow, 2)]
    );
    drop(first);
    read_out(&mut second);
    bus.drive();
    assert_eq!(
        all(&seen),
        [(2, SlowStatus::Recovered, 0)],
        "an end is not a recovery"
    );
}

#[test]
fn a_notice_identifies_the_subscription_and_can_cancel_it() {
    let (sender, seen) = mpsc::channel();
    let bus = bus::<u64>(|b| {
        b.dispatch(Dispatch::Manual)
            .on_slow(SlowLimit::percent(100), move |notice| {
                let subscription = notice.subscription();
                assert!(format!("{notice:?}").contains("Slow"));
                let _ = sender.send((
                    subscription.patterns()[0].as_str().to_owned(),
                    subscription.labels()[0].to_string(),
                    *notice.stats(),
                ));
                subscription.cancel();
            })
    });
    let sub = bus
        .subscription("a")
        .label("team", "x")
        .capacity(3)
        .open()
        .expect("open");
    publish(&bus, 5);
    let (pattern, label, stats) = seen.try_recv().expect("reported");
    assert_eq!((&*pattern, &*label), ("a", "team=\"x\""));
    assert_eq!((stats.depth, stats.lag, stats.high_water), (3, 3, 3));
    assert!(bus.subscriptions().is_empty());
    assert!(seen.try_recv().is_err());
    drop(sub);
}

#[test]
fn the_callback_may_drive_the_bus_and_panic() {
    let (sender, seen) = mpsc::channel();
    let slot: Arc<std::sync::OnceLock<fanout::WeakBus<u64>>> = Arc::default();
    let weak = slot.clone();
    let mut report = reporting(sender);
    let bus = bus::<u64>(|b| {
        b.dispatch(Dispatch::Manual)
            .on_slow(SlowLimit::events(1), move |notice| {
                report(notice);
                if let Some(bus) = weak.get().and_then(fanout::WeakBus::upgrade) {
                    bus.drive();
                }
                panics_quietly();
            })
    });
    let _ = slot.set(bus.downgrade());
    let mut sub = bus.subscribe("a").expect("open");
    for _ in 0..3 {
        publish(&bus, 1);
        assert_eq!(all(&seen), [(1, SlowStatus::Slow, 1)]);
        read_out(&mut sub);
        bus.drive();
        assert_eq!(all(&seen), [(1, SlowStatus::Recovered, 0)]);
    }
}

#[test]
fn limits_at_and_beyond_their_bounds() {
    let build = |limit| {
        Bus::<u64>::builder()
            .dispatch(Dispatch::Manual)
            .on_slow(limit, |_| {})
            .build()
    };
    for ok in [
        SlowLimit::percent(1),
        SlowLimit::percent(100),
        SlowLimit::events(1),
        SlowLimit::events(u64::MAX),
        SlowLimit::time(Duration::from_nanos(1)),
        SlowLimit::time(Duration::MAX),
    ] {
        build(ok).expect("in range");
    }
    for percent in [0, 101] {
        let refused = build(SlowLimit::percent(percent)).unwrap_err();
        assert!(matches!(refused, BuildError::SlowPercent(n) if n == percent));
        let text = format!("a slow limit of {percent} percent of the capacity is not in 1..=100");
        assert_eq!(refused.to_string(), text);
    }
    assert!(matches!(
        build(SlowLimit::events(0)),
        Err(BuildError::SlowEvents)
    ));
    assert!(matches!(
        build(SlowLimit::time(Duration::ZERO)),
        Err(BuildError::SlowTime)
    ));
}

// ---- on a separate thread ---------------------------------------------------------------------

/// Waits for the next one.
fn next(seen: &mpsc::Receiver<Report>) -> (u64, SlowStatus) {
    let (number, status, _) = seen.recv_timeout(PATIENCE).expect("reported in time");
    (number, status)
}

#[test]
fn the_monitor_reports_from_its_own_thread_after_a_pause() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        ends("watching", move || {
            let (sender, seen) = mpsc::channel();
            let mut report = reporting(sender);
            let bus = bus::<u64>(|b| {
                b.dispatch(mode)
                    .on_slow(SlowLimit::percent(50), move |notice| {
                        assert_eq!(thread::current().name(), Some("fanout-slow"));
                        report(notice);
                    })
            });
            let mut sub = bus.subscription("a").capacity(10).open().expect("open");
            for _ in 0..3 {
                // Long enough for the monitor to fall asleep; no result depends on it.
                thread::sleep(Duration::from_millis(60));
                publish_each(&bus, 0..5);
                assert_eq!(next(&seen), (1, SlowStatus::Slow));
                read_out(&mut sub);
                assert_eq!(next(&seen), (1, SlowStatus::Recovered));
            }
            assert!(seen.try_recv().is_err(), "once per crossing");
        });
    }
}

#[test]
fn a_panic_of_the_callback_does_not_end_the_monitor() {
    ends("watching", || {
        let (sender, seen) = mpsc::channel();
        let mut report = reporting(sender);
        let bus = bus::<u64>(|b| {
            b.on_slow(SlowLimit::events(3), move |notice| {
                report(notice);
                panics_quietly();
            })
        });
        let mut sub = bus.subscribe("a").expect("open");
        for _ in 0..2 {
            publish_each(&bus, 0..3);
            assert_eq!(next(&seen), (1, SlowStatus::Slow));
            read_out(&mut sub);
            assert_eq!(next(&seen), (1, SlowStatus::Recovered));
        }
        assert!(bus.flush_within(FOR_EVER));
    });
}

/// Dropped with the callback, and so with the monitor's thread.
struct DropSignal(mpsc::Sender<()>);

impl Drop for DropSignal {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn the_monitor_ends_with_the_bus_and_does_not_keep_it_open() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for ending in 0..4 {
            ends("the watcher", move || {
                let (sender, gone) = mpsc::channel();
                let held = DropSignal(sender);
                let bus = bus::<u64>(|b| {
                    b.dispatch(mode).on_slow(SlowLimit::events(2), move |_| {
                        let _held = &held;
                        panics_quietly();
                    })
                });
                let mut sub = bus
                    .subscription("a")
                    .overflow(Overflow::Block)
                    .capacity(2)
                    .open()
                    .expect("open");
                let weak = bus.downgrade();
                match ending {
                    // The monitor sleeps, or has not started yet.
                    0 => drop(bus),
                    // A subscriber is slow.
                    1 => {
                        bus.publish("a", 1).expect("open");
                        bus.publish("a", 2).expect("open");
                        assert!(bus.flush_within(FOR_EVER));
                        drop(bus);
                    }
                    // The close takes long.
                    2 => {
                        publish_each(&bus, 0..6);
                        bus.close();
                        thread::sleep(Duration::from_millis(50));
                        let seen = read_out_to_the_end(&mut sub);
                        assert_eq!(seen, 6);
                    }
                    _ => {
                        publish_each(&bus, 0..6);
                        assert!(!bus.close_within(Duration::from_millis(5)).in_time);
                    }
                }
                gone.recv_timeout(PATIENCE).expect("the monitor ends");
                assert!(weak.upgrade().is_none() || ending > 1);
            });
        }
    }
}

fn read_out_to_the_end(sub: &mut fanout::Subscriber<u64>) -> u64 {
    let mut received = 0;
    while sub.recv().is_ok() {
        received += 1;
    }
    received
}

#[test]
fn manual_dispatch_starts_no_monitor_thread() {
    let (sender, gone) = mpsc::channel();
    let held = DropSignal(sender);
    let bus = bus::<u64>(|b| {
        b.dispatch(Dispatch::Manual)
            .on_slow(SlowLimit::events(1), move |_| {
                let _held = &held;
                assert_ne!(thread::current().name(), Some("fanout-slow"));
            })
    });
    let sub = bus.subscribe("a").expect("open");
    publish(&bus, 1);
    drop((bus, sub));
    eventually("the callback is dropped with the bus", || {
        gone.try_recv().is_ok()
    });
}
