//! Wakers that panic: in `wake`, in `clone`, and when they are dropped, with a panic whose value
//! panics again. A healthy task or thread that waits afterwards is woken.

#![allow(
    unsafe_code,
    reason = "a safe waker cannot panic in `clone`: it is made from its functions"
)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::thread;

use fanout::{Dispatch, Ending, Event, PublishError};
use smol::stream::Stream;

use crate::support::{
    FOR_EVER, PanicOnDrop, blocking, bus, ends, eventually, fill_both_lanes, in_every_mode,
    in_modes_with_threads, manual, publish_each, read_out,
};
use crate::tasks::Wakes;

/// The operation in which a waker panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Clone,
    Drop,
    Wake,
}

const FAULTS: [Fault; 3] = [Fault::Clone, Fault::Drop, Fault::Wake];

struct Faulty {
    fault: Fault,
    /// How often the operation was called so far.
    calls: Arc<AtomicUsize>,
    /// What the operation does.
    action: Box<dyn Fn() + Send + Sync>,
}

impl Faulty {
    /// Returns a waker that panics in this operation, and the number of panics.
    fn waker(fault: Fault) -> (Waker, Arc<AtomicUsize>) {
        Self::waker_that(fault, || PanicOnDrop::start())
    }

    /// Returns a waker that does this in this operation, and the number of calls.
    fn waker_that(
        fault: Fault,
        action: impl Fn() + Send + Sync + 'static,
    ) -> (Waker, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let faulty = Arc::new(Self {
            fault,
            calls: calls.clone(),
            action: Box::new(action),
        });
        let data = Arc::into_raw(faulty).cast();
        // SAFETY: each function takes the pointer of an `Arc<Faulty>`, and owns one count of it.
        (
            unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) },
            calls,
        )
    }

    fn called(&self, operation: Fault) {
        if self.fault == operation {
            self.calls.fetch_add(1, Ordering::SeqCst);
            (self.action)();
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, release);

fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the pointer is that of an `Arc` which the caller keeps.
    unsafe { (*data.cast::<Faulty>()).called(Fault::Clone) };
    // SAFETY: as above.
    unsafe { Arc::increment_strong_count(data.cast::<Faulty>()) };
    RawWaker::new(data, &VTABLE)
}

fn wake(data: *const ()) {
    // SAFETY: the pointer is that of an `Arc`, and this function owns one count.
    let faulty = unsafe { Arc::from_raw(data.cast::<Faulty>()) };
    faulty.called(Fault::Wake);
}

fn wake_by_ref(data: *const ()) {
    // SAFETY: the pointer is that of an `Arc` which the caller keeps.
    unsafe { (*data.cast::<Faulty>()).called(Fault::Wake) };
}

fn release(data: *const ()) {
    // SAFETY: as in `wake`.
    let faulty = unsafe { Arc::from_raw(data.cast::<Faulty>()) };
    faulty.called(Fault::Drop);
}

/// Calls `f` with a waker that panics in this operation. The panic of `clone` may arrive here, and
/// that of the drop of the waker which this function owns.
fn with_faulty<R>(fault: Fault, f: impl FnOnce(&mut Context<'_>) -> R) -> (Option<R>, usize) {
    let (waker, panics) = Faulty::waker(fault);
    let outcome = catch_unwind(AssertUnwindSafe(|| f(&mut Context::from_waker(&waker))));
    let seen = panics.load(Ordering::SeqCst);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(waker)));
    assert_eq!(
        dropped.map_err(std::mem::forget).is_err(),
        fault == Fault::Drop
    );
    (outcome.map_err(std::mem::forget).ok(), seen)
}

/// Polls with a waker of each fault and with healthy wakers in turn, while nothing is ready; then
/// `make_ready` is called, and the last healthy waker must be woken, and the poll be ready.
fn survives(
    what: &str,
    poll: &mut dyn FnMut(&mut Context<'_>) -> bool,
    make_ready: &mut dyn FnMut(),
) {
    for fault in FAULTS {
        let (ready, panics) = with_faulty(fault, |context| poll(context));
        match fault {
            Fault::Clone => assert_eq!((ready, panics), (None, 1), "{what}: it was cloned"),
            Fault::Drop | Fault::Wake => {
                assert_eq!(ready, Some(false), "{what}, {fault:?}");
            }
        }
        // It replaces the faulty one.
        let (_, healthy) = Wakes::new();
        let ready = catch_unwind(AssertUnwindSafe(|| {
            poll(&mut Context::from_waker(&healthy))
        }));
        let ready = ready.map_err(std::mem::forget);
        assert_eq!(ready, Ok(false), "{what}, after {fault:?}: contained");
    }
    with_faulty(Fault::Clone, |context| poll(context));
    let (wakes, healthy) = Wakes::new();
    assert!(!poll(&mut Context::from_waker(&healthy)), "{what}");
    make_ready();
    eventually(&format!("{what}: the healthy task is woken"), || {
        make_ready();
        wakes.count() > 0
    });
    eventually(&format!("{what}: ready"), || {
        make_ready();
        poll(&mut Context::from_waker(&healthy))
    });
}

/// The poll of a future.
fn polls(mut future: impl Future + Unpin) -> impl FnMut(&mut Context<'_>) -> bool {
    move |context| Pin::new(&mut future).poll(context).is_ready()
}

#[test]
fn a_subscriber_survives_faulty_wakers() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let mut publish = || {
            bus.publish("a", 1).expect("open");
            bus.drive();
        };
        survives("recv", &mut polls(sub.recv_async()), &mut publish);
        assert!(
            bus.flush_within(FOR_EVER),
            "each event that was published can be read"
        );
        read_out(&mut sub);
        let mut stream = sub.into_stream();
        let mut poll =
            |context: &mut Context<'_>| Pin::new(&mut stream).poll_next(context).is_ready();
        survives("stream", &mut poll, &mut publish);
        let mut sub = stream.into_inner();
        assert!(
            bus.flush_within(FOR_EVER),
            "each event that was published can be read"
        );
        read_out(&mut sub);
        let mut stream = sub.into_batch_stream();
        let mut poll =
            |context: &mut Context<'_>| Pin::new(&mut stream).poll_next(context).is_ready();
        survives("batch stream", &mut poll, &mut publish);
    });
}

/// A task that receives without a pause yields now and then: it is pending although there are
/// events, and wakes itself.
#[test]
fn a_task_that_yields_survives_faulty_wakers() {
    const EVENTS: u64 = 500;
    let bus = manual::<u64>();
    let mut sub = bus
        .subscription("a")
        .capacity(EVENTS as usize)
        .open()
        .expect("open");
    publish_each(&bus, 0..EVENTS);
    bus.drive();
    let mut yields = 0;
    let mut received = 0;
    while received < EVENTS {
        let (polled, panics) = with_faulty(Fault::Wake, |context| {
            pin!(sub.recv_async())
                .poll(context)
                .map(|item| item.map(Event::id))
        });
        match polled.expect("the panic is contained") {
            Poll::Ready(item) => {
                received += 1;
                assert_eq!((item, panics), (Ok(received), 0));
            }
            Poll::Pending => {
                yields += 1;
                assert_eq!(panics, 1, "it woke itself");
            }
        }
    }
    assert!(yields > 0);
}

/// On a manual bus that closes, the engine keeps a second waker of a task that receives.
#[test]
fn a_receive_from_a_closing_manual_bus_survives_faulty_wakers() {
    let bus = manual::<u64>();
    let mut full = blocking(&bus, 1);
    let mut sub = bus.subscribe("b").expect("open");
    publish_each(&bus, 0..3);
    bus.close();
    let mut end = || {
        read_out(&mut full);
    };
    survives("recv", &mut polls(sub.recv_async()), &mut end);
}

/// After the faulty tasks, a thread waits.
#[test]
fn a_thread_that_waits_after_faulty_wakers_is_woken() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        for fault in FAULTS {
            let (_, panics) = with_faulty(fault, |context| {
                Pin::new(&mut sub.recv_async()).poll(context).is_ready()
            });
            assert!(panics == 1 || fault != Fault::Clone);
            let reading = thread::spawn(move || {
                let event = sub.recv_timeout(FOR_EVER).map(|event| *event.data());
                (event, sub)
            });
            crate::support::yield_for_a_while();
            bus.publish("a", 7).expect("open");
            let (event, back) = reading.join().expect("no panic");
            assert_eq!(event, Ok(7));
            sub = back;
        }
    });
}

#[test]
fn publishers_that_wait_for_room_survive_faulty_wakers() {
    in_every_mode(|mode| {
        for own in [true, false] {
            let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
            let sub = Rc::new(RefCell::new(blocking(&bus, 1)));
            let mut publisher = bus.publisher();
            fill_both_lanes(&bus, &mut publisher, &0);
            let mut make_room = || {
                read_out(&mut sub.borrow_mut());
                bus.drive();
            };
            if own {
                let mut waiting = polls(publisher.publish_async("a", 1));
                survives("own lane", &mut waiting, &mut make_room);
            } else {
                let mut waiting = polls(bus.publish_async("a", 1));
                survives("shared lane", &mut waiting, &mut make_room);
            }
        }
    });
}

/// A publisher that waits as a thread, after a task that used its lane had a faulty waker.
#[test]
fn a_publishing_thread_that_waits_after_faulty_wakers_is_woken() {
    in_modes_with_threads(|mode| {
        for fault in FAULTS {
            let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
            let mut sub = blocking(&bus, 1);
            let mut publisher = bus.publisher();
            fill_both_lanes(&bus, &mut publisher, &0);
            with_faulty(fault, |context| {
                let own = pin!(publisher.publish_async("a", 1));
                assert!(own.poll(context).is_pending());
            });
            with_faulty(fault, |context| {
                let shared = pin!(bus.publish_async("a", 1));
                assert!(shared.poll(context).is_pending());
            });
            let publishing = thread::spawn({
                let bus = bus.clone();
                move || {
                    publisher.publish("a", 2).expect("open");
                    bus.publish("a", 2).expect("open");
                }
            });
            crate::support::yield_for_a_while();
            eventually("both are published", || {
                read_out(&mut sub);
                publishing.is_finished()
            });
            publishing.join().expect("no panic");
        }
    });
}

#[test]
fn receipts_survive_faulty_wakers() {
    in_every_mode(|mode| {
        for own in [true, false] {
            let bus = bus(|b| b.dispatch(mode).lane_capacity(64));
            let mut sub = blocking(&bus, 1);
            let mut publisher = bus.publisher();
            // The lanes are not empty and not full: events wait behind the full ring.
            fill_both_lanes(&bus, &mut publisher, &0);
            let mut make_room = || {
                read_out(&mut sub);
                bus.drive();
            };
            if own {
                let mut waiting = polls(publisher.publish_sequenced_async("a", 1));
                survives("receipt, own lane", &mut waiting, &mut make_room);
            } else {
                let mut waiting = polls(bus.publish_sequenced_async("a", 1));
                survives("receipt, shared lane", &mut waiting, &mut make_room);
            }
        }
    });
}

#[test]
fn a_receipt_of_an_accepted_event_survives_faulty_wakers() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual));
    let mut drive = || {
        bus.drive();
    };
    let mut waiting = polls(bus.publish_sequenced_async("a", 1));
    survives("receipt", &mut waiting, &mut drive);
}

#[test]
fn waiting_for_the_end_survives_faulty_wakers() {
    in_every_mode(|mode| {
        let bus = bus::<i32>(|b| b.dispatch(mode));
        for by_close in [false, true] {
            let sub = bus.subscribe("a").expect("open");
            let handle = sub.handle();
            let mut ended = pin!(handle.ended());
            let mut end = || {
                if by_close {
                    bus.close();
                } else {
                    handle.cancel();
                }
            };
            let mut poll = |context: &mut Context<'_>| match ended.as_mut().poll(context) {
                Poll::Ready(ending) => {
                    let expected = if by_close {
                        Ending::Closed
                    } else {
                        Ending::Cancelled
                    };
                    assert_eq!(ending, expected);
                    true
                }
                Poll::Pending => false,
            };
            survives("ended", &mut poll, &mut end);
        }
    });
}

#[test]
fn flush_and_close_survive_faulty_wakers() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = blocking(&bus, 1);
        (0..4).for_each(|_| bus.publish("a", 1).expect("open"));
        let mut make_room = || {
            read_out(&mut sub);
            bus.drive();
        };
        survives("flush", &mut polls(bus.flush_async()), &mut make_room);
        (0..4).for_each(|_| bus.publish("a", 1).expect("open"));
        survives("close", &mut polls(bus.close_async()), &mut make_room);
    });
}

/// A task that waits is registered once, however often it is polled and however many others wait,
/// and no longer when its future is dropped. The references to its waker say so: that of the test,
/// that of the waker, and one more.
#[test]
fn a_task_that_waits_is_registered_once() {
    const TASKS: usize = 1000;
    const POLLS: usize = 100;
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
        let mut sub = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        fill_both_lanes(&bus, &mut publisher, &0);
        let handle = sub.handle();
        let tasks: Vec<_> = (0..TASKS).map(|_| Wakes::new()).collect();
        let mut futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
        let own = publisher.publish_async("a", 1);
        futures.push(Box::pin(async { drop(own.await) }));
        futures.push(Box::pin(async {
            handle.ended().await;
        }));
        let (sequenced, bus) = (bus.publish_sequenced_async("a", 1), &bus);
        futures.push(Box::pin(async { drop(sequenced.await) }));
        if mode != Dispatch::Manual {
            // Under manual dispatch each poll drives the bus.
            futures.extend((0..10).map(|_| -> Pin<Box<dyn Future<Output = ()>>> {
                let flush = bus.flush_async();
                Box::pin(async {
                    flush.await;
                })
            }));
        }
        while futures.len() < TASKS {
            let shared = bus.publish_async("a", 1);
            futures.push(Box::pin(async { drop(shared.await) }));
        }
        for _ in 0..POLLS {
            for (future, (_, waker)) in futures.iter_mut().zip(&tasks) {
                let pending = future.as_mut().poll(&mut Context::from_waker(waker));
                assert!(pending.is_pending());
            }
        }
        for (index, (wakes, _)) in tasks.iter().enumerate() {
            // A flush is woken by each round that has progress.
            let expected = 3 - wakes.count().min(1);
            assert!(
                Arc::strong_count(wakes) <= 3,
                "{index}: {}",
                Arc::strong_count(wakes)
            );
            assert!(Arc::strong_count(wakes) >= expected, "{index}");
        }
        drop(futures);
        for (index, (wakes, _)) in tasks.iter().enumerate() {
            assert_eq!(Arc::strong_count(wakes), 2, "{index}");
        }
        read_out(&mut sub);
    });
}

/// A waker that publishes into a full lane must not wait: under manual dispatch its own thread
/// would have to make the room.
#[test]
fn neither_the_clone_nor_the_drop_of_a_waker_waits_for_room() {
    for fault in [Fault::Clone, Fault::Drop] {
        ends(&format!("{fault:?}"), move || {
            let bus = bus::<u64>(|b| b.dispatch(Dispatch::Manual).lane_capacity(2));
            let mut sub = bus.subscribe("b").expect("open");
            let mut publishing = bus.publisher();
            let refused = Arc::new(AtomicUsize::new(0));
            let (counter, weak) = (refused.clone(), bus.downgrade());
            let (waker, calls) = Faulty::waker_that(fault, move || {
                let bus = weak.upgrade().expect("open");
                let result = bus.publish("a", 1);
                assert!(matches!(result, Err(PublishError::WouldDeadlock(1))));
                counter.fetch_add(1, Ordering::SeqCst);
            });
            for n in 0..2 {
                bus.publish("a", n).expect("room");
                publishing.publish("a", n).expect("room");
            }
            let (_, healthy) = Wakes::new();
            let mut sequenced = pin!(publishing.publish_sequenced_async("a", 2));
            let handle = sub.handle();
            for context in [&waker, &healthy, &waker] {
                let mut context = Context::from_waker(context);
                assert!(pin!(sub.recv_async()).poll(&mut context).is_pending());
                assert!(sequenced.as_mut().poll(&mut context).is_pending());
                assert!(pin!(handle.ended()).poll(&mut context).is_pending());
                let mut flushing = pin!(bus.publish_async("a", 3));
                assert!(flushing.as_mut().poll(&mut context).is_pending());
            }
            assert!(handle.cancel());
            let called = calls.load(Ordering::SeqCst);
            assert!(called > 0);
            assert_eq!(refused.load(Ordering::SeqCst), called);
            // The drop of this waker is the program's.
            bus.drive();
            std::mem::forget(waker);
        });
    }
}
