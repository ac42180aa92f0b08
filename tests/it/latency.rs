//! Sampled latency: the number of samples is right, and every sample is plausible.

use fanout::{BuildError, Bus, Dispatch, LatencyStats, Overflow, SubscriptionHandle};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{FOR_EVER, MODES, bus, manual, publish_each, read_out};

fn check(stats: &LatencyStats) {
    let rising = [
        stats.min,
        stats.p50,
        stats.p90,
        stats.p99,
        stats.p99_9,
        stats.max,
    ];
    assert!(rising.is_sorted(), "{stats:?}");
}

#[test]
fn one_event_in_every_n_of_a_lane_is_sampled() {
    for every in [1, 2, 64, 1000, 1001] {
        for shared in [false, true] {
            let bus = bus::<u64>(|b| b.dispatch(Dispatch::Manual).sample_latency(every));
            let mut sub = bus.subscribe("a").expect("open");
            let other = bus.subscribe("b").expect("open");
            let mut publisher = bus.publisher();
            for n in 0..1000 {
                match shared {
                    true => bus.publish("a", n).expect("open"),
                    false => publisher.publish("a", n).expect("open"),
                }
            }
            bus.drive();
            assert_eq!(sub.latency(), LatencyStats::default(), "not received yet");
            // With both receive methods.
            for _ in 0..100 {
                sub.recv().expect("unread");
            }
            while sub.stats().unread > 0 {
                drop(sub.next_batch().expect("unread"));
            }
            let latency = sub.latency();
            assert_eq!(latency.count, 1000_u64.div_ceil(u64::from(every)));
            assert_eq!(latency.missed, 0);
            check(&latency);
            assert_eq!(bus.latency(), latency);
            assert_eq!(other.latency(), LatencyStats::default());
        }
    }
}

#[test]
fn latency_is_measured_from_publish_to_receive() {
    let bus = bus::<u64>(|b| b.dispatch(Dispatch::Manual).sample_latency(1));
    let mut sub = bus.subscribe("a").expect("open");
    let before = Instant::now();
    bus.publish("a", 1).expect("open");
    let published = Instant::now();
    bus.drive();
    thread::sleep(Duration::from_millis(5));
    let receiving = Instant::now();
    sub.try_recv().expect("unread");
    let latency = sub.latency();
    assert!(latency.min >= receiving - published, "{latency:?}");
    assert!(latency.max <= before.elapsed(), "{latency:?}");
    assert_eq!(latency.min, latency.max, "exact, as there is one sample");
    assert_eq!(latency.p50, latency.max);
}

#[test]
fn only_received_events_are_sampled() {
    let bus = bus::<u64>(|b| b.dispatch(Dispatch::Manual).sample_latency(1));
    let mut full = bus.subscription("a").capacity(3).open().expect("open");
    let mut some = bus.subscribe("a").expect("open");
    publish_each(&bus, 0..10);
    bus.drive();
    read_out(&mut full);
    for _ in 0..4 {
        some.recv().expect("unread");
    }
    assert_eq!((full.latency().count, some.latency().count), (3, 4));
    // Subscriptions that have ended remain in the sum.
    let handle: SubscriptionHandle<u64> = some.handle();
    drop((full, some));
    bus.drive();
    assert_eq!(bus.latency().count, 7);
    assert_eq!(handle.latency().count, 4);
    check(&bus.latency());
}

#[test]
fn every_received_event_is_sampled_in_each_dispatch_mode() {
    const EVENTS: u64 = 20_000;
    for mode in MODES {
        let bus = bus::<u64>(|b| b.dispatch(mode).dispatchers(2).sample_latency(1));
        let subs = [0, 1].map(|_| {
            let sub = bus
                .subscription("a")
                .overflow(Overflow::Block)
                .capacity(64)
                .open();
            sub.expect("open")
        });
        let handles = subs.each_ref().map(|sub| sub.handle());
        let receiving = subs.map(|mut sub| thread::spawn(move || while sub.recv().is_ok() {}));
        let publishing = {
            let mut publisher = bus.publisher();
            thread::spawn(move || {
                (0..EVENTS).for_each(|n| publisher.publish("a", n).expect("open"));
            })
        };
        while mode == Dispatch::Manual && !publishing.is_finished() {
            bus.drive();
        }
        publishing.join().expect("published");
        assert!(mode == Dispatch::Manual || bus.flush_within(FOR_EVER));
        while mode == Dispatch::Manual && bus.stats().received < 2 * EVENTS {
            bus.drive();
        }
        bus.close();
        receiving
            .into_iter()
            .for_each(|thread| thread.join().expect("received"));
        for handle in handles {
            let latency = handle.latency();
            assert_eq!((latency.count, latency.missed), (EVENTS, 0), "{mode:?}");
            check(&latency);
        }
        assert_eq!(bus.latency().count, 2 * EVENTS);
    }
}

#[test]
fn sampling_is_off_by_default_and_zero_is_refused() {
    let bus = manual::<u64>();
    let mut sub = bus.subscribe("a").expect("open");
    bus.publish("a", 1).expect("open");
    bus.drive();
    sub.try_recv().expect("unread");
    assert_eq!((sub.latency(), bus.latency()), Default::default());

    let build = |every| {
        Bus::<u64>::builder()
            .dispatch(Dispatch::Manual)
            .sample_latency(every)
            .build()
    };
    build(1).expect("in range");
    build(u32::MAX).expect("in range");
    let refused = build(0).unwrap_err();
    assert!(matches!(refused, BuildError::SampleLatency));
    let text = "sample_latency must be at least 1";
    assert_eq!(refused.to_string(), text);
}
