//! `Overflow::Conflate`: each topic once, in its latest state.

use fanout::{Bus, Dispatch, Event, Overflow, RecvError, Subscriber, TryRecvError};

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
