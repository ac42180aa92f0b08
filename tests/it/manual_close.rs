//! A bus under manual dispatch that closes: the thread that may have made progress possible drives
//! it, so that every accepted event is delivered and handled, and every closure is dropped.

use fanout::{Bus, Overflow, RecvError, RecvTimeoutError, TryRecvError};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, OnDrop, blocking, ends, eventually, in_every_mode, manual, publish_each, read_to_end,
    yield_for_a_while,
};

/// A handler that counts its calls, and the drop of its closure as 1,000 calls.
fn counting<T: Send + Sync + 'static>(bus: &Bus<T>, topic: &str) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let dropped = calls.clone();
    let on_drop = OnDrop::new(move || {
        dropped.fetch_add(1000, Ordering::SeqCst);
    });
    let handler = bus.on(topic, move |_| {
        let _owned = &on_drop;
        counter.fetch_add(1, Ordering::SeqCst);
    });
    handler.expect("open").detach();
    calls
}

#[test]
fn a_reader_of_a_closing_bus_runs_its_handlers() {
    ends("reading to the end", || {
        let bus = manual();
        let mut sub = blocking(&bus, 1);
        let handled = Arc::new(AtomicUsize::new(0));
        let counter = handled.clone();
        let handler = bus.subscription("a").capacity(64).overflow(Overflow::Block);
        let handler = handler.handler(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        handler.expect("open").detach();
        publish_each(&bus, 0..300);
        drop(bus);
        let (seen, ending) = read_to_end(&mut sub);
        assert_eq!((seen.len(), ending), (300, RecvError::Closed));
        assert_eq!(handled.load(Ordering::SeqCst), 300);
    });
}

/// What lets a close continue that waits for a `Block` subscriber.
#[derive(Clone, Copy, Debug)]
enum Progress {
    Reads,
    ReadsAsTask,
    ReadsWithTimeouts,
    Dropped,
    Cancelled,
}

#[test]
fn whatever_lets_a_close_finish_runs_the_handlers() {
    use Progress::{Cancelled, Dropped, Reads, ReadsAsTask, ReadsWithTimeouts};
    for goes_on in [Reads, ReadsAsTask, ReadsWithTimeouts, Dropped, Cancelled] {
        ends(&format!("{goes_on:?}"), move || {
            let bus = manual();
            let mut sub = blocking(&bus, 1);
            let handled = counting(&bus, "b");
            publish_each(&bus, [1, 2]);
            bus.drive();
            bus.publish("b", 3).expect("open");
            drop(bus);
            assert_eq!(handled.load(Ordering::SeqCst), 0, "the shard waits");
            match goes_on {
                Reads => assert_eq!(read_to_end(&mut sub).0.len(), 2),
                ReadsAsTask => smol::block_on(async { while sub.recv_async().await.is_ok() {} }),
                ReadsWithTimeouts => while sub.recv_timeout(FOR_EVER).is_ok() {},
                Dropped => drop(sub),
                Cancelled => assert!(sub.handle().cancel()),
            }
            assert_eq!(handled.load(Ordering::SeqCst), 1001);
        });
    }
}

/// The event that has no room is the last owner of the bus.
#[test]
fn a_bus_whose_last_owner_is_a_stalled_event_closes_when_that_is_dropped() {
    ends("the close", || {
        let bus = manual::<OnDrop>();
        let sub = blocking(&bus, 1);
        let handled = counting(&bus, "b");
        let owner = bus.clone();
        bus.publish("a", OnDrop::nothing()).expect("open");
        bus.drive();
        bus.publish("a", OnDrop::new(move || drop(owner)))
            .expect("open");
        bus.drive();
        bus.publish("b", OnDrop::nothing()).expect("open");
        drop(bus);
        let handle = sub.handle();
        assert!(!handle.is_ended(), "the event owns the bus");
        assert!(handle.cancel());
        assert_eq!(handled.load(Ordering::SeqCst), 1001);
    });
}

/// A reader waits for the close, which waits for another subscriber that never reads.
#[test]
fn a_reader_that_waits_is_woken_when_the_subscriber_in_its_way_ends() {
    for cancels in [false, true] {
        for _ in 0..20 {
            ends("the reader", move || {
                let bus = manual();
                let stuck = blocking(&bus, 1);
                let mut waits = bus.subscribe("b").expect("open");
                publish_each(&bus, [1, 2]);
                bus.publish("b", 3).expect("open");
                bus.drive();
                drop(bus);
                let reading = thread::spawn(move || read_to_end(&mut waits));
                yield_for_a_while();
                if cancels {
                    assert!(stuck.handle().cancel());
                } else {
                    drop(stuck);
                }
                let (seen, ending) = reading.join().expect("no panic");
                assert_eq!((seen.len(), ending), (1, RecvError::Closed));
            });
        }
    }
}

#[test]
fn a_flush_that_waits_is_woken_when_the_subscriber_in_its_way_ends() {
    for cancels in [false, true] {
        for _ in 0..20 {
            ends("the flush", move || {
                let bus = manual();
                let stuck = blocking(&bus, 1);
                publish_each(&bus, [1, 2]);
                let flushed = bus.clone();
                let flushing = thread::spawn(move || flushed.flush_within(FOR_EVER));
                yield_for_a_while();
                if cancels {
                    assert!(stuck.handle().cancel());
                } else {
                    drop(stuck);
                }
                assert!(flushing.join().expect("no panic"));
            });
        }
    }
}

/// Counts how often a task is woken.
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Tasks that wait for the progress of a close must not wake one another for ever.
#[test]
fn tasks_that_wait_for_a_closing_bus_come_to_rest() {
    ends("the tasks", || {
        let bus = manual();
        let stuck = blocking(&bus, 1);
        publish_each(&bus, [1, 2]);
        let mut subs: Vec<_> = (0..3).map(|_| bus.subscribe("b").expect("open")).collect();
        drop(bus);
        let wakes: Vec<_> = (0..3)
            .map(|_| Arc::new(Wakes(AtomicUsize::new(1))))
            .collect();
        let mut waiting: Vec<_> = subs.iter_mut().map(|sub| sub.recv_async()).collect();
        let mut polls = 0;
        while wakes.iter().any(|wakes| wakes.0.load(Ordering::SeqCst) > 0) {
            for (task, wakes) in waiting.iter_mut().zip(&wakes) {
                if wakes.0.swap(0, Ordering::SeqCst) > 0 {
                    let waker = Waker::from(wakes.clone());
                    let mut context = Context::from_waker(&waker);
                    assert!(Pin::new(task).poll(&mut context).is_pending());
                    polls += 1;
                }
            }
            assert!(polls < 30, "they wake one another");
        }
        drop(stuck);
        for task in waiting {
            assert_eq!(smol::block_on(task).err(), Some(RecvError::Closed));
        }
    });
}

/// The thread that drops the payload is the one that would have to deliver the event.
#[test]
fn a_receive_on_a_dispatching_thread_does_not_wait() {
    in_every_mode(|mode| {
        let bus = crate::support::bus::<OnDrop>(|b| b.dispatch(mode));
        let results = Arc::new(Mutex::new(None));
        let mut sub = bus.subscribe("never").expect("open");
        let answers = results.clone();
        let receives = OnDrop::new(move || {
            let answer = (
                sub.recv().err(),
                sub.recv_timeout(Duration::MAX).err(),
                sub.try_recv().err(),
                sub.next().is_none(),
            );
            *answers.lock().expect("no panic") = Some(answer);
        });
        bus.publish("nobody", receives).expect("open");
        bus.drive();
        eventually("the payload was dropped", || {
            results.lock().expect("no panic").is_some()
        });
        let answer = results.lock().expect("no panic").take();
        assert_eq!(
            answer,
            Some((
                Some(RecvError::WouldDeadlock),
                Some(RecvTimeoutError::WouldDeadlock),
                Some(TryRecvError::Empty),
                true
            ))
        );
    });
}
