//! `Overflow::Conflate`: each topic once, in its latest state.

use bytes::Bytes;
use fanout::{Bus, Dispatch, Event, Message, Overflow, RecvError, Subscriber, TryRecvError};
use smol::stream::StreamExt;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{FOR_EVER, MODES, OnDrop, ends, eventually, manual, yield_for_a_while};
use crate::tasks::{block_on, now_or_never};

fn conflating(bus: &Bus<u64>, capacity: usize) -> Subscriber<u64> {
    let builder = bus.subscription("**").capacity(capacity);
    builder.overflow(Overflow::Conflate).open().expect("open")
}

/// Publishes events, each in its own block.
fn each_in_own_block(bus: &Bus<u64>, events: &[(&str, u64)]) {
    for (topic, value) in events {
        bus.publish(*topic, *value).expect("open");
        bus.drive();
    }
}

fn in_one_block(bus: &Bus<u64>, events: &[(&str, u64)]) {
    for (topic, value) in events {
        bus.publish(*topic, *value).expect("open");
    }
    bus.drive();
}

fn fields(event: &Event<u64>) -> (String, u64, u64, u64) {
    (
        event.topic().to_string(),
        event.id(),
        *event.data(),
        event.superseded(),
    )
}

fn next(sub: &mut Subscriber<u64>) -> (String, u64, u64, u64) {
    fields(sub.try_recv().expect("something waits"))
}

#[test]
fn a_topic_keeps_its_place_and_its_event_is_replaced() {
    for publish in [each_in_own_block, in_one_block] {
        let bus = manual::<u64>();
        let mut sub = conflating(&bus, 8);
        publish(
            &bus,
            &[("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5), ("b", 6)],
        );
        assert_eq!(next(&mut sub), ("a".into(), 5, 5, 2));
        assert_eq!(next(&mut sub), ("b".into(), 6, 6, 1));
        assert_eq!(next(&mut sub), ("c".into(), 4, 4, 0));
        assert!(matches!(sub.try_recv(), Err(TryRecvError::Empty)));
        let stats = sub.stats();
        assert_eq!((stats.matched, stats.received, stats.superseded), (6, 3, 3));
        assert_eq!(
            (stats.lost, stats.unread, stats.depth, stats.high_water),
            (0, 0, 0, 3)
        );
        assert_eq!(stats.pinned_bytes, 0);
        publish(&bus, &[("b", 7)]);
        assert_eq!(
            next(&mut sub),
            ("b".into(), 7, 7, 0),
            "what was received is not replaced"
        );
    }
}

#[test]
fn beyond_the_capacity_the_oldest_topic_is_lost_with_a_gap() {
    for publish in [each_in_own_block, in_one_block] {
        let bus = manual::<u64>();
        let mut sub = conflating(&bus, 2);
        publish(&bus, &[("a", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5)]);
        let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
            panic!("two topics did not fit");
        };
        assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (2, 3, 2));
        assert_eq!(next(&mut sub), ("c".into(), 4, 4, 0));
        assert_eq!(next(&mut sub), ("d".into(), 5, 5, 0));
        let stats = sub.stats();
        assert_eq!(
            (
                stats.matched,
                stats.received,
                stats.superseded,
                stats.lost,
                stats.unread
            ),
            (5, 2, 1, 2, 0)
        );
    }
}

/// In one block, each new topic takes the room of an earlier one.
#[test]
fn a_block_may_have_more_topics_than_the_capacity() {
    let topics: Vec<_> = (0..64).map(|n| format!("t{n}")).collect();
    let topics = topics.iter().map(String::as_str);
    let block: Vec<(&str, u64)> = topics.zip(1..).collect();
    for capacity in [1, 2, 3, 31, 63] {
        let bus = manual::<u64>();
        let mut sub = conflating(&bus, capacity);
        for round in 0..3 {
            in_one_block(&bus, &block);
            let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
                panic!("not all fit");
            };
            let (lost, first) = (64 - capacity as u64, 64 * round + 1);
            assert_eq!(
                (gap.first_id(), gap.last_id(), gap.count()),
                (first, first + lost - 1, lost)
            );
            for (topic, n) in &block[lost as usize..] {
                assert_eq!(next(&mut sub), ((*topic).into(), 64 * round + n, *n, 0));
            }
            assert!(matches!(sub.try_recv(), Err(TryRecvError::Empty)));
        }
        assert_eq!(sub.stats().high_water, capacity as u64);
    }
}

#[test]
fn a_kept_event_never_changes() {
    let bus = manual::<u64>();
    let mut sub = conflating(&bus, 8);
    each_in_own_block(&bus, &[("a", 1), ("a", 2), ("b", 3)]);
    let kept = sub.try_recv().expect("it waits").share();
    each_in_own_block(&bus, &[("a", 4), ("a", 5), ("a", 6)]);
    let later = [next(&mut sub), next(&mut sub)];
    assert_eq!(later, [("b".into(), 3, 3, 0), ("a".into(), 6, 6, 2)]);
    drop(sub);
    drop(bus);
    assert_eq!(fields(&kept), ("a".into(), 2, 2, 1));
    assert_eq!(fields(&kept.clone()), ("a".into(), 2, 2, 1));
    assert!(kept.created_at() <= std::time::SystemTime::now());
}

#[test]
fn after_a_close_the_latest_events_are_received() {
    let bus = manual::<u64>();
    let mut sub = conflating(&bus, 8);
    each_in_own_block(&bus, &[("a", 1), ("a", 2)]);
    bus.close();
    assert_eq!(next(&mut sub), ("a".into(), 2, 2, 1));
    assert_eq!(sub.recv().expect_err("closed"), RecvError::Closed);
}

#[test]
fn claimed_events_are_neither_replaced_nor_evicted() {
    let bus = manual::<u64>();
    let mut sub = conflating(&bus, 2);
    each_in_own_block(&bus, &[("a", 1), ("b", 2), ("c", 3)]);
    // The gap is reported, and the event behind it is claimed.
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("a did not fit");
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (1, 1, 1));
    each_in_own_block(&bus, &[("b", 4), ("b", 5), ("d", 6)]);
    assert_eq!(next(&mut sub), ("b".into(), 2, 2, 0));
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("c did not fit");
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (3, 3, 1));
    assert_eq!(next(&mut sub), ("b".into(), 5, 5, 1));
    assert_eq!(next(&mut sub), ("d".into(), 6, 6, 0));
}

/// The ids of a gap are the lowest and the highest lost id: events between them may have been
/// received.
#[test]
fn a_gap_has_the_lowest_and_the_highest_lost_id() {
    let bus = manual::<u64>();
    let mut sub = conflating(&bus, 3);
    each_in_own_block(&bus, &[("a", 1), ("b", 2), ("c", 3), ("a", 4)]);
    each_in_own_block(&bus, &[("d", 5), ("e", 6)]);
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("a and b did not fit");
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (2, 4, 2));
    assert_eq!(next(&mut sub), ("c".into(), 3, 3, 0));
    assert_eq!(sub.stats().superseded, 1, "what the lost one replaced");
}

#[test]
fn a_gap_is_reported_after_a_close_and_after_a_cancel() {
    for cancel in [false, true] {
        let bus = manual::<u64>();
        let mut sub = conflating(&bus, 1);
        each_in_own_block(&bus, &[("a", 1), ("b", 2)]);
        if cancel {
            assert!(sub.handle().cancel());
        } else {
            bus.close();
        }
        let Err(RecvError::Lost(gap)) = sub.recv() else {
            panic!("a did not fit");
        };
        assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (1, 1, 1));
        if !cancel {
            assert_eq!(next(&mut sub), ("b".into(), 2, 2, 0));
        }
        let ending = [RecvError::Closed, RecvError::Cancelled][usize::from(cancel)];
        assert_eq!(sub.recv().err(), Some(ending));
        assert_eq!(sub.recv().err(), Some(ending));
    }
}

// ---- ways to receive ----------------------------------------------------------------------------

const STORY: [(&str, u64); 7] = [
    ("a", 1),
    ("b", 2),
    ("a", 3),
    ("a", 4),
    ("c", 5),
    ("b", 6),
    ("a", 7),
];

fn expected_events() -> [(String, u64, u64, u64); 3] {
    [
        ("a".into(), 7, 7, 3),
        ("b".into(), 6, 6, 1),
        ("c".into(), 5, 5, 0),
    ]
}

#[test]
fn every_receive_method_returns_the_same_events() {
    for publish in [each_in_own_block, in_one_block] {
        for way in 0..6 {
            let bus = manual::<u64>();
            let mut sub = conflating(&bus, 8);
            publish(&bus, &STORY);
            bus.close();
            let mut seen = Vec::new();
            match way {
                0 => seen.extend(sub.iter().map(|event| fields(&event.expect("no gap")))),
                1 => {
                    while let Ok(batch) = sub.next_batch() {
                        assert_eq!(batch.len(), 1, "each in its own block");
                        seen.extend(batch.iter().map(fields));
                    }
                }
                2 => {
                    let ending =
                        sub.for_each(|event| seen.push(fields(event)), |gap| panic!("{gap}"));
                    assert_eq!(ending, fanout::Ending::Closed);
                }
                3 => block_on(async {
                    while let Ok(event) = sub.recv_async().await {
                        seen.push(fields(event));
                    }
                }),
                4 => block_on(async {
                    let mut stream = sub.into_stream();
                    while let Some(event) = stream.next().await {
                        seen.push(fields(&event.expect("no gap")));
                    }
                }),
                _ => block_on(async {
                    let mut stream = sub.into_batch_stream();
                    while let Some(batch) = stream.next().await {
                        let kept: Vec<_> = batch.expect("no gap").into_iter().collect();
                        seen.extend(kept.iter().map(|event| fields(event)));
                    }
                }),
            }
            assert_eq!(seen, expected_events(), "way {way}");
        }
    }
}

/// A dropped future loses no event, and later events replace the event that it would have returned.
#[test]
fn a_dropped_future_loses_nothing() {
    let bus = manual::<u64>();
    let mut sub = conflating(&bus, 8);
    for round in 1..=10 {
        let mut future = Box::pin(sub.recv_async());
        assert!(now_or_never(future.as_mut()).is_none());
        in_one_block(&bus, &[("a", 1), ("b", 2)]);
        drop(future);
        in_one_block(&bus, &[("a", 3)]);
        let id = 3 * round;
        assert_eq!(next(&mut sub), ("a".into(), id, 3, 1));
        assert_eq!(next(&mut sub), ("b".into(), id - 1, 2, 0));
    }
    let mut stream = pin!(sub.into_stream());
    assert!(now_or_never(stream.next()).is_none());
    each_in_own_block(&bus, &[("a", 1), ("a", 2)]);
    let event = now_or_never(stream.next()).flatten().expect("something");
    assert_eq!(fields(&event.expect("no gap")), ("a".into(), 32, 2, 1));
}

/// One handler is busy with the first event, another one keeps up: each has its own replaced
/// events.
#[test]
fn handlers_see_what_was_superseded() {
    ends("handlers", || {
        for mode in MODES {
            let bus = Bus::<u64>::builder().dispatch(mode).build().expect("a bus");
            let log = Arc::new(Mutex::new(Vec::new()));
            let gate = Arc::new(Mutex::new(()));
            let begun = Arc::new(AtomicUsize::new(0));
            let handle = {
                let (log, gate) = (log.clone(), gate.clone());
                let begun = begun.clone();
                let builder = bus.subscription("**").overflow(Overflow::Conflate);
                builder.handler(move |event| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let _open = gate.lock().expect("not poisoned");
                    log.lock().expect("not poisoned").push(fields(event));
                })
            };
            let handle = handle.expect("open");
            let published = if mode == Dispatch::Manual {
                // The handler runs only in `drive`, so all events are published before.
                in_one_block(&bus, &STORY);
                7
            } else {
                let closed = gate.lock().expect("not poisoned");
                bus.publish("first", 0).expect("open");
                eventually("it is being handled", || begun.load(Ordering::SeqCst) == 1);
                for (topic, value) in STORY {
                    bus.publish(topic, value).expect("open");
                }
                eventually("all events are matched", || handle.stats().matched == 8);
                eventually("four events are superseded", || {
                    handle.stats().superseded == 4
                });
                drop(closed);
                8
            };
            assert!(bus.flush_within(FOR_EVER));
            let log = log.lock().expect("not poisoned");
            let seen: Vec<_> = log.iter().rev().take(3).rev().cloned().collect();
            let shift = published - 7;
            let expected = expected_events()
                .map(|(topic, id, data, superseded)| (topic, id + shift, data, superseded));
            assert_eq!(seen, expected, "{mode:?}");
            let stats = handle.stats();
            assert_eq!(
                (stats.matched, stats.received, stats.superseded, stats.lost),
                (published, published - 4, 4, 0)
            );
            assert_eq!((stats.unread, stats.pinned_bytes, stats.lag), (0, 0, 0));
        }
    });
}

/// A handler whose capacity is less than the number of topics: a flush waits for the events that
/// are left, not for the lost ones.
#[test]
fn a_flush_does_not_wait_for_evicted_events() {
    ends("a flush", || {
        for mode in MODES {
            let bus = Bus::<u64>::builder().dispatch(mode).build().expect("a bus");
            let calls = Arc::new(AtomicUsize::new(0));
            let handle = {
                let calls = calls.clone();
                let builder = bus.subscription("**").overflow(Overflow::Conflate);
                builder.capacity(2).handler(move |_| {
                    calls.fetch_add(1, Ordering::Relaxed);
                })
            };
            let handle = handle.expect("open");
            for n in 0..1000 {
                bus.publish(format!("t.{}", n % 7), n).expect("open");
                if n % 100 == 0 {
                    assert!(bus.flush_within(FOR_EVER));
                }
            }
            assert!(bus.flush_within(FOR_EVER));
            let stats = handle.stats();
            assert_eq!(stats.received + stats.lost + stats.superseded, 1000);
            assert_eq!(calls.load(Ordering::Relaxed) as u64, stats.received);
            assert_eq!(stats.unread, 0, "{mode:?}");
        }
    });
}

/// Each subscriber has its own replaced events, independent of the other subscribers.
#[test]
fn two_subscribers_with_different_speeds() {
    let bus = manual::<u64>();
    let (mut fast, mut slow) = (conflating(&bus, 8), conflating(&bus, 8));
    let mut all = bus.subscribe("**").expect("open");
    let events = [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5), ("a", 6)];
    for (n, event) in events.iter().enumerate() {
        each_in_own_block(&bus, &[*event]);
        let id = n as u64 + 1;
        assert_eq!(next(&mut fast), (event.0.into(), id, event.1, 0));
        let here = all.try_recv().expect("it came");
        assert_eq!((here.id(), here.superseded()), (id, 0));
    }
    assert_eq!(next(&mut slow), ("a".into(), 6, 6, 3));
    assert_eq!(next(&mut slow), ("b".into(), 5, 5, 1));
    let superseded = [fast, slow].map(|sub| sub.stats().superseded);
    assert_eq!((superseded, bus.stats().superseded), ([0, 4], 4));
}

// ---- published events --------------------------------------------------------------------------

/// Events with different names and sources have the same topic. The event that is kept has its own
/// name and source.
#[test]
fn name_and_source_do_not_make_another_topic() {
    for at_once in [false, true] {
        let bus = manual::<u64>();
        let mut sub = conflating(&bus, 8);
        let sources = ["left", "right", "left"];
        for (n, source) in (1..).zip(sources) {
            let message = Message::new("a", n).source(source);
            let message = if n == 2 {
                message.name("Second")
            } else {
                message
            };
            bus.send(message).expect("open");
            if !at_once {
                bus.drive();
            }
        }
        bus.drive();
        let event = sub.try_recv().expect("it waits");
        assert_eq!(fields(event), ("a".into(), 3, 3, 2));
        assert_eq!((event.name(), event.source()), (None, Some("left")));
        let text = format!("{event:?}");
        assert!(text.contains("data: 3") && text.contains("left"), "{text}");
        assert!(matches!(sub.try_recv(), Err(TryRecvError::Empty)));
    }
}

#[test]
fn payloads_of_every_kind() {
    /// Large, aligned, and different for each event.
    #[repr(align(128))]
    #[derive(Clone, Debug, PartialEq)]
    struct Large([u64; 1000]);

    fn check<T: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static>(
        make: impl Fn(u64) -> T,
    ) {
        let bus = Bus::<T>::builder().dispatch(Dispatch::Manual).build();
        let bus = bus.expect("a bus");
        let builder = bus.subscription("**").overflow(Overflow::Conflate);
        let mut sub = builder.open().expect("open");
        let mut kept = Vec::new();
        for n in 1..=300 {
            let topic = ["a", "b", "c"][n as usize % 3];
            bus.publish(topic, make(n)).expect("open");
            if n % 50 == 0 {
                bus.drive();
            }
            if n % 100 == 0 {
                for _ in 0..3 {
                    let event = sub.try_recv().expect("it waits");
                    assert_eq!(*event.data(), make(event.id()));
                    assert!(event.superseded() >= 32);
                    kept.push(event.share());
                }
                assert!(matches!(sub.try_recv(), Err(TryRecvError::Empty)));
            }
        }
        drop((sub, bus));
        let superseded: u64 = kept.iter().map(|event| event.superseded()).sum();
        assert_eq!(superseded + kept.len() as u64, 300);
        for event in kept {
            assert_eq!(*event.data(), make(event.id()));
        }
    }

    check(|n| Bytes::from(vec![n as u8; 1000]));
    check(|n| Large([n; 1000]));
    check(|n| n.to_string());
    check(|_| ());
    check(|n| n as u8);
}

/// Every payload is dropped once, on whichever thread.
#[test]
fn payloads_are_dropped_once() {
    for end in 0..4 {
        let drops = Arc::new(AtomicUsize::new(0));
        let bus = Bus::<OnDrop>::builder().dispatch(Dispatch::Manual).build();
        let bus = bus.expect("a bus");
        let builder = bus.subscription("**").overflow(Overflow::Conflate);
        let mut sub = builder.capacity(3).open().expect("open");
        for n in 0..200 {
            let topic = ["a", "b", "c", "d"][n * n % 4];
            bus.publish(topic, OnDrop::counts(&drops)).expect("open");
            if n % 7 == 0 {
                bus.drive();
            }
            if n % 40 == 0 {
                let _ = sub.try_recv();
            }
        }
        bus.drive();
        let kept = std::iter::from_fn(|| match sub.try_recv() {
            Ok(event) => Some(event.share()),
            Err(TryRecvError::Lost(_)) => sub.try_recv().ok().map(Event::share),
            Err(_) => None,
        });
        let kept = kept.take(end % 3).collect::<Vec<_>>();
        if end % 2 == 0 {
            drop(sub);
            drop(bus);
        } else {
            drop(bus);
            drop(sub);
        }
        if kept.is_empty() {
            assert_eq!(drops.load(Ordering::SeqCst), 200);
        }
        drop(kept);
        assert_eq!(drops.load(Ordering::SeqCst), 200);
    }
}

/// The dispatcher drops a replaced event: a panic of the payload's drop is contained there.
#[test]
fn a_payload_whose_drop_panics_affects_no_other_event() {
    let bus = Bus::<OnDrop>::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("a bus");
    let builder = bus.subscription("**").overflow(Overflow::Conflate);
    let mut sub = builder.capacity(2).open().expect("open");
    for topic in ["a", "a", "b", "c", "d", "a", "a"] {
        bus.publish(topic, OnDrop::panics()).expect("open");
        bus.drive();
    }
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("two topics did not fit");
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (2, 4, 3));
    for id in [5, 7] {
        assert_eq!(sub.try_recv().expect("it waits").id(), id);
    }
    assert!(matches!(sub.try_recv(), Err(TryRecvError::Empty)));
    let stats = sub.stats();
    assert_eq!((stats.matched, stats.received), (7, 2));
    assert_eq!((stats.lost, stats.superseded), (3, 2));
}

// ---- bounds -------------------------------------------------------------------------------------

/// A bus whose payloads are their own weights.
fn weighing() -> Bus<u64> {
    let builder = Bus::builder().dispatch(Dispatch::Manual);
    builder.weigh(|n| *n as usize).build().expect("a bus")
}

const KIB: u64 = 1 << 10;

/// One large block enters an empty ring as a whole, and is evicted when another event arrives.
#[test]
fn a_block_heavier_than_the_bound_enters_an_empty_ring() {
    for pin_bytes in [1, 1000 * KIB as usize] {
        let bus = weighing();
        let builder = bus.subscription("**").overflow(Overflow::Conflate);
        let mut sub = builder.pin_bytes(pin_bytes).open().expect("open");
        let heavy = 800 * KIB;
        let block = [("a", heavy), ("b", heavy), ("c", heavy), ("b", heavy)];
        in_one_block(&bus, &block);
        let stats = sub.stats();
        assert_eq!((stats.depth, stats.lost, stats.superseded), (3, 0, 1));
        assert!(stats.pinned_bytes > 4 * heavy);
        let ids: Vec<_> = (0..3).map(|_| next(&mut sub).1).collect();
        assert_eq!(ids, [1, 4, 3]);
        assert_eq!(sub.stats().pinned_bytes, 0);

        // The oldest events are lost first, also those behind a topic whose event was replaced.
        in_one_block(&bus, &[("a", KIB), ("b", KIB)]);
        in_one_block(&bus, &[("a", heavy), ("c", heavy), ("d", heavy)]);
        let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
            panic!("both blocks do not fit");
        };
        assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (6, 7, 2));
        assert_eq!((next(&mut sub).1, next(&mut sub).1), (8, 9));
        let stats = sub.stats();
        assert_eq!((stats.lost, stats.superseded, stats.unread), (2, 2, 0));
        assert_eq!((stats.pinned_bytes, stats.depth), (0, 0));
    }
}

#[test]
fn beyond_the_bound_in_bytes_the_oldest_are_lost() {
    let bus = weighing();
    let builder = bus.subscription("**").overflow(Overflow::Conflate);
    let mut sub = builder.pin_bytes(100 * KIB as usize).open().expect("open");
    let topics = ["a", "b", "c", "d", "e"];
    for topic in topics {
        each_in_own_block(&bus, &[(topic, 30 * KIB)]);
        let stats = sub.stats();
        assert!(stats.pinned_bytes <= 100 * KIB, "{stats:?}");
    }
    // An event that replaces another one releases the bytes that the other one pinned.
    for _ in 0..100 {
        each_in_own_block(&bus, &[("d", 30 * KIB)]);
    }
    let stats = sub.stats();
    assert_eq!((stats.depth, stats.lost, stats.superseded), (3, 2, 100));
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("five do not fit");
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (1, 2, 2));
    let seen: Vec<_> = (0..3)
        .map(|_| next(&mut sub))
        .map(|seen| (seen.1, seen.3))
        .collect();
    assert_eq!(seen, [(3, 0), (105, 100), (5, 0)]);
    assert_eq!(sub.stats().pinned_bytes, 0);
}

/// A block counts once and as a whole, until the last of its events was replaced, read or lost.
#[test]
fn a_block_counts_once_until_its_last_event_is_released() {
    let bus = weighing();
    let mut sub = conflating_all(&bus);
    in_one_block(&bus, &[("a", KIB), ("b", KIB), ("c", KIB)]);
    let whole = sub.stats().pinned_bytes;
    assert!(whole > 3 * KIB);
    next(&mut sub);
    assert_eq!(sub.stats().pinned_bytes, whole);
    each_in_own_block(&bus, &[("b", KIB)]);
    let both = sub.stats().pinned_bytes;
    assert!(both > whole + KIB);
    each_in_own_block(&bus, &[("c", KIB)]);
    let lone = both - whole;
    assert_eq!(sub.stats().pinned_bytes, 2 * lone);
    next(&mut sub);
    assert_eq!(sub.stats().pinned_bytes, lone);
    let kept = sub.try_recv().expect("c").share();
    assert_eq!(
        sub.stats().pinned_bytes,
        0,
        "what is claimed does not count"
    );
    drop(kept);
}

fn conflating_all(bus: &Bus<u64>) -> Subscriber<u64> {
    let builder = bus.subscription("**").overflow(Overflow::Conflate);
    builder.open().expect("open")
}

#[test]
fn weights_near_the_largest_integer_do_not_overflow() {
    for pin_bytes in [1, 10_000_000, usize::MAX] {
        for capacity in [1, 2, 1000] {
            let bus = weighing();
            let builder = bus.subscription("**").overflow(Overflow::Conflate);
            let builder = builder.pin_bytes(pin_bytes).capacity(capacity);
            let mut sub = builder.open().expect("open");
            for round in 0..10 {
                each_in_own_block(&bus, &[("a", 1), ("b", 2)]);
                in_one_block(&bus, &[("a", u64::MAX), ("b", u64::MAX)]);
                each_in_own_block(&bus, &[("a", u64::MAX), ("b", u64::MAX), ("c", 1 << 63)]);
                let stats = sub.stats();
                assert!(
                    stats.pinned_bytes >= pin_bytes.min(1 << 40) as u64,
                    "{stats:?}"
                );
                if pin_bytes == usize::MAX && capacity > 2 {
                    assert_eq!(stats.lost, 0);
                } else if pin_bytes != usize::MAX {
                    assert_eq!(stats.depth, 1, "the last, alone");
                }
                if round % 2 == 1 {
                    while !matches!(sub.try_recv(), Err(TryRecvError::Empty)) {}
                    assert_eq!(sub.stats().pinned_bytes, 0);
                }
            }
            let stats = sub.stats();
            assert_eq!(
                stats.received + stats.lost + stats.superseded,
                stats.matched
            );
        }
    }
}

// ---- changes and ends ---------------------------------------------------------------------------

#[test]
fn overlapping_patterns_are_added_and_removed() {
    let bus = manual::<u64>();
    let builder = bus.subscription(["a.*", "*.x", "**"]);
    let mut sub = builder.overflow(Overflow::Conflate).open().expect("open");
    in_one_block(&bus, &[("a.x", 1), ("a.x", 2), ("b", 3)]);
    assert_eq!(
        next(&mut sub),
        ("a.x".into(), 2, 2, 1),
        "once, however many match"
    );
    let handle = sub.handle();
    handle.remove("**").expect("it is there");
    in_one_block(&bus, &[("b", 4), ("a.y", 5)]);
    assert_eq!(next(&mut sub), ("b".into(), 3, 3, 0), "it waited already");
    handle.remove("a.*").expect("it is there");
    handle.add("b").expect("open");
    in_one_block(&bus, &[("a.y", 6), ("a.x", 7), ("b", 8)]);
    assert_eq!(next(&mut sub), ("a.y".into(), 5, 5, 0));
    assert_eq!(next(&mut sub), ("a.x".into(), 7, 7, 0));
    assert_eq!(next(&mut sub), ("b".into(), 8, 8, 0));
    assert!(matches!(sub.try_recv(), Err(TryRecvError::Empty)));
    assert_eq!((sub.stats().matched, sub.stats().superseded), (6, 1));
}

/// A loss just before a cancel is reported once. Waiting events are dropped, and count as unread.
#[test]
fn a_cancel_reports_the_gap_and_drops_waiting_events() {
    let bus = manual::<u64>();
    let mut sub = conflating(&bus, 2);
    let handle = sub.handle();
    each_in_own_block(
        &bus,
        &[("a", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5), ("d", 6)],
    );
    assert!(handle.cancel());
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("two topics did not fit");
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (2, 3, 2));
    for _ in 0..3 {
        assert!(matches!(sub.try_recv(), Err(TryRecvError::Cancelled)));
    }
    each_in_own_block(&bus, &[("a", 7)]);
    drop(sub);
    bus.drive();
    let stats = handle.stats();
    assert_eq!((stats.matched, stats.received, stats.lost), (6, 0, 2));
    assert_eq!((stats.superseded, stats.unread), (2, 2));
    assert_eq!((stats.depth, stats.pinned_bytes), (0, 0));
    assert_eq!(stats.last_id, Some(6));
    let sums = bus.stats();
    assert_eq!((sums.matched, sums.received, sums.lost), (6, 0, 2));
    assert_eq!(
        (sums.superseded, sums.unread),
        (2, 2),
        "also after the subscriber was dropped"
    );
}

/// An event that a program keeps from a shadow outlives the subscription, the bus and all later
/// events.
#[test]
fn a_kept_event_outlives_the_bus_and_the_subscriber() {
    let drops = Arc::new(AtomicUsize::new(0));
    let bus = Bus::<OnDrop>::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("a bus");
    let builder = bus.subscription("**").overflow(Overflow::Conflate);
    let mut sub = builder.open().expect("open");
    let mut kept = Vec::new();
    for n in 0..50 {
        for topic in ["a", "a", "b"] {
            bus.publish(topic, OnDrop::counts(&drops)).expect("open");
        }
        bus.drive();
        if n % 10 == 0 {
            kept.push(sub.try_recv().expect("it waits").share());
        }
    }
    drop(sub);
    bus.close();
    drop(bus);
    assert_eq!(
        drops.load(Ordering::SeqCst),
        150 - 5 * 3,
        "only the kept payloads live"
    );
    let ids: Vec<_> = kept
        .iter()
        .map(|event| (event.id(), event.superseded()))
        .collect();
    assert_eq!(ids[0], (2, 1));
    let freeing = thread::spawn(move || drop(kept));
    freeing.join().expect("it does not panic");
    assert_eq!(drops.load(Ordering::SeqCst), 150);
}

#[cfg(feature = "latency")]
#[test]
fn only_received_events_have_a_sampled_latency() {
    for publish in [each_in_own_block, in_one_block] {
        let builder = Bus::<u64>::builder().dispatch(Dispatch::Manual);
        let bus = builder.sample_latency(1).build().expect("a bus");
        let mut sub = conflating_all(&bus);
        publish(&bus, &STORY);
        assert_eq!(sub.latency().count, 0);
        for received in 1..=3 {
            next(&mut sub);
            assert_eq!(sub.latency().count, received);
        }
        let latency = sub.latency();
        assert_eq!((latency.count, latency.missed), (3, 0));
        assert!(latency.min > std::time::Duration::ZERO && latency.max >= latency.min);
    }
}

// ---- threads ------------------------------------------------------------------------------------

/// Publishers, and a reader that is sometimes fast and sometimes slow: ids rise for each topic, no
/// event is received twice, and the counters and `superseded` account for every event.
#[test]
fn the_delivery_law_holds_under_concurrency() {
    const TOPICS: u64 = 6;
    ends("the delivery law", || {
        for (mode, capacity) in [
            (Dispatch::Pool, 256),
            (Dispatch::Pool, 3),
            (Dispatch::Inline, 256),
            (Dispatch::Inline, 3),
        ] {
            let events: u64 = if cfg!(debug_assertions) {
                20_000
            } else {
                200_000
            };
            let bus = Bus::<u64>::builder().dispatch(mode).build().expect("a bus");
            let mut sub = conflating(&bus, capacity);
            let publishing: Vec<_> = (0..2_u64)
                .map(|who| {
                    let mut lane = bus.publisher();
                    thread::spawn(move || {
                        for n in 0..events {
                            let topic = format!("t.{}", n * n % TOPICS);
                            lane.publish(topic, 2 * n + who).expect("open");
                            if n % 1000 == 0 {
                                yield_for_a_while();
                            }
                        }
                    })
                })
                .collect();
            drop(bus);
            let mut last = BTreeMap::new();
            let (mut received, mut superseded, mut lost) = (0, 0, 0);
            let ending = loop {
                match sub.recv() {
                    Ok(event) => {
                        let before = last.insert(event.topic().to_string(), event.id());
                        assert!(before.unwrap_or(0) + event.superseded() < event.id());
                        received += 1;
                        superseded += event.superseded();
                        if received % 1000 == 0 {
                            yield_for_a_while();
                        }
                    }
                    Err(RecvError::Lost(gap)) => lost += gap.count(),
                    Err(ending) => break ending,
                }
                let stats = sub.stats();
                assert!(stats.received + stats.lost + stats.superseded <= stats.matched);
                assert!(stats.depth <= capacity as u64, "{stats:?}");
                assert!(stats.pinned_bytes < 1 << 30, "{stats:?}");
            };
            assert_eq!(ending, RecvError::Closed);
            publishing.into_iter().for_each(|p| p.join().expect("ends"));
            let stats = sub.stats();
            assert_eq!((stats.matched, stats.unread, stats.lag), (2 * events, 0, 0));
            assert_eq!((stats.received, stats.lost), (received, lost));
            assert_eq!(received + lost + stats.superseded, 2 * events);
            // Lost events had replaced others, too, which no received event counts.
            assert!(superseded <= stats.superseded && (lost > 0 || superseded == stats.superseded));
            assert_eq!((stats.depth, stats.pinned_bytes), (0, 0));
            assert!(stats.high_water <= capacity as u64);
        }
    });
}

/// The subscription is cancelled or dropped while events flow: every payload is dropped once, and
/// no bytes stay pinned.
#[test]
fn the_subscription_ends_while_events_flow() {
    ends("ends in full flow", || {
        for round in 0..40 {
            let drops = Arc::new(AtomicUsize::new(0));
            let bus = Bus::<OnDrop>::builder().dispatch(Dispatch::Pool).build();
            let bus = bus.expect("a bus");
            let builder = bus.subscription("**").overflow(Overflow::Conflate);
            let mut sub = builder.capacity(2).open().expect("open");
            let publishing = {
                let (mut lane, drops) = (bus.publisher(), drops.clone());
                thread::spawn(move || {
                    for n in 0..2000 {
                        let topic = ["a", "b", "c", "d", "e"][n % 5];
                        lane.publish(topic, OnDrop::counts(&drops)).expect("open");
                    }
                })
            };
            let (mut received, mut superseded, mut told_lost) = (0, 0, 0);
            for _ in 0..round * 10 {
                match sub.try_recv() {
                    Ok(event) => {
                        received += 1;
                        superseded += event.superseded();
                    }
                    Err(TryRecvError::Lost(gap)) => told_lost += gap.count(),
                    Err(other) => assert_eq!(other, TryRecvError::Empty),
                }
            }
            let handle = sub.handle();
            if round % 2 == 0 {
                handle.cancel();
                while let Err(RecvError::Lost(gap)) = sub.recv() {
                    told_lost += gap.count();
                }
            }
            drop(sub);
            publishing.join().expect("ends");
            assert!(bus.flush_within(FOR_EVER));
            let stats = handle.stats();
            assert_eq!(stats.received, received);
            assert!(stats.superseded >= superseded && stats.lost >= told_lost);
            let seen = stats.received + stats.lost + stats.superseded + stats.unread;
            assert_eq!((seen, stats.pinned_bytes), (stats.matched, 0));
            drop(bus);
            eventually("all are dropped", || drops.load(Ordering::SeqCst) == 2000);
        }
    });
}
