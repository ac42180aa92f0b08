//! No event is received after a cancel, and a cancelled subscription delays no other.

use fanout::{Dispatch, Overflow, RecvError, SubscriptionHandle, TryRecvError};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, MODES, OnDrop, bus, ends, eventually, ids, in_every_mode, in_modes_with_threads,
    manual, publish_each, read_to_end, rounds, yield_for_a_while,
};

#[test]
fn nothing_after_cancel() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let handle = sub.handle();
        publish_each(&bus, 0..10);
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(sub.recv().map(|event| event.id()), Ok(1));
        assert!(handle.cancel());
        assert_eq!(
            sub.try_recv().err(),
            Some(TryRecvError::Cancelled),
            "not the nine that it had"
        );
        assert_eq!(sub.recv().err(), Some(RecvError::Cancelled));
        assert!(sub.next_batch().is_err());
        assert!(sub.recv_timeout(FOR_EVER).is_err());
        assert_eq!(sub.iter().count(), 0);
        publish_each(&bus, 0..10);
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(sub.try_recv().err(), Some(TryRecvError::Cancelled));
        let stats = sub.stats();
        assert_eq!(
            (stats.matched, stats.received, stats.lost, stats.unread),
            (10, 1, 0, 9)
        );
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(10)));
    });
}

/// While events flow: after `cancel` has returned on any thread, the subscriber gets no event.
#[test]
fn nothing_after_cancel_under_load() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(2));
        let stop = Arc::new(AtomicUsize::new(0));
        let publishing = thread::spawn({
            let (mut publisher, stop) = (bus.publisher(), stop.clone());
            move || {
                while stop.load(Ordering::Relaxed) == 0 {
                    publisher.publish("a", ()).expect("open");
                }
            }
        });
        for _ in rounds(500) {
            let mut sub = bus.subscription("a").capacity(8).open().expect("open");
            let handle = sub.handle();
            let cancelled = Arc::new(AtomicU64::new(0));
            let cancelling = thread::spawn({
                let cancelled = cancelled.clone();
                move || {
                    handle.cancel();
                    cancelled.store(1, Ordering::SeqCst);
                }
            });
            loop {
                let was_cancelled = cancelled.load(Ordering::SeqCst) == 1;
                match sub.recv() {
                    Ok(_) | Err(RecvError::Lost(_)) => assert!(!was_cancelled, "after cancel"),
                    Err(ending) => {
                        assert_eq!(ending, RecvError::Cancelled);
                        break;
                    }
                }
            }
            cancelling.join().expect("cancelled");
            let stats = sub.stats();
            assert_eq!(stats.received + stats.lost + stats.unread, stats.matched);
        }
        stop.store(1, Ordering::Relaxed);
        publishing.join().expect("published");
    });
}

#[test]
fn cancel_wakes_a_blocked_receiver() {
    in_every_mode(|mode| {
        let bus = bus::<u32>(|b| b.dispatch(mode));
        for _ in rounds(100) {
            let mut sub = bus.subscribe("a").expect("open");
            let handle = sub.handle();
            let receiving = thread::spawn(move || sub.recv().map(|event| event.id()));
            yield_for_a_while();
            assert!(handle.cancel());
            assert_eq!(receiving.join().expect("woken"), Err(RecvError::Cancelled));
        }
    });
}

#[test]
fn cancel_is_idempotent_and_works_from_any_handle() {
    let bus = bus::<u32>(|b| b);
    let sub = bus.subscribe(["a", "b.*"]).expect("open");
    let (one, other) = (sub.handle(), sub.handle());
    assert_eq!(bus.stats().subscriptions, 1);
    let listed = bus.subscriptions();
    assert_eq!((listed.len(), listed[0].number()), (1, one.number()));
    assert!(one.cancel());
    for handle in [&one, &other, &listed[0]] {
        assert!(!handle.cancel());
        assert!(handle.patterns().is_empty());
        assert_eq!(
            handle.add("c").unwrap_err().to_string(),
            "the subscription has ended"
        );
        assert_eq!(
            handle.remove("a").unwrap_err().to_string(),
            "the subscription has ended"
        );
    }
    drop(sub);
    assert_eq!(
        (bus.stats().subscriptions, bus.subscriptions().len()),
        (0, 0)
    );
    assert!(!one.cancel());
    let next = bus.subscribe("a").expect("open");
    assert_ne!(
        next.handle().number(),
        one.number(),
        "numbers are never used again"
    );
}

#[test]
fn of_many_concurrent_cancels_one_returns_true() {
    ends("concurrent cancels", || {
        let bus = bus::<u32>(|b| b);
        for _ in rounds(200) {
            let sub = bus.subscribe("a").expect("open");
            let start = Arc::new(Barrier::new(4));
            let cancelling: Vec<_> = (0..4)
                .map(|_| {
                    let (handle, start) = (sub.handle(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        handle.cancel()
                    })
                })
                .collect();
            let did = cancelling
                .into_iter()
                .map(|thread| thread.join().expect("cancelled"));
            assert_eq!(did.filter(|&did| did).count(), 1);
        }
    });
}

/// How a full `Block` subscriber ends.
#[derive(Clone, Copy, Debug)]
enum Going {
    /// Separate threads drop all subscribers at the same time.
    Dropped,
    /// The handles cancel the subscriptions, while the subscribers do nothing.
    Cancelled,
    /// The handles cancel the subscriptions while the subscribers are dropped.
    Both,
}

#[test]
fn dropping_full_block_subscribers_releases_the_bus() {
    for mode in MODES {
        for going in [Going::Dropped, Going::Cancelled, Going::Both] {
            for dispatchers in [1, 3] {
                ends(
                    &format!("{mode:?}, {going:?}, {dispatchers} dispatchers"),
                    move || {
                        for _ in rounds(30) {
                            release(mode, dispatchers, going);
                        }
                    },
                );
            }
        }
    }
}

fn release(mode: Dispatch, dispatchers: usize, going: Going) {
    const EVENTS: u64 = 300;
    let bus = bus(|b| {
        b.dispatch(mode)
            .dispatchers(dispatchers)
            .lane_capacity(1024)
    });
    let mut reads = bus
        .subscription("a")
        .overflow(Overflow::Block)
        .open()
        .expect("open");
    let full: Vec<_> = (1..=5)
        .map(|capacity| {
            let full = bus
                .subscription("a")
                .capacity(capacity)
                .overflow(Overflow::Block);
            full.open().expect("open")
        })
        .collect();
    publish_each(&bus, 0..EVENTS);
    assert!(!bus.flush_within(Duration::ZERO));
    let start = Barrier::new(2 * full.len());
    // All of them have ended when the scope ends: under manual dispatch no other thread checks
    // later.
    let idle: Vec<_> = thread::scope(|scope| {
        let mut going_threads = Vec::new();
        for sub in full {
            let (handle, start) = (sub.handle(), &start);
            scope.spawn(move || {
                start.wait();
                if !matches!(going, Going::Dropped) {
                    assert!(handle.cancel() || matches!(going, Going::Both));
                }
            });
            going_threads.push(scope.spawn(move || {
                start.wait();
                matches!(going, Going::Cancelled).then_some(sub)
            }));
        }
        going_threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert!(bus.flush_within(FOR_EVER));
    assert_eq!(ids(&mut reads), (1..=EVENTS).collect::<Vec<_>>());
    for mut sub in idle {
        assert_eq!(sub.recv().err(), Some(RecvError::Cancelled));
        let stats = sub.stats();
        assert_eq!((stats.received, stats.lost), (0, 0));
        assert_eq!(stats.unread, stats.matched);
    }
}

#[test]
fn cancel_and_statistics_work_after_close() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        publish_each(&bus, 0..3);
        assert!(bus.close_within(FOR_EVER).in_time);
        assert_eq!(sub.recv().map(|event| event.id()), Ok(1));
        let handle = sub.handle();
        assert_eq!(bus.stats().sequenced, 3);
        assert_eq!(bus.stats().subscriptions, 0, "a closed bus has none");
        assert_eq!(handle.last_id(), Some(3));
        assert!(handle.cancel());
        assert!(!handle.cancel());
        assert_eq!(read_to_end(&mut sub), (vec![], RecvError::Cancelled));
        let stats = handle.stats();
        assert_eq!((stats.matched, stats.received, stats.unread), (3, 1, 2));
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(3)));
        assert_eq!(bus.stats().subscriptions, 0);
    });
}

#[test]
fn a_handle_does_not_keep_the_subscription() {
    let bus = bus::<u32>(|b| b);
    let handle: SubscriptionHandle<u32> = bus.subscribe("a").expect("open").handle();
    assert!(
        handle.patterns().is_empty(),
        "the subscriber was dropped, so the subscription has ended"
    );
}

/// Unread events are dropped with their subscriber, and not at the next round of the shard.
#[test]
fn unread_events_are_dropped_with_the_subscriber() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus(|b| b.dispatch(mode));
        let sub = bus.subscribe("a").expect("open");
        (0..100).for_each(|_| bus.publish("a", OnDrop::counts(&dropped)).expect("open"));
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        drop(sub);
        eventually("the payloads are dropped", || {
            dropped.load(Ordering::SeqCst) == 100
        });
    });
}

/// A subscriber that has received `Closed` does not receive `Cancelled` later.
#[test]
fn a_cancel_after_the_end_changes_nothing() {
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    bus.publish("a", 1).expect("open");
    bus.close();
    assert_eq!(read_to_end(&mut sub).1, RecvError::Closed);
    sub.handle().cancel();
    assert_eq!(sub.recv().unwrap_err(), RecvError::Closed);
}

/// One thread cancels and so wakes a receiver, while another thread publishes and a third one
/// closes.
#[test]
fn cancel_against_close() {
    in_every_mode(|mode| {
        for _ in rounds(100) {
            let bus = bus(|b| b.dispatch(mode));
            let mut sub = bus.subscribe("a").expect("open");
            let handle = sub.handle();
            bus.publish("a", 1).expect("open");
            let (sender, seen) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| bus.close());
                scope.spawn(|| handle.cancel());
                scope.spawn(move || sender.send(read_to_end(&mut sub).1));
            });
            let ending = seen.recv().expect("reported");
            assert!(
                matches!(ending, RecvError::Closed | RecvError::Cancelled),
                "{ending:?}"
            );
            assert!(!handle.cancel());
            let stats = handle.stats();
            assert_eq!(stats.received + stats.unread, stats.matched);
            eventually("the shard has run", || handle.last_id().is_some());
        }
    });
}
