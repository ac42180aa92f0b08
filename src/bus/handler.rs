//! Handlers: subscriptions that call a closure.

use std::sync::OnceLock;
use std::time::Duration;

use super::error::SubscribeError;
use super::stats::SubscriptionStats;
use super::subscription::{SubscriptionBuilder, SubscriptionHandle};
use super::{Bus, Core, IntoPatterns};
use crate::dispatch::Dispatch;
use crate::dispatch::block::Event;
use crate::dispatch::feed::Listener;
use crate::handlers::notice::Observer;
use crate::handlers::pool::{HandlerControl, HandlerJob, Pool, PoolConfig};
use crate::handlers::task::{HandlerResult, Task};
use crate::park::deadline_after;
use crate::ring::run_queue::Job;
use crate::sync::{Arc, Ordering};

/// The pool of a bus, made when the first handler is opened.
pub(super) struct Handlers<T: Send + Sync + 'static> {
    pub(super) threads: usize,
    pub(super) threads_max: usize,
    pub(super) observer: Option<Arc<Observer>>,
    pool: OnceLock<Arc<Pool<T>>>,
}

impl<T: Send + Sync + 'static> Handlers<T> {
    pub(super) fn new(threads: usize, threads_max: usize, observer: Option<Arc<Observer>>) -> Self {
        Self {
            threads,
            threads_max,
            observer,
            pool: OnceLock::new(),
        }
    }

    /// The pool, if there was ever a handler.
    pub(super) fn pool(&self) -> Option<&Arc<Pool<T>>> {
        self.pool.get()
    }

    fn make_pool(&self, core: &Arc<Core<T>>) -> &Arc<Pool<T>> {
        self.pool.get_or_init(|| {
            let manual = core.engine.dispatch() == Dispatch::Manual;
            let core = Arc::downgrade(core);
            let for_stalls = core.clone();
            Pool::new(PoolConfig {
                threads: self.threads,
                threads_max: self.threads_max,
                manual,
                observer: self.observer.clone(),
                on_stall: Box::new(move |number| {
                    let Some(core) = for_stalls.upgrade() else {
                        return;
                    };
                    let record = core.registry.lock().record(number);
                    if let Some(handler) =
                        record.as_ref().and_then(|record| record.handler.as_ref())
                    {
                        // Relaxed: a statistic.
                        handler
                            .extras()
                            .init_counters()
                            .stalls
                            .fetch_add(1, Ordering::Relaxed);
                    }
                }),
                on_disconnect: Box::new(move |number| {
                    let Some(core) = core.upgrade() else { return };
                    let record = core.registry.lock().record(number);
                    if let Some(record) = record {
                        core.unregister(&record);
                    }
                }),
            })
        })
    }
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// Calls a closure with every event that matches, on the handler pool, with the bus's defaults.
    /// Short for
    /// [`subscription`](Self::subscription), followed by
    /// [`handler`](SubscriptionBuilder::handler).
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let (sender, sums) = mpsc::channel();
    /// let mut sum = 0;
    /// let handle = bus.on("n.*", move |event| {
    ///     sum += event.data();
    ///     sender.send(sum)
    /// })?;
    /// bus.publish("n.a", 2)?;
    /// bus.publish("n.b", 3)?;
    /// assert!(bus.flush_within(Duration::from_secs(5)));
    /// assert_eq!(sums.try_iter().collect::<Vec<_>>(), [2, 5]);
    /// handle.cancel();
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<F, R>(
        &self,
        patterns: impl IntoPatterns,
        handler: F,
    ) -> Result<HandlerHandle<T>, SubscribeError>
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        self.subscription(patterns).handler(handler)
    }
}

impl<T: Send + Sync + 'static> SubscriptionBuilder<'_, T> {
    /// Opens it with a closure that is called with every event, in order, one at a time, on the
    /// handler pool. What is published after this returned is handled.
    ///
    /// What the closure answers is nothing, or a `Result`: an error is counted and told to the
    /// bus's [observer](super::BusBuilder::observer), as is a panic, and the next event is handled
    /// as usual. When the closure falls behind, the subscription's overflow policy applies, and the
    /// gap goes to the observer.
    ///
    /// Inside the closure nothing waits: publishing answers
    /// [`WouldDeadlock`](super::PublishError::WouldDeadlock) where it would have to. A closure that
    /// publishes takes a [`WeakBus`](super::WeakBus) along, or the bus keeps itself open. A call
    /// that takes long holds up the other handlers for up to
    /// [`HANDLER_STALL`](crate::limits::HANDLER_STALL), after which its thread is replaced; for
    /// closures that always do, there is [`dedicated`](Self::dedicated).
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: as for [`open`](Self::open), and no thread to be had.
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<String>::builder().blocking(true).build()?;
    /// let handle = bus
    ///     .subscription("readings.**")
    ///     .overflow(Overflow::Block)
    ///     .handler(|event| event.data().parse::<f64>().map(|reading| println!("{reading}")))?;
    /// bus.publish("readings.attic", "21.5".to_owned())?;
    /// bus.publish("readings.cellar", "cold".to_owned())?;
    /// assert!(bus.flush_within(std::time::Duration::from_secs(5)));
    /// assert_eq!((handle.stats().received, handle.stats().errors), (2, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn handler<F, R>(self, handler: F) -> Result<HandlerHandle<T>, SubscribeError>
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        self.handler_with(|_| handler)
    }

    /// Like [`handler`](Self::handler), with a closure that is made once the number of its
    /// subscription is known, before the first event. `make` runs under the registry's lock.
    pub(crate) fn handler_with<F, R>(
        self,
        make: impl FnOnce(u64) -> F,
    ) -> Result<HandlerHandle<T>, SubscribeError>
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        let core = self.core();
        let (dedicated, wait) = self.dedication();
        // Both outlive the lock under which the subscription is opened: a closure's drop is foreign
        // code.
        let mut make = Some(make);
        let mut made = None;
        let subscription = self.open_with(|opening| {
            let number = opening.number;
            let pool = core.handlers.make_pool(core);
            if !dedicated {
                pool.start()
                    .map_err(|error| SubscribeError::Thread(error.into()))?;
            }
            let mut producer = None;
            let mut feed_shared = None;
            let job: Arc<HandlerJob<T>> = Arc::new_cyclic(|job| {
                let weak = job.clone() as std::sync::Weak<_>;
                let (feed_producer, consumer) = opening.feed(Listener::Callback(weak));
                producer = Some(feed_producer);
                feed_shared = Some(consumer.shared().clone());
                let handler = make.take().expect("opened once")(number);
                Job::new(pool.shared(number), Some(Task::new(consumer, handler)))
            });
            made = Some(job.clone());
            if dedicated {
                Pool::dedicate(&job, move |threads| wait.awake(threads))
                    .map_err(|error| SubscribeError::Thread(error.into()))?;
            }
            pool.add_handler();
            Ok((
                producer.expect("made above"),
                feed_shared.expect("made above"),
                Some(job as Arc<dyn HandlerControl>),
            ))
        })?;
        Ok(HandlerHandle {
            subscription,
            detached: false,
        })
    }
}

/// Keeps a handler subscribed: dropping it cancels, unless it was [detached](Self::detach).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let handle = bus.on("a", |event| println!("{}", event.data()))?;
/// assert_eq!(bus.stats().subscriptions, 1);
/// drop(handle);
/// assert_eq!(bus.stats().subscriptions, 0);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the handle cancels the handler; `detach` lets it run"]
pub struct HandlerHandle<T: Send + Sync + 'static> {
    subscription: SubscriptionHandle<T>,
    detached: bool,
}

impl<T: Send + Sync + 'static> HandlerHandle<T> {
    /// Cancels it: once this has returned, no call begins any more. A call that is running may
    /// finish; this waits 10 ms for it at most, and not at all from inside that call. `false`: it
    /// had ended already.
    pub fn cancel(&self) -> bool {
        self.subscription.cancel()
    }

    /// Cancels it, and waits for a call that is running. `true`: none is. From inside a handler it
    /// does not wait.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let handle = bus.on("a", |_| std::thread::sleep(Duration::from_millis(20)))?;
    /// bus.publish("a", 1)?;
    /// assert!(handle.cancel_and_wait(Duration::from_secs(5)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel_and_wait(&self, limit: Duration) -> bool {
        let deadline = deadline_after(limit);
        self.subscription.cancel_at_once();
        self.subscription.wait_for_handler(deadline)
    }

    /// Lets the handler run until the bus closes. [`SubscriptionHandle::cancel`] still cancels it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let subscription = bus.on("a", |event| println!("{}", event.data()))?.detach();
    /// assert_eq!(bus.stats().subscriptions, 1);
    /// assert!(subscription.cancel());
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) -> SubscriptionHandle<T> {
        self.detached = true;
        self.subscription.clone()
    }

    /// The subscription: its numbers and patterns.
    pub fn subscription(&self) -> &SubscriptionHandle<T> {
        &self.subscription
    }

    /// Its numbers.
    pub fn stats(&self) -> SubscriptionStats {
        self.subscription.stats()
    }
}

impl<T: Send + Sync + 'static> Drop for HandlerHandle<T> {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for HandlerHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerHandle")
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}
