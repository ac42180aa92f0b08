//! What every [`Broadcaster`] has to pass: call [`run`] in a test of the driver.
//!
//! Each case is a story of its own, on a fresh broadcaster, through `dyn Broadcaster`. It panics where the driver breaks a
//! promise, or does not come to an end. No case depends on how fast anything is: it waits until what must happen has, and
//! what must not happen is looked for after something later has.
//!
//! ```
//! use fanout::broadcast::{Memory, conformance};
//!
//! conformance::run(|setup| {
//!     let memory = Memory::builder().buffer(setup.buffer).logger(setup.logger);
//!     Box::new(memory.build().expect("the buffer is in range"))
//! });
//! ```
//!
//! What it cannot show, a driver has to: that memory stays flat however many channels were in use, and that the logger
//! is never called on a publisher's thread.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::broadcaster::{Broadcaster, BroadcasterExt};
use super::cancel::CancelToken;
use super::error::{BroadcastPublishError, BroadcastSubscribeError};
use super::event::Event;
use super::guard::SubscriptionGuard;
use super::incident::{Incident, Logger};

/// What a case wants of its broadcaster.
///
/// See [the module](self) for an example.
#[non_exhaustive]
pub struct Setup {
    /// Events that may wait for one handler.
    pub buffer: usize,
    /// The logger that it tells.
    pub logger: Logger,
}

/// Makes the broadcaster of a case.
pub type Make = Arc<dyn Fn(Setup) -> Box<dyn Broadcaster> + Send + Sync>;

/// A case: panics where the broadcaster breaks a promise.
pub type Case = fn(&Make);

/// All cases, by name: to run one alone, or some on a driver that cannot do all.
///
/// ```
/// use fanout::broadcast::conformance::{CASES, Make};
/// use fanout::broadcast::{Broadcaster, Memory};
///
/// let make: Make = std::sync::Arc::new(|_| Box::new(Memory::new()) as Box<dyn Broadcaster>);
/// let (_, case) = CASES.iter().find(|(name, _)| *name == "channels_isolate").expect("one of them");
/// case(&make);
/// ```
pub const CASES: &[(&str, Case)] = &[
    (
        "channel_name_and_payload_arrive",
        channel_name_and_payload_arrive,
    ),
    (
        "a_publishers_events_come_in_order",
        a_publishers_events_come_in_order,
    ),
    (
        "three_subscribers_get_one_each",
        three_subscribers_get_one_each,
    ),
    ("channels_isolate", channels_isolate),
    (
        "what_is_no_channel_is_refused",
        what_is_no_channel_is_refused,
    ),
    ("cancel_stops", cancel_stops),
    (
        "dropping_cancels_and_detaching_does_not",
        dropping_cancels_and_detaching_does_not,
    ),
    ("a_cancelled_token_stops", a_cancelled_token_stops),
    (
        "a_full_buffer_drops_and_counts",
        a_full_buffer_drops_and_counts,
    ),
    (
        "a_handlers_error_reaches_the_logger",
        a_handlers_error_reaches_the_logger,
    ),
    (
        "a_panicking_handler_hurts_nobody",
        a_panicking_handler_hurts_nobody,
    ),
    (
        "calls_after_close_answer_closed",
        calls_after_close_answer_closed,
    ),
    (
        "close_loses_nothing_uncounted",
        close_loses_nothing_uncounted,
    ),
    (
        "concurrent_publishes_reach_everybody_once",
        concurrent_publishes_reach_everybody_once,
    ),
    (
        "no_call_begins_after_cancel_returned",
        no_call_begins_after_cancel_returned,
    ),
    ("cancel_is_idempotent", cancel_is_idempotent),
    ("a_handler_cancels_itself", a_handler_cancels_itself),
    ("a_handler_calls_everything", a_handler_calls_everything),
    ("many_channels", many_channels),
];

/// Runs all cases, each on a thread of its own.
///
/// # Panics
///
/// When a case fails, or has not come to its end after a minute. The message before the last says which.
pub fn run(make: impl Fn(Setup) -> Box<dyn Broadcaster> + Send + Sync + 'static) {
    let make: Make = Arc::new(make);
    for &(name, case) in CASES {
        let make = make.clone();
        let (sender, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _sender = sender; // goes when the case has ended, however it has
            case(&make);
        });
        let thread = thread.expect("the system gives a thread");
        let hangs = ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        assert!(!hangs, "{name} has not ended after {PATIENCE:?}");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    }
}

/// Longer than anything here takes on a busy machine: only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a broadcaster gets that is not told otherwise. No case but the one about full buffers publishes more.
const BUFFER: usize = 256;

// ---- delivery ---------------------------------------------------------------------------------------

fn channel_name_and_payload_arrive(make: &Make) {
    let broadcaster = open(make);
    let (mut seen, subscription) = collect(&*broadcaster, "private-orders.1");
    let subscription = subscription.expect("open");
    let binary: Vec<u8> = (0..=255).collect();
    let events = [
        Event::new("private-orders.1", "OrderShipped", "{\"id\":1}"),
        Event::new("private-orders.1", "Größe geändert", binary),
        Event::new("private-orders.1", "", ""),
        Event::new("private-orders.1", "large", vec![7; 100_000]),
    ];
    for event in events {
        publish(&*broadcaster, event.clone());
        assert_eq!(seen.next(), event);
    }
    drop(subscription);
}

fn a_publishers_events_come_in_order(make: &Make) {
    let broadcaster = open(make);
    let (mut seen, _subscription) = collect(&*broadcaster, "n");
    for n in 0..BUFFER {
        publish(&*broadcaster, Event::new("n", n.to_string(), ""));
    }
    for n in 0..BUFFER {
        assert_eq!(seen.next().name(), n.to_string());
    }
}

fn three_subscribers_get_one_each(make: &Make) {
    let broadcaster = open(make);
    let mut all: Vec<_> = (0..3).map(|_| collect(&*broadcaster, "a")).collect();
    publish(&*broadcaster, Event::new("a", "first", ""));
    publish(&*broadcaster, Event::new("a", "last", ""));
    for (seen, _subscription) in &mut all {
        assert_eq!(seen.next().name(), "first");
        assert_eq!(seen.next().name(), "last", "one each");
    }
}

/// Names that are patterns, prefixes or spellings of one another are channels of their own.
fn channels_isolate(make: &Make) {
    const CHANNELS: [&str; 10] = [
        "orders",
        "orders.1",
        "orders.1.lines",
        "orders.*",
        "orders.?",
        "*",
        "**",
        "Orders",
        "chat:room-7",
        "{orders,chat}",
    ];
    let broadcaster = open(make);
    let mut all = CHANNELS.map(|channel| collect(&*broadcaster, channel));
    for name in ["first", "last"] {
        for channel in CHANNELS {
            publish(&*broadcaster, Event::new(channel, name, channel));
        }
    }
    for (channel, (seen, _subscription)) in CHANNELS.iter().zip(&mut all) {
        assert_eq!(seen.next(), Event::new(*channel, "first", *channel));
        assert_eq!(seen.next(), Event::new(*channel, "last", *channel));
        assert!(seen.is_empty(), "{channel} got what is not its own");
    }
}

fn what_is_no_channel_is_refused(make: &Make) {
    let broadcaster = open(make);
    let long = "x".repeat(5000);
    for channel in ["", "a..b", ".a", "a.", "a\nb", &long] {
        let published = broadcaster.publish(Event::new(channel.to_owned(), "n", ""));
        assert!(
            matches!(published, Err(BroadcastPublishError::Channel(_))),
            "{channel:?}: {published:?}"
        );
        let subscribed = broadcaster.on(channel, |_| ());
        assert!(
            matches!(subscribed, Err(BroadcastSubscribeError::Channel(_))),
            "{channel:?}: {subscribed:?}"
        );
    }
}

fn concurrent_publishes_reach_everybody_once(make: &Make) {
    const SUBSCRIBERS: usize = 5;
    const PUBLISHERS: usize = 10;
    const EACH: usize = 10;
    let broadcaster = open(make);
    let mut all: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| collect(&*broadcaster, "a"))
        .collect();
    let start = Barrier::new(PUBLISHERS);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (broadcaster, start) = (&*broadcaster, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..EACH {
                    publish(broadcaster, Event::new("a", format!("{publisher}/{n}"), ""));
                }
            });
        }
    });
    let mut published: Vec<_> = (0..PUBLISHERS)
        .flat_map(|publisher| (0..EACH).map(move |n| format!("{publisher}/{n}")))
        .collect();
    published.sort();
    for (seen, _subscription) in &mut all {
        let mut names: Vec<_> = (0..PUBLISHERS * EACH)
            .map(|_| seen.next().name().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, published);
    }
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    for (seen, _subscription) in &all {
        assert!(seen.is_empty(), "500 deliveries, and no more");
    }
    assert_eq!(broadcaster.dropped(), 0);
}

/// Each in use once: what that costs in memory is for a test with an allocator that counts.
fn many_channels(make: &Make) {
    let broadcaster = open(make);
    for n in 0..2000 {
        let channel = format!("orders.{n}");
        let (mut seen, subscription) = collect(&*broadcaster, &channel);
        publish(&*broadcaster, Event::new(channel.clone(), "kept", ""));
        publish(
            &*broadcaster,
            Event::new(format!("invoices.{n}"), "for nobody", ""),
        );
        assert_eq!(seen.next(), Event::new(channel, "kept", ""));
        drop(subscription);
    }
}

// ---- cancelling -------------------------------------------------------------------------------------

fn cancel_stops(make: &Make) {
    let broadcaster = open(make);
    let (mut cancelled, subscription) = collect(&*broadcaster, "a");
    let (mut witness, _subscription) = collect(&*broadcaster, "a");
    publish(&*broadcaster, Event::new("a", "before", ""));
    assert_eq!(cancelled.next().name(), "before");
    subscription.expect("open").cancel();
    publish(&*broadcaster, Event::new("a", "after", ""));
    assert_eq!(witness.next().name(), "before");
    assert_eq!(witness.next().name(), "after");
    cancelled.let_go();
    assert!(cancelled.is_empty());
}

fn dropping_cancels_and_detaching_does_not(make: &Make) {
    let broadcaster = open(make);
    let (dropped, subscription) = collect(&*broadcaster, "a");
    drop(subscription);
    let (mut detached, subscription) = collect(&*broadcaster, "a");
    subscription.expect("open").detach();
    publish(&*broadcaster, Event::new("a", "after", ""));
    assert_eq!(detached.next().name(), "after");
    dropped.let_go();
    assert!(dropped.is_empty());
}

fn a_cancelled_token_stops(make: &Make) {
    let broadcaster = open(make);
    let token = CancelToken::new();
    let calls = Arc::new(AtomicU64::new(0));
    let subscribe = |channel| {
        let calls = calls.clone();
        broadcaster.on_until(&token, channel, move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
        })
    };
    let _kept = [subscribe("a").expect("open"), subscribe("b").expect("open")];
    subscribe("a").expect("open").detach();
    for channel in ["a", "b"] {
        let published = broadcaster.publish_until(&token, Event::new(channel, "before", ""));
        published.expect("not cancelled yet");
    }
    eventually("three calls", || calls.load(Ordering::SeqCst) == 3);

    token.cancel();
    token.cancel();
    let late = subscribe("a");
    assert!(
        matches!(late, Err(BroadcastSubscribeError::Cancelled)),
        "{late:?}"
    );
    let late = broadcaster.publish_until(&token, Event::new("a", "after", ""));
    assert!(
        matches!(late, Err(BroadcastPublishError::Cancelled)),
        "{late:?}"
    );
    let (mut witness, _subscription) = collect(&*broadcaster, "a");
    publish(&*broadcaster, Event::new("a", "for others", ""));
    assert_eq!(witness.next().name(), "for others");
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

/// While events are on their way to it. Ten thousand rounds, or as many as a third of the patience allows.
fn no_call_begins_after_cancel_returned(make: &Make) {
    let broadcaster = open(make);
    let late = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    for round in 0..10_000 {
        if began.elapsed() > PATIENCE / 3 {
            break;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let token = CancelToken::new();
        let subscribe = || {
            let (cancelled, late) = (cancelled.clone(), late.clone());
            let subscription = broadcaster.on_until(&token, "a", move |_| {
                if cancelled.load(Ordering::SeqCst) {
                    late.fetch_add(1, Ordering::SeqCst);
                }
            });
            subscription.expect("open")
        };
        let by_token = round % 5 == 1;
        let handlers = if by_token { 8 } else { 1 };
        let mut subscriptions: Vec<_> = (0..handlers).map(|_| subscribe()).collect();
        for _ in 0..round % 8 {
            publish(&*broadcaster, Event::new("a", "n", ""));
        }
        // So that the handler has come more or less far.
        (0..round % 97).for_each(|_| std::hint::spin_loop());
        if round % 3 == 0 {
            thread::yield_now();
        }
        if by_token {
            // Each of them may rely on it, also who comes second.
            let cancel = || {
                token.cancel();
                cancelled.store(true, Ordering::SeqCst);
            };
            thread::scope(|scope| {
                scope.spawn(cancel);
                cancel();
            });
        } else if round % 5 == 0 {
            subscriptions.clear(); // drops it
        } else {
            subscriptions[0].cancel();
        }
        cancelled.store(true, Ordering::SeqCst);
    }
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    assert_eq!(
        late.load(Ordering::SeqCst),
        0,
        "calls that began after cancel had returned"
    );
}

fn cancel_is_idempotent(make: &Make) {
    let broadcaster = open(make);
    for _ in 0..100 {
        let (_seen, subscription) = collect(&*broadcaster, "a");
        let subscription = subscription.expect("open");
        publish(&*broadcaster, Event::new("a", "n", ""));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| subscription.cancel());
            }
        });
        subscription.cancel();
        assert!(subscription.cancel_and_wait(PATIENCE));
    }
    let (_seen, subscription) = collect(&*broadcaster, "a");
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    subscription.expect("open").cancel();
}

fn a_handler_cancels_itself(make: &Make) {
    let broadcaster = open(make);
    let token = CancelToken::new();
    let calls = Arc::new(AtomicU64::new(0));
    // Once by its subscription, once by its token.
    let own = Arc::new(OnceLock::<SubscriptionGuard>::new());
    let by_subscription = broadcaster.on("a", {
        let (own, calls) = (Arc::downgrade(&own), calls.clone());
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            let own = own.upgrade().expect("kept until the end of the story");
            eventually("it is known to itself", || own.get().is_some());
            own.get().expect("just seen").cancel();
        }
    });
    own.set(by_subscription.expect("open")).expect("once");
    let _by_token = broadcaster.on_until(&token, "a", {
        let (token, calls) = (token.clone(), calls.clone());
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            token.cancel();
        }
    });
    let (mut witness, _subscription) = collect(&*broadcaster, "a");
    for name in ["first", "second", "third"] {
        publish(&*broadcaster, Event::new("a", name, ""));
        assert_eq!(witness.next().name(), name);
    }
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 2, "one call of each");
}

// ---- full buffers, errors, panics -------------------------------------------------------------------

fn a_full_buffer_drops_and_counts(make: &Make) {
    const PUBLISHED: u64 = 20;
    let (logger, log) = logs();
    let broadcaster = make(Setup { buffer: 1, logger });
    let calls = Arc::new(AtomicU64::new(0));
    let (release, gate) = mpsc::channel::<()>();
    let blocked = broadcaster.on("a", {
        let calls = calls.clone();
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            let _ = gate.recv(); // an error: the story is over
        }
    });
    let _blocked = blocked.expect("open");
    publish(&*broadcaster, Event::new("a", "0", ""));
    eventually("it is blocked", || calls.load(Ordering::SeqCst) == 1);
    for n in 1..PUBLISHED {
        publish(&*broadcaster, Event::new("a", n.to_string(), "")); // or this hangs
    }
    // How many the driver lets wait beside the one in hand is its business, but they are few.
    eventually("the rest is counted", || {
        broadcaster.dropped() >= PUBLISHED - 5
    });

    drop(release);
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    assert_eq!((report.unhandled, report.given_up), (0, 0));
    let dropped = broadcaster.dropped();
    assert_eq!(
        calls.load(Ordering::SeqCst) + dropped,
        PUBLISHED,
        "handled or counted"
    );
    eventually("the logger has heard of all of them", || {
        log.dropped("a") == dropped
    });
    assert!(
        log.len() < dropped as usize,
        "once for a run, not once for an event"
    );
}

fn a_handlers_error_reaches_the_logger(make: &Make) {
    let (logger, log) = logs();
    let broadcaster = make(Setup {
        buffer: BUFFER,
        logger,
    });
    let failing = broadcaster.on("a", |event| {
        Err::<(), _>(format!("cannot do {}", event.name()))
    });
    let _failing = failing.expect("open");
    let (mut seen, _subscription) = collect(&*broadcaster, "a");
    for name in ["this", "that"] {
        publish(&*broadcaster, Event::new("a", name, "")); // answers Ok
        assert_eq!(seen.next().name(), name, "others do not notice");
        eventually("the logger is told", || {
            log.has("a", &format!("cannot do {name}"))
        });
    }
}

fn a_panicking_handler_hurts_nobody(make: &Make) {
    let (logger, log) = logs();
    let broadcaster = make(Setup {
        buffer: BUFFER,
        logger,
    });
    let calls = Arc::new(AtomicU64::new(0));
    let panicking = broadcaster.on("a", {
        let calls = calls.clone();
        move |event| {
            calls.fetch_add(1, Ordering::SeqCst);
            panics_over(event);
        }
    });
    let _panicking = panicking.expect("open");
    let (mut seen, _subscription) = collect(&*broadcaster, "a");
    for n in 0..50 {
        publish(&*broadcaster, Event::new("a", n.to_string(), ""));
        assert_eq!(seen.next().name(), n.to_string(), "others do not notice");
    }
    eventually("it gets the next event all the same", || {
        calls.load(Ordering::SeqCst) == 50
    });
    eventually("the logger is told", || log.has("a", "a panic over 49"));
}

// ---- closing ----------------------------------------------------------------------------------------

fn calls_after_close_answer_closed(make: &Make) {
    let broadcaster = open(make);
    let (seen, subscription) = collect(&*broadcaster, "a");
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
    let token = CancelToken::new();
    let event = || Event::new("a", "late", "");
    assert!(matches!(
        broadcaster.publish(event()),
        Err(BroadcastPublishError::Closed)
    ));
    assert!(matches!(
        broadcaster.publish_until(&token, event()),
        Err(BroadcastPublishError::Closed)
    ));
    assert!(matches!(
        broadcaster.on("a", |_| ()),
        Err(BroadcastSubscribeError::Closed)
    ));
    assert!(matches!(
        broadcaster.on_until(&token, "a", |_| ()),
        Err(BroadcastSubscribeError::Closed)
    ));
    let again = broadcaster.close().expect("it is closed");
    assert!(again.in_time, "{again:?}");
    subscription.expect("open").cancel();
    assert!(seen.is_empty());
    assert_eq!(broadcaster.dropped(), 0);
}

/// Closing comes in the middle of publishing, on all threads.
fn close_loses_nothing_uncounted(make: &Make) {
    const SUBSCRIBERS: u64 = 3;
    for round in 0..20 {
        let broadcaster = open(make);
        let calls = Arc::new(AtomicU64::new(0));
        let subscriptions: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| {
                let calls = calls.clone();
                broadcaster.on("a", move |_| {
                    calls.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        assert!(subscriptions.iter().all(Result::is_ok));
        let accepted = AtomicU64::new(0);
        let publishing = || {
            for n in 0..1000 {
                match broadcaster.publish(Event::new("a", "n", "")) {
                    Ok(()) => accepted.fetch_add(1, Ordering::SeqCst),
                    Err(BroadcastPublishError::Closed) => return,
                    Err(error) => panic!("event {n}: {error}"),
                };
            }
        };
        let report = thread::scope(|scope| {
            let threads = [scope.spawn(publishing), scope.spawn(publishing)];
            eventually("some were accepted", || {
                accepted.load(Ordering::SeqCst) >= round * 10
            });
            let report = broadcaster.close_within(PATIENCE).expect("it closes");
            threads
                .into_iter()
                .for_each(|thread| thread.join().expect("published"));
            report
        });
        assert!(report.in_time, "{report:?}");
        assert_eq!((report.unhandled, report.given_up), (0, 0));
        let accepted = accepted.load(Ordering::SeqCst);
        assert_eq!(
            calls.load(Ordering::SeqCst) + broadcaster.dropped(),
            accepted * SUBSCRIBERS,
            "handled or counted"
        );
    }
}

// ---- from inside a handler --------------------------------------------------------------------------

fn a_handler_calls_everything(make: &Make) {
    let broadcaster: Arc<dyn Broadcaster> = open(make).into();
    let (sender, told) = mpsc::channel();
    let handler = Inside {
        broadcaster: Arc::downgrade(&broadcaster),
        sender,
        opened: Vec::new(),
    };
    let handler = Mutex::new(handler);
    let _subscription = broadcaster.on("a", move |event| {
        handler
            .lock()
            .expect("one call at a time")
            .call(event.name());
    });
    for call in ["subscribe", "publish", "cancel", "close"] {
        publish(&*broadcaster, Event::new("a", call, ""));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(call.to_owned()));
        if call == "publish" {
            assert_eq!(told.recv_timeout(PATIENCE), Ok("heard".to_owned()));
        }
    }
    assert!(matches!(
        broadcaster.publish(Event::new("a", "late", "")),
        Err(BroadcastPublishError::Closed)
    ));
    let report = broadcaster.close_within(PATIENCE).expect("it closes");
    assert!(report.in_time, "{report:?}");
}

/// A handler that does what its events say.
struct Inside {
    broadcaster: Weak<dyn Broadcaster>,
    sender: mpsc::Sender<String>,
    opened: Vec<SubscriptionGuard>,
}

impl Inside {
    fn call(&mut self, what: &str) {
        let broadcaster = self.broadcaster.upgrade().expect("open");
        match what {
            "subscribe" => {
                let sender = self.sender.clone();
                let subscription = broadcaster.on("b", move |_| sender.send("heard".to_owned()));
                self.opened.push(subscription.expect("open"));
            }
            "publish" => publish(&*broadcaster, Event::new("b", "n", "")),
            "cancel" => self.opened.iter().for_each(SubscriptionGuard::cancel),
            _ => {
                let report = broadcaster.close().expect("it closes");
                assert!(!report.in_time, "this very call is not over");
            }
        }
        let _ = self.sender.send(what.to_owned()); // the story may have failed
    }
}

// ---- tools ------------------------------------------------------------------------------------------

fn open(make: &Make) -> Box<dyn Broadcaster> {
    make(Setup {
        buffer: BUFFER,
        logger: Box::new(|_| ()),
    })
}

fn publish(broadcaster: &dyn Broadcaster, event: Event) {
    broadcaster.publish(event).expect("open");
}

/// Without the message that would have a reader of the tests' output believe in a failure.
fn panics_over(event: &Event) {
    resume_unwind(Box::new(format!("a panic over {}", event.name())));
}

/// Waits for what no call waits for.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

/// What a handler got, in order.
struct Seen {
    events: mpsc::Receiver<Event>,
}

/// A subscription whose handler keeps what it gets.
fn collect(
    broadcaster: &dyn Broadcaster,
    channel: &str,
) -> (Seen, Result<SubscriptionGuard, BroadcastSubscribeError>) {
    let (sender, events) = mpsc::channel();
    let subscription = broadcaster.on(channel, move |event| sender.send(event.clone()));
    assert!(subscription.is_ok(), "{channel}: {subscription:?}");
    (Seen { events }, subscription)
}

impl Seen {
    fn next(&mut self) -> Event {
        self.events
            .recv_timeout(PATIENCE)
            .expect("an event that was published")
    }

    fn is_empty(&self) -> bool {
        self.events.try_recv().is_err()
    }

    /// Waits until the handler is gone, after which nothing can come.
    fn let_go(&self) {
        let late = self.events.recv_timeout(PATIENCE);
        assert_eq!(
            late,
            Err(mpsc::RecvTimeoutError::Disconnected),
            "or it is never dropped"
        );
    }
}

/// What a logger was told: channel, text, and how many were dropped.
#[derive(Clone, Default)]
struct Log {
    entries: Arc<Mutex<Vec<(String, String, u64)>>>,
}

fn logs() -> (Logger, Log) {
    let log = Log::default();
    let logger = log.clone();
    let logger = Box::new(move |incident: &Incident<'_>| {
        let dropped = match incident {
            Incident::Dropped { count, .. } => *count,
            _ => 0,
        };
        let entry = (
            incident.channel().unwrap_or_default().to_owned(),
            incident.to_string(),
            dropped,
        );
        logger.entries.lock().expect("nobody panics").push(entry);
    });
    (logger, log)
}

impl Log {
    fn has(&self, channel: &str, text: &str) -> bool {
        let entries = self.entries.lock().expect("nobody panics");
        entries
            .iter()
            .any(|(known, entry, _)| known == channel && entry.contains(text))
    }

    fn dropped(&self, channel: &str) -> u64 {
        let entries = self.entries.lock().expect("nobody panics");
        entries
            .iter()
            .filter(|(known, ..)| known == channel)
            .map(|(.., dropped)| dropped)
            .sum()
    }

    /// Entries about drops.
    fn len(&self) -> usize {
        let entries = self.entries.lock().expect("nobody panics");
        entries.iter().filter(|(.., dropped)| *dropped > 0).count()
    }
}
