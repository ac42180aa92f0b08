//! Broadcasting: what `Memory` promises beyond the conformance suite, the suite on `Memory`, and
//! the suite on drivers that break its rules.

use fanout::broadcast::{
    BroadcastCloseError, BroadcastEvent, BroadcastPublishError, BroadcastSubscribeError,
    Broadcaster, BroadcasterExt, CancelToken, ChannelError, ErrorChain, Incident, Memory,
    MemoryBuilder, SubscriptionGuard,
};
use fanout::{BuildError, Overflow, TopicError};
use std::error::Error;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::support::{FOR_EVER, ends, eventually, panics_quietly};

#[cfg(feature = "conformance")]
mod conformance {
    use fanout::Overflow;
    use fanout::broadcast::conformance::{CASES, Factory, Setup, run, run_except};
    use fanout::broadcast::{
        BroadcastCloseError, BroadcastCloseReport, BroadcastEvent, BroadcastPublishError,
        BroadcastSubscribeError, Broadcaster, Handler, Memory, SubscriptionControl,
        SubscriptionGuard,
    };
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn memory_conforms() {
        run(|setup| open(setup, false, Overflow::DropNewest));
    }

    #[test]
    fn memory_with_dedicated_threads_conforms() {
        run(|setup| open(setup, true, Overflow::DropNewest));
    }

    /// Under this policy other events are dropped, but the same number of them.
    #[test]
    fn memory_that_drops_the_oldest_conforms() {
        run(|setup| open(setup, false, Overflow::DropOldest));
    }

    #[test]
    fn memory_that_blocks_conforms() {
        run_except(&["a_full_buffer_drops_and_counts"], |setup| {
            open(setup, false, Overflow::Block)
        });
    }

    fn open(setup: Setup, dedicated: bool, overflow: Overflow) -> Box<dyn Broadcaster> {
        let memory = Memory::builder()
            .buffer(setup.buffer)
            .dedicated(dedicated)
            .overflow(overflow)
            .logger(setup.logger);
        Box::new(memory.build().expect("in range"))
    }

    /// A rule that a driver breaks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        DeliversTwice,
        ChangesThePayload,
        MergesChannels,
        AcceptsAnyChannel,
        IgnoresCancel,
        CountsNoDrops,
        AcceptsAfterClose,
        ReportsUnhandledCalls,
    }

    struct Faulty {
        memory: Memory,
        fault: Fault,
    }

    impl Broadcaster for Faulty {
        fn publish(&self, event: BroadcastEvent) -> Result<(), BroadcastPublishError> {
            let (channel, name) = (event.channel().to_owned(), event.name().to_owned());
            let event = match self.fault {
                Fault::ChangesThePayload => BroadcastEvent::new(channel, name, "changed"),
                Fault::MergesChannels => BroadcastEvent::new(channel.to_lowercase(), name, ""),
                Fault::DeliversTwice => {
                    self.memory.publish(event.clone())?;
                    event
                }
                _ => event,
            };
            match self.memory.publish(event) {
                Err(BroadcastPublishError::Channel(_))
                    if self.fault == Fault::AcceptsAnyChannel =>
                {
                    Ok(())
                }
                Err(BroadcastPublishError::Closed) if self.fault == Fault::AcceptsAfterClose => {
                    Ok(())
                }
                published => published,
            }
        }

        fn subscribe(
            &self,
            channel: &str,
            handler: Handler,
        ) -> Result<SubscriptionGuard, BroadcastSubscribeError> {
            let guard = match self.fault {
                Fault::MergesChannels => self.memory.subscribe(&channel.to_lowercase(), handler)?,
                _ => self.memory.subscribe(channel, handler)?,
            };
            if self.fault == Fault::IgnoresCancel {
                guard.detach();
                return Ok(SubscriptionGuard::new(Nothing));
            }
            Ok(guard)
        }

        fn close_within(
            &self,
            timeout: Duration,
        ) -> Result<BroadcastCloseReport, BroadcastCloseError> {
            let report = self.memory.close_within(timeout)?;
            Ok(match self.fault {
                Fault::ReportsUnhandledCalls => report.with_unhandled(1),
                _ => report,
            })
        }

        fn dropped(&self) -> u64 {
            match self.fault {
                // Enough for the case to continue, and fewer than were dropped.
                Fault::CountsNoDrops => self.memory.dropped().min(16),
                _ => self.memory.dropped(),
            }
        }
    }

    struct Nothing;

    impl SubscriptionControl for Nothing {
        fn cancel(&self) {}

        fn wait(&self, _timeout: Duration) -> bool {
            true
        }
    }

    /// How the case fails on a driver with the fault.
    fn failure(name: &str, fault: Fault) -> String {
        let factory: Factory = Arc::new(move |setup| {
            let memory = Memory::builder().buffer(setup.buffer).logger(setup.logger);
            let memory = memory.build().expect("in range");
            Box::new(Faulty { memory, fault })
        });
        let (_, case) = CASES
            .iter()
            .find(|(case, _)| *case == name)
            .expect("the case exists");
        let failed = catch_unwind(AssertUnwindSafe(|| case(&factory)));
        let panic = failed.expect_err("the case fails");
        *panic.downcast::<String>().expect("the message is text")
    }

    #[test]
    fn a_failure_names_the_rule_what_was_expected_and_what_was_seen() {
        for (name, fault, rule, expected, seen) in [
            (
                "every_subscriber_gets_each_event_once",
                Fault::DeliversTwice,
                "every handler of a channel gets each event once",
                "event \"last\" on channel \"a\", 0 payload bytes",
                "event \"first\" on channel \"a\", 0 payload bytes",
            ),
            (
                "channel_name_and_payload_arrive",
                Fault::ChangesThePayload,
                "an event arrives with its channel, its name and its payload unchanged",
                "event \"OrderShipped\" on channel \"private-orders.1\", 8 payload bytes with",
                "event \"OrderShipped\" on channel \"private-orders.1\", 7 payload bytes with",
            ),
            (
                "channels_are_isolated",
                Fault::MergesChannels,
                "a handler gets the events of its channel only",
                "event \"last\" on channel \"orders\", 0 payload bytes",
                "event \"first\" on channel \"orders\", 0 payload bytes",
            ),
            (
                "invalid_channels_are_refused",
                Fault::AcceptsAnyChannel,
                "publish refuses an invalid channel with BroadcastPublishError::Channel",
                "Err(Channel(..)) for \"\" (0 bytes)",
                "Ok(())",
            ),
            (
                "no_event_arrives_after_cancel",
                Fault::IgnoresCancel,
                "a handler gets no event that is published after cancel has returned",
                "no further event",
                "event \"after\" on channel \"a\", 0 payload bytes",
            ),
            (
                "a_full_buffer_drops_and_counts",
                Fault::CountsNoDrops,
                "every accepted event is handled, or counted as dropped",
                "calls + dropped = 20",
                "2 + 16",
            ),
            (
                "calls_after_close_return_closed",
                Fault::AcceptsAfterClose,
                "after the close, publishing and subscribing fail with Closed",
                "Err(Closed)",
                "Ok(())",
            ),
            (
                "cancel_is_idempotent",
                Fault::ReportsUnhandledCalls,
                "closing waits until everything that was accepted is handled",
                "everything handled within 60s",
                "Ok(BroadcastCloseReport { in_time: true, unhandled: 1, given_up: 0 })",
            ),
        ] {
            let message = failure(name, fault);
            let text = format!("rule broken: {rule}; expected: {expected}");
            assert!(message.starts_with(&text), "{fault:?}: {message}");
            let text = format!("; seen: {seen}");
            assert!(message.contains(&text), "{fault:?}: {message}");
        }
    }

    #[test]
    fn the_run_names_the_case_that_fails() {
        let failed = catch_unwind(|| {
            let others: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
            let others: Vec<&str> = others
                .into_iter()
                .filter(|name| *name != "calls_after_close_return_closed")
                .collect();
            run_except(&others, |_| {
                Box::new(Faulty {
                    memory: Memory::new(),
                    fault: Fault::AcceptsAfterClose,
                })
            });
        });
        let panic = failed.expect_err("the case fails");
        let message = panic.downcast::<String>().expect("the message is text");
        let start = "conformance case `calls_after_close_return_closed` failed: rule broken: ";
        assert!(message.starts_with(start), "{message}");
    }

    #[test]
    #[should_panic(expected = "cannot skip `no_such_case`: there is no such case")]
    fn a_case_that_does_not_exist_cannot_be_skipped() {
        run_except(&["no_such_case"], |setup| {
            open(setup, false, Overflow::DropNewest)
        });
    }
}

// ---- set-up ----------------------------------------------------------------------------------

/// Runs the test on handlers that share threads, and on handlers with dedicated threads.
fn on_both_kinds_of_threads(what: &'static str, test: fn(MemoryBuilder)) {
    for builder in [Memory::builder(), Memory::builder().dedicated(true)] {
        ends(what, move || test(builder));
    }
}

fn build(builder: MemoryBuilder) -> Memory {
    builder.build().expect("in range")
}

fn event(name: impl ToString) -> BroadcastEvent {
    BroadcastEvent::new("a", name.to_string(), "")
}

/// Publishes events that are named by their numbers.
fn publish(memory: &Memory, numbers: Range<usize>) {
    for number in numbers {
        memory.publish(event(number)).expect("open");
    }
}

/// Closes the broadcaster. All handlers can finish.
fn close(memory: &Memory) {
    let report = memory.close_within(FOR_EVER).expect("it closes");
    assert!(report.in_time, "{report:?}");
    assert_eq!((report.unhandled, report.given_up), (0, 0));
}

/// A handler that waits inside its first call.
struct Blocked {
    guard: SubscriptionGuard,
    /// Dropped to let the handler continue.
    release: mpsc::Sender<()>,
    /// The names of the events that it is called with after the first.
    names: mpsc::Receiver<String>,
}

fn blocked(memory: &Memory) -> Blocked {
    let (release, gate) = mpsc::channel::<()>();
    let (sender, names) = mpsc::channel();
    let guard = memory.on("a", move |event| {
        let _ = sender.send(event.name().to_owned());
        let _ = gate.recv();
    });
    let guard = guard.expect("open");
    memory.publish(event("blocked")).expect("open");
    let first = names.recv_timeout(FOR_EVER).expect("the call starts");
    assert_eq!(first, "blocked");
    Blocked {
        guard,
        release,
        names,
    }
}

/// A handler that counts its calls.
fn counting(memory: &Memory, channel: &str) -> (SubscriptionGuard, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = calls.clone();
    let guard = memory.on(channel, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (guard.expect("open"), calls)
}

/// What a logger was called with: the text, and the thread of the call.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, ThreadId)>>>);

impl Log {
    /// Adds a logger to the settings. It ignores stalls, which depend on the speed of the machine.
    fn of(builder: MemoryBuilder) -> (MemoryBuilder, Log) {
        let log = Log::default();
        let shared = log.clone();
        let builder = builder.logger(move |incident| {
            if !matches!(incident, Incident::Stalled { .. }) {
                let entry = (incident.to_string(), thread::current().id());
                shared.0.lock().expect("unpoisoned").push(entry);
            }
        });
        (builder, log)
    }

    fn entries(&self) -> Vec<(String, ThreadId)> {
        self.0.lock().expect("unpoisoned").clone()
    }

    fn texts(&self) -> Vec<String> {
        self.entries().into_iter().map(|(text, _)| text).collect()
    }
}

// ---- full buffers ----------------------------------------------------------------------------

#[test]
fn a_run_of_drops_is_reported_once_and_not_by_the_publisher() {
    on_both_kinds_of_threads("drops", |builder| {
        let (builder, log) = Log::of(builder.buffer(4));
        let memory = build(builder);
        let handler = blocked(&memory);
        publish(&memory, 0..100);
        eventually("all but the buffer is dropped", || memory.dropped() == 96);
        let early = log.entries();
        assert!(early.is_empty(), "before the handler is there: {early:?}");
        drop(handler.release);
        assert!(memory.flush_within(FOR_EVER));
        eventually("the drops are reported", || !log.entries().is_empty());
        close(&memory);
        let entries = log.entries();
        let [(text, thread)] = &entries[..] else {
            panic!("{entries:?}");
        };
        assert_eq!(text, "channel a: 96 events dropped, the buffer was full");
        assert_ne!(*thread, thread::current().id());
    });
}

/// After 100 events for a handler that is blocked: what the logger was called with, the names of
/// the events that the handler got afterwards, and the broadcaster, which is closed.
fn overrun(overflow: Overflow, builder: MemoryBuilder) -> (Vec<String>, Vec<String>, Memory) {
    let (builder, log) = Log::of(builder.buffer(4).overflow(overflow));
    let memory = build(builder);
    let handler = blocked(&memory);
    for n in 0..100 {
        memory.publish(event(n)).expect("open");
        // So that most events are in blocks of their own.
        let _ = memory.flush_within(Duration::ZERO);
    }
    let dropped = || memory.dropped();
    match overflow {
        Overflow::Conflate => {}
        Overflow::Disconnect => eventually("something is dropped", || dropped() > 0),
        _ => eventually("all but the buffer is dropped", || dropped() == 96),
    }
    let early = log.texts();
    assert!(early.is_empty(), "before the handler is there: {early:?}");
    drop(handler.release);
    assert!(memory.flush_within(FOR_EVER));
    let got = handler.names.try_iter().collect();
    let before = dropped();
    handler.guard.cancel();
    assert_eq!(dropped(), before, "cancelling changes the number");
    drop(handler.guard);
    assert_eq!(dropped(), before, "dropping the guard changes the number");
    close(&memory);
    (log.texts(), got, memory)
}

#[test]
fn with_drop_oldest_the_newest_are_handled() {
    on_both_kinds_of_threads("dropping the oldest", |builder| {
        let (log, got, memory) = overrun(Overflow::DropOldest, builder);
        assert_eq!(got, ["96", "97", "98", "99"]);
        assert_eq!(log, ["channel a: 96 events dropped, the buffer was full"]);
        assert_eq!(memory.dropped(), 96);
    });
}

#[test]
fn with_disconnect_the_first_event_without_room_ends_the_subscription() {
    on_both_kinds_of_threads("disconnecting", |builder| {
        let (log, got, memory) = overrun(Overflow::Disconnect, builder);
        assert_eq!(got, ["0", "1", "2", "3"]);
        let dropped = memory.dropped();
        let events = if dropped == 1 { "event" } else { "events" };
        let text =
            format!("channel a: unsubscribed, the buffer was full: {dropped} {events} dropped");
        assert_eq!(log, [text]);
        assert!((1..=96).contains(&dropped), "those of one block: {dropped}");
    });
}

/// A subscription has one channel, so at most one event of it waits: the latest.
#[test]
fn with_conflate_the_latest_is_handled() {
    on_both_kinds_of_threads("conflating", |builder| {
        let (log, got, memory) = overrun(Overflow::Conflate, builder);
        assert_eq!(got, ["99"]);
        assert!(log.is_empty(), "{log:?}");
        assert_eq!(memory.dropped(), 0, "superseded, not dropped");
    });
}

/// The number includes subscriptions that have ended.
#[test]
fn dropped_counts_what_cancelled_subscriptions_lost() {
    ends("counting", || {
        let memory = build(Memory::builder().buffer(1));
        let mut expected = 0;
        for _ in 0..20 {
            let handler = blocked(&memory);
            publish(&memory, 0..10);
            expected += 9;
            eventually("they are dropped", || memory.dropped() == expected);
            handler.guard.cancel();
            assert_eq!(memory.dropped(), expected, "never forgotten, never twice");
            drop(handler);
            assert_eq!(memory.dropped(), expected, "never forgotten, never twice");
        }
        close(&memory);
        assert_eq!(memory.dropped(), expected);
    });
}

/// One heavy event is delivered, whatever it weighs. Further ones have no room.
#[test]
fn the_buffer_is_bounded_by_bytes() {
    ends("weighing", || {
        let memory = build(Memory::builder().pin_bytes(100_000));
        let handler = blocked(&memory);
        for _ in 0..10 {
            let heavy = BroadcastEvent::new("a", "heavy", vec![0; 60_000]);
            memory.publish(heavy).expect("open");
            // So that each is in a block of its own, and is weighed alone.
            let _ = memory.flush_within(Duration::ZERO);
        }
        eventually("most are dropped", || memory.dropped() >= 5);
        drop(handler.release);
        close(&memory);
    });
}

#[test]
fn numbers_out_of_range_are_refused() {
    let refused = Memory::builder().buffer(0).build().unwrap_err();
    assert!(matches!(refused, BuildError::Capacity(0)));
    let refused = Memory::builder().pin_bytes(0).build().unwrap_err();
    assert!(matches!(refused, BuildError::PinBytes));
}

// ---- closing ---------------------------------------------------------------------------------

#[test]
fn a_close_that_times_out_reports_what_is_left_and_handles_it_later() {
    on_both_kinds_of_threads("closing", |builder| {
        let memory = build(builder);
        let handler = blocked(&memory);
        publish(&memory, 0..10);
        let report = memory.close_within(Duration::from_millis(1));
        let report = report.expect("it closes");
        assert_eq!((report.in_time, report.given_up), (false, 0), "{report:?}");
        assert!((10..=11).contains(&report.unhandled), "{report:?}");
        let refused = memory.publish(event("late"));
        assert!(matches!(refused, Err(BroadcastPublishError::Closed)));
        drop(handler.release);
        close(&memory);
        assert_eq!(memory.dropped(), 0);
        assert_eq!(handler.names.try_iter().count(), 10);
    });
}

/// What was accepted is handled, also when the broadcaster is dropped without a close.
#[test]
fn dropping_a_broadcaster_drains_it() {
    ends("draining", || {
        let memory = Memory::new();
        let (sender, events) = mpsc::channel();
        let guard = memory.on("a", move |event| sender.send(event.name().to_owned()));
        guard.expect("open").detach();
        publish(&memory, 0..100);
        drop(memory);
        // The iterator ends when the handler is dropped.
        assert_eq!(events.iter().count(), 100);
    });
}

// ---- publishers ------------------------------------------------------------------------------

/// A handler publishes more events than the lane holds. It must not wait for the dispatcher, so it
/// dispatches events itself.
#[test]
fn a_handler_publishes_a_burst() {
    ends("a burst", || {
        const BURST: usize = 20_000;
        let memory = Arc::new(Memory::new());
        let refused = Arc::new(AtomicU64::new(0));
        let _guard = memory.on("a", {
            let (memory, refused) = (Arc::downgrade(&memory), refused.clone());
            move |_| {
                let memory = memory.upgrade().expect("open");
                let publish =
                    |_: &usize| memory.publish(BroadcastEvent::new("b", "n", "")).is_err();
                refused.fetch_add((0..BURST).filter(publish).count() as u64, Ordering::SeqCst);
            }
        });
        let (_counting, received) = counting(&memory, "b");
        memory.publish(event("start")).expect("open");
        assert!(memory.flush_within(FOR_EVER));
        close(&memory);
        let refused = refused.load(Ordering::SeqCst);
        let received = received.load(Ordering::SeqCst);
        assert_eq!(received + memory.dropped() + refused, BURST as u64);
        assert!(refused < BURST as u64 / 10, "{refused} of {BURST} refused");
    });
}

/// Under `Block`, all wait for one handler whose buffer is full. A token releases the publisher.
#[test]
fn a_token_releases_a_publisher_that_waits() {
    ends("waiting", || {
        let memory = build(Memory::builder().buffer(1).overflow(Overflow::Block));
        let handler = blocked(&memory);
        let token = CancelToken::new();
        let accepted = AtomicU64::new(0);
        thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                loop {
                    match memory.publish_until(&token, event("n")) {
                        Ok(()) => accepted.fetch_add(1, Ordering::SeqCst),
                        Err(error) => return error,
                    };
                }
            });
            let mut seen = 0;
            eventually("the publisher waits", || {
                thread::sleep(Duration::from_millis(20));
                std::mem::replace(&mut seen, accepted.load(Ordering::SeqCst)) == seen && seen > 0
            });
            token.cancel();
            let error = publishing.join().expect("no panic");
            assert!(matches!(error, BroadcastPublishError::Cancelled));
        });
        drop(handler.release);
        close(&memory);
        assert_eq!(memory.dropped(), 0);
    });
}

// ---- handlers and loggers --------------------------------------------------------------------

/// A handler is dropped with its subscription, although the token still exists.
#[test]
fn a_token_keeps_no_handler_whose_subscription_has_ended() {
    ends("releasing handlers", || {
        let memory = Memory::new();
        let token = CancelToken::new();
        let held = Arc::new(());
        for n in 0..300 {
            let owned = held.clone();
            let guard = memory.on_until(&token, "a", move |_| drop(owned.clone()));
            let guard = guard.expect("open");
            if n % 2 == 0 {
                guard.cancel();
            }
            drop(guard);
        }
        eventually("the handlers are dropped", || Arc::strong_count(&held) == 1);
        assert!(!token.is_cancelled());
        assert_eq!(
            format!("{token:?}"),
            "CancelToken { cancelled: false, registered: 0 }"
        );
    });
}

/// A handler is dropped outside of all locks: it may own guards, whose drop takes these locks.
#[test]
fn a_handler_that_owns_guards_is_dropped() {
    ends("dropping", || {
        let memory = Memory::new();
        let token = CancelToken::new();
        for _ in 0..100 {
            let inner = memory.on_until(&token, "a", |_| ()).expect("open");
            let outer = memory.on_until(&token, "a", move |_| inner.cancel());
            memory.publish(event("n")).expect("open");
            drop(outer.expect("open"));
        }
        let inner = memory.on("a", |_| ()).expect("open");
        close(&memory);
        assert!(memory.on("a", move |_| inner.cancel()).is_err());
        token.cancel();
    });
}

#[test]
fn a_token_that_is_cancelled_cancels_a_guard_that_comes_later() {
    ends("a late guard", || {
        let memory = Memory::new();
        let token = CancelToken::new();
        let (guard, calls) = counting(&memory, "a");
        let (other, other_calls) = counting(&memory, "a");
        assert!(other.cancel_with(&CancelToken::new()));
        token.cancel();
        assert!(!guard.cancel_with(&token));
        publish(&memory, 0..3);
        close(&memory);
        let calls = [calls, other_calls].map(|calls| calls.load(Ordering::SeqCst));
        assert_eq!(calls, [0, 3]);
    });
}

#[test]
fn a_panic_of_the_logger_is_caught() {
    ends("panicking", || {
        let memory = build(Memory::builder().logger(|_| panics_quietly()));
        let calls = Arc::new(AtomicU64::new(0));
        let _failing = memory.on("a", {
            let calls = calls.clone();
            move |_| {
                calls.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>("no")
            }
        });
        publish(&memory, 0..10);
        close(&memory);
        assert_eq!(calls.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn a_handler_that_takes_long_is_reported() {
    ends("stalling", || {
        let (sender, stalled) = mpsc::channel();
        let memory = build(Memory::builder().logger(move |incident| {
            if let Incident::Stalled { channel, .. } = incident {
                let _ = sender.send((*channel).to_owned());
            }
        }));
        let handler = blocked(&memory);
        assert_eq!(stalled.recv_timeout(FOR_EVER).as_deref(), Ok("a"));
        drop(handler.release);
    });
}

// ---- errors ----------------------------------------------------------------------------------

/// The texts of an error and of its causes, outermost first.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect()
}

#[test]
fn an_error_names_the_channel_and_its_source_says_why() {
    let memory = Memory::new();
    let published = memory
        .publish(BroadcastEvent::new("a..b", "n", ""))
        .unwrap_err();
    let subscribed = memory.on("a..b", |_| ()).unwrap_err();
    for error in [&published as &(dyn Error + 'static), &subscribed] {
        let [text, reason] = &chain(error)[..] else {
            panic!("{error:?}");
        };
        assert_eq!(text, "\"a..b\" is not a valid channel");
        assert_eq!(reason, "topic `a..b`, byte 2: a segment must not be empty");
        let source = error.source().and_then(|source| source.downcast_ref());
        assert!(matches!(source, Some(TopicError::EmptySegment { .. })));
        assert_eq!(
            ErrorChain::new(error).to_string(),
            format!("{text}: {reason}")
        );
    }
}

#[test]
fn a_long_channel_is_shortened_and_its_control_characters_are_escaped() {
    let long = format!("a\n{}", "é".repeat(600));
    let error = ChannelError::new(&long, "a reason");
    let expected = format!("\"a\\n{}…\" is not a valid channel", "é".repeat(62));
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains('\n'));
}

#[test]
fn the_error_of_a_driver_stays_the_source() {
    let cause = || std::io::Error::other("the connection was reset");
    let published = BroadcastPublishError::Driver(cause().into());
    let subscribed = BroadcastSubscribeError::Driver(cause().into());
    let closed = BroadcastCloseError::Driver(cause().into());
    for error in [&published as &(dyn Error + 'static), &subscribed, &closed] {
        let texts = chain(error);
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(!texts[0].contains(&texts[1]), "printed twice: {texts:?}");
        let source = error.source().expect("the cause");
        assert!(source.is::<std::io::Error>());
    }
}

/// An error with a cause, whose text repeats the cause or does not.
#[derive(Debug)]
struct Layered {
    text: &'static str,
    cause: std::num::ParseIntError,
}

impl std::fmt::Display for Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text)
    }
}

impl Error for Layered {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

#[test]
fn the_logger_gets_the_causes_of_an_error_once() {
    ends("failing", || {
        let (builder, log) = Log::of(Memory::builder());
        let memory = build(builder);
        let _failing = memory.on("a", |event| -> Result<(), Layered> {
            let text = match event.name() {
                "0" => "no total",
                _ => "no total: invalid digit found in string",
            };
            let cause = "x".parse::<u32>().unwrap_err();
            Err(Layered { text, cause })
        });
        publish(&memory, 0..2);
        close(&memory);
        let text = "channel a: the handler failed: no total: invalid digit found in string";
        assert_eq!(log.texts(), [text, text]);
    });
}
