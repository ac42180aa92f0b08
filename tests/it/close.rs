//! A close drains the bus: accepted events are delivered or counted as lost, and refused events are
//! not delivered.

use fanout::{
    Bus, Dispatch, Ending, GapReason, PublishError, PublishSequencedError, PublishTimeoutError,
    RecvError, SubscribeError, TryPublishError,
};
use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, MODES, StreamItem, blocking, bus, ends, eventually, fill, fill_both_lanes, ids,
    in_every_mode, in_every_mode_and_shards, in_modes_with_threads, payloads, publish_each,
    read_out, read_to_end, rounds, yield_for_a_while,
};
use crate::tasks::{block_on, now_or_never};

#[test]
fn close_drains() {
    in_every_mode(|mode| {
        let bus = bus(|b| {
            b.dispatch(mode)
                .dispatchers(2)
                .capacity(4096)
                .lane_capacity(4096)
        });
        let mut subs: Vec<_> = (0..5).map(|_| bus.subscribe("a").expect("open")).collect();
        let mut publisher = bus.publisher();
        for n in 0..1000 {
            publisher.publish("a", n).expect("open");
            bus.publish("a", n).expect("open");
        }
        bus.close();
        for sub in &mut subs {
            let (seen, ending) = read_to_end(sub);
            assert_eq!(seen, (1..=2000).map(StreamItem::Id).collect::<Vec<_>>());
            assert_eq!(ending, RecvError::Closed);
            let stats = sub.stats();
            assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(2000)));
        }
    });
}

#[test]
fn a_closed_bus_refuses_events_and_returns_them() {
    in_every_mode(|mode| {
        let bus = bus::<String>(|b| b.dispatch(mode));
        let mut publisher = bus.publisher();
        assert!(!bus.is_closed());
        bus.close();
        bus.close();
        assert!(bus.is_closed());
        let value = || String::from("kept");
        let mut late = bus.publisher();
        for publisher in [&mut publisher, &mut late] {
            let refused = publisher.publish("a", value()).unwrap_err();
            assert!(matches!(&refused, PublishError::Closed(value) if value == "kept"));
            assert_eq!(refused.to_string(), "the bus is closed");
            let refused = publisher.try_publish("a", value()).unwrap_err();
            assert!(matches!(refused, TryPublishError::Closed(value) if value == "kept"));
            let refused = publisher
                .publish_timeout("a", value(), FOR_EVER)
                .unwrap_err();
            assert!(matches!(refused, PublishTimeoutError::Closed(value) if value == "kept"));
            let refused = publisher.publish_sequenced("a", value()).unwrap_err();
            assert!(matches!(
                refused,
                PublishSequencedError::Refused(PublishError::Closed(value)) if value == "kept"
            ));
            assert!(matches!(
                now_or_never(publisher.publish_async("a", value())),
                Some(Err(PublishError::Closed(value))) if value == "kept"
            ));
        }
        assert!(matches!(
            bus.publish("a", value()),
            Err(PublishError::Closed(_))
        ));
        assert!(matches!(
            bus.try_publish("a", value()),
            Err(TryPublishError::Closed(_))
        ));
        assert!(bus.publish_sequenced("a", value()).is_err());
        assert!(now_or_never(bus.publish_async("a", value())).is_some());
        assert_eq!(bus.subscribe("a").unwrap_err(), SubscribeError::Closed);
    });
}

#[test]
fn dropping_the_last_handle_closes_the_bus() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let clone = bus.clone();
        let mut publisher = bus.publisher();
        let weak = bus.downgrade();
        drop(bus);
        clone.publish("a", 1).expect("a clone keeps it open");
        drop(clone);
        publisher
            .publish("a", 2)
            .expect("a publisher keeps it open");
        let again = weak.upgrade().expect("open");
        drop(publisher);
        again
            .publish("a", 3)
            .expect("an upgraded weak handle keeps it open");
        again.drive();
        drop(again);
        assert!(weak.upgrade().is_none());
        assert!(weak.clone().upgrade().is_none());
        assert_eq!(
            read_to_end(&mut sub),
            ([1, 2, 3].map(StreamItem::Id).to_vec(), RecvError::Closed)
        );
    });
}

#[test]
fn subscribers_and_handles_do_not_keep_the_bus_open() {
    let bus = bus::<u32>(|b| b);
    let mut sub = bus.subscribe("a").expect("open");
    let handle = sub.handle();
    drop(bus);
    ends("the close", move || {
        assert_eq!(sub.recv().err(), Some(RecvError::Closed))
    });
    assert_eq!(handle.ending(), Some(Ending::Closed));
}

#[test]
fn close_within_its_limit() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut reads = blocking(&bus, 2);
        let _idle = bus.subscription("a").capacity(8).open().expect("open");
        let reading = thread::spawn(move || read_to_end(&mut reads));
        publish_each(&bus, 0..100);
        // Under manual dispatch a closing bus is driven by its readers.
        let report = bus.close_within(FOR_EVER);
        assert_eq!(
            (report.in_time, report.lost, report.unsequenced),
            (true, 0, 0),
            "{report:?}"
        );
        // Of the subscriber that reads, two events may wait and two may be claimed.
        assert!((8..=12).contains(&report.unread), "{report:?}");
        let (seen, ending) = reading.join().expect("read");
        assert_eq!((seen.len(), ending), (100, RecvError::Closed));
    });
}

#[test]
fn close_past_its_limit_reports_exact_numbers() {
    in_every_mode_and_shards(|mode, dispatchers| {
        report_past_time(mode, dispatchers);
    });
}

fn report_past_time(mode: Dispatch, dispatchers: usize) {
    let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(8));
    let mut full = blocking(&bus, 3);
    let mut other = bus
        .subscription("*")
        .capacity(1 << 16)
        .open()
        .expect("open");
    let mut publisher = bus.publisher();
    let accepted = fill_both_lanes(&bus, &mut publisher, &());
    let report = bus.close_within(Duration::from_millis(1));
    let sequenced = bus.stats().sequenced;
    assert!(!report.in_time);
    assert!(report.unsequenced >= 16, "two lanes of 8: {report:?}");
    assert_eq!(sequenced + report.unsequenced, accepted);
    assert_eq!(report.lost, sequenced - 3);
    assert_eq!(report.unread, 3 + sequenced);

    let (seen, ending) = read_to_end(&mut full);
    assert_eq!(ending, RecvError::Closed);
    assert_eq!(seen[..3], [1, 2, 3].map(StreamItem::Id));
    let [StreamItem::Lost(gap)] = seen[3..] else {
        panic!("one gap at the end: {seen:?}")
    };
    assert_eq!(
        (gap.first_id(), gap.last_id(), gap.count()),
        (4, sequenced, sequenced - 3)
    );
    assert_eq!(gap.reason(), GapReason::Closed);
    let stats = full.stats();
    assert_eq!(
        (stats.matched, stats.received, stats.lost, stats.unread),
        (sequenced, 3, sequenced - 3, 0)
    );
    assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(sequenced)));

    // The other subscriber loses nothing.
    let (seen, ending) = read_to_end(&mut other);
    assert_eq!((seen.len() as u64, ending), (sequenced, RecvError::Closed));
    let again = bus.close_within(FOR_EVER);
    assert_eq!(
        (again.in_time, again.lost, again.unread),
        (true, 0, 0),
        "{again:?}"
    );
}

/// `Ok` promises that the event is delivered, and `Err` promises that it is not.
#[test]
fn a_concurrent_close_and_publish_keep_the_counters_exact() {
    for mode in MODES {
        for dispatchers in [1, 3] {
            let most = if mode == Dispatch::Manual { 50 } else { 150 };
            ends(&format!("{mode:?}, {dispatchers} dispatchers"), move || {
                rounds(most).for_each(|round| race(mode, dispatchers, round));
            });
        }
    }
}

fn race(mode: Dispatch, dispatchers: usize, round: u64) {
    let small = round.is_multiple_of(2);
    let bus = bus(|b| {
        let lane = if small && mode != Dispatch::Manual {
            4
        } else {
            1 << 12
        };
        b.dispatch(mode)
            .dispatchers(dispatchers)
            .lane_capacity(lane)
            .capacity(1 << 14)
    });
    let mut subs: Vec<_> = (0..3).map(|_| bus.subscribe("a").expect("open")).collect();
    let start = Barrier::new(7);
    let accepted: HashSet<u64> = thread::scope(|scope| {
        let mut publishing = Vec::new();
        for n in 0..4 {
            let (mut publisher, start) = (bus.publisher(), &start);
            publishing.push(scope.spawn(move || {
                start.wait();
                accept(n, |payload| publisher.publish("a", payload))
            }));
        }
        for n in 4..6 {
            let (bus, start) = (bus.clone(), &start);
            publishing.push(scope.spawn(move || {
                start.wait();
                accept(n, |payload| bus.publish("a", payload))
            }));
        }
        scope.spawn(|| {
            start.wait();
            for _ in 0..round % 7 * 20 {
                thread::yield_now();
            }
            bus.close();
        });
        publishing
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let report = bus.close_within(FOR_EVER);
    assert_eq!(
        (report.in_time, report.lost, report.unsequenced),
        (true, 0, 0)
    );
    for sub in &mut subs {
        let delivered = payloads(sub);
        assert_eq!(delivered.len(), accepted.len(), "{mode:?}, round {round}");
        assert_eq!(delivered.into_iter().collect::<HashSet<_>>(), accepted);
        assert_eq!(sub.recv().err(), Some(RecvError::Closed));
    }
}

/// Publishes until the bus is closed; under manual dispatch, no more than the lanes hold. Returns
/// the accepted events.
fn accept(n: u64, mut publish: impl FnMut(u64) -> Result<(), PublishError<u64>>) -> Vec<u64> {
    let mut accepted = Vec::new();
    for sequence in 0..500 {
        let payload = n << 32 | sequence;
        match publish(payload) {
            Ok(()) => accepted.push(payload),
            Err(refused) => {
                assert!(matches!(refused, PublishError::Closed(value) if value == payload));
                break;
            }
        }
    }
    accepted
}

#[test]
fn publishers_that_wait_are_woken_by_the_close() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(4));
        let mut full = blocking(&bus, 1);
        let mut own: Vec<_> = (0..4).map(|_| bus.publisher()).collect();
        let mut accepted = fill(&bus, || bus.try_publish("a", 0).is_ok());
        for publisher in &mut own {
            accepted += fill(&bus, || publisher.try_publish("a", 0).is_ok());
        }
        let waiting: Vec<_> = own
            .into_iter()
            .enumerate()
            .map(|(n, mut publisher)| thread::spawn(move || waits(n, &mut publisher)))
            .chain((0..4).map(|n| {
                let bus = bus.clone();
                thread::spawn(move || waits_shared(n, &bus))
            }))
            .collect();
        yield_for_a_while();
        bus.close();
        for waiting in waiting {
            assert!(waiting.join().expect("woken"), "closed, with the value");
        }
        let (seen, ending) = read_to_end(&mut full);
        assert_eq!((seen.len() as u64, ending), (accepted, RecvError::Closed));
    });
}

fn waits(n: usize, publisher: &mut fanout::Publisher<u64>) -> bool {
    match n {
        0 => matches!(publisher.publish("a", 7), Err(PublishError::Closed(7))),
        1 => matches!(
            publisher.publish_timeout("a", 7, FOR_EVER),
            Err(PublishTimeoutError::Closed(7))
        ),
        2 => matches!(
            block_on(publisher.publish_async("a", 7)),
            Err(PublishError::Closed(7))
        ),
        _ => matches!(
            publisher.publish_sequenced("a", 7),
            Err(PublishSequencedError::Refused(PublishError::Closed(7)))
        ),
    }
}

fn waits_shared(n: usize, bus: &Bus<u64>) -> bool {
    match n {
        0 => matches!(bus.publish("a", 7), Err(PublishError::Closed(7))),
        1 => matches!(
            bus.publish_timeout("a", 7, FOR_EVER),
            Err(PublishTimeoutError::Closed(7))
        ),
        2 => matches!(
            block_on(bus.publish_async("a", 7)),
            Err(PublishError::Closed(7))
        ),
        _ => matches!(
            bus.publish_sequenced("a", 7),
            Err(PublishSequencedError::Refused(PublishError::Closed(7)))
        ),
    }
}

#[test]
fn a_wait_for_a_receipt_ends_when_a_forced_close_drops_the_event() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(4));
        let full = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        // The other lane fills all room, so the event of this lane stays in it.
        fill(&bus, || bus.try_publish("a", 0).is_ok());
        let waiting = thread::spawn(move || publisher.publish_sequenced("a", 7));
        yield_for_a_while();
        bus.close_within(Duration::from_millis(5));
        let answer = waiting
            .join()
            .expect("reported")
            .expect_err("not sequenced");
        assert!(
            matches!(
                answer,
                PublishSequencedError::Unsequenced
                    | PublishSequencedError::Refused(PublishError::Closed(7))
            ),
            "{answer:?}"
        );
        drop(full);
    });
}

#[test]
fn a_receipt_has_the_id_and_the_time_of_the_delivered_event() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let mut publisher = bus.publisher();
        for n in 0..500 {
            let receipt = if n % 2 == 0 {
                publisher.publish_sequenced("a", n).expect("open")
            } else {
                bus.publish_sequenced("a", n).expect("open")
            };
            let event = sub.recv().expect("open");
            assert_eq!((event.id(), *event.data()), (receipt.id(), n));
            assert_eq!(event.created_at(), receipt.created_at());
        }
    });
}

/// A subscriber that reads nothing does not delay the thread that drops the bus, and does not
/// prevent the threads of the bus from ending.
#[test]
fn drop_never_waits() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut full = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        (0..50).for_each(|n| publisher.publish("a", n).expect("open"));
        drop(publisher);
        drop(bus);
        let (seen, ending) = read_to_end(&mut full);
        assert_eq!((seen.len(), ending), (50, RecvError::Closed));
    });
}

#[test]
fn accepted_events_outlive_their_publisher() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        for n in 1..=500 {
            let mut publisher = bus.publisher();
            publisher.publish("a", n).expect("open");
        }
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(ids(&mut sub), (1..=500).collect::<Vec<_>>());
        assert!(matches!(read_out(&mut sub), (seen, _) if seen.is_empty()));
    });
}

/// Counts the threads of all buses, so it runs in a separate process: see the test below.
#[test]
#[ignore = "run by `threads_end_with_their_bus`, alone in its process"]
#[cfg(target_os = "linux")]
fn threads_end_with_their_bus_run_alone() {
    fn threads() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks
            .filter_map(name)
            .filter(|name| name.starts_with("fanout-"))
            .count()
    }
    assert_eq!(threads(), 0);
    for mode in MODES {
        for close in 0..5 {
            for round in 0..20 {
                let bus = bus::<u64>(|b| b.dispatch(mode).dispatchers(3).handler_threads(2));
                let mut pool = if mode == Dispatch::Manual { 0 } else { 3 };
                if round % 2 == 0 {
                    let pooled = bus.on("a", |_| {}).expect("open").detach();
                    let own = bus.subscription("a").dedicated().handler(|_| {});
                    own.expect("open").detach();
                    // Two workers, the thread that monitors them, and a dedicated thread.
                    pool += if mode == Dispatch::Manual { 0 } else { 4 };
                    if round % 4 == 0 {
                        pooled.cancel();
                    }
                }
                eventually("the threads have their names", || threads() == pool);
                let full = blocking(&bus, 1);
                publish_each(&bus, 0..10);
                match close {
                    0 => drop((bus, full)),
                    1 => drop((full, bus)),
                    2 => drop((bus.close_within(Duration::ZERO), full)),
                    3 => {
                        bus.close();
                        drop(full);
                    }
                    _ => {
                        let publisher = bus.publisher();
                        drop((bus, full));
                        drop(publisher);
                    }
                }
                eventually("the threads end", || threads() == 0);
            }
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn threads_end_with_their_bus() {
    let this_binary = std::env::current_exe().expect("known");
    let alone = std::process::Command::new(this_binary)
        .args([
            "--exact",
            "close::threads_end_with_their_bus_run_alone",
            "--ignored",
        ])
        .output()
        .expect("it runs");
    let output = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && output.contains("1 passed"),
        "{output}"
    );
}
