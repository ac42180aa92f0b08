//! How a subscription ends: the ending is available at once and is the same for every handle, and
//! threads and tasks can wait for it.

use fanout::{
    Bus, ChangeError, Dispatch, Ending, Overflow, RecvError, Subscriber, SubscriptionHandle,
    TryRecvError,
};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{
    FOR_EVER, MODES, blocking, bus, ends, eventually, in_modes_with_threads, manual,
    panics_quietly, publish_each, read_to_end, rounds, yield_for_a_while,
};
use crate::tasks::{RUNTIMES, Task, Wakes, block_on, now_or_never, poll};

/// The cause of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Cancel,
    /// The ring overflows under `Overflow::Disconnect`.
    Disconnect,
    Close,
    /// The weigher panics.
    Break,
    /// The subscriber, its task, or the handler's guard is dropped.
    Drop,
}

const CAUSES: [Cause; 5] = [
    Cause::Cancel,
    Cause::Disconnect,
    Cause::Close,
    Cause::Break,
    Cause::Drop,
];

/// The owner of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Subscriber,
    /// A task that owns the subscriber, and is busy with its first event.
    Task,
    /// A handler that is busy with its first event.
    Handler,
}

const READERS: [Reader; 3] = [Reader::Subscriber, Reader::Task, Reader::Handler];

/// The payload that breaks the bus.
const BREAKS: u64 = 13;

fn weigher(data: &u64) -> usize {
    if *data == BREAKS {
        panics_quietly();
    }
    0
}

/// The owner of a subscription. It has received the first event, and receives no more until the
/// gate opens.
enum Owner {
    Subscriber(Subscriber<u64>),
    /// A future that received one event, and waits for the gate.
    Task(Pin<Box<dyn Future<Output = RecvError>>>),
    Handler(fanout::HandlerGuard<u64>),
}

struct Scene {
    bus: Bus<u64>,
    handle: SubscriptionHandle<u64>,
    owner: Owner,
    /// When this is dropped, the task and the handler continue.
    gate: mpsc::Sender<()>,
}

fn scene(mode: Dispatch, reader: Reader, cause: Cause) -> Scene {
    let bus = bus(|b| b.dispatch(mode).weigh(weigher));
    let (gate, wait) = mpsc::channel();
    let builder = bus.subscription("a");
    let builder = match cause {
        Cause::Disconnect => builder.capacity(1).overflow(Overflow::Disconnect),
        _ => builder,
    };
    let (handle, owner) = match reader {
        Reader::Handler => {
            let (began, begins) = mpsc::channel();
            let guard = builder.handler(move |_| {
                let _ = began.send(());
                let _ = wait.recv();
            });
            let guard = guard.expect("open");
            bus.publish("a", 0).expect("open");
            if mode != Dispatch::Manual {
                begins.recv_timeout(FOR_EVER).expect("it begins");
            }
            (guard.subscription().clone(), Owner::Handler(guard))
        }
        Reader::Subscriber | Reader::Task => {
            let mut sub = builder.open().expect("open");
            let handle = sub.handle();
            bus.publish("a", 0).expect("open");
            bus.drive();
            sub.recv().expect("one event");
            let owner = if reader == Reader::Subscriber {
                Owner::Subscriber(sub)
            } else {
                let mut task = Box::pin(async move {
                    std::future::poll_fn(|_| match wait.try_recv() {
                        Err(mpsc::TryRecvError::Empty) => Poll::Pending,
                        _ => Poll::Ready(()),
                    })
                    .await;
                    loop {
                        if let Err(error) = sub.recv_async().await {
                            return error;
                        }
                    }
                });
                assert!(poll(&mut task, std::task::Waker::noop()).is_pending());
                Owner::Task(task)
            };
            (handle, owner)
        }
    };
    Scene {
        bus,
        handle,
        owner,
        gate,
    }
}

/// Waiters for the end, with all methods.
struct Waiting {
    threads: Vec<JoinHandle<Ending>>,
}

impl Waiting {
    fn begin(handle: &SubscriptionHandle<u64>) -> Self {
        let blocking = handle.clone();
        let ended = handle.ended();
        let threads = vec![
            thread::spawn(move || blocking.wait_ended(FOR_EVER).expect("it ends")),
            thread::spawn(move || block_on(ended)),
        ];
        Self { threads }
    }

    fn end(self) -> Vec<Ending> {
        let join = |thread: JoinHandle<Ending>| thread.join().expect("no panic");
        self.threads.into_iter().map(join).collect()
    }
}

fn has_ended(handle: &SubscriptionHandle<u64>, bus: &Bus<u64>) {
    assert!(handle.is_ended());
    assert_eq!(handle.wait_ended(Duration::ZERO), handle.ending());
    assert_eq!(now_or_never(handle.ended()), handle.ending());
    assert_eq!(handle.add("b"), Err(ChangeError::Ended));
    assert_eq!(handle.remove("a"), Err(ChangeError::Ended));
    assert!(bus.subscriptions().is_empty());
    assert_eq!(bus.stats().subscriptions, 0);
    assert_eq!(
        (bus.stats().lag_max, bus.stats().lag_time_max),
        (0, Duration::ZERO)
    );
}

fn is_open(handle: &SubscriptionHandle<u64>, bus: &Bus<u64>) {
    assert!(!handle.is_ended());
    assert_eq!(handle.ending(), None);
    assert_eq!(handle.wait_ended(Duration::ZERO), None);
    assert_eq!(now_or_never(handle.ended()), None);
    assert_eq!(handle.add("b"), Ok(true));
    assert_eq!(handle.remove("b"), Ok(true));
    assert_eq!(bus.subscriptions().len(), 1);
    assert_eq!(bus.stats().subscriptions, 1);
}

#[test]
fn every_ending_is_returned_at_once_by_every_handle() {
    for mode in MODES {
        for reader in READERS {
            for cause in CAUSES {
                let what = format!("{mode:?}, {reader:?}, {cause:?}");
                ends(&what, move || every_end(mode, reader, cause));
            }
        }
    }
}

fn every_end(mode: Dispatch, reader: Reader, cause: Cause) {
    let Scene {
        bus,
        handle,
        owner,
        gate,
    } = scene(mode, reader, cause);
    is_open(&handle, &bus);
    let waiting = Waiting::begin(&handle);
    yield_for_a_while();
    // A manual bus runs its handlers on the thread that drives, which is this one.
    let gate = (mode != Dispatch::Manual || reader != Reader::Handler).then_some(gate);
    let owner = Some(owner);
    let owner = match cause {
        Cause::Cancel => {
            assert!(handle.cancel());
            owner
        }
        Cause::Disconnect => {
            publish_each(&bus, 1..=3);
            bus.drive();
            owner
        }
        Cause::Close => {
            bus.publish("a", 1).expect("open");
            bus.close();
            owner
        }
        Cause::Break => {
            let _ = bus.publish("a", BREAKS);
            bus.drive();
            owner
        }
        Cause::Drop => {
            drop(owner);
            None
        }
    };
    // The end itself wakes the waiters, before the subscriber has received it.
    let seen = waiting.end();
    let ending = handle.ending().expect("it has ended");
    assert!(
        seen.iter().all(|seen| *seen == ending),
        "{seen:?}, {ending:?}"
    );
    let (expected, error) = match cause {
        Cause::Cancel | Cause::Drop => (Ending::Cancelled, RecvError::Cancelled),
        Cause::Close => (Ending::Closed, RecvError::Closed),
        Cause::Break => (Ending::Broken, RecvError::Broken),
        Cause::Disconnect => {
            let Ending::Disconnected(gap) = ending else {
                panic!("{ending}")
            };
            assert_eq!(gap.count(), handle.stats().lost);
            assert_eq!(gap.count(), gap.last_id() - gap.first_id() + 1);
            (ending, RecvError::Disconnected(gap))
        }
    };
    assert_eq!(ending, expected);
    has_ended(&handle, &bus);
    let keeps_patterns = matches!(cause, Cause::Close);
    assert_eq!(handle.patterns().is_empty(), !keeps_patterns);
    if cause == Cause::Disconnect {
        assert!(handle.last_id().is_some());
    }
    // The owner continues, and gets the same ending.
    drop(gate);
    match owner {
        Some(Owner::Subscriber(mut sub)) => assert_eq!(read_to_end(&mut sub).1, error),
        Some(Owner::Task(task)) => assert_eq!(block_on(task), error),
        Some(Owner::Handler(guard)) => {
            bus.drive();
            if cause != Cause::Break {
                assert!(bus.close_within(FOR_EVER).in_time);
            }
            assert!(!guard.cancel() || cause == Cause::Close);
        }
        None => {}
    }
    has_ended(&handle, &bus);
    assert_eq!(handle.ending(), Some(expected), "for ever");
    bus.close();
    assert_eq!(handle.ending(), Some(expected), "for ever");
}

/// A task that is busy, for example with a slow write to a socket, can find out about the
/// disconnect while it is busy.
#[test]
fn a_busy_task_can_find_out_that_it_was_disconnected() {
    ends("a busy task", || {
        let bus = bus::<u64>(|b| b);
        let sub = bus.subscription("a").capacity(2);
        let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
        bus.publish("a", 0).expect("open");
        let session = async move {
            sub.recv_async().await.expect("an event");
            let busy = std::future::pending::<Ending>();
            smol::future::or(busy, sub.handle().ended()).await
        };
        let session = thread::spawn(move || smol::block_on(session));
        while !session.is_finished() {
            bus.publish("a", 1).expect("open");
            thread::yield_now();
        }
        let ending = session.join().expect("no panic");
        assert!(matches!(ending, Ending::Disconnected(_)), "{ending}");
    });
}

#[test]
fn many_tasks_wait_for_one_end_on_every_runtime() {
    for runtime in RUNTIMES {
        ends(&format!("{runtime:?}"), move || {
            let bus = bus::<u64>(|b| b);
            let sub = bus.subscribe("a").expect("open");
            let handle = sub.handle();
            let mut tasks: Vec<Task<Ending>> = Vec::new();
            for _ in 0..20 {
                tasks.push(Box::pin(handle.ended()));
            }
            tasks.push(Box::pin(async move {
                drop(sub);
                Ending::Cancelled
            }));
            let seen = runtime.run(tasks);
            assert_eq!(seen, vec![Ending::Cancelled; 21]);
        });
    }
}

/// A future that is dropped, or polled by another task, leaves no waker behind, and removes no
/// other waker.
#[test]
fn a_dropped_future_leaves_no_waker() {
    let bus = bus::<u64>(|b| b);
    let sub = bus.subscribe("a").expect("open");
    let handle = sub.handle();
    let (stays, stays_waker) = Wakes::new();
    let mut staying = Box::pin(handle.ended());
    assert!(poll(&mut staying, &stays_waker).is_pending());
    for _ in 0..100 {
        let (wakes, waker) = Wakes::new();
        let (other, other_waker) = Wakes::new();
        let mut going = Box::pin(handle.ended());
        let mut same_task = Box::pin(handle.ended());
        assert!(poll(&mut going, &waker).is_pending());
        assert!(poll(&mut going, &waker).is_pending());
        assert!(poll(&mut same_task, &waker).is_pending());
        assert_eq!(Arc::strong_count(&wakes), 4, "two futures, two of ours");
        assert!(poll(&mut going, &other_waker).is_pending());
        assert_eq!(Arc::strong_count(&wakes), 3);
        assert_eq!(Arc::strong_count(&other), 3);
        drop(going);
        assert_eq!(Arc::strong_count(&other), 2);
        drop(same_task);
        assert_eq!((Arc::strong_count(&wakes), wakes.count()), (2, 0));
    }
    assert_eq!(stays.count(), 0);
    drop(sub);
    assert_eq!(stays.count(), 1);
    assert_eq!(
        poll(&mut staying, &stays_waker),
        Poll::Ready(Ending::Cancelled)
    );
    drop(staying);
    assert_eq!(Arc::strong_count(&stays), 2);
}

/// A panic of a waker is contained, and the other waiters are woken.
#[test]
fn a_waker_that_panics_is_contained() {
    struct Bad;
    impl std::task::Wake for Bad {
        fn wake(self: Arc<Self>) {
            panics_quietly();
        }
    }
    let bus = manual::<u64>();
    let sub = bus.subscription("a").capacity(1);
    let sub = sub.overflow(Overflow::Disconnect).open().expect("open");
    let handle = sub.handle();
    let mut bad = Box::pin(handle.ended());
    assert!(poll(&mut bad, &Arc::new(Bad).into()).is_pending());
    let (wakes, waker) = Wakes::new();
    let mut good = Box::pin(handle.ended());
    assert!(poll(&mut good, &waker).is_pending());
    publish_each(&bus, 0..3);
    bus.drive();
    assert_eq!(wakes.count(), 1);
    assert!(poll(&mut good, &waker).is_ready());
    bus.publish("a", 1).expect("the bus is not broken");
}

/// The future borrows nothing, and keeps neither the bus nor the subscription open.
#[test]
fn waiting_keeps_nothing_open() {
    let bus = bus::<u64>(|b| b);
    let sub = bus.subscribe("a").expect("open");
    let ended = sub.handle().ended();
    drop(bus);
    assert_eq!(block_on(ended), Ending::Closed);
    let bus = crate::support::bus::<u64>(|b| b);
    let ended = bus.subscribe("a").expect("open").handle().ended();
    assert_eq!(block_on(ended), Ending::Cancelled);
}

/// `Closed` may change until the subscriber has received it. Then it is final.
#[test]
fn closed_may_change_until_the_subscriber_received_it() {
    // The subscription is cancelled while events wait.
    let bus = manual::<u64>();
    let mut sub = bus.subscribe("a").expect("open");
    let handle = sub.handle();
    bus.publish("a", 1).expect("open");
    bus.close();
    assert_eq!(handle.ending(), Some(Ending::Closed));
    assert!(handle.cancel(), "it still had something to read");
    assert_eq!(handle.ending(), Some(Ending::Cancelled));
    assert_eq!(sub.try_recv().err(), Some(TryRecvError::Cancelled));

    // The subscriber receives the end first: nothing changes it later.
    let bus = crate::support::manual::<u64>();
    let mut sub = bus.subscribe("a").expect("open");
    let handle = sub.handle();
    bus.close();
    assert_eq!(read_to_end(&mut sub).1, RecvError::Closed);
    assert!(!handle.cancel());
    assert_eq!(handle.ending(), Some(Ending::Closed));
    drop(sub);
    assert_eq!(handle.ending(), Some(Ending::Closed));

    // An event that was accepted before the close does not fit, behind another subscriber that has
    // no room.
    let bus = crate::support::manual::<u64>();
    let mut full = blocking(&bus, 1);
    let sub = bus.subscription("b").capacity(1);
    let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
    let handle = sub.handle();
    publish_each(&bus, 0..2);
    bus.drive();
    (0..3).for_each(|n| bus.publish("b", n).expect("open"));
    bus.close();
    assert_eq!(handle.ending(), Some(Ending::Closed));
    read_to_end(&mut full);
    let ending = handle.ending();
    assert!(
        matches!(ending, Some(Ending::Disconnected(_))),
        "{ending:?}"
    );
    let (seen, error) = read_to_end(&mut sub);
    assert_eq!(seen.len(), 1);
    assert!(matches!(error, RecvError::Disconnected(_)), "{error}");
    assert_eq!(handle.ending(), ending);
}

/// The gap remains available after the subscriber has received it, and after it was dropped.
#[test]
fn the_gap_of_a_disconnect_remains_available() {
    for reads in [0, 1, 3] {
        let bus = manual::<u64>();
        let sub = bus.subscription("a").capacity(1);
        let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
        let handle = sub.handle();
        publish_each(&bus, 0..5);
        bus.drive();
        let ending = handle.ending();
        let Some(Ending::Disconnected(gap)) = ending else {
            panic!("{ending:?}")
        };
        assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (2, 5, 4));
        for _ in 0..reads {
            let _event = sub.try_recv();
        }
        assert_eq!(handle.ending(), ending);
        drop(sub);
        assert_eq!(handle.ending(), ending);
        drop(bus);
        assert_eq!(handle.ending(), ending);
    }
}

/// Inside a handler `wait_ended` does not wait.
#[test]
fn a_handler_does_not_wait_for_its_own_end() {
    ends("wait_ended inside a handler", || {
        let bus = bus::<u64>(|b| b);
        let (sender, answers) = mpsc::channel();
        let (hand_over, handed) = mpsc::channel::<SubscriptionHandle<u64>>();
        let guard = bus.on("a", move |_| {
            let handle = handed.recv_timeout(FOR_EVER).expect("handed over");
            let _ = sender.send(handle.wait_ended(FOR_EVER));
        });
        let guard = guard.expect("open");
        let _ = hand_over.send(guard.subscription().clone());
        bus.publish("a", 1).expect("open");
        assert_eq!(answers.recv_timeout(FOR_EVER), Ok(None));
    });
}

/// Waiters are added and removed while the subscription ends by all causes at the same time: every
/// waiter gets an ending.
#[test]
fn waiters_and_a_concurrent_end() {
    in_modes_with_threads(|mode| {
        for _ in rounds(300) {
            let bus = bus::<u64>(|b| b.dispatch(mode));
            let sub = bus.subscription("a").capacity(1);
            let sub = sub.overflow(Overflow::Disconnect).open().expect("open");
            let handle = sub.handle();
            let start = Barrier::new(7);
            let heard = AtomicUsize::new(0);
            thread::scope(|scope| {
                for n in 0..3 {
                    let (handle, start, heard) = (&handle, &start, &heard);
                    scope.spawn(move || {
                        start.wait();
                        for _ in 0..n {
                            let (_, waker) = Wakes::new();
                            let mut dropped = Box::pin(handle.ended());
                            let _ = poll(&mut dropped, &waker);
                        }
                        block_on(handle.ended());
                        heard.fetch_add(1, Ordering::SeqCst);
                    });
                }
                scope.spawn(|| {
                    start.wait();
                    handle.wait_ended(FOR_EVER).expect("it ends");
                });
                scope.spawn(|| {
                    start.wait();
                    (0..3).for_each(|n| drop(bus.publish("a", n)));
                });
                scope.spawn(|| {
                    start.wait();
                    bus.close();
                });
                start.wait();
                handle.cancel();
            });
            assert_eq!(heard.load(Ordering::SeqCst), 3);
            drop(sub);
        }
    });
}

/// All later calls return the same ending, that of the cause that came first.
#[test]
fn disconnect_against_cancel_has_one_winner() {
    ends("disconnect against cancel", || {
        for _ in rounds(500) {
            let bus = bus::<u64>(|b| b);
            let sub = bus.subscription("a").capacity(1);
            let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
            let handle = sub.handle();
            let cancelled = thread::scope(|scope| {
                scope.spawn(|| publish_each(&bus, 0..3));
                scope.spawn(|| handle.cancel()).join().expect("no panic")
            });
            assert!(bus.flush_within(FOR_EVER));
            let ending = handle.ending();
            assert_eq!(cancelled, ending == Some(Ending::Cancelled), "{ending:?}");
            let (_, error) = read_to_end(&mut sub);
            match ending {
                Some(Ending::Disconnected(gap)) => {
                    assert_eq!(error, RecvError::Disconnected(gap));
                }
                _ => assert_eq!(error, RecvError::Cancelled),
            }
        }
    });
}

#[test]
fn endings_read_as_sentences() {
    let bus = manual::<u64>();
    let sub = bus.subscription("a").capacity(1);
    let sub = sub.overflow(Overflow::Disconnect).open().expect("open");
    publish_each(&bus, 0..3);
    bus.drive();
    let ending = sub.handle().ending().expect("it has ended");
    let text = ending.to_string();
    assert!(
        text.starts_with("the subscription was disconnected: lost 2 "),
        "{text}"
    );
    assert_eq!(Ending::Closed.to_string(), "the bus was closed");
    assert_eq!(
        Ending::Cancelled.to_string(),
        "the subscription was cancelled"
    );
    assert!(Ending::Broken.to_string().starts_with("the bus is broken"));
}

/// A disconnected subscription is removed from the index when a program tries to change its
/// patterns.
#[test]
fn a_refused_change_unregisters_a_disconnected_subscription() {
    let bus = manual::<u64>();
    let sub = bus.subscription("a").capacity(1);
    let mut sub = sub.overflow(Overflow::Disconnect).open().expect("open");
    let handle = sub.handle();
    publish_each(&bus, 0..3);
    bus.drive();
    assert_eq!(handle.add("b"), Err(ChangeError::Ended));
    let (seen, error) = read_to_end(&mut sub);
    assert_eq!(seen.len(), 1, "what waits is still read");
    assert!(matches!(error, RecvError::Disconnected(_)), "{error}");
    eventually("the sums agree", || {
        let stats = bus.stats();
        (stats.matched, stats.received, stats.lost) == (3, 1, 2)
    });
}
