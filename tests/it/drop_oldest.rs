//! `Overflow::DropOldest`: a subscriber that falls behind receives the newest events, after a gap
//! for the older ones.

use fanout::{
    Bus, Dispatch, Ending, Event, Gap, GapReason, Notice, Overflow, RecvError, Subscriber,
    TryRecvError,
};
use smol::stream::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::{
    FOR_EVER, OnDrop, StreamItem, at_once, bus, eventually, ids, in_every_mode,
    in_modes_with_threads, manual, one_by_one, publish_each, read_out, read_to_end,
};
use crate::tasks::block_on;

fn open<T: Send + Sync + 'static>(bus: &Bus<T>, capacity: usize) -> Subscriber<T> {
    let builder = bus.subscription("a").capacity(capacity);
    builder.overflow(Overflow::DropOldest).open().expect("open")
}

/// A gap with all events from the first id to the second.
#[track_caller]
fn assert_lost(seen: StreamItem, from: u64, to: u64) {
    let StreamItem::Lost(gap) = seen else {
        panic!("{seen:?}")
    };
    let is = (gap.first_id(), gap.last_id(), gap.count(), gap.reason());
    assert_eq!(is, (from, to, to - from + 1, GapReason::Overflow));
}

fn all(ids: impl IntoIterator<Item = u64>) -> Vec<StreamItem> {
    ids.into_iter().map(StreamItem::Id).collect()
}

#[test]
fn a_burst_leaves_the_newest() {
    for publish in [one_by_one, at_once] {
        for capacity in [1, 2, 3, 63, 64, 65, 128] {
            let bus = manual();
            let mut sub = open(&bus, capacity as usize);
            publish(&bus, 500);
            let stats = sub.stats();
            assert_eq!(
                (stats.matched, stats.lost, stats.unread, stats.depth),
                (500, 500 - capacity, capacity, capacity)
            );
            assert_eq!((stats.high_water, stats.lag), (capacity, 500));
            let (seen, ending) = read_out(&mut sub);
            assert_lost(seen[0], 1, 500 - capacity);
            assert_eq!(seen[1..], all(501 - capacity..=500));
            assert_eq!(ending, TryRecvError::Empty);
            let stats = sub.stats();
            assert_eq!(
                (stats.received, stats.unread, stats.lag, stats.depth),
                (capacity, 0, 0, 0)
            );
        }
    }
}

#[test]
fn events_that_fit_are_delivered_unchanged() {
    for publish in [one_by_one, at_once] {
        let bus = manual();
        let mut sub = open(&bus, 100);
        for round in 0..10 {
            publish(&bus, 100);
            assert_eq!(
                ids(&mut sub),
                (100 * round + 1..=100 * round + 100).collect::<Vec<_>>()
            );
        }
        assert_eq!(sub.stats().lost, 0);
    }
}

/// One block has more events than the capacity.
#[test]
fn of_a_block_larger_than_the_capacity_the_newest_are_kept() {
    for capacity in [1, 2, 63] {
        let bus = manual();
        let mut sub = open(&bus, capacity as usize);
        for round in 0..3 {
            let last = 64 * round + 64;
            at_once(&bus, 64);
            let (seen, _) = read_out(&mut sub);
            assert_lost(seen[0], last - 63, last - capacity);
            assert_eq!(seen[1..], all(last - capacity + 1..=last));
        }
    }
}

/// A slot that the subscriber has begun to read does not count: its rest, at most 63 events, is
/// received in any case.
#[test]
fn a_claimed_slot_is_not_evicted() {
    let bus = manual();
    let mut sub = open(&bus, 64);
    at_once(&bus, 64);
    assert_eq!(sub.try_recv().map(Event::id), Ok(1));
    one_by_one(&bus, 200);
    let stats = sub.stats();
    assert_eq!((stats.unread, stats.depth, stats.lost), (63 + 64, 64, 136));
    let (seen, _) = read_out(&mut sub);
    assert_eq!(seen[..63], all(2..=64));
    assert_lost(seen[63], 65, 200);
    assert_eq!(seen[64..], all(201..=264));
}

/// All evictions between two receives are one run of losses.
#[test]
fn a_run_of_losses_ends_at_a_received_event() {
    let bus = manual();
    let mut sub = open(&bus, 2);
    let lost = |sub: &mut Subscriber<u64>| match sub.try_recv() {
        Err(TryRecvError::Lost(gap)) => StreamItem::Lost(gap),
        other => panic!("{other:?}"),
    };
    one_by_one(&bus, 5);
    one_by_one(&bus, 5);
    at_once(&bus, 1);
    assert_lost(lost(&mut sub), 1, 9);
    // The gap is reported, and the event behind it is claimed.
    one_by_one(&bus, 4);
    assert_eq!(sub.try_recv().map(Event::id), Ok(10));
    assert_lost(lost(&mut sub), 11, 13);
    assert_eq!(ids(&mut sub), [14, 15]);
}

/// A block has events on two topics: the gap counts only events that matched.
#[test]
fn a_gap_counts_what_matched() {
    let bus = manual();
    let mut sub = open(&bus, 3);
    for n in 0..30 {
        bus.publish(if n % 3 == 0 { "a" } else { "b" }, n)
            .expect("open");
    }
    bus.drive();
    let (seen, _) = read_out(&mut sub);
    let StreamItem::Lost(gap) = seen[0] else {
        panic!("{seen:?}")
    };
    assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (1, 19, 7));
    assert_eq!(seen[1..], all([22, 25, 28]));
}

// ---- bytes --------------------------------------------------------------------------------------

const WEIGHT: usize = 100_000;

fn heavy(pin_bytes: usize) -> (Bus<u64>, Subscriber<u64>) {
    let bus = bus(|b| {
        b.dispatch(Dispatch::Manual)
            .weigh(|_| WEIGHT)
            .pin_bytes(pin_bytes)
    });
    let sub = open(&bus, 1000);
    (bus, sub)
}

#[test]
fn the_oldest_events_are_evicted_for_the_bound_in_bytes() {
    for fit in [1, 2, 3, 10] {
        let (bus, mut sub) = heavy(fit * WEIGHT + WEIGHT / 2);
        one_by_one(&bus, 20);
        let fit = fit as u64;
        let stats = sub.stats();
        assert_eq!((stats.depth, stats.lost), (fit, 20 - fit));
        assert!(stats.pinned_bytes <= stats.pin_bytes as u64, "{stats:?}");
        let (seen, _) = read_out(&mut sub);
        assert_lost(seen[0], 1, 20 - fit);
        assert_eq!(seen[1..], all(21 - fit..=20));
        assert_eq!(sub.stats().pinned_bytes, 0);
    }
}

/// For the bound in bytes, whole blocks are evicted, because one event would keep its whole block
/// alive.
#[test]
fn a_block_that_is_too_heavy_is_lost_completely() {
    let (bus, mut sub) = heavy(70 * WEIGHT);
    at_once(&bus, 64);
    at_once(&bus, 8);
    let (seen, _) = read_out(&mut sub);
    assert_lost(seen[0], 1, 64);
    assert_eq!(seen[1..], all(65..=72));
}

#[test]
fn a_block_heavier_than_the_bound_is_alone_in_the_ring() {
    for pin_bytes in [1, WEIGHT / 2] {
        let (bus, mut sub) = heavy(pin_bytes);
        one_by_one(&bus, 5);
        let (seen, _) = read_out(&mut sub);
        assert_lost(seen[0], 1, 4);
        assert_eq!(seen[1..], all([5]));
        at_once(&bus, 64);
        assert_eq!(ids(&mut sub), (6..=69).collect::<Vec<_>>());
    }
}

#[test]
fn evicted_events_are_dropped_at_once() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = manual();
    let sub = open(&bus, 3);
    for n in 1..=10 {
        bus.publish("a", OnDrop::counts(&dropped)).expect("open");
        bus.drive();
        assert_eq!(
            dropped.load(Ordering::SeqCst),
            usize::saturating_sub(n, 3),
            "after {n}"
        );
    }
    drop(sub);
    assert_eq!(dropped.load(Ordering::SeqCst), 10);
}

// ---- the end ------------------------------------------------------------------------------------

#[test]
fn a_gap_is_reported_after_a_close() {
    for publish in [one_by_one, at_once] {
        let bus = manual();
        let mut sub = open(&bus, 2);
        publish(&bus, 5);
        bus.close();
        let (seen, ending) = read_to_end(&mut sub);
        assert_lost(seen[0], 1, 3);
        assert_eq!(seen[1..], all([4, 5]));
        assert_eq!(ending, RecvError::Closed);
    }
}

#[test]
fn a_gap_at_a_cancel_is_reported_once() {
    let bus = manual();
    let mut sub = open(&bus, 2);
    one_by_one(&bus, 5);
    assert!(sub.handle().cancel());
    let (seen, ending) = read_to_end(&mut sub);
    assert_lost(seen[0], 1, 3);
    assert_eq!((seen.len(), ending), (1, RecvError::Cancelled));
    let stats = sub.stats();
    assert_eq!((stats.lost, stats.unread, stats.lag), (3, 2, 2));
}

#[test]
fn a_gap_behind_discarded_events_is_not_reported() {
    let bus = manual();
    let mut sub = open(&bus, 2);
    at_once(&bus, 2);
    assert_eq!(sub.try_recv().map(Event::id), Ok(1));
    one_by_one(&bus, 5);
    assert!(sub.handle().cancel());
    assert_eq!(read_to_end(&mut sub), (vec![], RecvError::Cancelled));
    let stats = sub.stats();
    assert_eq!((stats.matched, stats.lost, stats.unread), (7, 3, 3));
}

// ---- ways to read -------------------------------------------------------------------------------

/// Publishes five events to a ring with a capacity of two, and closes the bus.
fn overrun() -> Subscriber<u64> {
    let bus = manual();
    let sub = open(&bus, 2);
    one_by_one(&bus, 5);
    sub
}

#[test]
fn every_receive_method_reports_the_gap_in_its_place() {
    let as_item = |item: Result<u64, Gap>| item.map_or_else(StreamItem::Lost, StreamItem::Id);
    let mut ways: Vec<(&str, Vec<StreamItem>)> = Vec::new();
    let seen = Mutex::new(Vec::new());
    let ending = overrun().for_each(
        |event| {
            seen.lock()
                .expect("unpoisoned")
                .push(StreamItem::Id(event.id()))
        },
        |gap| seen.lock().expect("unpoisoned").push(StreamItem::Lost(gap)),
    );
    assert_eq!(ending, Ending::Closed);
    ways.push(("for_each", seen.into_inner().expect("unpoisoned")));
    let mut sub = overrun();
    let iter = sub.iter().map(|item| item.map(|event| event.id()));
    ways.push(("iter", iter.map(as_item).collect()));
    let stream = overrun().into_stream();
    let items = stream.map(|item| as_item(item.map(|event| event.id())));
    ways.push(("stream", block_on(items.collect())));
    let stream = overrun().into_batch_stream();
    let items = stream.map(|item| {
        as_item(item.map(|batch| {
            assert_eq!(batch.len(), 1);
            batch.iter().next().expect("one").id()
        }))
    });
    ways.push(("batch stream", block_on(items.collect())));
    let mut sub = overrun();
    let mut timed = Vec::new();
    while timed.len() < 3 {
        timed.push(as_item(match sub.recv_timeout(FOR_EVER).map(Event::id) {
            Ok(id) => Ok(id),
            Err(fanout::RecvTimeoutError::Lost(gap)) => Err(gap),
            Err(other) => panic!("{other}"),
        }));
    }
    ways.push(("recv_timeout", timed));
    let mut sub = overrun();
    let tasks = (0..3).map(|_| match block_on(sub.recv_async()).map(Event::id) {
        Ok(id) => StreamItem::Id(id),
        Err(RecvError::Lost(gap)) => StreamItem::Lost(gap),
        Err(other) => panic!("{other}"),
    });
    ways.push(("recv_async", tasks.collect()));
    for (way, seen) in ways {
        assert_lost(seen[0], 1, 3);
        assert_eq!(seen[1..], all([4, 5]), "{way}");
    }
}

/// The observer is notified before the oldest event that is left; the handler then gets the newest
/// events.
#[test]
fn a_handler_that_falls_behind_handles_the_newest() {
    in_modes_with_threads(|mode| {
        let (notices, seen) = mpsc::channel();
        let bus = bus::<u64>(|b| {
            b.dispatch(mode).observer(move |notice| {
                if let Notice::Lost {
                    subscription, gap, ..
                } = *notice
                {
                    let _ = notices.send((subscription, gap));
                }
            })
        });
        let (release, gate) = mpsc::channel::<()>();
        let (sender, handled) = mpsc::channel();
        let handle = bus
            .subscription("a")
            .capacity(4)
            .overflow(Overflow::DropOldest)
            .handler(move |event: &Event<u64>| {
                let _ = sender.send(event.id());
                let _ = gate.recv();
            })
            .expect("open");
        bus.publish("a", 0).expect("open");
        assert_eq!(handled.recv_timeout(FOR_EVER), Ok(1));
        publish_each(&bus, 0..100);
        eventually("all but four are lost", || handle.stats().lost == 96);
        assert!(seen.try_recv().is_err(), "the handler is not there yet");
        assert!(!bus.flush_within(Duration::ZERO), "four wait");
        drop(release);
        assert!(
            bus.flush_within(FOR_EVER),
            "a flush does not wait for evicted events"
        );
        assert_eq!(handled.try_iter().collect::<Vec<_>>(), [98, 99, 100, 101]);
        let (subscription, gap) = seen.try_recv().expect("reported");
        assert_eq!(subscription, handle.subscription().number());
        assert_lost(StreamItem::Lost(gap), 2, 97);
        assert!(seen.try_recv().is_err(), "once");
        assert!(bus.close_within(FOR_EVER).in_time);
    });
}

/// A subscriber that does not read does not delay the others.
#[test]
fn a_subscriber_that_never_reads_delays_no_other() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut asleep = open(&bus, 10);
        let mut awake = bus.subscription("a").overflow(Overflow::Block);
        awake = awake.capacity(16);
        let mut awake = awake.open().expect("open");
        for round in 0..1000 {
            publish_each(&bus, 0..16);
            assert!(bus.flush_within(FOR_EVER));
            assert_eq!(
                ids(&mut awake),
                (16 * round + 1..=16 * round + 16).collect::<Vec<_>>()
            );
        }
        let (seen, _) = read_out(&mut asleep);
        assert_lost(seen[0], 1, 15_990);
        assert_eq!(seen[1..], all(15_991..=16_000));
    });
}
