//! Code that the tests share: buses and subscribers, functions that read, payloads whose drop runs
//! code, and a guard against tests that hang.

use fanout::{
    Bus, BusBuilder, Dispatch, Event, Gap, Overflow, Publisher, RecvError, Subscriber, TryRecvError,
};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any step of a test takes on a busy machine. A step that takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than [`PATIENCE`]: if a wait with this limit ends before the test fails, it was woken and
/// did not time out.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(3600);

pub(crate) const MODES: [Dispatch; 4] = [
    Dispatch::Adaptive,
    Dispatch::Pool,
    Dispatch::Inline,
    Dispatch::Manual,
];

/// The modes in which a bus has threads.
const MODES_WITH_THREADS: [Dispatch; 3] = [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline];

/// Runs `f` with this logger for the calling thread.
///
/// While a process has one logger, `tracing` asks only the logger of the thread that comes to a
/// logging place first whether that place is of interest, and remembers the result. Tests on other
/// threads have none, and would disable the place for this thread, too. A second logger prevents
/// that.
#[cfg(feature = "tracing")]
pub(crate) fn with_logger<R>(
    logger: impl tracing::Subscriber + Clone + Send + Sync + 'static,
    f: impl FnOnce() -> R,
) -> R {
    let second = tracing::Dispatch::new(logger.clone());
    let result = tracing::subscriber::with_default(logger, f);
    drop(second);
    result
}

/// Runs a test in each dispatch mode, on a separate thread. If the test hangs, it fails.
pub(crate) fn in_every_mode(test: impl Fn(Dispatch) + Clone + Send + 'static) {
    in_modes(&MODES, test);
}

/// Like [`in_every_mode`], without [`Dispatch::Manual`].
pub(crate) fn in_modes_with_threads(test: impl Fn(Dispatch) + Clone + Send + 'static) {
    in_modes(&MODES_WITH_THREADS, test);
}

fn in_modes(modes: &[Dispatch], test: impl Fn(Dispatch) + Clone + Send + 'static) {
    for &mode in modes {
        let test = test.clone();
        ends(&format!("{mode:?}"), move || test(mode));
    }
}

/// Runs a test in each dispatch mode, with one shard and with three, on a separate thread. If the
/// test hangs, it fails.
pub(crate) fn in_every_mode_and_shards(test: impl Fn(Dispatch, usize) + Clone + Send + 'static) {
    in_modes_and_shards(&MODES, test);
}

/// Like [`in_every_mode_and_shards`], without [`Dispatch::Manual`].
pub(crate) fn in_modes_with_threads_and_shards(
    test: impl Fn(Dispatch, usize) + Clone + Send + 'static,
) {
    in_modes_and_shards(&MODES_WITH_THREADS, test);
}

fn in_modes_and_shards(
    modes: &[Dispatch],
    test: impl Fn(Dispatch, usize) + Clone + Send + 'static,
) {
    for &mode in modes {
        for dispatchers in [1, 3] {
            let test = test.clone();
            ends(&format!("{mode:?}, {dispatchers} dispatchers"), move || {
                test(mode, dispatchers);
            });
        }
    }
}

/// Runs a test on a separate thread, and fails if the test does not end.
pub(crate) fn ends<R: Send + 'static>(what: &str, test: impl FnOnce() -> R + Send + 'static) -> R {
    ends_within(PATIENCE, what, test)
}

pub(crate) fn ends_within<R: Send + 'static>(
    limit: Duration,
    what: &str,
    test: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = test();
        let _ = sender.send(()); // the waiter may have given up
        result
    });
    if receiver.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("hangs: {what} has not ended after {limit:?}");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The rounds of a race, from 0: the given number, or fewer if they take longer than a few seconds
/// on a busy machine.
pub(crate) fn rounds(max: u64) -> impl Iterator<Item = u64> {
    let start = Instant::now();
    (0..max).take_while(move |_| start.elapsed() < Duration::from_secs(5))
}

/// A bus that dispatches only in `drive`, and in calls that flush or close.
pub(crate) fn manual<T: Send + Sync + 'static>() -> Bus<T> {
    bus(|b| b.dispatch(Dispatch::Manual))
}

/// Publishes events, each in its own block.
pub(crate) fn one_by_one(bus: &Bus<u64>, events: u64) {
    for n in 0..events {
        bus.publish("a", n).expect("open");
        bus.drive();
    }
}

/// Publishes events in blocks of up to 64.
pub(crate) fn at_once(bus: &Bus<u64>, events: u64) {
    publish_each(bus, 0..events);
    bus.drive();
}

/// Publishes the payloads on the topic `a`.
pub(crate) fn publish_each<T: Send + Sync + 'static>(
    bus: &Bus<T>,
    payloads: impl IntoIterator<Item = T>,
) {
    for payload in payloads {
        assert!(bus.publish("a", payload).is_ok(), "the bus is open");
    }
}

/// Waits for a condition that no call can wait for.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

/// Gives a thread that is about to wait the time to do so. This only provokes a race: no result
/// depends on it.
pub(crate) fn yield_for_a_while() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(500) {
        thread::yield_now();
    }
}

pub(crate) fn bus<T: Send + Sync + 'static>(
    build: impl FnOnce(BusBuilder<T>) -> BusBuilder<T>,
) -> Bus<T> {
    build(Bus::builder().blocking(true).dispatchers(1))
        .build()
        .expect("in range")
}

/// A `Block` subscriber with this capacity.
pub(crate) fn blocking<T: Send + Sync + 'static>(bus: &Bus<T>, capacity: usize) -> Subscriber<T> {
    let builder = bus.subscription("a").capacity(capacity);
    builder.overflow(Overflow::Block).open().expect("open")
}

/// An item that a subscriber received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamItem {
    Id(u64),
    Lost(Gap),
}

/// Receives all items that are available now, and returns them with the last error.
pub(crate) fn read_out<T: Send + Sync + 'static>(
    sub: &mut Subscriber<T>,
) -> (Vec<StreamItem>, TryRecvError) {
    let mut seen = Vec::new();
    loop {
        match sub.try_recv() {
            Ok(event) => seen.push(StreamItem::Id(event.id())),
            Err(TryRecvError::Lost(gap)) => seen.push(StreamItem::Lost(gap)),
            Err(ending) => return (seen, ending),
        }
    }
}

/// Receives all items up to the end, and returns them with the ending.
pub(crate) fn read_to_end<T: Send + Sync + 'static>(
    sub: &mut Subscriber<T>,
) -> (Vec<StreamItem>, RecvError) {
    let mut seen = Vec::new();
    loop {
        match sub.recv() {
            Ok(event) => seen.push(StreamItem::Id(event.id())),
            Err(RecvError::Lost(gap)) => seen.push(StreamItem::Lost(gap)),
            Err(ending) => {
                assert_eq!(sub.recv().err(), Some(ending), "for ever");
                return (seen, ending);
            }
        }
    }
}

/// Publishes until the rings, the shards and the lanes are full, because a `Block` subscriber is
/// full. `publish` returns whether the event was accepted. Returns the number of accepted events.
pub(crate) fn fill<T: Send + Sync + 'static>(
    bus: &Bus<T>,
    mut publish: impl FnMut() -> bool,
) -> u64 {
    let mut accepted = 0;
    let mut refused = 0;
    while refused < 2 {
        if publish() {
            accepted += 1;
            refused = 0;
        } else {
            refused += 1;
            assert!(
                !bus.flush_within(Duration::from_millis(5)),
                "a full subscriber delays the flush"
            );
        }
    }
    accepted
}

/// Like [`fill`], through the lane of the publisher and the shared lane.
pub(crate) fn fill_both_lanes<T: Clone + Send + Sync + 'static>(
    bus: &Bus<T>,
    publisher: &mut Publisher<T>,
    payload: &T,
) -> u64 {
    fill(bus, || publisher.try_publish("a", payload.clone()).is_ok())
        + fill(bus, || bus.try_publish("a", payload.clone()).is_ok())
}

/// The ids of the available events. No event may be lost.
pub(crate) fn ids<T: Send + Sync + 'static>(sub: &mut Subscriber<T>) -> Vec<u64> {
    let id = |seen| match seen {
        StreamItem::Id(id) => id,
        StreamItem::Lost(gap) => panic!("{gap}"),
    };
    read_out(sub).0.into_iter().map(id).collect()
}

/// The payloads of the available events. No event may be lost.
pub(crate) fn payloads<T: Clone + Send + Sync + 'static>(sub: &mut Subscriber<T>) -> Vec<T> {
    let mut payloads = Vec::new();
    loop {
        match sub.try_recv().map(Event::data) {
            Ok(data) => payloads.push(data.clone()),
            Err(TryRecvError::Lost(gap)) => panic!("{gap}"),
            Err(_) => return payloads,
        }
    }
}

/// Panics without calling the panic hook, whose message would look like a failed test. The value of
/// the panic panics again when it is dropped.
pub(crate) fn panics_quietly() {
    PanicOnDrop::start();
}

/// The value of a panic that panics when it is dropped, with a value of the same kind.
pub(crate) struct PanicOnDrop;

impl PanicOnDrop {
    /// Panics with this value, without calling the panic hook.
    pub(crate) fn start() -> ! {
        resume_unwind(Box::new(PanicOnDrop))
    }
}

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        PanicOnDrop::start();
    }
}

/// A payload that does something when it is dropped.
pub(crate) struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl OnDrop {
    pub(crate) fn new(f: impl FnOnce() + Send + Sync + 'static) -> OnDrop {
        OnDrop(Some(Box::new(f)))
    }

    pub(crate) fn nothing() -> OnDrop {
        OnDrop(None)
    }

    pub(crate) fn panics() -> OnDrop {
        OnDrop::new(panics_quietly)
    }

    pub(crate) fn counts(counter: &Arc<AtomicUsize>) -> OnDrop {
        let counter = counter.clone();
        OnDrop::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// A gate: threads of handlers and observers wait in it until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(AtomicBool, AtomicUsize)>);

impl Gate {
    pub(crate) fn wait(&self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        eventually("the gate opens", || {
            thread::sleep(Duration::from_micros(200));
            self.0.0.load(Ordering::SeqCst)
        });
        self.0.1.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.0.0.store(true, Ordering::SeqCst);
    }

    /// The number of threads that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// A small random number generator (xorshift), so that a failing run can be repeated from its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
