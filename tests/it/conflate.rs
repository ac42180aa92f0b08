//! `Overflow::Conflate`: each topic once, in its latest state.

use fanout::{Bus, Dispatch, Ending, Event, Notice, Overflow, RecvError, Subscriber, TryRecvError};
use smol::stream::StreamExt;
use std::sync::mpsc;

use crate::support::{FOR_EVER, ends, eventually};
use crate::tasks::block_on;

fn bus() -> Bus<u64> {
    Bus::builder()
        .dispatch(Dispatch::Manual)
        .build()
        .expect("a bus")
}

fn conflating(bus: &Bus<u64>, capacity: usize) -> Subscriber<u64> {
    let builder = bus.subscription("**").capacity(capacity);
    builder.overflow(Overflow::Conflate).open().expect("open")
}

/// Publishes, each in a block of its own.
fn one_by_one(bus: &Bus<u64>, events: &[(&str, u64)]) {
    for (topic, value) in events {
        bus.publish(*topic, *value).expect("open");
        bus.drive();
    }
}

fn at_once(bus: &Bus<u64>, events: &[(&str, u64)]) {
    for (topic, value) in events {
        bus.publish(*topic, *value).expect("open");
    }
    bus.drive();
}

fn said(event: &Event<u64>) -> (String, u64, u64, u64) {
    (
        event.topic().to_string(),
        event.id(),
        *event.data(),
        event.superseded(),
    )
}

fn next(sub: &mut Subscriber<u64>) -> (String, u64, u64, u64) {
    said(sub.try_recv().expect("something waits"))
}

#[test]
fn a_topic_keeps_its_place_and_its_event_is_replaced() {
    for publish in [one_by_one, at_once] {
        let bus = bus();
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
fn beyond_its_topics_the_oldest_is_lost_with_a_gap() {
    for publish in [one_by_one, at_once] {
        let bus = bus();
        let mut sub = conflating(&bus, 2);
        publish(&bus, &[("a", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5)]);
        let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
            panic!("two topics did not fit");
        };
        assert_eq!((gap.from(), gap.to(), gap.count()), (2, 3, 2));
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

/// In one block: each topic that comes takes the room of one that came before it.
#[test]
fn a_block_may_have_more_topics_than_the_capacity() {
    let topics: Vec<_> = (0..64).map(|n| format!("t{n}")).collect();
    let topics = topics.iter().map(String::as_str);
    let block: Vec<(&str, u64)> = topics.zip(1..).collect();
    for capacity in [1, 2, 3, 31, 63] {
        let bus = bus();
        let mut sub = conflating(&bus, capacity);
        for round in 0..3 {
            at_once(&bus, &block);
            let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
                panic!("not all fit");
            };
            let (lost, first) = (64 - capacity as u64, 64 * round + 1);
            assert_eq!(
                (gap.from(), gap.to(), gap.count()),
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
fn what_is_kept_says_the_same_for_ever() {
    let bus = bus();
    let mut sub = conflating(&bus, 8);
    one_by_one(&bus, &[("a", 1), ("a", 2), ("b", 3)]);
    let kept = sub.try_recv().expect("it waits").share();
    one_by_one(&bus, &[("a", 4), ("a", 5), ("a", 6)]);
    let later = [next(&mut sub), next(&mut sub)];
    assert_eq!(later, [("b".into(), 3, 3, 0), ("a".into(), 6, 6, 2)]);
    drop(sub);
    drop(bus);
    assert_eq!(said(&kept), ("a".into(), 2, 2, 1));
    assert_eq!(said(&kept.clone()), ("a".into(), 2, 2, 1));
    assert!(kept.created_at() <= std::time::SystemTime::now());
}

#[test]
fn a_close_leaves_the_latest_to_be_read() {
    let bus = bus();
    let mut sub = conflating(&bus, 8);
    one_by_one(&bus, &[("a", 1), ("a", 2)]);
    bus.close();
    assert_eq!(next(&mut sub), ("a".into(), 2, 2, 1));
    assert_eq!(sub.recv().expect_err("closed"), RecvError::Closed);
}

/// An event is read as long as its topic waits; from when it was begun to be read, its topic waits anew.
#[test]
fn what_is_claimed_is_neither_replaced_nor_evicted() {
    let bus = bus();
    let mut sub = conflating(&bus, 2);
    one_by_one(&bus, &[("a", 1), ("b", 2), ("c", 3)]);
    // The gap is told, and the event behind it is claimed.
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("a did not fit");
    };
    assert_eq!((gap.from(), gap.to(), gap.count()), (1, 1, 1));
    one_by_one(&bus, &[("b", 4), ("b", 5), ("d", 6)]);
    assert_eq!(next(&mut sub), ("b".into(), 2, 2, 0));
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("c did not fit");
    };
    assert_eq!((gap.from(), gap.to(), gap.count()), (3, 3, 1));
    assert_eq!(next(&mut sub), ("b".into(), 5, 5, 1));
    assert_eq!(next(&mut sub), ("d".into(), 6, 6, 0));
}

/// The ids of a gap are the lowest and the highest lost: what lies between may have been received.
#[test]
fn a_gap_names_the_lowest_and_the_highest() {
    let bus = bus();
    let mut sub = conflating(&bus, 3);
    one_by_one(&bus, &[("a", 1), ("b", 2), ("c", 3), ("a", 4)]);
    one_by_one(&bus, &[("d", 5), ("e", 6)]);
    let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
        panic!("a and b did not fit");
    };
    assert_eq!((gap.from(), gap.to(), gap.count()), (2, 4, 2));
    assert_eq!(next(&mut sub), ("c".into(), 3, 3, 0));
    assert_eq!(sub.stats().superseded, 1, "what the lost one replaced");
}

#[test]
fn a_gap_is_told_after_a_close_and_where_it_is_cancelled() {
    for cancel in [false, true] {
        let bus = bus();
        let mut sub = conflating(&bus, 1);
        one_by_one(&bus, &[("a", 1), ("b", 2)]);
        if cancel {
            assert!(sub.handle().cancel());
        } else {
            bus.close();
        }
        let Err(RecvError::Lost(gap)) = sub.recv() else {
            panic!("a did not fit");
        };
        assert_eq!((gap.from(), gap.to(), gap.count()), (1, 1, 1));
        if !cancel {
            assert_eq!(next(&mut sub), ("b".into(), 2, 2, 0));
        }
        let ending = [RecvError::Closed, RecvError::Cancelled][usize::from(cancel)];
        assert_eq!(sub.recv().err(), Some(ending));
        assert_eq!(sub.recv().err(), Some(ending));
    }
}

/// Every block of which something waits counts, whole; the oldest topics go until the rest fits, or one is left.
#[test]
fn the_oldest_go_for_the_sake_of_bytes() {
    const WEIGHT: usize = 100_000;
    for (fit, pin_bytes) in [(1, 1), (1, WEIGHT), (2, 2 * WEIGHT + WEIGHT / 2)] {
        let bus = Bus::builder().dispatch(Dispatch::Manual).weigh(|_| WEIGHT);
        let bus = bus.pin_bytes(pin_bytes).build().expect("in range");
        let mut sub = conflating(&bus, 100);
        one_by_one(&bus, &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        let Err(TryRecvError::Lost(gap)) = sub.try_recv() else {
            panic!("not all fit");
        };
        assert_eq!((gap.from(), gap.to(), gap.count()), (1, 4 - fit, 4 - fit));
        let rest = [("c", 3), ("d", 4)];
        for (topic, n) in &rest[2 - fit as usize..] {
            assert_eq!(next(&mut sub), ((*topic).into(), *n, *n, 0));
        }
        // What is replaced pins nothing.
        one_by_one(&bus, &[("a", 5), ("a", 6), ("a", 7)]);
        assert_eq!(next(&mut sub), ("a".into(), 7, 7, 2));
        assert_eq!(sub.stats().pinned_bytes, 0);
    }
}

#[test]
fn iterators_streams_and_batches_say_what_was_superseded() {
    let overrun = || {
        let bus = bus();
        let sub = conflating(&bus, 2);
        one_by_one(&bus, &[("a", 1), ("b", 2), ("b", 3), ("c", 4), ("c", 5)]);
        sub
    };
    let expected = [Err(1), Ok((3, 1)), Ok((5, 1))];
    let say = |event: &Event<u64>| (event.id(), event.superseded());

    let mut told = Vec::new();
    let told_to = std::cell::RefCell::new(&mut told);
    let ending = overrun().for_each(
        |event| told_to.borrow_mut().push(Ok(say(event))),
        |gap| told_to.borrow_mut().push(Err(gap.count())),
    );
    assert_eq!(ending, Ending::Closed);
    assert_eq!(told, expected);

    let items = overrun().iter().collect::<Vec<_>>().into_iter();
    let told = items.map(|item| item.map(|event| say(&event)).map_err(|gap| gap.count()));
    assert_eq!(told.collect::<Vec<_>>(), expected);

    let stream = overrun().into_stream();
    let told = stream.map(|item| item.map(|event| say(&event)).map_err(|gap| gap.count()));
    assert_eq!(block_on(told.collect::<Vec<_>>()), expected);

    let stream = overrun().into_batch_stream();
    let told = stream.map(|item| {
        item.map(|batch| say(batch.iter().next().expect("one")))
            .map_err(|gap| gap.count())
    });
    assert_eq!(block_on(told.collect::<Vec<_>>()), expected);
}

/// It sleeps through a burst, and wakes to the latest of what is left; its observer is told of what is not.
#[test]
fn a_handler_that_falls_behind_handles_the_latest() {
    for mode in [Dispatch::Pool, Dispatch::Inline] {
        ends(&format!("{mode:?}"), move || {
            let (notices, told) = mpsc::channel();
            let bus = Bus::<u64>::builder()
                .dispatch(mode)
                .observer(move |notice| {
                    if let Notice::Lost { gap, .. } = *notice {
                        let _ = notices.send(gap);
                    }
                });
            let bus = bus.build().expect("in range");
            let (release, gate) = mpsc::channel::<()>();
            let (sender, handled) = mpsc::channel();
            let handle = bus
                .subscription("*.**")
                .capacity(2)
                .overflow(Overflow::Conflate)
                .handler(move |event: &Event<u64>| {
                    let _ = sender.send((event.id(), event.superseded()));
                    let _ = gate.recv();
                })
                .expect("open");
            bus.publish("a", 1).expect("open");
            assert_eq!(handled.recv_timeout(FOR_EVER), Ok((1, 0)));
            for topic in ["a", "b", "a", "c", "c", "b", "c"] {
                bus.publish(topic, 0).expect("open");
            }
            eventually("one is lost", || {
                let stats = handle.stats();
                (stats.lost, stats.superseded) == (1, 4)
            });
            drop(release);
            assert!(
                bus.flush_within(FOR_EVER),
                "nobody waits for what is not there"
            );
            assert_eq!(handled.try_iter().collect::<Vec<_>>(), [(7, 1), (8, 2)]);
            let gap = told.try_recv().expect("told");
            assert_eq!((gap.from(), gap.to(), gap.count()), (4, 4, 1));
            assert!(told.try_recv().is_err(), "once");
            assert!(bus.close_within(FOR_EVER).in_time);
        });
    }
}
