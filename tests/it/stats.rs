//! Statistics are exact once no events flow, for each subscription and for the bus, over all
//! subscriptions that were ever open.

use fanout::limits::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};
use fanout::{
    Bus, BusStats, Dispatch, GapReason, LabelRule, Overflow, RecvError, RecvTimeoutError,
    SubscribeError, Subscriber, SubscriptionStats, TryRecvError,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{FOR_EVER, MODES, Random, blocking, bus, ends, eventually, read_out};

/// A manual bus, and the seconds of its clock.
fn manual() -> (Bus<u64>, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(1000));
    let clock = seconds.clone();
    let bus = bus::<u64>(|b| {
        b.dispatch(Dispatch::Manual).clock(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
        })
    });
    (bus, seconds)
}

fn publish(bus: &Bus<u64>, events: u64) {
    for n in 0..events {
        bus.try_publish("a", n).expect("there is room");
    }
    bus.drive();
}

fn by_reason(lost_by: impl Fn(GapReason) -> u64) -> u64 {
    use GapReason::{BlockTimeout, Closed, Overflow};
    [Overflow, Closed, BlockTimeout].map(lost_by).iter().sum()
}

fn check_law(stats: &SubscriptionStats) {
    assert_eq!(
        stats.matched,
        stats.received + stats.lost + stats.superseded + stats.unread,
        "{stats:?}"
    );
    let by_reason = by_reason(|reason| stats.lost_by(reason));
    assert_eq!(stats.lost, by_reason, "{stats:?}");
    assert!(stats.depth <= stats.high_water, "{stats:?}");
    assert!(stats.high_water <= stats.capacity as u64, "{stats:?}");
    assert!(stats.depth <= stats.unread, "{stats:?}");
    assert!(
        stats.unread <= stats.lag && stats.lag <= stats.unread + stats.lost,
        "{stats:?}"
    );
}

fn check_bus_law(stats: &BusStats) {
    assert_eq!(
        stats.matched,
        stats.received + stats.lost + stats.superseded + stats.unread,
        "{stats:?}"
    );
    assert_eq!(
        stats.published,
        stats.sequenced + stats.unsequenced + stats.queued,
        "{stats:?}"
    );
    let by_reason = by_reason(|reason| stats.lost_by(reason));
    assert_eq!(stats.lost, by_reason, "{stats:?}");
    assert!(stats.blocks <= stats.sequenced && stats.sequenced <= 64 * stats.blocks);
}

// ---- one subscription ---------------------------------------------------------------------------

#[test]
fn depth_and_high_water_reach_the_capacity() {
    for capacity in [1, 2, 63, 64, 65, 200] {
        let (bus, _) = manual();
        let mut sub = bus
            .subscription("a")
            .capacity(capacity)
            .open()
            .expect("open");
        let capacity = capacity as u64;
        assert_eq!(sub.stats().high_water, 0);
        publish(&bus, capacity - 1);
        assert_eq!(
            (sub.stats().depth, sub.stats().high_water),
            (capacity - 1, capacity - 1)
        );
        publish(&bus, 1);
        assert_eq!(
            (sub.stats().depth, sub.stats().high_water),
            (capacity, capacity)
        );
        publish(&bus, 1);
        let stats = sub.stats();
        assert_eq!(
            (stats.depth, stats.high_water, stats.lost),
            (capacity, capacity, 1)
        );
        assert_eq!((stats.unread, stats.lag), (capacity, capacity + 1));
        check_law(&stats);

        // The first block is claimed: its events are unread, and no longer wait in the ring.
        sub.try_recv().expect("unread");
        let stats = sub.stats();
        let first_block = (capacity - 1).clamp(1, 64);
        assert_eq!(
            (stats.depth, stats.unread),
            (capacity - first_block, capacity - 1)
        );
        check_law(&stats);

        read_out(&mut sub);
        let stats = sub.stats();
        assert_eq!(
            (stats.depth, stats.unread, stats.lag, stats.pinned_bytes),
            (0, 0, 0, 0)
        );
        assert_eq!(stats.high_water, capacity, "it is never reset");
        check_law(&stats);
    }
}

#[test]
fn events_in_front_of_a_full_ring_are_unread_and_not_in_the_depth() {
    let (bus, _) = manual();
    let sub = blocking(&bus, 3);
    publish(&bus, 10);
    let stats = sub.stats();
    assert_eq!(
        (stats.matched, stats.unread, stats.depth, stats.lag),
        (10, 10, 3, 10)
    );
    assert_eq!((stats.capacity, stats.overflow), (3, Overflow::Block));
    check_law(&stats);
}

#[test]
fn lag_counts_losses_until_they_are_reported() {
    let (bus, _) = manual();
    let mut sub = bus.subscription("a").capacity(2).open().expect("open");
    publish(&bus, 7);
    assert_eq!(sub.stats().lag, 7);
    sub.try_recv().expect("1");
    sub.try_recv().expect("2");
    assert_eq!(
        (sub.stats().unread, sub.stats().lag),
        (0, 5),
        "not reported yet"
    );
    assert!(matches!(sub.try_recv(), Err(TryRecvError::Lost(_))));
    assert_eq!((sub.stats().lag, sub.stats().lag_time), (0, Duration::ZERO));
    check_law(&sub.stats());

    // The same in front of an event.
    publish(&bus, 3);
    sub.try_recv().expect("8");
    publish(&bus, 1);
    assert_eq!(sub.stats().lag, 3);
    sub.try_recv().expect("9");
    assert!(matches!(sub.try_recv(), Err(TryRecvError::Lost(_))));
    assert_eq!(sub.stats().lag, 1);
    sub.try_recv().expect("11");
    check_law(&sub.stats());
}

#[test]
fn lag_in_time_is_measured_on_the_stream() {
    let (bus, seconds) = manual();
    let mut sub = bus.subscribe("a").expect("open");
    let lag = |sub: &Subscriber<u64>| sub.stats().lag_time.as_secs();
    assert_eq!(lag(&sub), 0);
    publish(&bus, 1);
    assert_eq!(
        (sub.stats().lag, lag(&sub)),
        (1, 0),
        "it lags by this one event"
    );
    seconds.store(1005, Ordering::SeqCst);
    assert_eq!(lag(&sub), 0, "waiting alone does not make it rise");
    publish(&bus, 1);
    assert_eq!(lag(&sub), 5);
    seconds.store(1009, Ordering::SeqCst);
    publish(&bus, 1);
    assert_eq!(lag(&sub), 9);
    sub.try_recv().expect("1");
    assert_eq!(lag(&sub), 9, "it stands at the first");
    sub.try_recv().expect("2");
    assert_eq!(lag(&sub), 4, "it stands at the second");
    sub.try_recv().expect("3");
    assert_eq!(lag(&sub), 0);

    // There is no lag while no events come.
    seconds.store(9000, Ordering::SeqCst);
    publish(&bus, 1);
    assert_eq!((sub.stats().lag, lag(&sub)), (1, 0));
    assert_eq!(bus.stats().lag_max, 1);
    seconds.store(9002, Ordering::SeqCst);
    publish(&bus, 1);
    assert_eq!(lag(&sub), 2);
    assert_eq!(bus.stats().lag_time_max, Duration::from_secs(2));
}

#[test]
fn pinned_bytes_count_the_waiting_events() {
    let bus = bus::<Vec<u8>>(|b| b.dispatch(Dispatch::Manual));
    let mut sub = bus
        .subscription("a")
        .pin_bytes(1 << 20)
        .open()
        .expect("open");
    assert_eq!(
        (sub.stats().pinned_bytes, sub.stats().pin_bytes),
        (0, 1 << 20)
    );
    bus.publish("a", vec![0; 100_000]).expect("open");
    bus.drive();
    let one = sub.stats().pinned_bytes;
    assert!((100_000..110_000).contains(&one), "{one}");
    bus.publish("a", vec![0; 100_000]).expect("open");
    bus.drive();
    assert_eq!(sub.stats().pinned_bytes, 2 * one);
    assert_eq!(bus.stats().pinned_bytes, 2 * one);
    sub.try_recv().expect("unread");
    assert_eq!(
        sub.stats().pinned_bytes,
        one,
        "a claimed slot does not count towards the bound"
    );
    let handle = sub.handle();
    drop(sub);
    assert_eq!((handle.stats().pinned_bytes, handle.stats().depth), (0, 0));
    assert_eq!(handle.stats().unread, 1);
}

#[test]
fn losses_by_reason() {
    let (bus, _) = manual();
    let full = bus.subscription("a").capacity(2).open().expect("open");
    let blocked = blocking(&bus, 1);
    let given_up = bus
        .subscription("a")
        .capacity(3)
        .overflow(Overflow::Block)
        .block_timeout(Duration::ZERO)
        .open()
        .expect("open");
    publish(&bus, 5);
    bus.close_within(Duration::from_millis(1));
    let of = |sub: &Subscriber<u64>| {
        let stats = sub.stats();
        check_law(&stats);
        (
            stats.lost_by(GapReason::Overflow),
            stats.lost_by(GapReason::Closed),
            stats.lost_by(GapReason::BlockTimeout),
        )
    };
    assert_eq!((of(&full), of(&blocked)), ((3, 0, 0), (0, 4, 0)));
    assert_eq!(of(&given_up), (0, 0, 2));
    let stats = bus.stats();
    check_bus_law(&stats);
    assert_eq!(stats.lost_by(GapReason::Overflow), 3);
    assert_eq!(stats.lost_by(GapReason::Closed), 4);
    assert_eq!(stats.lost_by(GapReason::BlockTimeout), 2);
}

// ---- the bus ------------------------------------------------------------------------------------

#[test]
fn events_are_queued_until_they_are_sequenced() {
    let (bus, _) = manual();
    let mut lanes = [bus.publisher(), bus.publisher()];
    assert_eq!(bus.stats().publishers, 2);
    lanes[0].publish("a", 1).expect("open");
    lanes[1].publish("a", 2).expect("open");
    bus.publish("a", 3).expect("open");
    let stats = bus.stats();
    assert_eq!((stats.published, stats.queued, stats.sequenced), (3, 3, 0));
    drop(lanes);
    let stats = bus.stats();
    assert_eq!((stats.published, stats.queued, stats.publishers), (3, 3, 0));
    bus.drive();
    let stats = bus.stats();
    assert_eq!((stats.published, stats.queued, stats.sequenced), (3, 0, 3));
    check_bus_law(&stats);
}

#[test]
fn events_that_were_never_sequenced_are_counted() {
    let (bus, _) = manual();
    let _sub = blocking(&bus, 1);
    let mut publisher = bus.publisher();
    let accepted = crate::support::fill(&bus, || publisher.try_publish("a", 1).is_ok());
    let report = bus.close_within(Duration::from_millis(1));
    let stats = bus.stats();
    check_bus_law(&stats);
    assert!(report.unsequenced > 0);
    assert_eq!(
        (stats.published, stats.unsequenced),
        (accepted, report.unsequenced)
    );
}

#[test]
fn the_sums_of_the_bus_balance_after_every_step() {
    for seed in 0..20 {
        let (bus, _) = manual();
        let mut random = Random::new(seed);
        let mut subs: Vec<Subscriber<u64>> = Vec::new();
        let mut opened = 0;
        for _ in 0..400 {
            match random.below(6) {
                0 if subs.len() < 50 => {
                    let overflow = [Overflow::DropNewest, Overflow::Block][random.below(8) / 7];
                    let capacity = [1, 2, 64, 1000][random.below(4)];
                    let sub = bus
                        .subscription("a")
                        .capacity(capacity)
                        .overflow(overflow)
                        .open();
                    subs.push(sub.expect("open"));
                    opened += 1;
                }
                1 if !subs.is_empty() => {
                    let sub = subs.swap_remove(random.below(subs.len()));
                    if random.one_in(2) {
                        sub.handle().cancel();
                        subs.push(sub); // ended, and still owned
                    }
                }
                2 if !subs.is_empty() => {
                    let at = random.below(subs.len());
                    for _ in 0..random.below(20) {
                        let _ = subs[at].try_recv();
                    }
                }
                3 if !subs.is_empty() => {
                    let at = random.below(subs.len());
                    read_out(&mut subs[at]);
                }
                _ => {
                    for n in 0..random.below(100) as u64 {
                        let _ = bus.try_publish("a", n);
                    }
                    bus.drive();
                }
            }
            subs.iter().for_each(|sub| check_law(&sub.stats()));
            check_bus_law(&bus.stats());
            assert_eq!(bus.stats().subscriptions_opened, opened);
        }
        let before = bus.stats();
        let held: u64 = subs.iter().map(|sub| sub.stats().matched).sum();
        assert!(before.matched >= held);
        drop(subs);
        bus.drive();
        let after = bus.stats();
        check_bus_law(&after);
        assert_eq!((after.subscriptions, after.depth, after.lag_max), (0, 0, 0));
        assert!(after.matched >= before.matched, "the sums never decrease");
    }
}

#[test]
fn the_sums_of_the_bus_balance_after_a_churn() {
    for mode in MODES {
        ends("a churn", move || churn(mode));
    }
}

fn churn(mode: Dispatch) {
    const THREADS: u64 = 4;
    const EVENTS: u64 = 5_000;
    let bus = bus::<u64>(|b| b.dispatch(mode).dispatchers(2));
    let over = AtomicU64::new(0);
    let received: u64 = thread::scope(|scope| {
        if mode == Dispatch::Manual {
            scope.spawn(|| {
                while over.load(Ordering::SeqCst) == 0 {
                    bus.drive();
                    thread::yield_now();
                }
            });
        }
        let publishing: Vec<_> = (0..THREADS)
            .map(|number| {
                let bus = &bus;
                scope.spawn(move || {
                    for n in 0..EVENTS {
                        // One publisher after the other, and the shared lane.
                        match number {
                            0 => bus.publish("a", n).expect("open"),
                            _ => bus.publisher().publish("a", n).expect("open"),
                        }
                    }
                })
            })
            .collect();
        let receiving: Vec<_> = (0..THREADS)
            .map(|seed| {
                let (bus, over) = (&bus, &over);
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut received = 0;
                    while over.load(Ordering::SeqCst) == 0 {
                        let capacity = [1, 64, 1024][random.below(3)];
                        let opened = bus.subscription("a").capacity(capacity).open();
                        let mut sub = opened.expect("open");
                        for _ in 0..random.below(500) {
                            match sub.recv_timeout(Duration::from_micros(100)) {
                                Ok(_) => received += 1,
                                Err(RecvTimeoutError::Timeout) => break,
                                Err(_) => {}
                            }
                        }
                        if random.one_in(2) {
                            sub.handle().cancel();
                        }
                        let stats = bus.stats();
                        assert!(stats.sequenced <= stats.published, "{stats:?}");
                    }
                    received
                })
            })
            .collect();
        publishing
            .into_iter()
            .for_each(|thread| thread.join().expect("published"));
        assert!(bus.flush_within(FOR_EVER));
        over.store(1, Ordering::SeqCst);
        receiving
            .into_iter()
            .map(|thread| thread.join().expect("received"))
            .sum()
    });
    assert!(bus.flush_within(FOR_EVER));
    // A shard may not have released the last of them yet.
    eventually("the sums settle", || {
        let stats = bus.stats();
        stats.matched == stats.received + stats.lost + stats.unread
    });
    let stats = bus.stats();
    check_bus_law(&stats);
    assert_eq!((stats.published, stats.queued), (THREADS * EVENTS, 0));
    assert_eq!(stats.received, received);
    assert_eq!((stats.publishers, stats.subscriptions), (0, 0));
}

// ---- labels -------------------------------------------------------------------------------------

#[test]
fn labels_are_kept_in_order_and_after_the_end() {
    let (bus, _) = manual();
    let bare = bus.subscribe("a").expect("open");
    assert!(bare.handle().labels().is_empty());
    let sub = bus
        .subscription("a")
        .label("team", "billing")
        .label("_7", "")
        .open()
        .expect("open");
    let handle = sub.handle();
    drop(sub);
    let labels: Vec<_> = handle
        .labels()
        .iter()
        .map(|l| (l.key(), l.value()))
        .collect();
    assert_eq!(labels, [("team", "billing"), ("_7", "")]);
    assert_eq!(handle.labels()[0].to_string(), "team=\"billing\"");
    assert!(format!("{handle:?}").contains("billing"));
}

#[test]
fn labels_at_and_beyond_their_bounds() {
    let (bus, _) = manual();
    let open = |labels: &[(&str, &str)]| {
        let mut builder = bus.subscription("a");
        for (key, value) in labels {
            builder = builder.label(key, value);
        }
        builder.open().map(drop)
    };
    let refused = |labels: &[(&str, &str)]| match open(labels) {
        Err(SubscribeError::Label(error)) => error,
        other => panic!("{other:?}"),
    };
    let key = "k".repeat(LABEL_KEY_BYTES_MAX + 1);
    let value = "v".repeat(LABEL_VALUE_BYTES_MAX + 1);
    open(&[(&key[1..], &value[1..])]).expect("at the bound");
    let error = refused(&[("a", ""), (&key, "")]);
    assert_eq!(
        (error.number(), error.rule()),
        (2, LabelRule::KeyLength(LABEL_KEY_BYTES_MAX + 1))
    );
    assert_eq!(error.key(), &key[1..], "cut");
    assert_eq!(
        error.to_string(),
        format!(
            "label 2, `{}`: a key of 65 bytes is not in 1..=64",
            &key[1..]
        )
    );
    assert_eq!(refused(&[("", "")]).rule(), LabelRule::KeyLength(0));
    let error = refused(&[("a", &value)]);
    assert_eq!(
        error.rule(),
        LabelRule::ValueLength(LABEL_VALUE_BYTES_MAX + 1)
    );
    assert_eq!(
        error.to_string(),
        "label 1, `a`: a value of 257 bytes is not in 0..=256"
    );

    let keys: Vec<_> = (0..=LABELS_MAX).map(|n| format!("k{n}")).collect();
    let labels: Vec<_> = keys.iter().map(|key| (&**key, "")).collect();
    open(&labels[1..]).expect("at the bound");
    let error = refused(&labels);
    assert_eq!(
        (error.number(), error.rule()),
        (LABELS_MAX + 1, LabelRule::TooMany)
    );

    for (bad, rule) in [
        ("7a", LabelRule::KeyByte(0)),
        ("a-b", LabelRule::KeyByte(1)),
        ("aé", LabelRule::KeyByte(1)),
        ("a\n", LabelRule::KeyByte(1)),
        ("subscription", LabelRule::Reserved),
        ("x", LabelRule::Twice),
    ] {
        let error = refused(&[("x", ""), (bad, "")]);
        assert_eq!((error.number(), error.rule()), (2, rule), "{bad}");
    }
    // The first error is reported.
    assert_eq!(refused(&[("", ""), ("a-b", "")]).number(), 1);
    assert_eq!(
        bus.stats().subscriptions_opened,
        2,
        "a refused subscription leaves nothing behind"
    );
}

/// Reads the statistics again and again while the ring overflows: the depth never exceeds the
/// capacity.
#[test]
fn depth_never_exceeds_the_capacity_while_events_flow() {
    const CAPACITY: usize = 3;
    let policies = [Overflow::DropOldest, Overflow::Conflate];
    for (overflow, reads) in policies.into_iter().flat_map(|p| [(p, false), (p, true)]) {
        ends(&format!("{overflow:?}, read: {reads}"), move || {
            let bus = bus::<u64>(|b| b.dispatch(Dispatch::Pool));
            let builder = bus.subscription("**").capacity(CAPACITY);
            let mut sub = builder.overflow(overflow).open().expect("open");
            let handle = sub.handle();
            let (closed, close) = mpsc::channel::<()>();
            let reading = thread::spawn(move || {
                if !reads {
                    let _ = close.recv();
                }
                while sub.recv().err() != Some(RecvError::Closed) {}
            });
            let publishing = {
                let mut publisher = bus.publisher();
                let topics = ["a", "b", "c", "d", "e", "f"];
                thread::spawn(move || {
                    for n in (0..6).cycle() {
                        if publisher.publish(topics[n], 0).is_err() {
                            break;
                        }
                    }
                })
            };
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(500) {
                for _ in 0..100 {
                    let stats = handle.stats();
                    assert!(stats.depth <= CAPACITY as u64, "{stats:?}");
                    assert!(stats.high_water <= CAPACITY as u64, "{stats:?}");
                }
            }
            bus.close();
            drop(closed);
            publishing.join().expect("ends");
            reading.join().expect("ends");
            assert_eq!(handle.stats().depth, 0);
        });
    }
}
