//! Wait strategies: each receives events, ends when it should, keeps its timeout, and sleeps or
//! does not sleep as documented.

use fanout::{Bus, Dispatch, Ending, RecvError, RecvTimeoutError, Subscriber, WaitStrategy};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{FOR_EVER, bus, ends, panics_quietly, publish_each, yield_for_a_while};

const STRATEGIES: [WaitStrategy; 4] = [
    WaitStrategy::Adaptive,
    WaitStrategy::Spin,
    WaitStrategy::Yield,
    WaitStrategy::Park,
];

/// Each method that blocks a thread, up to the end: returns the number of events, and the ending.
type Way = (&'static str, fn(&mut Subscriber<u32>) -> (u32, RecvError));
const WAYS: [Way; 6] = [
    ("recv", |sub| {
        let mut count = 0;
        loop {
            match sub.recv() {
                Ok(_) => count += 1,
                Err(ending) => return (count, ending),
            }
        }
    }),
    ("recv_timeout", |sub| {
        let mut count = 0;
        loop {
            match sub.recv_timeout(FOR_EVER) {
                Ok(_) => count += 1,
                Err(_) => return (count, sub.recv().expect_err("for ever")),
            }
        }
    }),
    ("next_batch", |sub| {
        let mut count = 0;
        loop {
            match sub.next_batch() {
                Ok(batch) => count += batch.len() as u32,
                Err(ending) => return (count, ending),
            }
        }
    }),
    ("next_batch_timeout", |sub| {
        let mut count = 0;
        loop {
            match sub.next_batch_timeout(FOR_EVER) {
                Ok(batch) => count += batch.len() as u32,
                Err(_) => return (count, sub.recv().expect_err("for ever")),
            }
        }
    }),
    ("for_each", |sub| {
        let mut count = 0;
        let ending = sub.for_each(|_| count += 1, |gap| panic!("{gap}"));
        let ending = match ending {
            Ending::Closed => RecvError::Closed,
            Ending::Cancelled => RecvError::Cancelled,
            _ => RecvError::Broken,
        };
        (count, ending)
    }),
    ("iter", |sub| {
        let count = sub.iter().inspect(|event| assert!(event.is_ok())).count();
        (count as u32, sub.recv().expect_err("for ever"))
    }),
];

fn weigher(data: &u32) -> usize {
    if *data == 13 {
        panics_quietly();
    }
    4
}

/// While the thread waits, events arrive, and then an end: closed, cancelled, broken.
#[test]
fn every_strategy_receives_and_ends() {
    for strategy in STRATEGIES {
        for (way, receive) in WAYS {
            for end in [RecvError::Closed, RecvError::Cancelled, RecvError::Broken] {
                ends(&format!("{strategy:?} by {way}, {end:?}"), move || {
                    let bus = bus(|b| b.wait(strategy).weigh(weigher));
                    let mut sub = bus.subscribe("a").expect("open");
                    let handle = sub.handle();
                    let reading = thread::spawn(move || receive(&mut sub));
                    for n in 100..103 {
                        yield_for_a_while();
                        bus.publish("a", n).expect("open");
                    }
                    while handle.stats().received < 3 {
                        thread::yield_now();
                    }
                    yield_for_a_while();
                    match end {
                        RecvError::Closed => bus.close(),
                        RecvError::Cancelled => assert!(handle.cancel()),
                        _ => drop(bus.publish("a", 13)),
                    }
                    assert_eq!(reading.join().expect("no panic"), (3, end));
                });
            }
        }
    }
}

/// A wait does not end before its timeout. A timeout of zero ends at once.
#[test]
fn every_strategy_keeps_its_timeout() {
    const LIMIT: Duration = Duration::from_millis(20);
    for strategy in STRATEGIES {
        ends(&format!("{strategy:?}"), move || {
            let bus = bus::<u32>(|b| b);
            let mut sub = bus.subscription("a").wait(strategy).open().expect("open");
            let start = Instant::now();
            assert_eq!(
                sub.recv_timeout(LIMIT).err(),
                Some(RecvTimeoutError::Timeout)
            );
            assert!(start.elapsed() >= LIMIT);
            let start = Instant::now();
            let late = sub.next_batch_timeout(LIMIT).err();
            assert_eq!(late, Some(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= LIMIT);
            let late = sub.recv_timeout(Duration::ZERO).err();
            assert_eq!(late, Some(RecvTimeoutError::Timeout));
            // An available event is returned even after the timeout.
            bus.publish("a", 1).expect("open");
            assert!(bus.flush_within(FOR_EVER));
            assert!(sub.recv_timeout(Duration::ZERO).is_ok());
        });
    }
}

/// A thread that waits drives a manual bus that is closing, under each strategy.
#[test]
fn every_strategy_drives_a_manual_bus_that_is_closing() {
    for strategy in STRATEGIES {
        ends(&format!("{strategy:?}"), move || {
            let bus = bus(|b| b.dispatch(Dispatch::Manual).wait(strategy));
            let sub = bus.subscription("a").capacity(1);
            let mut sub = sub.overflow(fanout::Overflow::Block).open().expect("open");
            publish_each(&bus, 0..10);
            drop(bus);
            let (seen, ending) = crate::support::read_to_end(&mut sub);
            assert_eq!((seen.len(), ending), (10, RecvError::Closed));
        });
    }
}

/// The test uses the kernel's count of voluntary context switches. There are a few for other
/// reasons, such as a page that must be read.
#[cfg(target_os = "linux")]
#[test]
fn spin_and_yield_never_sleep() {
    let sleeps = |sub: &mut Subscriber<u32>| {
        let before = times_slept();
        assert!(sub.recv_timeout(Duration::from_millis(10)).is_err());
        times_slept() - before
    };
    for of_the_bus in STRATEGIES {
        for own in [None, Some(WaitStrategy::Spin), Some(WaitStrategy::Park)] {
            let bus = Bus::<u32>::builder()
                .wait(of_the_bus)
                .build()
                .expect("in range");
            let sub = bus.subscription("a");
            let sub = match own {
                Some(own) => sub.wait(own),
                None => sub,
            };
            let mut sub = sub.open().expect("open");
            let strategy = own.unwrap_or(of_the_bus);
            let what = format!("{of_the_bus:?}, then {own:?}");
            match strategy {
                WaitStrategy::Spin | WaitStrategy::Yield => {
                    let never = (0..100).any(|_| sleeps(&mut sub) == 0);
                    assert!(never, "{what}: it sleeps");
                }
                _ => assert!(sleeps(&mut sub) > 0, "{what}: it does not sleep"),
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn times_slept() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux has it");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok())
        .expect("it counts them")
}
