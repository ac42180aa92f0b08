//! `Overflow::Disconnect`: a subscriber that falls behind receives the waiting events, and then
//! always the gap of the events that did not fit.

use fanout::{
    Bus, ChangeError, Dispatch, Ending, Event, Gap, GapReason, Notice, Overflow, RecvError,
    RecvTimeoutError, Subscriber, TryRecvError,
};
use smol::stream::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, OnDrop, StreamItem, at_once, bus, ends, eventually, ids, in_every_mode, manual,
    one_by_one, publish_each, read_out, read_to_end, rounds, yield_for_a_while,
};
use crate::tasks::block_on;

fn open<T: Send + Sync + 'static>(bus: &Bus<T>, capacity: usize) -> Subscriber<T> {
    let builder = bus.subscription("a").capacity(capacity);
    builder.overflow(Overflow::Disconnect).open().expect("open")
}

/// Receives everything with `try_recv`: the ids, and the gap at the end.
#[track_caller]
fn read(sub: &mut Subscriber<u64>) -> (Vec<u64>, Gap) {
    let (seen, ending) = read_out(sub);
    let TryRecvError::Disconnected(gap) = ending else {
        panic!("{ending}")
    };
    assert_eq!(gap.reason(), GapReason::Overflow);
    let ids = seen.into_iter().map(|seen| match seen {
        StreamItem::Id(id) => id,
        StreamItem::Lost(gap) => panic!("a gap in the middle: {gap}"),
    });
    (ids.collect(), gap)
}

fn numbers(gap: Gap) -> (u64, u64, u64) {
    (gap.first_id(), gap.last_id(), gap.count())
}

#[test]
fn waiting_events_are_received_before_the_final_error() {
    let bus = manual();
    let mut sub = open(&bus, 3);
    one_by_one(&bus, 10);
    let stats = sub.stats();
    assert_eq!(
        (stats.matched, stats.lost, stats.unread, stats.depth),
        (4, 1, 3, 3)
    );
    assert_eq!(
        stats.last_id,
        Some(4),
        "later events do not belong to the gap"
    );
    let (ids, gap) = read(&mut sub);
    assert_eq!((ids, numbers(gap)), (vec![1, 2, 3], (4, 4, 1)));

    one_by_one(&bus, 10);
    assert_eq!(sub.try_recv().err(), Some(TryRecvError::Disconnected(gap)));
    assert_eq!(sub.recv().err(), Some(RecvError::Disconnected(gap)));
    let timed = sub.recv_timeout(FOR_EVER).err();
    assert_eq!(timed, Some(RecvTimeoutError::Disconnected(gap)));
    let batch = sub.next_batch().err();
    assert_eq!(batch, Some(RecvError::Disconnected(gap)));
    let batch = sub.try_next_batch().err();
    assert_eq!(batch, Some(TryRecvError::Disconnected(gap)));
    let task = block_on(sub.recv_async()).err();
    assert_eq!(task, Some(RecvError::Disconnected(gap)));
    let stats = sub.stats();
    assert_eq!(
        (stats.matched, stats.received, stats.lost, stats.unread),
        (4, 3, 1, 0)
    );
    assert_eq!((stats.lag, stats.last_id), (0, Some(4)));
}

/// Of a block that does not fit, the events that fit are queued, and the rest is the gap.
#[test]
fn a_block_that_fits_partly() {
    for capacity in [1, 2, 3, 63] {
        let bus = manual();
        let mut sub = open(&bus, capacity as usize);
        at_once(&bus, 64);
        let (ids, gap) = read(&mut sub);
        assert!(ids.into_iter().eq(1..=capacity));
        assert_eq!(numbers(gap), (capacity + 1, 64, 64 - capacity));
        assert_eq!(sub.stats().last_id, Some(64));
    }
}

#[test]
fn a_gap_counts_what_matched() {
    let bus = manual();
    let mut sub = open(&bus, 3);
    for n in 0..30 {
        bus.publish(if n % 3 == 0 { "a" } else { "b" }, n)
            .expect("open");
    }
    bus.drive();
    let (ids, gap) = read(&mut sub);
    assert_eq!((ids, numbers(gap)), (vec![1, 4, 7], (10, 28, 7)));
    assert_eq!(sub.stats().last_id, Some(30), "the end of the block");
}

#[test]
fn events_that_fit_are_delivered_unchanged() {
    let bus = manual();
    let mut sub = open(&bus, 64);
    for round in 0..10 {
        at_once(&bus, 64);
        assert_eq!(ids(&mut sub).len(), 64, "round {round}");
    }
    // A slot that the subscriber has begun to read does not count.
    at_once(&bus, 64);
    assert_eq!(sub.try_recv().map(Event::id), Ok(641));
    at_once(&bus, 64);
    assert_eq!(ids(&mut sub).len(), 63 + 64);
    assert_eq!(sub.stats().lost, 0);
    assert_eq!(sub.stats().last_id, None);
}

#[test]
fn a_block_that_is_too_heavy_ends_the_subscription() {
    const WEIGHT: usize = 100_000;
    let bus = bus(|b| {
        b.dispatch(Dispatch::Manual)
            .weigh(|_| WEIGHT)
            .pin_bytes(2 * WEIGHT + WEIGHT / 2)
    });
    let mut sub = open(&bus, 1000);
    one_by_one(&bus, 2);
    at_once(&bus, 64);
    let (ids, gap) = read(&mut sub);
    assert_eq!((ids, numbers(gap)), (vec![1, 2], (3, 66, 64)));
    // A heavy block enters an empty ring.
    let mut sub = open(&bus, 1000);
    at_once(&bus, 64);
    at_once(&bus, 1);
    let (ids, gap) = read(&mut sub);
    assert!(ids.into_iter().eq(67..=130));
    assert_eq!(numbers(gap), (131, 131, 1));
}

/// The subscription has ended as soon as the shard disconnects it. Once the subscriber has received
/// the end, the subscription is unregistered, as after a cancel.
#[test]
fn after_the_final_error_the_subscription_is_unregistered() {
    let bus = manual();
    let mut sub = open(&bus, 1);
    let handle = sub.handle();
    one_by_one(&bus, 2);
    assert_eq!(sub.try_recv().map(Event::id), Ok(1));
    let ending = handle.ending();
    assert!(
        matches!(ending, Some(Ending::Disconnected(_))),
        "{ending:?}"
    );
    assert_eq!(
        (bus.subscriptions().len(), bus.stats().subscriptions),
        (0, 0),
        "although the subscriber has not received the end"
    );
    assert!(matches!(sub.try_recv(), Err(TryRecvError::Disconnected(_))));
    assert_eq!(
        (bus.subscriptions().len(), bus.stats().subscriptions),
        (0, 0)
    );
    assert!(handle.patterns().is_empty());
    assert!(matches!(handle.add("b"), Err(ChangeError::Ended)));
    assert!(!handle.cancel(), "it had ended");
    let stats = bus.stats();
    assert_eq!(
        (stats.matched, stats.received, stats.lost, stats.unread),
        (2, 1, 1, 0)
    );
}

#[test]
fn later_events_do_not_change_the_reported_gap() {
    type Later = fn(&Bus<u64>, &Subscriber<u64>);
    let later: [Later; 4] = [
        |bus, _| bus.close(),
        |bus, _| {
            let _ = bus.close_within(Duration::ZERO);
        },
        |_, sub| assert!(!sub.handle().cancel(), "it had ended"),
        |bus, sub| {
            sub.handle().cancel();
            bus.close();
        },
    ];
    for (number, later) in later.into_iter().enumerate() {
        for read_first in [0, 1, 2] {
            let bus = manual();
            let mut sub = open(&bus, 2);
            at_once(&bus, 5);
            for _ in 0..read_first {
                sub.try_recv().expect("it waits");
            }
            later(&bus, &sub);
            let (seen, ending) = read_to_end(&mut sub);
            let expected: Vec<_> = (read_first + 1..=2).map(StreamItem::Id).collect();
            assert_eq!(seen, expected, "{number}");
            let RecvError::Disconnected(gap) = ending else {
                panic!("{number}: {ending}")
            };
            assert_eq!(numbers(gap), (3, 5, 3));
        }
    }
}

#[test]
fn a_cancel_before_the_overflow_decides_the_ending() {
    let bus = manual();
    let mut sub = open(&bus, 2);
    one_by_one(&bus, 2);
    assert!(sub.handle().cancel());
    one_by_one(&bus, 2);
    assert_eq!(read_to_end(&mut sub), (vec![], RecvError::Cancelled));
}

#[test]
fn waiting_events_are_dropped_with_their_subscriber() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = manual();
    let sub = open(&bus, 2);
    for _ in 0..5 {
        bus.publish("a", OnDrop::counts(&dropped)).expect("open");
        bus.drive();
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    drop(sub);
    assert_eq!(dropped.load(Ordering::SeqCst), 5);
}

// ---- ways to read -------------------------------------------------------------------------------

/// Publishes five single events to a ring with a capacity of two.
fn overrun() -> (Bus<u64>, Subscriber<u64>) {
    let bus = manual();
    let sub = open(&bus, 2);
    one_by_one(&bus, 5);
    (bus, sub)
}

#[test]
fn for_each_reports_the_gap_and_ends() {
    let (_bus, mut sub) = overrun();
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    let ending = sub.for_each(|event| ids.push(event.id()), |gap| gaps.push(gap));
    let [gap] = gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((ids, numbers(gap)), (vec![1, 2], (3, 3, 1)));
    assert_eq!(ending, Ending::Disconnected(gap));
}

/// The gap is the last item, once; iterators and streams then end.
#[test]
fn iterators_and_streams_end_with_the_gap() {
    let check = |items: Vec<Result<u64, Gap>>| {
        let [Ok(1), Ok(2), Err(gap)] = items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(numbers(gap), (3, 3, 1));
        gap
    };
    let (bus, mut sub) = overrun();
    let mut iter = sub.iter();
    let items = iter.by_ref().map(|item| item.map(|event| event.id()));
    check(items.collect());
    assert!(iter.next().is_none());
    assert!(
        bus.subscriptions().is_empty(),
        "the subscriber has received the end"
    );

    let (_bus, sub) = overrun();
    let mut stream = sub.into_stream();
    let items = (&mut stream).map(|item| item.map(|event| event.id()));
    let gap = check(block_on(items.collect()));
    assert_eq!(stream.ending(), Some(Ending::Disconnected(gap)));
    assert!(block_on(stream.next()).is_none());
    let mut sub = stream.into_inner();
    assert_eq!(sub.try_recv().err(), Some(TryRecvError::Disconnected(gap)));
    // However it is read, the gap is an item once.
    assert!(sub.next().is_none());
    let ending = sub.for_each(|_| panic!("all was read"), |gap| panic!("again: {gap}"));
    assert_eq!(ending, Ending::Disconnected(gap));
    assert!(block_on(sub.into_stream().next()).is_none());

    let (_bus, sub) = overrun();
    let mut stream = sub.into_batch_stream();
    let items = (&mut stream).map(|item| item.map(|batch| batch.iter().map(Event::id).sum()));
    let gap = check(block_on(items.collect()));
    assert_eq!(stream.ending(), Some(Ending::Disconnected(gap)));
}

/// The subscriber sleeps when it is disconnected: it is woken, and receives the end.
#[test]
fn sleeping_threads_and_tasks_are_woken() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for task in [false, true] {
            ends(&format!("{mode:?}, task {task}"), move || {
                for _ in rounds(300) {
                    let bus = bus(|b| b.dispatch(mode));
                    let mut sub = open(&bus, 1);
                    let reading = thread::spawn(move || {
                        let mut received = 0;
                        loop {
                            let result = if task {
                                block_on(sub.recv_async()).map(Event::id)
                            } else {
                                sub.recv().map(Event::id)
                            };
                            match result {
                                Ok(id) => {
                                    received += 1;
                                    assert_eq!(id, received);
                                }
                                Err(RecvError::Disconnected(gap)) => return (received, gap),
                                Err(other) => panic!("{other}"),
                            }
                        }
                    });
                    yield_for_a_while();
                    let mut publisher = bus.publisher();
                    while !reading.is_finished() {
                        (0..8).for_each(|n| publisher.publish("a", n).expect("open"));
                    }
                    let (received, gap) = reading.join().expect("read");
                    assert_eq!(gap.first_id(), received + 1);
                    assert_eq!(gap.count(), gap.last_id() - gap.first_id() + 1);
                }
            });
        }
    }
}

// ---- handlers -----------------------------------------------------------------------------------

/// The handler handles the waiting events, the observer is notified, and the closure is dropped.
#[test]
fn a_handler_that_falls_behind_is_disconnected() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for dedicated in [false, true] {
            ends(&format!("{mode:?}, dedicated {dedicated}"), move || {
                let (notices, seen) = mpsc::channel();
                let bus = bus::<u64>(|b| {
                    b.dispatch(mode).observer(move |notice| match *notice {
                        Notice::Disconnected {
                            subscription, gap, ..
                        } => {
                            let _ = notices.send((subscription, gap));
                        }
                        Notice::Lost { gap, .. } => panic!("it is no loss: {gap}"),
                        _ => {}
                    })
                });
                let (release, gate) = mpsc::channel::<()>();
                let (sender, handled) = mpsc::channel();
                let mut builder = bus.subscription("a").capacity(4);
                if dedicated {
                    builder = builder.dedicated();
                }
                let handle = builder
                    .overflow(Overflow::Disconnect)
                    .handler(move |event: &Event<u64>| {
                        let _ = sender.send(event.id());
                        let _ = gate.recv();
                    })
                    .expect("open");
                bus.publish("a", 0).expect("open");
                assert_eq!(handled.recv_timeout(FOR_EVER), Ok(1));
                publish_each(&bus, 0..100);
                eventually("it is over", || handle.stats().last_id.is_some());
                assert!(seen.try_recv().is_err(), "the handler is not there yet");
                assert!(!bus.flush_within(Duration::ZERO), "four wait");
                drop(release);
                assert!(bus.flush_within(FOR_EVER));
                let rest: Vec<_> = handled.try_iter().collect();
                assert_eq!(rest, [2, 3, 4, 5], "a flush waits for what is left");
                let (subscription, gap) = seen.recv_timeout(FOR_EVER).expect("reported");
                assert_eq!(subscription, handle.subscription().number());
                let stats = handle.stats();
                assert_eq!((gap.first_id(), gap.count()), (6, stats.lost));
                assert_eq!(Some(gap.last_id()), stats.last_id);
                assert_eq!((stats.received, stats.unread), (5, 0));
                let gone = handled.recv_timeout(FOR_EVER);
                assert_eq!(gone, Err(mpsc::RecvTimeoutError::Disconnected), "dropped");
                assert!(seen.try_recv().is_err(), "once");
                assert!(bus.subscriptions().is_empty());
                assert!(!handle.cancel());
                assert!(bus.close_within(FOR_EVER).in_time);
            });
        }
    }
}

/// A handler is disconnected while events wait, and is then cancelled: no further event is handled,
/// and no flush waits for it.
#[test]
fn a_handler_that_is_disconnected_can_be_cancelled() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let (release, gate) = mpsc::channel::<()>();
        let (sender, handled) = mpsc::channel();
        let handle = bus
            .subscription("a")
            .capacity(4)
            .overflow(Overflow::Disconnect)
            .handler(move |event: &Event<u64>| {
                let _ = sender.send(event.id());
                let _ = gate.recv();
            })
            .expect("open");
        let handling = mode != Dispatch::Manual;
        if handling {
            bus.publish("a", 0).expect("open");
            assert_eq!(handled.recv_timeout(FOR_EVER), Ok(1));
            publish_each(&bus, 0..100);
            eventually("it is over", || handle.stats().last_id.is_some());
        } else {
            publish_each(&bus, 0..5); // no thread has driven the bus
        }
        assert_eq!(handle.cancel(), !handling, "it had ended");
        drop(release);
        assert!(bus.flush_within(FOR_EVER));
        assert!(bus.close_within(FOR_EVER).in_time);
        assert!(handled.try_recv().is_err(), "no call begins");
        assert!(bus.subscriptions().is_empty());
    });
}
