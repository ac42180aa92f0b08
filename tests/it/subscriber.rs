//! The other methods of a subscriber: owned items, `len`, `bus` and `resubscribe`.

use fanout::{
    Bus, Ending, Gap, GapReason, Overflow, Pattern, RecvError, SharedEvent, SubscribeError,
    Subscriber, Topic, WaitStrategy,
};
use std::collections::{BTreeSet, HashSet};
use std::thread;
use std::time::Duration;

use crate::support::{FOR_EVER, MODES, at_once, bus, ends, ids, manual, one_by_one};
use crate::tasks::{Wakes, block_on, now_or_never, poll};

// ---- owned items --------------------------------------------------------------------------------

/// A full ring, read item by item by `next`.
fn items(
    sub: &mut Subscriber<u64>,
    mut next: impl FnMut(&mut Subscriber<u64>) -> Option<Result<SharedEvent<u64>, Gap>>,
) -> Vec<Result<u64, u64>> {
    let mut items = Vec::new();
    while let Some(item) = next(sub) {
        items.push(item.map(|event| event.id()).map_err(|gap| gap.count()));
    }
    assert!(next(sub).is_none(), "for ever");
    items
}

#[test]
fn next_returns_owned_items_until_the_end() {
    type Next = fn(&mut Subscriber<u64>) -> Option<Result<SharedEvent<u64>, Gap>>;
    let ways: [Next; 3] = [
        |sub| sub.next(),
        |sub| block_on(sub.next_async()),
        |sub| sub.iter().next(),
    ];
    for next in ways {
        // A loss is an item in its place, and not the end.
        let bus = manual();
        let mut sub = bus.subscription("a").capacity(2).open().expect("open");
        at_once(&bus, 5);
        assert_eq!(next(&mut sub).map(|item| item.is_ok()), Some(true));
        bus.close();
        assert_eq!(items(&mut sub, next), [Ok(2), Err(3)]);

        // The gap of a disconnect is the last item, once.
        let bus = manual();
        let sub = bus.subscription("a").capacity(2);
        let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
        at_once(&bus, 5);
        assert_eq!(items(&mut sub, next), [Ok(1), Ok(2), Err(3)]);
        assert!(matches!(sub.recv(), Err(RecvError::Disconnected(_))));
        assert!(matches!(
            sub.handle().ending(),
            Some(Ending::Disconnected(_))
        ));

        // After a cancel there are no more items.
        let bus = manual();
        let mut sub = bus.subscribe("a").expect("open");
        at_once(&bus, 5);
        sub.handle().cancel();
        assert_eq!(items(&mut sub, next), []);
    }
}

/// The items borrow nothing: the program keeps them while it uses the subscriber, and after it was
/// dropped.
#[test]
fn owned_items_outlive_their_subscriber() {
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    at_once(&bus, 3);
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(sub.next().expect("open").expect("nothing is lost"));
    }
    drop((sub, bus));
    let there = thread::spawn(move || kept.iter().map(|event| *event.data()).sum::<u64>());
    assert_eq!(there.join().expect("no panic"), 3);
}

/// In a `select!` over two subscribers, the other future is dropped, and loses no event.
#[test]
fn a_dropped_next_loses_nothing() {
    let bus = bus::<u64>(|b| b);
    let mut first = bus.subscribe("a").expect("open");
    let mut second = bus.subscribe("b").expect("open");
    for n in 0..100 {
        bus.publish(if n % 2 == 0 { "a" } else { "b" }, n)
            .expect("open");
        let item = block_on(smol::future::or(first.next_async(), second.next_async()));
        assert_eq!(*item.expect("open").expect("nothing is lost").data(), n);
    }
    assert!(now_or_never(first.next_async()).is_none());
    let (wakes, waker) = Wakes::new();
    let mut waiting = Box::pin(first.next_async());
    assert!(poll(&mut waiting, &waker).is_pending());
    drop(waiting);
    bus.publish("a", 7).expect("open");
    assert!(bus.flush_within(FOR_EVER));
    assert_eq!(wakes.count(), 0, "it had been dropped");
    assert_eq!(
        *first.next().expect("open").expect("nothing is lost").data(),
        7
    );
}

// ---- len ---------------------------------------------------------------------------------

#[test]
fn len_is_the_number_of_events_that_can_be_received_without_waiting() {
    for overflow in [
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Disconnect,
        Overflow::Block,
        Overflow::Conflate,
    ] {
        for events in [0, 1, 3, 64, 200] {
            let bus = manual();
            let builder = bus.subscription("a").capacity(100);
            let mut sub = builder.overflow(overflow).open().expect("open");
            at_once(&bus, events);
            assert_eq!(sub.is_empty(), events == 0);
            let mut waits = sub.len();
            while waits > 0 {
                if sub.try_recv().is_ok() {
                    waits -= 1;
                }
                assert_eq!(sub.len(), waits, "{overflow:?}, {events}");
            }
            assert!(sub.is_empty() && sub.try_recv().is_err());
            assert_eq!(sub.capacity(), 100);
        }
    }
    let bus = manual();
    let sub = bus.subscribe("a").expect("open");
    at_once(&bus, 3);
    assert_eq!(sub.len(), 3);
    sub.handle().cancel();
    assert!(sub.is_empty(), "waiting events are not received any more");
}

// ---- bus ------------------------------------------------------------------------------------

#[test]
fn a_subscriber_knows_its_bus_and_does_not_keep_it_open() {
    let bus = bus::<u64>(|b| b);
    let other = crate::support::bus::<u64>(|b| b);
    let mut sub = bus.subscribe("a").expect("open");
    let guard = bus.on("a", |_| {}).expect("open");
    let publisher = bus.publisher();
    let found = sub.bus().expect("open");
    for same in [&bus, &bus.clone(), &found, &publisher.bus()] {
        assert!(bus.same_bus(same) && sub.same_bus(same));
        assert!(sub.handle().same_bus(same) && guard.subscription().same_bus(same));
        assert!(!other.same_bus(same));
    }
    assert!(!bus.same_bus(&other) && !sub.same_bus(&other));
    drop((bus, publisher));
    found.publish("a", 1).expect("what was found keeps it open");
    assert_eq!(*sub.recv().expect("open").data(), 1);
    drop(found);
    assert!(sub.bus().is_none());
    assert_eq!(sub.recv().err(), Some(RecvError::Closed));
}

// ---- resubscribe ---------------------------------------------------------------------------

#[test]
fn resubscribe_keeps_all_settings() {
    let bus = manual();
    let builder = bus.subscription(["a.*", "b"]).capacity(3).pin_bytes(9999);
    let builder = builder.overflow(Overflow::Block).label("team", "x");
    let builder = builder.block_timeout(Duration::ZERO);
    let mut sub = builder.wait(WaitStrategy::Park).open().expect("open");
    let handle = sub.handle();
    handle.add("c").expect("open");
    handle.remove("b").expect("open");
    bus.publish("c", 0).expect("open");
    bus.drive();
    let mut again = sub.resubscribe().expect("open");
    let patterns = |sub: &Subscriber<u64>| sub.handle().patterns();
    assert_eq!(patterns(&again), patterns(&sub));
    assert_eq!(again.handle().labels(), handle.labels());
    assert_ne!(again.handle().number(), handle.number());
    let (new, old) = (again.stats(), sub.stats());
    assert_eq!(
        (new.capacity, new.pin_bytes, new.overflow),
        (3, 9999, Overflow::Block)
    );
    assert_eq!((old.matched, new.matched), (1, 0), "it begins now");
    // The bus never waits for it, as for the first subscriber.
    (0..5).for_each(|n| bus.publish("c", n).expect("open"));
    bus.drive();
    for (sub, lost) in [(&mut sub, 3), (&mut again, 2)] {
        for _ in 0..3 {
            sub.try_recv().expect("it waits");
        }
        let Some(Err(gap)) = sub.next() else {
            panic!("the others had no room")
        };
        assert_eq!((gap.count(), gap.reason()), (lost, GapReason::BlockTimeout));
    }
}

#[test]
fn resubscribe_after_every_end() {
    let bus = manual();
    let sub = bus.subscription(["a", "b.[x]"]).capacity(1);
    let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
    for heard in [false, true] {
        one_by_one(&bus, 3);
        if heard {
            assert_eq!(ids_and_end(&mut sub), 1);
        }
        assert!(sub.handle().is_ended());
        let mut again = sub.resubscribe().expect("open");
        one_by_one(&bus, 1);
        assert_eq!(ids(&mut again).len(), 1);
        sub = again;
        assert_eq!(sub.handle().patterns().len(), 2);
    }
    sub.handle().cancel();
    let mut sub = sub.resubscribe().expect("cancelled, and open again");
    one_by_one(&bus, 1);
    assert_eq!(ids(&mut sub).len(), 1);
    sub.handle().remove(["a", "b.x"]).expect("open");
    assert_eq!(sub.resubscribe().err(), Some(SubscribeError::NoPattern));
    sub.handle().add("a").expect("open");
    bus.close();
    assert_eq!(sub.resubscribe().err(), Some(SubscribeError::Closed));
}

/// The number of events up to the end.
fn ids_and_end(sub: &mut Subscriber<u64>) -> usize {
    let mut events = 0;
    loop {
        match sub.recv() {
            Ok(_) => events += 1,
            Err(error) => {
                assert!(matches!(error, RecvError::Disconnected(_)), "{error}");
                return events;
            }
        }
    }
}

// ---- builders and patterns ----------------------------------------------------------------------

/// A builder borrows nothing: it can be opened later in a task or on a thread, and its clones as
/// well.
#[test]
fn a_builder_moves_into_a_task() {
    ends("a builder in a task", || {
        let bus = bus::<u64>(|b| b);
        let builder = bus.subscription("a").capacity(7).label("n", "1");
        assert!(format!("{builder:?}").contains("SubscriptionBuilder"));
        let task = {
            let builder = builder.clone();
            smol::spawn(async move {
                let mut sub = builder.open()?;
                Ok::<_, SubscribeError>(sub.recv_async().await.map(|event| *event.data()))
            })
        };
        while !bus.has_subscribers("a") {
            thread::yield_now();
        }
        bus.publish("a", 3).expect("open");
        assert_eq!(block_on(task), Ok(Ok(3)));
        let handler = builder.clone().handler(|_| {}).expect("open");
        assert_eq!(handler.stats().capacity, 7);
        let refused = bus.subscription("a..b");
        assert!(matches!(
            refused.clone().open(),
            Err(SubscribeError::Pattern(_))
        ));
        drop(bus);
        assert_eq!(builder.open().err(), Some(SubscribeError::Closed));
    });
}

#[test]
fn patterns_in_every_form() {
    for mode in MODES {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let topic = Topic::new("a.*").expect("a topic");
        let pattern = Pattern::parse("a.*").expect("a pattern");
        let text = String::from("a.*");
        let set = BTreeSet::from([text.clone()]);
        let subs = [
            bus.subscribe(&text).expect("open"),
            bus.subscribe(text.clone()).expect("open"),
            bus.subscribe(&pattern).expect("open"),
            bus.subscribe(HashSet::from(["a.*", "b"])).expect("open"),
            bus.subscribe(&set).expect("open"),
            bus.subscribe(&[pattern.clone()][..]).expect("open"),
        ];
        let exact = bus.subscribe(&topic).expect("open");
        assert_eq!(bus.subscriber_count("a.x"), subs.len());
        assert_eq!(bus.subscriber_count("a.*"), subs.len() + 1, "the exact one");
        let handle = exact.handle();
        assert_eq!(handle.add([topic.clone()]), Ok(false), "it has that");
        assert_eq!(handle.add(&text), Ok(true));
        assert_eq!(handle.add([&pattern]), Ok(false));
        assert_eq!(handle.add(["a.*", "b", "c"]), Ok(true), "two are new");
        assert_eq!(handle.patterns().len(), 4);
        assert_eq!(handle.remove(BTreeSet::from(["b", "c", "d"])), Ok(true));
        assert_eq!(handle.remove(["b", "c", "d"]), Ok(false));
        let none: [&str; 0] = [];
        assert_eq!(
            (handle.add(none), handle.remove(none)),
            (Ok(false), Ok(false))
        );
        // If one pattern is refused, no pattern is changed.
        assert!(handle.add(["e", "a..b"]).is_err());
        assert!(handle.remove(["a.*", "a..b"]).is_err());
        assert_eq!(handle.patterns().len(), 2);
        assert!(matches!(
            bus.subscribe(none).err(),
            Some(SubscribeError::NoPattern)
        ));
    }
}

/// Ten thousand patterns in one subscription, some of them twice.
#[test]
fn many_patterns_in_one_call() {
    let bus: Bus<u64> = manual();
    let patterns: Vec<_> = (0..10_000).map(|n| format!("t.{}", n / 2)).collect();
    let mut sub = bus.subscribe(&patterns).expect("open");
    assert_eq!(sub.handle().patterns().len(), 5000);
    bus.publish("t.4999", 1).expect("open");
    bus.publish("t.5000", 1).expect("open");
    bus.drive();
    assert_eq!(ids(&mut sub), [1]);
}
