//! User code that the bus calls never waits for the bus: the calling thread may be the one that it
//! would wait for.

use fanout::{Bus, Dispatch, Overflow, PublishSequencedError, SlowLimit, Subscriber, WeakBus};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::support::{FOR_EVER, OnDrop, bus, ends, in_every_mode, manual};

/// A time limit that is over when user code has slept for as long.
const BRIEF: Duration = Duration::from_millis(2);

/// What user code says: whether publishing would have been a deadlock.
type Answers = mpsc::Sender<bool>;

/// User code that publishes, and would wait for the id of the event.
fn publish_and_wait(bus: &WeakBus<OnDrop>, answers: &Answers) {
    let bus = bus.upgrade().expect("open");
    let answer = bus.publish_sequenced("x", OnDrop::nothing());
    let would_deadlock = matches!(
        answer,
        Err(PublishSequencedError::Refused(
            fanout::PublishError::WouldDeadlock(_)
        ))
    );
    let _ = answers.send(would_deadlock);
}

type Read = fn(&mut Subscriber<OnDrop>);

/// Ways in which a reader drops the events of a block.
const WAYS: [(&str, Read); 4] = [
    ("try_recv", |sub| {
        sub.try_recv().expect("an event");
        let _ = sub.try_recv().map(drop);
    }),
    ("recv", |sub| {
        sub.recv().expect("an event");
        let _ = sub.recv_timeout(Duration::from_millis(1)).map(drop);
    }),
    ("a batch", |sub| drop(sub.next_batch().expect("an event"))),
    ("an owned event", |sub| {
        let event = sub.next().expect("open");
        let _ = sub.try_recv().map(drop);
        drop(event);
    }),
];

#[test]
fn the_drop_of_a_payload_in_a_reader_does_not_wait() {
    in_every_mode(|mode| {
        for (way, read) in WAYS {
            let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
            let block = bus.subscription("x").capacity(1).overflow(Overflow::Block);
            let mut sub = block.open().expect("open");
            let (answers, answered) = mpsc::channel();
            let weak = bus.downgrade();
            let payload = OnDrop::new(move || publish_and_wait(&weak, &answers));
            bus.publish("x", payload).expect("open");
            assert!(bus.flush_within(FOR_EVER), "there is room");
            read(&mut sub);
            assert_eq!(answered.try_recv(), Ok(true), "{way}");
            drop(sub);
        }
    });
}

#[test]
fn the_drop_of_a_payload_in_a_dropped_subscriber_does_not_wait() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let sub = bus.subscribe("x").expect("open");
        let (answers, answered) = mpsc::channel();
        let weak = bus.downgrade();
        let payload = OnDrop::new(move || publish_and_wait(&weak, &answers));
        bus.publish("x", payload).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        drop(sub);
        assert_eq!(answered.recv_timeout(FOR_EVER), Ok(true));
    });
}

/// Under manual dispatch the thread that drives the bus calls `on_slow`.
#[test]
fn the_callback_of_on_slow_does_not_wait_under_manual_dispatch() {
    ends("driving", || {
        let (answers, answered) = mpsc::channel();
        let own = Arc::new(Mutex::new(None::<WeakBus<OnDrop>>));
        let weak = own.clone();
        let bus = bus::<OnDrop>(|b| {
            b.dispatch(Dispatch::Manual)
                .on_slow(SlowLimit::events(1), move |_| {
                    let weak = weak.lock().expect("no panic").clone();
                    publish_and_wait(&weak.expect("set"), &answers);
                })
        });
        *own.lock().expect("no panic") = Some(bus.downgrade());
        let _slow = bus.subscribe("x").expect("open");
        bus.publish("x", OnDrop::nothing()).expect("open");
        bus.drive();
        assert_eq!(answered.try_recv(), Ok(true));
    });
}

struct Publishes(WeakBus<OnDrop>, Answers);

impl Wake for Publishes {
    fn wake(self: Arc<Self>) {
        publish_and_wait(&self.0, &self.1);
    }
}

#[test]
fn a_waker_that_a_cancel_calls_does_not_wait() {
    in_every_mode(|mode| {
        let bus = bus::<OnDrop>(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("x").expect("open");
        let handle = sub.handle();
        let (answers, answered) = mpsc::channel();
        let waker = Waker::from(Arc::new(Publishes(bus.downgrade(), answers)));
        let mut context = Context::from_waker(&waker);
        let mut receiving = pin!(sub.recv_async());
        let mut ended = pin!(handle.ended());
        assert!(receiving.as_mut().poll(&mut context).is_pending());
        assert!(ended.as_mut().poll(&mut context).is_pending());
        assert!(handle.cancel());
        for _ in 0..2 {
            assert_eq!(answered.recv_timeout(FOR_EVER), Ok(true));
        }
    });
}

/// The closure owns its own subscription, so only the end of the handler drops it. The time limit
/// of the call that runs the callback is over.
#[test]
fn a_manual_bus_that_a_callback_of_another_bus_drops_runs_its_handlers() {
    ends("the bus closes", || {
        let bus = manual::<String>();
        let calls = Arc::new(AtomicUsize::new(0));
        let (counter, dropped) = (calls.clone(), OnDrop::counts(&calls));
        let own = Arc::new(Mutex::new(None));
        let slot = own.clone();
        let handler = bus.on("x", move |_| {
            let _owned = (&slot, &dropped);
            counter.fetch_add(1000, Ordering::SeqCst);
        });
        *own.lock().expect("no panic") = Some(handler.expect("open").detach());
        drop(own);
        bus.publish("x", String::new()).expect("open");

        let other: Bus<u64> = manual();
        let mut last = Some(bus);
        let guard = other.on("go", move |_| {
            thread::sleep(BRIEF);
            drop(last.take());
        });
        let _guard = guard.expect("open");
        other.publish("go", 1).expect("open");
        other.flush_within(BRIEF);
        assert_eq!(calls.load(Ordering::SeqCst), 1001, "handled, and dropped");
    });
}

/// A limit says what the bus may begin, and is no limit for the calls of user code.
#[test]
fn a_callback_that_outlasts_a_limit_can_use_another_bus() {
    ends("the callback returns", || {
        let outer: Bus<u64> = manual();
        let (answers, answered) = mpsc::channel();
        let guard = outer.on("go", move |_| {
            thread::sleep(BRIEF);
            let bus = manual::<String>();
            let mut sub = bus.subscribe("a").expect("open");
            bus.publish("a", String::new()).expect("open");
            bus.close();
            answers.send(sub.recv().is_ok()).expect("the test waits");
        });
        let _guard = guard.expect("open");
        outer.publish("go", 1).expect("open");
        outer.flush_within(BRIEF);
        assert_eq!(answered.try_recv(), Ok(true));
    });
}
