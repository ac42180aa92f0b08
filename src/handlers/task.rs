//! A handler with its ring, and the work of one turn.

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::notice::{Notice, Observer, report};
use super::worker::{TurnLimit, WorkerState};
use crate::contain::{Panic, catch, contain};
use crate::dispatch::block::Event;
use crate::dispatch::feed::{FeedConsumer, Found};
use crate::dispatch::loss::Gap;
use crate::pattern::Topic;
use crate::ring::once_box::OnceBox;
use crate::ring::run_queue::DisabledFlag;
use crate::sync::thread::Thread;
use crate::sync::{AtomicU64, Ordering};
use crate::time_limit;

/// The largest number of slots, of up to 64 events each, that one turn handles before other jobs
/// get their turns.
const TURN_SLOTS: usize = 16;

/// The time after which a timed turn ends, with the call that is running then.
pub(super) const TURN_TIME: Duration = Duration::from_micros(100);

/// The largest number of calls between two reads of the clock in a timed turn.
const CALLS_PER_CLOCK: u32 = 16;

/// What the closure of a handler may return: nothing, or a `Result` whose error is reported to the
/// [observer](crate::BusBuilder::observer).
///
/// The trait is implemented for `()` and for `Result<(), E>` where `E: Display`. It is sealed:
/// other crates cannot implement it.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<String>::new();
/// let printing = bus.on("readings", |event| println!("{}", event.data()))?;
/// let parsing = bus.on("readings", |event| event.data().parse::<f64>().map(drop))?;
/// bus.publish("readings", "21.5".to_owned())?;
/// bus.publish("readings", "cold".to_owned())?;
/// assert!(bus.flush_within(Duration::from_secs(5)));
/// assert_eq!((printing.stats().errors, parsing.stats().errors), (0, 1));
/// # Ok(())
/// # }
/// ```
pub trait HandlerResult: sealed::Sealed {
    #[doc(hidden)]
    type Error: fmt::Display;

    #[doc(hidden)]
    fn into_result(self) -> Result<(), Self::Error>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

impl HandlerResult for () {
    type Error = std::convert::Infallible;

    #[inline(always)]
    fn into_result(self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<E: fmt::Display> HandlerResult for Result<(), E> {
    type Error = E;

    #[inline(always)]
    fn into_result(self) -> Result<(), E> {
        self
    }
}

/// Data that few handlers need. It is allocated on first use, to keep the other handlers small.
pub(crate) struct HandlerExtras(OnceBox<ExtraFields>);

#[derive(Default)]
struct ExtraFields {
    counters: Counters,
    /// The thread of a dedicated handler.
    own_thread: OnceLock<Thread>,
}

impl HandlerExtras {
    pub(crate) fn new() -> Self {
        Self(OnceBox::new())
    }

    /// `None`: all counters are zero.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        self.0.get().map(|extras| &extras.counters)
    }

    /// Returns the counters, and allocates them if necessary.
    #[cold]
    pub(crate) fn init_counters(&self) -> &Counters {
        &self.0.get_or_init(ExtraFields::default).counters
    }

    /// Sets the thread of a dedicated handler. Returns `false` if it has one already.
    pub(crate) fn dedicate(&self, thread: Thread) -> bool {
        let extras = self.0.get_or_init(ExtraFields::default);
        extras.own_thread.set(thread).is_ok()
    }

    pub(crate) fn own_thread(&self) -> Option<&Thread> {
        self.0.get()?.own_thread.get()
    }
}

/// The counters that only subscriptions with a handler have.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) errors: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

/// The state that a turn works on.
pub(crate) struct Task {
    feed: FeedConsumer,
    handler: Box<dyn Handle>,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnEnd {
    /// There is more to do.
    More,
    /// There is nothing to do now. The shard schedules the job when it pushes events.
    Idle,
    /// The feed has ended.
    Finished,
}

/// The parts of the worker and the pool that a turn uses.
pub(super) struct TurnContext<'a> {
    /// Number of the subscription.
    pub(super) subscription: u64,
    pub(super) extras: &'a HandlerExtras,
    pub(super) observer: Option<&'a Observer>,
    /// Called with the number of a subscription that was disconnected.
    pub(super) on_disconnect: &'a (dyn Fn(u64) + Send + Sync),
    pub(super) worker: &'a WorkerState,
    /// The beginning of a timed turn.
    pub(super) timed_from: Option<Instant>,
}

impl Task {
    /// Creates the task of a feed into which no event was pushed yet.
    pub(crate) fn new<T, F, R>(mut feed: FeedConsumer, handler: F) -> Self
    where
        T: 'static,
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        // The first event schedules the job.
        let empty = feed.request_wake();
        debug_assert!(empty, "a new feed is empty");
        Self {
            feed,
            handler: Box::new(Closure(handler, PhantomData)),
        }
    }

    /// The handler has ended. Drops the events in its ring, within the time limit of the calling
    /// thread, and then what the handler owns.
    pub(super) fn finish(self) {
        drop(self.feed);
        let _no_limit = time_limit::suspend();
        contain("the drop of a handler", || drop(self.handler));
    }

    /// Calls the handler with the events in the ring, up to the limit of a turn. No call begins
    /// once the job is disabled.
    pub(super) fn turn(
        &mut self,
        disabled: DisabledFlag<'_>,
        context: &TurnContext<'_>,
    ) -> TurnEnd {
        for _ in 0..TURN_SLOTS {
            match self.feed.check() {
                Found::Event => {
                    let mut delivery = SlotDelivery {
                        feed: &mut self.feed,
                        disabled,
                        context,
                    };
                    delivery.run(&mut *self.handler);
                    if disabled.is_set() {
                        // The thread that disabled the job ends the feed next, which schedules one
                        // more turn. But if the feed had ended before, no thread schedules another
                        // turn.
                        if !self.feed.has_ended() {
                            return TurnEnd::Idle;
                        }
                        // The events that wait are not handled, but the loss that disconnected the
                        // handler before is reported.
                        if let Some(gap) = self.feed.shared().disconnected_by() {
                            context.disconnected(gap);
                        }
                        return TurnEnd::Finished;
                    }
                    if context.has_yielded() {
                        return TurnEnd::More;
                    }
                }
                Found::Gap => report(
                    context.observer,
                    Notice::Lost {
                        subscription: context.subscription,
                        gap: self.feed.gap(),
                    },
                ),
                Found::Empty if self.feed.request_wake() => return TurnEnd::Idle,
                Found::Empty => {}
                Found::Disconnected => {
                    context.disconnected(self.feed.gap());
                    return TurnEnd::Finished;
                }
                Found::Closed | Found::Ended(_) => return TurnEnd::Finished,
            }
        }
        TurnEnd::More
    }
}

/// A handler without the type of its closure. There is one dynamic call for a whole slot, so that
/// the loop over its events is compiled for the closure.
trait Handle: Send {
    fn handle(&mut self, delivery: &mut SlotDelivery<'_>);
}

struct Closure<T, F>(F, PhantomData<fn(&T)>);

impl<T, F, R> Handle for Closure<T, F>
where
    T: 'static,
    F: FnMut(&Event<T>) -> R + Send,
    R: HandlerResult,
{
    fn handle(&mut self, delivery: &mut SlotDelivery<'_>) {
        let SlotDelivery {
            feed,
            disabled,
            context,
        } = delivery;
        let mut events = feed.slot();
        // In a register: it is used for each event, and the closure might change what is behind a
        // reference in memory.
        let worker = context.worker;
        // At least one call in each turn.
        while !disabled.is_set()
            && let Some(event) = events.next()
        {
            let result = self.0(event).into_result();
            worker.note_handled(events.count());
            if let Err(error) = result {
                context.failed(event.id(), event.topic(), &error);
            }
            if context.is_turn_over(worker) {
                break;
            }
        }
    }
}

/// The events of one slot that are being delivered to the closure.
struct SlotDelivery<'a> {
    feed: &'a mut FeedConsumer,
    disabled: DisabledFlag<'a>,
    context: &'a TurnContext<'a>,
}

impl SlotDelivery<'_> {
    /// Delivers all events of the slot. After a panic it continues with the next event.
    fn run(&mut self, handler: &mut dyn Handle) {
        self.feed.record_latencies();
        // What the handler calls has limits of its own.
        let _no_limit = time_limit::suspend();
        loop {
            let (before, received) = (self.feed.mask(), self.feed.received());
            let Err(panic) = catch(|| handler.handle(self)) else {
                return;
            };
            // Each call counts once, even if the panic came after the call: from the `Display` of
            // the error that it returned, for example.
            let taken = before & !self.feed.mask();
            debug_assert!(taken != 0, "a call panicked, so its event was taken");
            let received = received + u64::from(taken.count_ones());
            self.feed.set_received(received);
            self.context.worker.note_handled(received);
            if let Some((id, topic)) = self.feed.id_and_topic(63 - taken.leading_zeros()) {
                self.context.panicked(id, topic, &panic);
            }
            if self.context.is_turn_over(self.context.worker) {
                return;
            }
        }
    }
}

impl TurnContext<'_> {
    /// Whether the turn has to end, without counting a call.
    fn has_yielded(&self) -> bool {
        // Relaxed: a hint.
        self.worker.turn_limit.load(Ordering::Relaxed) == TurnLimit::NOW
    }

    /// Whether the turn has to end. Called after each call of the handler.
    ///
    /// `worker`: that of this context. The loop over the events of a slot has it in a register.
    #[inline(always)]
    fn is_turn_over(&self, worker: &WorkerState) -> bool {
        worker.has_turn_limit() && self.is_limited_turn_over()
    }

    /// Whether a turn that is not limited by slots alone has to end. If the time of a timed turn is
    /// over, sets its limit to [`TurnLimit::NOW`].
    ///
    /// The clock is read after 1, 2, 4, 8 and 16 calls, and then after every 16, because a read may
    /// take longer than a call.
    #[cold]
    fn is_limited_turn_over(&self) -> bool {
        if self.has_yielded() {
            return true;
        }
        let WorkerState {
            clock_interval,
            clock_in,
            ..
        } = self.worker;
        // Relaxed: only this worker accesses them.
        let left = clock_in.load(Ordering::Relaxed);
        if left > 1 {
            clock_in.store(left - 1, Ordering::Relaxed);
            return false;
        }
        let interval = clock_interval.load(Ordering::Relaxed);
        let next = (interval * 2).clamp(1, CALLS_PER_CLOCK);
        clock_interval.store(next, Ordering::Relaxed);
        clock_in.store(next, Ordering::Relaxed);
        let is_over = self
            .timed_from
            .is_none_or(|began| began.elapsed() >= TURN_TIME);
        if is_over {
            // Relaxed: a hint.
            self.worker
                .turn_limit
                .store(TurnLimit::NOW, Ordering::Relaxed);
        }
        is_over
    }

    #[cold]
    fn disconnected(&self, gap: Gap) {
        (self.on_disconnect)(self.subscription);
        let notice = Notice::Disconnected {
            subscription: self.subscription,
            gap,
        };
        report(self.observer, notice);
    }

    #[cold]
    fn failed(&self, id: u64, topic: &Topic, error: &dyn fmt::Display) {
        // Relaxed: a statistic.
        let errors = &self.extras.init_counters().errors;
        errors.fetch_add(1, Ordering::Relaxed);
        let notice = Notice::Failed {
            subscription: self.subscription,
            id,
            topic,
            error,
        };
        report(self.observer, notice);
    }

    #[cold]
    fn panicked(&self, id: u64, topic: &Topic, panic: &Panic) {
        // Relaxed: a statistic.
        let panics = &self.extras.init_counters().panics;
        panics.fetch_add(1, Ordering::Relaxed);
        let notice = Notice::Panicked {
            subscription: self.subscription,
            id,
            topic,
            message: panic.message(),
        };
        report(self.observer, notice);
    }
}
