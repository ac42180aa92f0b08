//! Subscriptions with thousands of patterns: what holds for one pattern holds for all of them, and
//! the cost of one pattern does not depend on their number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fanout::{Bus, ChangeError, Pattern, RecvError, SubscribeError, TryRecvError};

use crate::support::manual;

/// Enough patterns that the index gets them as one bulk change.
const MANY: usize = 3_000;

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let text = |n: usize| match n % 4 {
        0 => format!("t.{n}.x"),
        1 => format!("t.{n}.*"),
        2 => format!("t.[ab]{n}.x"),
        _ => format!("t.{{{n},a{n}}}.**"),
    };
    numbers.into_iter().map(text).collect()
}

/// A topic that the n-th pattern matches, and no other.
fn topic(n: usize) -> String {
    match n % 4 {
        2 => format!("t.b{n}.x"),
        _ => format!("t.{n}.x"),
    }
}

fn written(patterns: Vec<Pattern>) -> Vec<String> {
    patterns.iter().map(|p| p.as_str().to_owned()).collect()
}

/// The numbers of the patterns that match.
fn wanted(bus: &Bus<usize>, numbers: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let numbers = numbers.into_iter();
    numbers.filter(|&n| bus.has_subscribers(topic(n))).collect()
}

#[test]
fn each_of_very_many_patterns_counts() {
    let bus = manual::<usize>();
    let other = bus.subscribe("other").expect("open");
    let mut sub = bus.subscribe(texts(0..MANY)).expect("open");
    let handle = sub.handle();
    assert_eq!(written(handle.patterns()), texts(0..MANY));
    for n in (0..MANY).step_by(7) {
        bus.publish(topic(n).as_str(), n).expect("open");
        bus.drive();
        assert_eq!(*sub.recv().expect("an event").data(), n);
    }
    // Half of them are new.
    assert_eq!(handle.add(texts(MANY / 2..2 * MANY)), Ok(true));
    assert_eq!(handle.add(texts(MANY / 2..2 * MANY)), Ok(false));
    assert_eq!(written(handle.patterns()), texts(0..2 * MANY));
    assert_eq!(wanted(&bus, 0..2 * MANY).len(), 2 * MANY);
    // Half of them are there.
    assert_eq!(handle.remove(texts(MANY..3 * MANY)), Ok(true));
    assert_eq!(handle.remove(texts(MANY..3 * MANY)), Ok(false));
    assert_eq!(written(handle.patterns()), texts(0..MANY));
    assert_eq!(wanted(&bus, 0..2 * MANY), (0..MANY).collect::<Vec<_>>());
    // One by one, in another spelling.
    for n in (2..MANY).step_by(4) {
        assert_eq!(handle.remove(format!("t.[ba]{n}.x")), Ok(true));
        assert_eq!(handle.remove(format!("t.[ba]{n}.x")), Ok(false));
    }
    let left = (0..MANY).filter(|n| n % 4 != 2).collect::<Vec<_>>();
    assert_eq!(wanted(&bus, 0..MANY), left);
    assert_eq!(written(handle.patterns()), texts(left.iter().copied()));
    assert!(handle.cancel());
    assert!(wanted(&bus, 0..MANY).is_empty());
    assert_eq!(handle.add(texts(0..MANY)), Err(ChangeError::Ended));
    assert_eq!(handle.remove(texts(0..MANY)), Err(ChangeError::Ended));
    assert!(matches!(sub.try_recv(), Err(TryRecvError::Cancelled)));
    // The next subscription gets the slot of the one that has ended.
    let again = sub.resubscribe().expect("open");
    assert_eq!(
        written(again.handle().patterns()),
        texts(left.iter().copied())
    );
    assert_eq!(wanted(&bus, 0..MANY), left);
    assert_eq!(bus.subscriptions().len(), 2);
    drop(again);
    assert!(wanted(&bus, 0..MANY).is_empty());
    assert_eq!(other.handle().patterns().len(), 1);
}

#[test]
fn no_subscription_is_opened_on_a_closed_bus() {
    let bus = manual::<usize>();
    let builder = bus.subscription(texts(0..MANY));
    bus.close();
    let error = builder.clone().open().expect_err("closed");
    assert_eq!(error, SubscribeError::Closed);
    assert!(!bus.has_subscribers(topic(0)));
}

/// Subscriptions with very many patterns are opened, changed and cancelled while others are, and
/// while events are delivered. Then the bus is closed in the middle.
#[test]
fn very_many_patterns_come_and_go_while_others_do() {
    let bus = Bus::<usize>::new();
    let mut steady = bus
        .subscription("steady")
        .capacity(1 << 16)
        .open()
        .expect("open");
    let done = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let bus = &bus;
        for offset in [0, MANY] {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let sub = match bus.subscribe(texts(offset..offset + MANY)) {
                        Ok(sub) => sub,
                        Err(SubscribeError::Closed) => return,
                        Err(error) => panic!("{error}"),
                    };
                    let _ = sub.handle().remove(texts(offset..offset + MANY / 2));
                    let _ = sub.handle().add(texts(offset..offset + MANY));
                    drop(sub);
                    assert!(!bus.has_subscribers(topic(offset)));
                }
            });
        }
        let small = scope.spawn(|| {
            for n in 0.. {
                let opened = bus.subscribe(format!("small.{n}"));
                let Ok(mut sub) = opened else { return };
                let Ok(_) = bus.publish(format!("small.{n}").as_str(), n) else {
                    return;
                };
                match sub.recv() {
                    Ok(event) => assert_eq!(*event.data(), n),
                    Err(RecvError::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for n in 0..2_000 {
            bus.publish("steady", n).expect("open");
            thread::sleep(Duration::from_micros(100));
        }
        bus.close();
        done.store(true, Ordering::Relaxed);
        small.join().expect("it does not panic");
        2_000
    });
    for n in 0..published {
        assert_eq!(*steady.recv().expect("an event").data(), n);
    }
    assert!(matches!(steady.recv(), Err(RecvError::Closed)));
    assert!(bus.subscriptions().is_empty());
}

/// Times, so the machine must be idle: `cargo test --release --test it many_patterns -- --ignored`.
/// `cargo bench --bench index -- many` prints them.
#[test]
#[ignore = "measures times"]
fn the_cost_of_a_pattern_does_not_depend_on_their_number() {
    let bus = manual::<usize>();
    let measure = |size: usize| {
        let start = Instant::now();
        let sub = bus.subscribe(texts(0..size)).expect("open");
        let opening = start.elapsed();
        let start = Instant::now();
        for text in texts(0..size) {
            assert_eq!(sub.handle().remove(text), Ok(true));
        }
        let removing = start.elapsed();
        let start = Instant::now();
        for text in texts(0..size) {
            assert_eq!(sub.handle().add(text), Ok(true));
        }
        let adding = start.elapsed();
        let start = Instant::now();
        drop(sub);
        [opening, removing, adding, start.elapsed()]
    };
    let few = measure(4_000);
    let many = measure(32_000);
    for (what, (few, many)) in ["open", "remove", "add", "drop"]
        .iter()
        .zip(few.into_iter().zip(many))
    {
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        assert!(
            ratio < 24.0,
            "{what}: {few:?} for 4,000 and {many:?} for 32,000"
        );
    }
}
