//! Calls with a time limit keep it, although they run user code: after the limit they begin no
//! other drop of a payload and no other call of a waker.

use fanout::{Bus, Dispatch, Overflow, RecvTimeoutError};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::support::{
    FOR_EVER, OnDrop, bus, ends, eventually, in_every_mode, in_modes_with_threads, manual,
    publish_each,
};

/// How long user code takes in these tests.
const SLOW: Duration = Duration::from_millis(20);

/// A limit that is over after the first call of user code.
const LIMIT: Duration = Duration::from_millis(1);

/// More than one block has.
const EVENTS: usize = 100;

/// When, and on which threads, user code began to run.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(ThreadId, Instant)>>>);

impl Calls {
    fn note(&self) {
        let call = (thread::current().id(), Instant::now());
        self.0.lock().expect("no panic").push(call);
        thread::sleep(SLOW);
    }

    /// A payload whose drop is noted.
    fn payload(&self) -> OnDrop {
        let calls = self.clone();
        OnDrop::new(move || calls.note())
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// Runs a call with a limit. Once the limit is over, it must not begin to run user code on this
    /// thread.
    fn keep_limit<R>(&self, limit: Duration, call: impl FnOnce() -> R) -> R {
        let deadline = Instant::now() + limit;
        let result = call();
        let here = thread::current().id();
        let calls = self.0.lock().expect("no panic");
        let late = |(thread, at): &&(ThreadId, Instant)| *thread == here && *at > deadline;
        // One: the limit may be over between the look at the clock and the call.
        let late = calls.iter().filter(late).count();
        assert!(late <= 1, "{late} of {} calls are late", calls.len());
        drop(calls);
        result
    }
}

/// Publishes payloads whose drops are slow.
fn publish_slow(bus: &Bus<OnDrop>, calls: &Calls, topic: &str) {
    for _ in 0..EVENTS {
        bus.publish(topic, calls.payload()).expect("open");
    }
}

fn all_dropped(bus: &Bus<OnDrop>, calls: &Calls) {
    eventually("every payload was dropped", || {
        bus.drive();
        calls.len() == EVENTS
    });
}

/// No subscriber gets the events, so the thread that dispatches drops them.
#[test]
fn a_flush_drops_no_payload_after_its_limit() {
    in_every_mode(|mode| {
        let calls = Calls::default();
        let bus = bus(|b| b.dispatch(mode));
        if mode == Dispatch::Inline {
            return; // the publishing threads have dropped the payloads
        }
        publish_slow(&bus, &calls, "nobody");
        calls.keep_limit(LIMIT, || bus.flush_within(LIMIT));
        all_dropped(&bus, &calls);
    });
}

#[test]
fn a_close_drops_no_payload_after_its_limit() {
    in_every_mode(|mode| {
        if mode == Dispatch::Inline {
            return; // the publishing threads have dropped the payloads
        }
        let calls = Calls::default();
        let bus = bus(|b| b.dispatch(mode));
        publish_slow(&bus, &calls, "nobody");
        calls.keep_limit(LIMIT, || bus.close_within(LIMIT));
        all_dropped(&bus, &calls);
    });
}

#[test]
fn a_flush_and_a_close_call_no_weigher_after_their_limits() {
    in_every_mode(|mode| {
        if mode == Dispatch::Inline {
            return; // the publishing threads have called it
        }
        for close in [false, true] {
            let calls = Calls::default();
            let weigher = calls.clone();
            let bus = bus::<u64>(|b| {
                b.dispatch(mode).weigh(move |_| {
                    weigher.note();
                    0
                })
            });
            let _sub = bus.subscribe("a").expect("open");
            publish_each(&bus, 0..20);
            calls.keep_limit(LIMIT, || match close {
                false => bus.flush_within(LIMIT),
                true => bus.close_within(LIMIT).in_time,
            });
        }
    });
}

/// A shard is stalled until its block timeout is over, and then has events for many handlers.
#[test]
fn a_receive_from_a_closing_manual_bus_begins_no_turn_after_its_timeout() {
    let calls = Calls::default();
    let bus = manual::<u64>();
    let full = bus.subscription("b").capacity(1).overflow(Overflow::Block);
    let full = full.block_timeout(Duration::from_millis(20));
    let _full = full.open().expect("open");
    let mut idle = bus.subscribe("nothing").expect("open");
    let handlers: Vec<_> = (0..20)
        .map(|_| {
            let calls = calls.clone();
            bus.on("a", move |_| calls.note()).expect("open")
        })
        .collect();
    for n in 0..3 {
        bus.publish("b", n).expect("open");
    }
    bus.drive();
    publish_each(&bus, 0..3);
    bus.close();
    assert_eq!(calls.len(), 0, "the shard is stalled");
    thread::sleep(Duration::from_millis(25));
    calls.keep_limit(LIMIT, || idle.recv_timeout(LIMIT).is_err());
    calls.keep_limit(LIMIT, || idle.next_batch_timeout(LIMIT).is_err());
    eventually("all events are handled", || {
        bus.drive();
        calls.len() == 60
    });
    drop(handlers);
}

/// Under manual dispatch the thread of the call runs the handlers, and drops what they have
/// handled.
#[test]
fn no_payload_that_was_handled_is_dropped_after_the_limit() {
    type Call = fn(&Bus<OnDrop>);
    let policies = [
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Conflate,
        Overflow::Block,
    ];
    let calls_with_limits: [Call; 2] = [
        |bus| _ = bus.flush_within(LIMIT),
        |bus| _ = bus.close_within(LIMIT),
    ];
    for overflow in policies {
        for call in calls_with_limits {
            let calls = Calls::default();
            let bus = manual::<OnDrop>();
            let subscription = bus.subscription("a").overflow(overflow);
            let _handler = subscription.handler(|_| {}).expect("open");
            publish_slow(&bus, &calls, "a");
            calls.keep_limit(LIMIT, || call(&bus));
            all_dropped(&bus, &calls);
        }
    }
}

/// A full `Block` subscriber keeps the events in the lanes, where the forced close finds them.
#[test]
fn a_forced_close_drops_no_payload_that_was_not_sequenced_after_its_limit() {
    in_every_mode(|mode| {
        let calls = Calls::default();
        let bus = bus(|b| b.dispatch(mode).lane_capacity(1 << 14));
        let block = bus.subscription("a").capacity(1).overflow(Overflow::Block);
        let mut full = block.open().expect("open");
        for _ in 0..10_000 {
            bus.publish("a", OnDrop::nothing()).expect("open");
        }
        publish_slow(&bus, &calls, "a");
        bus.drive();
        let report = calls.keep_limit(LIMIT, || bus.close_within(LIMIT));
        assert!(!report.in_time);
        assert!(report.unsequenced >= EVENTS as u64, "{report:?}");
        assert_eq!(report.unsequenced + bus.stats().sequenced, 10_000 + 100);
        assert_eq!(bus.stats().queued, 0);
        assert!(full.recv().is_ok(), "what was in the ring");
        all_dropped(&bus, &calls);
    });
}

/// The subscriber holds the block of the events that it has received.
#[test]
fn a_receive_drops_no_payload_after_its_timeout() {
    in_every_mode(|mode| {
        let calls = Calls::default();
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        publish_slow(&bus, &calls, "a");
        assert!(bus.flush_within(FOR_EVER));
        (0..EVENTS).for_each(|_| assert!(sub.try_recv().is_ok()));
        let before = calls.len();
        let empty = calls.keep_limit(LIMIT, || sub.recv_timeout(LIMIT).map(drop));
        assert_eq!(empty, Err(RecvTimeoutError::Timeout));
        assert!(before < EVENTS, "the last block was not dropped before");
        all_dropped(&bus, &calls);
    });
}

/// The events in the ring of a handler are dropped by the thread that cancels it, or by the thread
/// that ends its turn.
#[test]
fn a_cancel_drops_no_payload_after_its_limit() {
    in_every_mode(|mode| {
        let calls = Calls::default();
        let bus = bus(|b| b.dispatch(mode));
        let busy = bus.on("busy", |_| thread::sleep(SLOW)).expect("open");
        let handler = bus.on("a", |_| thread::sleep(SLOW)).expect("open");
        publish_slow(&bus, &calls, "a");
        calls.keep_limit(LIMIT, || handler.cancel_and_wait(LIMIT));
        drop((handler, busy));
        all_dropped(&bus, &calls);
    });
}

#[test]
fn a_publish_drops_no_payload_after_its_timeout() {
    ends("inline dispatch", || {
        let calls = Calls::default();
        let bus = bus(|b| b.dispatch(Dispatch::Inline));
        let block = bus.subscription("a").capacity(EVENTS);
        let evicting = block.overflow(Overflow::DropOldest).open().expect("open");
        publish_slow(&bus, &calls, "a");
        drop(evicting);
        let before = calls.len();
        calls.keep_limit(LIMIT, || {
            bus.publish_timeout("a", OnDrop::nothing(), LIMIT)
                .expect("open")
        });
        assert!(before <= EVENTS);
        all_dropped(&bus, &calls);
    });
}

/// A task whose waker is slow.
struct SlowWaker(Calls);

impl Wake for SlowWaker {
    fn wake(self: Arc<Self>) {
        self.0.note();
    }
}

/// Each of many tasks waits for an event, and their wakers are slow.
#[test]
fn a_flush_and_a_close_call_no_waker_after_their_limits() {
    in_every_mode(|mode| {
        for close in [false, true] {
            let calls = Calls::default();
            let bus = bus(|b| b.dispatch(mode));
            let mut subs: Vec<_> = (0..EVENTS)
                .map(|_| bus.subscribe("a").expect("open"))
                .collect();
            let waker = Waker::from(Arc::new(SlowWaker(calls.clone())));
            let mut waiting: Vec<_> = subs.iter_mut().map(|sub| sub.recv_async()).collect();
            for future in &mut waiting {
                let mut context = Context::from_waker(&waker);
                assert!(Pin::new(future).poll(&mut context).is_pending());
            }
            if mode != Dispatch::Inline {
                bus.publish("a", 1).expect("open");
            }
            calls.keep_limit(LIMIT, || {
                if close {
                    bus.close_within(LIMIT);
                } else {
                    bus.flush_within(LIMIT);
                }
            });
            if close || mode != Dispatch::Inline {
                eventually("every task was woken", || calls.len() == EVENTS);
            }
            drop(waiting);
        }
    });
}

/// The dispatching thread is inside a waker for long, and holds the shard meanwhile.
#[test]
fn a_close_does_not_wait_for_a_slow_waker() {
    in_modes_with_threads(|mode| {
        struct Hangs(Arc<AtomicBool>, Arc<AtomicBool>);
        impl Wake for Hangs {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
                while !self.1.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        let (inside, leave) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let waker = Waker::from(Arc::new(Hangs(inside.clone(), leave.clone())));
        let mut receives = sub.recv_async();
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut receives).poll(&mut context).is_pending());
        let publisher = bus.clone();
        let publishing = thread::spawn(move || publisher.publish("a", 1).expect("open"));
        eventually("the waker hangs", || inside.load(Ordering::SeqCst));
        let report = bus.close_within(LIMIT); // would wait for ever
        assert!(!report.in_time);
        leave.store(true, Ordering::SeqCst);
        publishing.join().expect("no panic");
        let event = smol::block_on(receives).map(|event| *event.data());
        assert_eq!(event, Ok(1), "what was in the ring is received");
        assert_eq!(sub.recv().err(), Some(fanout::RecvError::Closed));
    });
}

/// A flush ends although other threads publish all the time: at its limit, or when what was
/// accepted before it is in the rings.
#[test]
fn a_flush_ends_while_publishers_publish() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).capacity(64));
        let subs: Vec<_> = (0..100)
            .map(|_| bus.subscribe("a").expect("open"))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let from_handler = Arc::new(AtomicUsize::new(0));
        let (flushing, flushes) = (bus.downgrade(), from_handler.clone());
        bus.on("flush", move |_| {
            let Some(bus) = flushing.upgrade() else {
                return;
            };
            bus.flush_within(Duration::from_millis(10));
            flushes.fetch_add(1, Ordering::SeqCst);
        })
        .expect("open")
        .detach();
        let publishing: Vec<_> = (0..4)
            .map(|_| {
                let (bus, stop) = (bus.clone(), stop.clone());
                thread::spawn(move || {
                    let mut publisher = bus.publisher();
                    while !stop.load(Ordering::Relaxed) {
                        // A full lane, or a closed bus.
                        let _ = publisher.try_publish("a", 1);
                    }
                })
            })
            .collect();
        for n in 1..=10 {
            bus.publish("flush", 0).expect("open");
            bus.flush_within(Duration::from_millis(10));
            assert!(bus.flush_within(FOR_EVER), "{mode:?}");
            eventually("the handler has flushed", || {
                bus.flush_within(FOR_EVER);
                from_handler.load(Ordering::SeqCst) == n
            });
        }
        stop.store(true, Ordering::Relaxed);
        publishing
            .into_iter()
            .for_each(|thread| thread.join().expect("no panic"));
        drop(subs);
    });
}
