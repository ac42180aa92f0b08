//! A handler, its ring, and one turn at them.

use std::fmt;
use std::sync::OnceLock;

use super::notice::{Notice, Observer, tell};
use crate::contain::{Panic, catch};
use crate::dispatch::block::Event;
use crate::dispatch::feed::{FeedConsumer, Found};
use crate::dispatch::loss::Gap;
use crate::ring::run_queue::DisabledFlag;
use crate::sync::thread::Thread;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Slots of the ring, of up to 64 events each, that a turn takes at most before others get theirs.
const TURN_SLOTS: usize = 16;

/// What a handler may answer: nothing, or a `Result` whose error is told to the [observer](crate::BusBuilder::observer).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<String>::new();
/// let quiet = bus.on("a", |event| println!("{}", event.data()))?;
/// let failing = bus.on("a", |event| event.data().parse::<u32>().map(drop))?;
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

/// What few handlers have: made when there is something to be said, since every handler pays for its context.
#[derive(Default)]
pub(crate) struct RareState(OnceLock<Box<RareFields>>);

#[derive(Default)]
struct RareFields {
    counters: Counters,
    /// The thread of a handler that has one to itself.
    own_thread: OnceLock<Thread>,
}

impl RareState {
    /// `None`: all are zero.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        self.0.get().map(|rare| &rare.counters)
    }

    /// To count something.
    #[cold]
    pub(crate) fn count(&self) -> &Counters {
        &self.0.get_or_init(Box::default).counters
    }

    /// It has this thread. `false`: it had one.
    pub(crate) fn dedicate(&self, thread: Thread) -> bool {
        let rare = self.0.get_or_init(Box::default);
        rare.own_thread.set(thread).is_ok()
    }

    pub(crate) fn own_thread(&self) -> Option<&Thread> {
        self.0.get()?.own_thread.get()
    }
}

/// What is counted of a handler, beside what is counted of every subscription.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) errors: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

/// What a turn works on.
pub(crate) struct Task<T> {
    feed: FeedConsumer<T>,
    handler: Box<dyn Handle<T>>,
}

/// How a turn left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnEnd {
    /// There is more to do.
    More,
    /// Nothing is there, and whoever brings something asks.
    Idle,
    /// Nothing will come any more.
    Finished,
}

/// What a turn needs to know of where it runs.
pub(crate) struct TurnContext<'a> {
    pub(crate) subscription: u64,
    pub(crate) rare: &'a RareState,
    pub(crate) observer: Option<&'a Observer>,
    /// Is told of a handler that was disconnected, by the number of its subscription.
    pub(crate) disconnected: &'a (dyn Fn(u64) + Send + Sync),
    /// Changes with every call: who watches sees that a call has ended. Holds how many this job has handled.
    pub(crate) calls: &'a AtomicU64,
    /// This turn has had its time.
    pub(crate) yield_requested: &'a AtomicBool,
}

impl<T> Task<T> {
    /// For a feed into which nothing was put yet.
    pub(crate) fn new<F, R>(mut feed: FeedConsumer<T>, handler: F) -> Self
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        // From the start it asks to be told of its first event.
        feed.request_wake();
        Self {
            feed,
            handler: Box::new(Closure(handler)),
        }
    }

    /// Hands the handler what there is, up to a turn's share. No call begins once the job is barred.
    pub(crate) fn turn(
        &mut self,
        disabled: DisabledFlag<'_>,
        context: &TurnContext<'_>,
    ) -> TurnEnd {
        for _ in 0..TURN_SLOTS {
            match self.feed.check() {
                Found::Event => {
                    let mut calls = Calls {
                        feed: &mut self.feed,
                        disabled,
                        context,
                    };
                    calls.all(&mut *self.handler);
                    if disabled.is_set() {
                        // Whoever barred it ends the feed next, and asks for the turn that finds out; but if something else has
                        // ended it before, nobody asks.
                        return if self.feed.has_ended() {
                            TurnEnd::Finished
                        } else {
                            TurnEnd::Idle
                        };
                    }
                    if context.must_yield() {
                        return TurnEnd::More;
                    }
                }
                Found::Gap(gap) => tell(
                    context.observer,
                    Notice::Lost {
                        subscription: context.subscription,
                        gap,
                    },
                ),
                Found::Empty if self.feed.request_wake() => return TurnEnd::Idle,
                Found::Empty => {}
                Found::Disconnected(gap) => {
                    context.disconnected(gap);
                    return TurnEnd::Finished;
                }
                Found::Closed | Found::Ended(_) => return TurnEnd::Finished,
            }
        }
        TurnEnd::More
    }
}

/// A handler without its type: one call for a whole slot, so the loop inside knows the closure.
trait Handle<T>: Send {
    fn handle(&mut self, calls: &mut Calls<'_, T>);
}

struct Closure<F>(F);

impl<T, F, R> Handle<T> for Closure<F>
where
    F: FnMut(&Event<T>) -> R + Send,
    R: HandlerResult,
{
    fn handle(&mut self, calls: &mut Calls<'_, T>) {
        let Calls {
            feed,
            disabled,
            context,
        } = calls;
        let mut events = feed.slot();
        while !disabled.is_set()
            && !context.must_yield()
            && let Some(event) = events.next()
        {
            let result = self.0(event).into_result();
            context.beat(events.count());
            if let Err(error) = result {
                context.failed(event, &error);
            }
        }
    }
}

/// The calls for the events of a slot.
struct Calls<'a, T> {
    feed: &'a mut FeedConsumer<T>,
    disabled: DisabledFlag<'a>,
    context: &'a TurnContext<'a>,
}

impl<T> Calls<'_, T> {
    /// All of them. A panic ends a call, not the others.
    fn all(&mut self, handler: &mut dyn Handle<T>) {
        self.feed.record_latencies();
        loop {
            let (before, received) = (self.feed.mask(), self.feed.received());
            let Err(panic) = catch(|| handler.handle(self)) else {
                return;
            };
            // Each call counts once, also if what panicked came after it: the error that it answered, say.
            let taken = before & !self.feed.mask();
            let received = received + u64::from(taken.count_ones());
            self.feed.set_received(received);
            self.context.beat(received);
            if let Some(event) = self.feed.event(63 - taken.leading_zeros()) {
                self.context.panicked(event, &panic);
            }
        }
    }
}

impl TurnContext<'_> {
    #[inline(always)]
    fn must_yield(&self) -> bool {
        // Relaxed: a hint.
        self.yield_requested.load(Ordering::Relaxed)
    }

    /// A call has ended: the job has handled so many events.
    #[inline(always)]
    fn beat(&self, handled: u64) {
        // Relaxed: who watches compares it with itself.
        self.calls.store(handled, Ordering::Relaxed);
    }

    #[cold]
    fn disconnected(&self, gap: Gap) {
        (self.disconnected)(self.subscription);
        let notice = Notice::Disconnected {
            subscription: self.subscription,
            gap,
        };
        tell(self.observer, notice);
    }

    #[cold]
    fn failed<T>(&self, event: &Event<T>, error: &dyn fmt::Display) {
        // Relaxed: statistics.
        self.rare.count().errors.fetch_add(1, Ordering::Relaxed);
        let notice = Notice::Failed {
            subscription: self.subscription,
            id: event.id(),
            topic: event.topic(),
            error,
        };
        tell(self.observer, notice);
    }

    #[cold]
    fn panicked<T>(&self, event: &Event<T>, panic: &Panic) {
        self.rare.count().panics.fetch_add(1, Ordering::Relaxed);
        let notice = Notice::Panicked {
            subscription: self.subscription,
            id: event.id(),
            topic: event.topic(),
            message: panic.message(),
        };
        tell(self.observer, notice);
    }
}
