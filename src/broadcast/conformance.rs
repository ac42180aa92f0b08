//! The tests that every [`Broadcaster`] must pass: call [`run`] in a test of the driver.
//!
//! Each case opens a new broadcaster and uses it through `dyn Broadcaster`. A case panics when the
//! driver breaks a rule, and the message names the rule, what was expected, and what was seen:
//!
//! ```text
//! conformance case `channels_are_isolated` failed: rule broken: a handler gets the events of its
//! channel only; expected: no further event on channel "orders"; seen: event "last" on channel
//! "Orders", 0 payload bytes
//! ```
//!
//! No case depends on speed. A case waits for what must happen. It checks that something has not
//! happened only after a later event has arrived.
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
//! # Drivers with a broker
//!
//! * The cases use the same channels (`a`, `b`, `orders.1` and others) again and again. Give each
//!   broadcaster a different namespace at the broker, such as a random prefix.
//! * Cases run one after the other, each with one broadcaster at a time.
//! * Some cases drop a broadcaster without closing it. That must release its connection.
//! * [`run_except`] leaves out cases that a driver cannot pass. Document each of them.
//!
//! # Not tested here
//!
//! The author of a driver must write tests for two rules: memory does not grow with the number of
//! channels that were ever used, and the logger is never called on the thread of a publisher.
//!
//! # Failure modes
//!
//! * **The driver breaks a rule**: [`run`] panics, with the name of the case.
//! * **The driver waits for ever**: a case waits up to 60 seconds for each thing that must happen,
//!   and [`run`] waits up to 3 minutes for each case. The thread of a case that hangs is left
//!   behind.

use std::any::Any;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, OnceLock, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::broadcaster::{Broadcaster, BroadcasterExt};
use super::cancel::CancelToken;
use super::error::{BroadcastPublishError, BroadcastSubscribeError};
use super::event::BroadcastEvent;
use super::guard::SubscriptionGuard;
use super::incident::{Incident, Logger};

/// A list of functions as pairs of name and function.
macro_rules! cases {
    ($($case:ident),* $(,)?) => { [$((stringify!($case), $case as Case)),*] };
}

/// The settings of the broadcaster of a case.
///
/// See [the module](self) for an example.
///
/// ```
/// use fanout::broadcast::conformance::{CASES, Factory, Setup};
/// use fanout::broadcast::{Broadcaster, Memory};
///
/// fn open(setup: Setup) -> Box<dyn Broadcaster> {
///     let memory = Memory::builder().buffer(setup.buffer).logger(setup.logger);
///     Box::new(memory.build().expect("the buffer is in range"))
/// }
/// let factory: Factory = std::sync::Arc::new(open);
/// ```
#[non_exhaustive]
pub struct Setup {
    /// Events that may wait for one handler, at least 1.
    pub buffer: usize,
    /// The logger of the broadcaster.
    pub logger: Logger,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("buffer", &self.buffer)
            .finish_non_exhaustive()
    }
}

/// Opens the broadcaster of a case.
///
/// ```
/// use fanout::broadcast::conformance::Factory;
/// use fanout::broadcast::Memory;
///
/// let factory: Factory = std::sync::Arc::new(|_| Box::new(Memory::new()));
/// ```
pub type Factory = Arc<dyn Fn(Setup) -> Box<dyn Broadcaster> + Send + Sync>;

/// A case. It panics when the broadcaster breaks a rule.
///
/// ```
/// use fanout::broadcast::conformance::{CASES, Case};
///
/// let (name, case): (&str, Case) = CASES[0];
/// ```
pub type Case = fn(&Factory);

/// All cases, with their names.
///
/// ```
/// use fanout::broadcast::Memory;
/// use fanout::broadcast::conformance::{CASES, Factory};
///
/// let factory: Factory = std::sync::Arc::new(|_| Box::new(Memory::new()));
/// let (_, case) = CASES
///     .iter()
///     .find(|(name, _)| *name == "channels_are_isolated")
///     .expect("the case exists");
/// case(&factory);
/// ```
pub const CASES: &[(&str, Case)] = &cases![
    channel_name_and_payload_arrive,
    events_of_a_publisher_arrive_in_order,
    every_subscriber_gets_each_event_once,
    channels_are_isolated,
    invalid_channels_are_refused,
    concurrent_events_arrive_once_at_every_subscriber,
    many_channels_are_used_once,
    no_event_arrives_after_cancel,
    dropping_a_guard_cancels_and_detaching_does_not,
    a_cancelled_token_cancels_its_subscriptions,
    no_call_starts_after_cancel_returned,
    cancel_is_idempotent,
    a_handler_cancels_itself,
    a_full_buffer_drops_and_counts,
    an_error_of_a_handler_reaches_the_logger,
    a_panicking_handler_affects_no_other,
    calls_after_close_return_closed,
    close_loses_no_event_uncounted,
    a_handler_may_call_every_method,
];

/// Runs all cases, each on a separate thread.
///
/// # Panics
///
/// If a case fails, or has not ended after 3 minutes. The message names the case.
///
/// See [the module](self) for an example.
pub fn run(factory: impl Fn(Setup) -> Box<dyn Broadcaster> + Send + Sync + 'static) {
    run_except(&[], factory);
}

/// Runs all cases but some, for a driver that cannot pass them.
///
/// # Panics
///
/// If a case fails, or has not ended after 3 minutes, and if there is no case of a name that is to
/// be skipped. The message names the case.
///
/// ```
/// use fanout::Overflow;
/// use fanout::broadcast::{Memory, conformance};
///
/// // Under `Overflow::Block` no event is dropped.
/// conformance::run_except(&["a_full_buffer_drops_and_counts"], |setup| {
///     let memory = Memory::builder()
///         .buffer(setup.buffer)
///         .overflow(Overflow::Block)
///         .logger(setup.logger);
///     Box::new(memory.build().expect("the buffer is in range"))
/// });
/// ```
pub fn run_except(
    skipped: &[&str],
    factory: impl Fn(Setup) -> Box<dyn Broadcaster> + Send + Sync + 'static,
) {
    for name in skipped {
        let exists = CASES.iter().any(|(case, _)| case == name);
        assert!(exists, "cannot skip `{name}`: there is no such case");
    }
    let factory: Factory = Arc::new(factory);
    for &(name, case) in CASES {
        if !skipped.contains(&name) {
            run_case(name, case, factory.clone());
        }
    }
}

fn run_case(name: &str, case: Case, factory: Factory) {
    let (sender, ended) = mpsc::channel::<()>();
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _sender = sender; // dropped when the case has ended, also when it panics
            case(&factory);
        })
        .unwrap_or_else(|error| panic!("conformance case `{name}`: no thread: {error}"));
    let hangs = ended.recv_timeout(CASE_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(
        !hangs,
        "conformance case `{name}` failed: it has not ended after {CASE_TIMEOUT:?}"
    );
    if let Err(panic) = thread.join() {
        panic!(
            "conformance case `{name}` failed: {}",
            message_of(panic.as_ref())
        );
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(the panic has no text)")
}

/// The longest wait for one thing that must happen. It is longer than any step takes on a busy
/// machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time for a case. It is longer than [`STEP_TIMEOUT`], so that a case that waits in
/// vain fails first, with its rule.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);

/// The buffer of most cases, in events. Only the case about full buffers publishes more.
const BUFFER: usize = 256;

// ---- delivery --------------------------------------------------------------------------------

fn channel_name_and_payload_arrive(factory: &Factory) {
    const RULE: &str = "an event arrives with its channel, its name and its payload unchanged";
    let broadcaster = open(factory);
    let (received, _guard) = collect(&*broadcaster, "private-orders.1");
    let binary: Vec<u8> = (0..=255).collect();
    let events = [
        BroadcastEvent::new("private-orders.1", "OrderShipped", "{\"id\":1}"),
        BroadcastEvent::new("private-orders.1", "Größe geändert", binary),
        BroadcastEvent::new("private-orders.1", "", ""),
        BroadcastEvent::new("private-orders.1", "large", vec![7; 100_000]),
    ];
    for event in events {
        publish(&*broadcaster, event.clone());
        received.expect(RULE, &event);
    }
}

fn events_of_a_publisher_arrive_in_order(factory: &Factory) {
    const RULE: &str = "the events of one thread on one channel arrive in the order of publishing";
    let broadcaster = open(factory);
    let (received, _guard) = collect(&*broadcaster, "n");
    for n in 0..BUFFER {
        publish(&*broadcaster, named("n", n));
    }
    for n in 0..BUFFER {
        received.expect(RULE, &named("n", n));
    }
}

fn every_subscriber_gets_each_event_once(factory: &Factory) {
    const RULE: &str = "every handler of a channel gets each event once";
    let broadcaster = open(factory);
    let all: Vec<_> = (0..3).map(|_| collect(&*broadcaster, "a")).collect();
    for name in ["first", "last"] {
        publish(&*broadcaster, named("a", name));
    }
    for (received, _guard) in &all {
        received.expect(RULE, &named("a", "first"));
        received.expect(RULE, &named("a", "last"));
    }
}

/// Channels whose names are patterns, prefixes or other spellings of one another.
fn channels_are_isolated(factory: &Factory) {
    const RULE: &str = "a handler gets the events of its channel only";
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
    let broadcaster = open(factory);
    let all = CHANNELS.map(|channel| collect(&*broadcaster, channel));
    for name in ["first", "last"] {
        for channel in CHANNELS {
            publish(&*broadcaster, named(channel, name));
        }
    }
    for (channel, (received, _guard)) in CHANNELS.iter().zip(&all) {
        received.expect(RULE, &named(channel, "first"));
        received.expect(RULE, &named(channel, "last"));
        received.expect_no_more(RULE);
    }
}

fn invalid_channels_are_refused(factory: &Factory) {
    const PUBLISH: &str = "publish refuses an invalid channel with BroadcastPublishError::Channel";
    const SUBSCRIBE: &str =
        "subscribe refuses an invalid channel with BroadcastSubscribeError::Channel";
    let broadcaster = open(factory);
    let too_long = "x".repeat(5000);
    for channel in ["", "a..b", ".a", "a.", "a\nb", &too_long] {
        let shown = channel.get(..20).unwrap_or(channel);
        let published = broadcaster.publish(BroadcastEvent::new(channel.to_owned(), "n", ""));
        require(
            PUBLISH,
            matches!(published, Err(BroadcastPublishError::Channel(_))),
            &format_args!("Err(Channel(..)) for {shown:?} ({} bytes)", channel.len()),
            &published,
        );
        let subscribed = broadcaster.on(channel, |_| ());
        require(
            SUBSCRIBE,
            matches!(subscribed, Err(BroadcastSubscribeError::Channel(_))),
            &format_args!("Err(Channel(..)) for {shown:?} ({} bytes)", channel.len()),
            &subscribed,
        );
    }
}

fn concurrent_events_arrive_once_at_every_subscriber(factory: &Factory) {
    const RULE: &str = "every handler gets each event of concurrent publishers once";
    const SUBSCRIBERS: usize = 5;
    const PUBLISHERS: usize = 10;
    const EACH: usize = 10;
    let broadcaster = open(factory);
    let all: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| collect(&*broadcaster, "a"))
        .collect();
    let start = Barrier::new(PUBLISHERS);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (broadcaster, start) = (&*broadcaster, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..EACH {
                    publish(broadcaster, named("a", format!("{publisher}/{n}")));
                }
            });
        }
    });
    let mut published: Vec<_> = (0..PUBLISHERS)
        .flat_map(|publisher| (0..EACH).map(move |n| format!("{publisher}/{n}")))
        .collect();
    published.sort();
    for (received, _guard) in &all {
        let mut names: Vec<_> = (0..PUBLISHERS * EACH)
            .map(|_| received.next(RULE).name().to_owned())
            .collect();
        names.sort();
        require_eq(RULE, &published, &names);
    }
    close(&*broadcaster);
    for (received, _guard) in &all {
        received.expect_no_more(RULE);
    }
    let rule = "dropped counts only events that a full buffer dropped";
    require_eq(rule, &0, &broadcaster.dropped());
}

/// The memory of unused channels needs a test with an allocator that counts.
fn many_channels_are_used_once(factory: &Factory) {
    const RULE: &str = "a handler gets the events of its channel, however many channels were used";
    let broadcaster = open(factory);
    for n in 0..2000 {
        let channel = format!("orders.{n}");
        let (received, _guard) = collect(&*broadcaster, &channel);
        publish(&*broadcaster, named(&channel, "kept"));
        publish(
            &*broadcaster,
            named(&format!("invoices.{n}"), "unsubscribed"),
        );
        received.expect(RULE, &named(&channel, "kept"));
    }
}

// ---- cancelling ------------------------------------------------------------------------------

fn no_event_arrives_after_cancel(factory: &Factory) {
    const RULE: &str = "a handler gets no event that is published after cancel has returned";
    const OTHERS: &str = "cancelling a subscription does not affect the others of its channel";
    let broadcaster = open(factory);
    let (cancelled, guard) = collect(&*broadcaster, "a");
    let (witness, _guard) = collect(&*broadcaster, "a");
    publish(&*broadcaster, named("a", "before"));
    cancelled.expect(RULE, &named("a", "before"));
    guard.cancel();
    publish(&*broadcaster, named("a", "after"));
    witness.expect(OTHERS, &named("a", "before"));
    witness.expect(OTHERS, &named("a", "after"));
    cancelled.expect_end(RULE);
}

fn dropping_a_guard_cancels_and_detaching_does_not(factory: &Factory) {
    let broadcaster = open(factory);
    let (dropped, guard) = collect(&*broadcaster, "a");
    drop(guard);
    let (detached, guard) = collect(&*broadcaster, "a");
    guard.detach();
    publish(&*broadcaster, named("a", "after"));
    detached.expect(
        "a detached subscription continues until the broadcaster closes",
        &named("a", "after"),
    );
    dropped.expect_end("dropping the guard cancels the subscription");
}

fn a_cancelled_token_cancels_its_subscriptions(factory: &Factory) {
    const RULE: &str = "cancelling a token cancels every subscription that is registered with it";
    const REFUSED: &str = "calls with a cancelled token fail with Cancelled";
    let broadcaster = open(factory);
    let token = CancelToken::new();
    let calls = Arc::new(AtomicU64::new(0));
    let subscribe = |channel| {
        let calls = calls.clone();
        broadcaster.on_until(&token, channel, move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
        })
    };
    let _guards = [subscribe("a"), subscribe("b")].map(subscribed);
    subscribed(subscribe("a")).detach();
    for channel in ["a", "b"] {
        let published = broadcaster.publish_until(&token, named(channel, "before"));
        let rule = "publish_until accepts an event while the token is not cancelled";
        require(rule, published.is_ok(), &"Ok", &published);
    }
    let count = || calls.load(Ordering::SeqCst);
    let rule = "every handler gets the events that are published before the token is cancelled";
    eventually(rule, &"3 calls", count, |&calls| calls == 3);

    token.cancel();
    token.cancel(); // has no effect
    let refused = subscribe("a");
    let cancelled = matches!(refused, Err(BroadcastSubscribeError::Cancelled));
    require(REFUSED, cancelled, &"Err(Cancelled)", &refused);
    let refused = broadcaster.publish_until(&token, named("a", "after"));
    let cancelled = matches!(refused, Err(BroadcastPublishError::Cancelled));
    require(REFUSED, cancelled, &"Err(Cancelled)", &refused);
    let (witness, _guard) = collect(&*broadcaster, "a");
    publish(&*broadcaster, named("a", "for others"));
    witness.expect(
        "a cancelled token does not affect other subscriptions",
        &named("a", "for others"),
    );
    close(&*broadcaster);
    require_eq(RULE, &3, &count());
}

/// Cancels while events are on their way to the handler. Ten thousand rounds, or as many as a third
/// of [`STEP_TIMEOUT`] allows.
fn no_call_starts_after_cancel_returned(factory: &Factory) {
    const RULE: &str = "no call of a handler starts after cancel has returned";
    let broadcaster = open(factory);
    let late = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    for round in 0..10_000 {
        if started.elapsed() > STEP_TIMEOUT / 3 {
            break;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let token = CancelToken::new();
        let subscribe = || {
            let (cancelled, late) = (cancelled.clone(), late.clone());
            subscribed(broadcaster.on_until(&token, "a", move |_| {
                if cancelled.load(Ordering::SeqCst) {
                    late.fetch_add(1, Ordering::SeqCst);
                }
            }))
        };
        let by_token = round % 5 == 1;
        let handlers = if by_token { 8 } else { 1 };
        let mut guards: Vec<_> = (0..handlers).map(|_| subscribe()).collect();
        for _ in 0..round % 8 {
            publish(&*broadcaster, named("a", "n"));
        }
        // Different delays, so that the cancel meets the handler at different places.
        (0..round % 97).for_each(|_| std::hint::spin_loop());
        if round % 3 == 0 {
            thread::yield_now();
        }
        if by_token {
            // Both threads may rely on the rule, also the thread that cancels second.
            let cancel = || {
                token.cancel();
                cancelled.store(true, Ordering::SeqCst);
            };
            thread::scope(|scope| {
                scope.spawn(cancel);
                cancel();
            });
        } else if round % 5 == 0 {
            guards.clear(); // drops the guard
        } else {
            guards[0].cancel();
        }
        cancelled.store(true, Ordering::SeqCst);
    }
    close(&*broadcaster);
    require_eq(RULE, &0, &late.load(Ordering::SeqCst));
}

fn cancel_is_idempotent(factory: &Factory) {
    let broadcaster = open(factory);
    for _ in 0..100 {
        let (_received, guard) = collect(&*broadcaster, "a");
        publish(&*broadcaster, named("a", "n"));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| guard.cancel());
            }
        });
        guard.cancel();
        let idle = guard.cancel_and_wait(STEP_TIMEOUT);
        let rule = "cancel_and_wait returns true once no call is running";
        require_eq(rule, &true, &idle);
    }
    let (_received, guard) = collect(&*broadcaster, "a");
    close(&*broadcaster);
    guard.cancel(); // after the close: has no effect
}

fn a_handler_cancels_itself(factory: &Factory) {
    const RULE: &str = "a handler that cancels itself, by its guard or its token, is called once";
    let broadcaster = open(factory);
    let token = CancelToken::new();
    let calls = Arc::new(AtomicU64::new(0));
    let own = Arc::new(OnceLock::<SubscriptionGuard>::new());
    let by_guard = broadcaster.on("a", {
        let (own, calls) = (Arc::downgrade(&own), calls.clone());
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            let own = own
                .upgrade()
                .expect("the case keeps the guard until it ends");
            let is_set = || own.get().is_some();
            eventually("(set-up)", &"the guard is stored", is_set, |&set| set);
            own.get().expect("it was just seen").cancel();
        }
    });
    own.set(subscribed(by_guard)).expect("it is set once");
    let _by_token = broadcaster.on_until(&token, "a", {
        let (token, calls) = (token.clone(), calls.clone());
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            token.cancel();
        }
    });
    let (witness, _guard) = collect(&*broadcaster, "a");
    for name in ["first", "second", "third"] {
        publish(&*broadcaster, named("a", name));
        witness.expect(
            "a handler that cancels itself does not affect others",
            &named("a", name),
        );
    }
    close(&*broadcaster);
    require_eq(RULE, &2, &calls.load(Ordering::SeqCst));
}

// ---- full buffers, errors, panics ------------------------------------------------------------

fn a_full_buffer_drops_and_counts(factory: &Factory) {
    const ACCOUNTS: &str = "every accepted event is handled, or counted as dropped";
    const LOGGED: &str = "the logger gets one incident for a run of dropped events, with its count";
    const PUBLISHED: u64 = 20;
    let (broadcaster, log) = open_with_log(factory, 1);
    let calls = Arc::new(AtomicU64::new(0));
    let (release, gate) = mpsc::channel::<()>();
    let _blocked = subscribed(broadcaster.on("a", {
        let calls = calls.clone();
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            let _ = gate.recv(); // returns when the case drops the sender
        }
    }));
    let count = || calls.load(Ordering::SeqCst);
    publish(&*broadcaster, named("a", 0));
    let rule = "a handler is called with an event of its channel";
    eventually(rule, &"1 call", count, |&calls| calls == 1);
    for n in 1..PUBLISHED {
        publish(&*broadcaster, named("a", n)); // hangs if the driver waits for the handler
    }
    // A driver may let a few events more wait than the buffer holds.
    eventually(
        "an event that has no room in the buffer is dropped and counted",
        &format_args!("dropped() is at least {}", PUBLISHED - 5),
        || broadcaster.dropped(),
        |&dropped| dropped >= PUBLISHED - 5,
    );

    drop(release);
    close(&*broadcaster);
    let dropped = broadcaster.dropped();
    require(
        ACCOUNTS,
        count() + dropped == PUBLISHED,
        &format_args!("calls + dropped = {PUBLISHED}"),
        &format_args!("{} + {dropped}", count()),
    );
    eventually(
        LOGGED,
        &format_args!("incidents for {dropped} dropped events on channel \"a\""),
        || log.dropped("a"),
        |&logged| logged == dropped,
    );
    let incidents = log.drop_incidents();
    require(
        LOGGED,
        (incidents as u64) < dropped,
        &format_args!("fewer incidents than the {dropped} dropped events"),
        &incidents,
    );
}

fn an_error_of_a_handler_reaches_the_logger(factory: &Factory) {
    let (broadcaster, log) = open_with_log(factory, BUFFER);
    let _failing = subscribed(broadcaster.on("a", |event| {
        Err::<(), _>(format!("cannot handle {}", event.name()))
    }));
    let (witness, _guard) = collect(&*broadcaster, "a");
    for name in ["this", "that"] {
        publish(&*broadcaster, named("a", name));
        witness.expect(
            "an error of a handler affects no other handler",
            &named("a", name),
        );
        log.expect(
            "an error of a handler reaches the logger, and the handler gets its next event",
            "a",
            &format!("cannot handle {name}"),
        );
    }
}

fn a_panicking_handler_affects_no_other(factory: &Factory) {
    let (broadcaster, log) = open_with_log(factory, BUFFER);
    let calls = Arc::new(AtomicU64::new(0));
    let _panicking = subscribed(broadcaster.on("a", {
        let calls = calls.clone();
        move |event| {
            calls.fetch_add(1, Ordering::SeqCst);
            panic_over(event);
        }
    }));
    let (witness, _guard) = collect(&*broadcaster, "a");
    for n in 0..50 {
        publish(&*broadcaster, named("a", n));
        witness.expect(
            "a panic of a handler affects no other handler",
            &named("a", n),
        );
    }
    let count = || calls.load(Ordering::SeqCst);
    let rule = "a handler that panicked gets its next event";
    eventually(rule, &"50 calls", count, |&calls| calls == 50);
    let rule = "a panic of a handler reaches the logger";
    log.expect(rule, "a", "a panic over 49");
}

// ---- closing ---------------------------------------------------------------------------------

fn calls_after_close_return_closed(factory: &Factory) {
    const RULE: &str = "after the close, publishing and subscribing fail with Closed";
    let broadcaster = open(factory);
    let (received, guard) = collect(&*broadcaster, "a");
    close(&*broadcaster);
    let token = CancelToken::new();
    for published in [
        broadcaster.publish(named("a", "late")),
        broadcaster.publish_until(&token, named("a", "late")),
    ] {
        let closed = matches!(published, Err(BroadcastPublishError::Closed));
        require(RULE, closed, &"Err(Closed)", &published);
    }
    for subscribed in [
        broadcaster.on("a", |_| ()),
        broadcaster.on_until(&token, "a", |_| ()),
    ] {
        let closed = matches!(subscribed, Err(BroadcastSubscribeError::Closed));
        require(RULE, closed, &"Err(Closed)", &subscribed);
    }
    let again = broadcaster.close();
    require(
        "a closed broadcaster can be closed again",
        matches!(&again, Ok(report) if report.in_time),
        &"a report with in_time = true",
        &again,
    );
    guard.cancel(); // after the close: has no effect
    received.expect_no_more("an event that was refused is not delivered");
    let rule = "an event that was refused is not counted as dropped";
    require_eq(rule, &0, &broadcaster.dropped());
}

/// Closes while two threads publish.
fn close_loses_no_event_uncounted(factory: &Factory) {
    const RULE: &str = "every event that was accepted before the close is handled or counted";
    const SUBSCRIBERS: u64 = 3;
    for round in 0..20 {
        let broadcaster = open(factory);
        let calls = Arc::new(AtomicU64::new(0));
        let _guards: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| {
                let calls = calls.clone();
                subscribed(broadcaster.on("a", move |_| {
                    calls.fetch_add(1, Ordering::SeqCst);
                }))
            })
            .collect();
        let accepted = AtomicU64::new(0);
        let publishing = || {
            for _ in 0..1000 {
                let published = broadcaster.publish(named("a", "n"));
                match published {
                    Ok(()) => accepted.fetch_add(1, Ordering::SeqCst),
                    Err(BroadcastPublishError::Closed) => return,
                    Err(_) => broken(PUBLISHING, &"Ok, or Err(Closed)", &published),
                };
            }
        };
        thread::scope(|scope| {
            let threads = [scope.spawn(publishing), scope.spawn(publishing)];
            let count = || accepted.load(Ordering::SeqCst);
            let enough = |&count: &u64| count >= round * 10;
            eventually(PUBLISHING, &"some accepted events", count, enough);
            close(&*broadcaster);
            for thread in threads {
                if let Err(panic) = thread.join() {
                    resume_unwind(panic);
                }
            }
        });
        let accepted = accepted.load(Ordering::SeqCst);
        let (calls, dropped) = (calls.load(Ordering::SeqCst), broadcaster.dropped());
        require(
            RULE,
            calls + dropped == accepted * SUBSCRIBERS,
            &format_args!(
                "calls + dropped = {accepted} accepted events x {SUBSCRIBERS} subscribers"
            ),
            &format_args!("{calls} + {dropped}"),
        );
    }
}

// ---- calls from inside a handler -------------------------------------------------------------

fn a_handler_may_call_every_method(factory: &Factory) {
    const RULE: &str = "a handler may publish, subscribe, cancel and close without waiting";
    let broadcaster: Arc<dyn Broadcaster> = open(factory).into();
    let (sender, done) = mpsc::channel();
    let mut handler = CallingHandler {
        broadcaster: Arc::downgrade(&broadcaster),
        sender,
        guards: Vec::new(),
    };
    let _guard = subscribed(broadcaster.on("a", move |event| handler.call(event.name())));
    for (call, expected) in [
        ("subscribe", &["subscribe"][..]),
        // In either order: the event may be received before the call has returned.
        ("publish", &["publish", "received"]),
        ("cancel", &["cancel"]),
        ("close", &["close"]),
    ] {
        publish(&*broadcaster, named("a", call));
        let seen: Result<Vec<_>, _> = expected
            .iter()
            .map(|_| done.recv_timeout(STEP_TIMEOUT))
            .collect();
        let mut sorted = seen.clone().unwrap_or_default();
        sorted.sort_unstable();
        require(
            RULE,
            sorted == expected,
            &format_args!("{expected:?} within {STEP_TIMEOUT:?}, in any order"),
            &format_args!("{seen:?}"),
        );
    }
    let published = broadcaster.publish(named("a", "late"));
    let closed = matches!(published, Err(BroadcastPublishError::Closed));
    let rule = "a close from inside a handler closes the broadcaster";
    require(rule, closed, &"Err(Closed)", &published);
    close(&*broadcaster);
}

/// A handler that makes the call that its event names.
struct CallingHandler {
    broadcaster: Weak<dyn Broadcaster>,
    sender: mpsc::Sender<String>,
    guards: Vec<SubscriptionGuard>,
}

impl CallingHandler {
    fn call(&mut self, what: &str) {
        let Some(broadcaster) = self.broadcaster.upgrade() else {
            return; // the case has failed
        };
        let outcome = match what {
            "subscribe" => {
                let sender = self.sender.clone();
                let opened = broadcaster.on("b", move |_| sender.send("received".to_owned()));
                opened
                    .map(|guard| self.guards.push(guard))
                    .map_err(|error| format!("subscribe: {error:?}"))
            }
            "publish" => {
                let published = broadcaster.publish(named("b", "n"));
                published.map_err(|error| format!("publish: {error:?}"))
            }
            "cancel" => {
                self.guards.iter().for_each(SubscriptionGuard::cancel);
                Ok(())
            }
            _ => match broadcaster.close() {
                // This call is running, so the close cannot have waited for it.
                Ok(report) if !report.in_time => Ok(()),
                other => Err(format!("close, with this call running: {other:?}")),
            },
        };
        let seen = outcome.map_or_else(|seen| seen, |()| what.to_owned());
        let _ = self.sender.send(seen); // the case may have failed
    }
}

// ---- failures --------------------------------------------------------------------------------

const PUBLISHING: &str = "an open broadcaster accepts an event on a valid channel";
const SUBSCRIBING: &str = "an open broadcaster accepts a subscription to a valid channel";
const CLOSING: &str = "closing waits until everything that was accepted is handled";

/// Fails the case.
#[track_caller]
fn broken(rule: &str, expected: &dyn fmt::Display, seen: &dyn fmt::Debug) -> ! {
    panic!("rule broken: {rule}; expected: {expected}; seen: {seen:?}")
}

#[track_caller]
fn require(rule: &str, holds: bool, expected: &dyn fmt::Display, seen: &dyn fmt::Debug) {
    if !holds {
        broken(rule, expected, seen);
    }
}

#[track_caller]
fn require_eq<T: PartialEq + fmt::Debug>(rule: &str, expected: &T, seen: &T) {
    require(rule, expected == seen, &format_args!("{expected:?}"), seen);
}

/// Reads a value again and again until it is as expected.
#[track_caller]
fn eventually<T: fmt::Debug>(
    rule: &str,
    expected: &dyn fmt::Display,
    look: impl Fn() -> T,
    holds: impl Fn(&T) -> bool,
) {
    let started = Instant::now();
    loop {
        let seen = look();
        if holds(&seen) {
            return;
        }
        if started.elapsed() >= STEP_TIMEOUT {
            let expected = format!("{expected} within {STEP_TIMEOUT:?}");
            broken(rule, &expected, &seen);
        }
        thread::yield_now();
    }
}

// ---- set-up ----------------------------------------------------------------------------------

fn open(factory: &Factory) -> Box<dyn Broadcaster> {
    factory(Setup {
        buffer: BUFFER,
        logger: Box::new(|_| ()),
    })
}

fn open_with_log(factory: &Factory, buffer: usize) -> (Box<dyn Broadcaster>, Log) {
    let log = Log::default();
    let shared = log.clone();
    let logger: Logger = Box::new(move |incident| {
        let dropped = match incident {
            Incident::Dropped { count, .. } => *count,
            _ => 0,
        };
        shared.entries().push(Entry {
            channel: incident.channel().unwrap_or_default().to_owned(),
            text: incident.to_string(),
            dropped,
        });
    });
    (factory(Setup { buffer, logger }), log)
}

fn named(channel: &str, name: impl ToString) -> BroadcastEvent {
    BroadcastEvent::new(channel.to_owned(), name.to_string(), "")
}

#[track_caller]
fn publish(broadcaster: &dyn Broadcaster, event: BroadcastEvent) {
    let published = broadcaster.publish(event);
    require(PUBLISHING, published.is_ok(), &"Ok", &published);
}

#[track_caller]
fn subscribed(result: Result<SubscriptionGuard, BroadcastSubscribeError>) -> SubscriptionGuard {
    match result {
        Ok(guard) => guard,
        Err(error) => broken(SUBSCRIBING, &"Ok", &error),
    }
}

/// Closes the broadcaster. All handlers must be able to finish.
#[track_caller]
fn close(broadcaster: &dyn Broadcaster) {
    let closed = broadcaster.close_within(STEP_TIMEOUT);
    require(
        CLOSING,
        matches!(&closed, Ok(report) if report.in_time
            && report.unhandled == 0
            && report.given_up == 0),
        &format_args!("everything handled within {STEP_TIMEOUT:?}"),
        &closed,
    );
}

/// Panics without calling the panic hook, whose message would look like a failed test.
fn panic_over(event: &BroadcastEvent) {
    resume_unwind(Box::new(format!("a panic over {}", event.name())));
}

/// The events that a handler was called with, in order.
struct Received {
    channel: String,
    events: mpsc::Receiver<BroadcastEvent>,
}

/// Subscribes a handler that passes its events on.
#[track_caller]
fn collect(broadcaster: &dyn Broadcaster, channel: &str) -> (Received, SubscriptionGuard) {
    let (sender, events) = mpsc::channel();
    let guard = subscribed(broadcaster.on(channel, move |event| sender.send(event.clone())));
    let channel = channel.to_owned();
    (Received { channel, events }, guard)
}

impl Received {
    /// Waits for the next event.
    #[track_caller]
    fn next(&self, rule: &str) -> BroadcastEvent {
        self.wait(
            rule,
            &format_args!("an event on channel {:?}", self.channel),
        )
    }

    #[track_caller]
    fn expect(&self, rule: &str, expected: &BroadcastEvent) {
        let seen = self.wait(rule, &Shown(expected));
        require(rule, seen == *expected, &Shown(expected), &Shown(&seen));
    }

    #[track_caller]
    fn wait(&self, rule: &str, expected: &dyn fmt::Display) -> BroadcastEvent {
        match self.events.recv_timeout(STEP_TIMEOUT) {
            Ok(event) => event,
            Err(mpsc::RecvTimeoutError::Timeout) => broken(
                rule,
                expected,
                &format_args!("nothing for {STEP_TIMEOUT:?}"),
            ),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                broken(rule, expected, &format_args!("the handler was dropped"))
            }
        }
    }

    #[track_caller]
    fn expect_no_more(&self, rule: &str) {
        if let Ok(event) = self.events.try_recv() {
            let expected = format!("no further event on channel {:?}", self.channel);
            broken(rule, &expected, &Shown(&event));
        }
    }

    /// Waits until the handler is dropped, without another call.
    #[track_caller]
    fn expect_end(&self, rule: &str) {
        match self.events.recv_timeout(STEP_TIMEOUT) {
            Ok(event) => broken(rule, &"no further event", &Shown(&event)),
            Err(mpsc::RecvTimeoutError::Timeout) => broken(
                "the handler of a cancelled subscription is dropped",
                &format_args!("it is dropped within {STEP_TIMEOUT:?}"),
                &format_args!("it still exists"),
            ),
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// An event in a message: without its payload, which may be long.
struct Shown<'a>(&'a BroadcastEvent);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        let (channel, name, bytes) = (event.channel(), event.name(), event.payload().len());
        write!(
            f,
            "event {name:?} on channel {channel:?}, {bytes} payload bytes"
        )?;
        if bytes > 0 {
            let mut hasher = DefaultHasher::new();
            event.payload().hash(&mut hasher);
            write!(f, " with hash {:016x}", hasher.finish())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The incidents that a logger was called with.
#[derive(Clone, Default)]
struct Log {
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Clone)]
struct Entry {
    channel: String,
    text: String,
    /// Events that the incident reports as dropped; 0 for an incident of another kind.
    dropped: u64,
}

impl Log {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().expect("no thread panics with the lock")
    }

    fn texts(&self, channel: &str) -> Vec<String> {
        let of_channel = |entry: &&Entry| entry.channel == channel;
        let entries = self.entries();
        let texts = entries.iter().filter(of_channel);
        texts.map(|entry| entry.text.clone()).collect()
    }

    /// Waits for an incident about the channel whose text contains `part`.
    #[track_caller]
    fn expect(&self, rule: &str, channel: &str, part: &str) {
        eventually(
            rule,
            &format_args!("an incident on channel {channel:?} with the text {part:?}"),
            || self.texts(channel),
            |texts| texts.iter().any(|text| text.contains(part)),
        );
    }

    /// Events that were reported as dropped.
    fn dropped(&self, channel: &str) -> u64 {
        let of_channel = |entry: &&Entry| entry.channel == channel;
        let entries = self.entries();
        let dropped = entries.iter().filter(of_channel).map(|entry| entry.dropped);
        dropped.sum()
    }

    /// Incidents that report dropped events.
    fn drop_incidents(&self) -> usize {
        let entries = self.entries();
        entries.iter().filter(|entry| entry.dropped > 0).count()
    }
}
