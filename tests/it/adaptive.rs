//! Adaptive dispatch, the default: which thread dispatches.
//!
//! A task's waker is called by the thread that dispatches, so it tells these tests which one that
//! was.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

use fanout::{Bus, EventStream};
use smol::stream::Stream;

use crate::support::PATIENCE;

/// The number of subscribers of a shard that a publisher gives an event to, at most.
const INLINE_SUBSCRIBERS_MAX: usize = 64;

/// Remembers which threads have called it.
#[derive(Default)]
struct Witness {
    callers: Mutex<Vec<ThreadId>>,
    called: AtomicUsize,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.callers.lock().unwrap().push(thread::current().id());
        self.called.fetch_add(1, Ordering::Release);
    }
}

/// Polls until there is nothing to receive, so that the next event calls the waker.
fn wait_as_task(stream: &mut EventStream<u64>, waker: &Waker) {
    let mut context = Context::from_waker(waker);
    while let Poll::Ready(event) = Pin::new(&mut *stream).poll_next(&mut context) {
        assert!(event.is_some(), "the bus is open");
    }
}

/// Publishes an event to so many waiting tasks, again and again, after pauses. Returns after how
/// many of these events this thread had called wakers, and after how many other threads had.
fn lone_events(subscribers: usize, events: u64) -> (usize, usize) {
    let bus = Bus::<u64>::builder()
        .dispatchers(1)
        .build()
        .expect("in range");
    let mut publisher = bus.publisher();
    let mut all: Vec<_> = (0..subscribers)
        .map(|_| bus.subscribe("a").expect("a pattern").into_stream())
        .collect();
    let (mut own, mut others) = (0, 0);
    for n in 0..events {
        let witness = Arc::new(Witness::default());
        let waker = Waker::from(witness.clone());
        for stream in &mut all {
            wait_as_task(stream, &waker);
        }
        thread::sleep(Duration::from_millis(2));
        publisher.publish("a", n).expect("the bus is open");
        let began = Instant::now();
        while witness.called.load(Ordering::Acquire) < subscribers {
            assert!(began.elapsed() < PATIENCE, "every task is woken");
            thread::yield_now();
        }
        let callers = witness.callers.lock().unwrap();
        let (here, there): (Vec<&ThreadId>, Vec<&ThreadId>) = callers
            .iter()
            .partition(|caller| **caller == thread::current().id());
        own += usize::from(!here.is_empty());
        others += usize::from(!there.is_empty());
    }
    (own, others)
}

/// A lone event is dispatched by its publisher. (Not always: a thread of the pool may just be
/// looking.)
#[test]
fn a_lone_event_is_dispatched_by_its_publisher() {
    for subscribers in [1, INLINE_SUBSCRIBERS_MAX] {
        let (own, others) = lone_events(subscribers, 100);
        assert!(
            own >= 10,
            "{subscribers} subscribers: {own} of 100, and {others}"
        );
    }
}

/// An event for more subscribers than the bound is dispatched by the pool.
#[test]
fn an_event_for_many_subscribers_is_dispatched_by_the_pool() {
    let (own, others) = lone_events(INLINE_SUBSCRIBERS_MAX + 1, 20);
    assert_eq!((own, others), (0, 20));
}

/// An event that comes while a publisher dispatches another one does not wait for the wakers that
/// this publisher calls.
#[test]
fn an_event_does_not_wait_for_the_waker_of_another_one() {
    /// Returns when the other event was received.
    struct Waits(Mutex<mpsc::Receiver<()>>);

    impl Wake for Waits {
        fn wake(self: Arc<Self>) {
            let received = self.0.lock().unwrap().recv_timeout(PATIENCE);
            received.expect("the other event is delivered meanwhile");
        }
    }

    // The clock, which the publisher of the first event calls when it dispatches, waits until the
    // second event is published.
    let (in_clock, clock_called) = mpsc::channel();
    let (second, is_published) = mpsc::channel();
    let calls = AtomicU64::new(0);
    let bus = Bus::<u64>::builder()
        .dispatchers(2)
        .clock(move || {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                in_clock.send(()).expect("the test waits");
                is_published.recv_timeout(PATIENCE).expect("published");
            }
            SystemTime::now()
        })
        .build()
        .expect("in range");
    let mut first = bus.subscribe("first").expect("a pattern").into_stream();
    let mut others: Vec<_> = (0..3)
        .map(|_| bus.subscribe("second").expect("a pattern"))
        .collect();
    let (received, all_received) = mpsc::channel();
    let waits = Arc::new(Waits(Mutex::new(all_received)));
    wait_as_task(&mut first, &Waker::from(waits));
    // The pool goes to sleep.
    thread::sleep(Duration::from_millis(20));
    let mut publishers = [bus.publisher(), bus.publisher()];
    let [one, other] = &mut publishers;
    thread::scope(|scope| {
        scope.spawn(|| one.publish("first", 1).expect("open"));
        clock_called.recv_timeout(PATIENCE).expect("a round begins");
        other.publish("second", 2).expect("open");
        second.send(()).expect("the clock waits");
        // One of them may be in the shard that waits for the waker.
        let began = Instant::now();
        while others.iter_mut().all(|other| other.try_recv().is_err()) {
            assert!(began.elapsed() < PATIENCE, "an event is delivered");
            thread::yield_now();
        }
        received.send(()).expect("the waker waits");
    });
}

/// A waker that takes long delays the publisher once, and then not again for as long.
#[test]
fn a_slow_waker_takes_half_of_the_time_of_a_publisher_at_most() {
    const SLOW: Duration = Duration::from_millis(100);

    #[derive(Default)]
    struct Slow {
        returned: AtomicU64,
    }

    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            thread::sleep(SLOW);
            self.returned.fetch_add(1, Ordering::Release);
        }
    }

    let bus = Bus::<u64>::builder()
        .dispatchers(1)
        .build()
        .expect("in range");
    let mut stream = bus.subscribe("a").expect("a pattern").into_stream();
    let slow = Arc::new(Slow::default());
    let waker = Waker::from(slow.clone());
    let began = Instant::now();
    let mut publishing = Duration::ZERO;
    for n in 0..12 {
        wait_as_task(&mut stream, &waker);
        // The pool goes to sleep.
        thread::sleep(Duration::from_millis(5));
        let before = Instant::now();
        bus.publish("a", n).expect("the bus is open");
        publishing += before.elapsed();
        while slow.returned.load(Ordering::Acquire) <= n {
            assert!(before.elapsed() < PATIENCE, "the task is woken");
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(publishing >= SLOW, "the publisher has called the waker");
    let bound = began.elapsed() / 2 + SLOW;
    assert!(
        publishing <= bound,
        "{publishing:?} of {:?}",
        began.elapsed()
    );
}
