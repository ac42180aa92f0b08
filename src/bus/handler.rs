//! Handlers: subscriptions that call a closure.
//!
//! This file opens such subscriptions and has the guard that keeps one open.
//! [`handlers`](crate::handlers) runs the closures, and describes the failure modes.

use std::marker::PhantomData;
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use super::error::SubscribeError;
use super::handle::SubscriptionHandle;
use super::into_patterns::IntoPatterns;
use super::record::Record;
use super::registry::OpenedFeed;
use super::stats::SubscriptionStats;
use super::subscription::{Request, SubscriptionBuilder};
use super::{Bus, Core};
use crate::contain::{UserValue, contain};
use crate::dispatch::Dispatch;
use crate::dispatch::block::Event;
use crate::dispatch::feed::{End, FeedConsumer, FeedShared, Listener};
use crate::handlers::notice::Observer;
use crate::handlers::pool::{HandlerControl, HandlerJob, Pool, PoolConfig};
use crate::handlers::task::{HandlerResult, Task};
use crate::ring::run_queue::Job;
use crate::sync::{Arc, Mutex, Ordering};
use crate::time_limit::TimeLimit;

/// The handler pool of a bus. It is created when the first handler is opened.
///
/// The observer belongs to the open bus and to each handler, and the pool has a weak reference. So
/// the observer is dropped when the bus is closed and its last handler has ended, also if something
/// that the observer owns keeps the core alive: a handle to a subscription, for example.
pub(super) struct Handlers {
    /// 1 to `threads_max`.
    pub(super) threads: usize,
    /// Spare threads included.
    pub(super) threads_max: usize,
    /// `None` if the program set none, or if the bus is closed.
    observer: Mutex<Option<Arc<Observer>>>,
    pool: OnceLock<Arc<Pool>>,
}

impl Handlers {
    pub(super) fn new(threads: usize, threads_max: usize, observer: Option<Arc<Observer>>) -> Self {
        Self {
            threads,
            threads_max,
            observer: Mutex::new(observer),
            pool: OnceLock::new(),
        }
    }

    /// Called when the bus is closed. From now on only the handlers own the observer.
    pub(super) fn release_observer(&self) {
        let observer = self.observer.lock().take();
        // Only after the lock is released: dropping the observer runs user code.
        contain("the drop of the observer", || drop(observer));
    }

    /// The pool. `None` if no handler was ever opened.
    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.get()
    }

    fn make_pool(&self, core: &Arc<Core>) -> &Arc<Pool> {
        self.pool.get_or_init(|| {
            let manual = core.engine.dispatch() == Dispatch::Manual;
            let core = Arc::downgrade(core);
            let for_stalls = core.clone();
            let observer = self.observer.lock().as_ref().map(weak_observer);
            Pool::new(PoolConfig {
                threads: self.threads,
                threads_max: self.threads_max,
                manual,
                observer,
                on_stall: Box::new(move |number| {
                    let Some(core) = for_stalls.upgrade() else {
                        return true;
                    };
                    // The thread that calls this must not wait.
                    let Some(registry) = core.registry.try_lock() else {
                        return false;
                    };
                    let record = registry.record(number);
                    drop(registry);
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
                    true
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

impl Drop for Handlers {
    /// The core is being dropped. Its engine, a field in front of this one, has dropped its end of
    /// each feed, so every handler that is left ends in its next turn.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.get() {
            pool.run_left();
        }
    }
}

/// An observer that calls this one, unless it was dropped.
fn weak_observer(observer: &Arc<Observer>) -> Arc<Observer> {
    let weak = Arc::downgrade(observer);
    Arc::new(UserValue::new(Box::new(move |notice| {
        if let Some(observer) = weak.upgrade() {
            observer(notice);
        }
    })))
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// Subscribes a closure: the handler pool calls it with every event that matches. The
    /// subscription has the default settings of the bus. This is
    /// [`subscription`](Self::subscription) followed by [`handler`](SubscriptionBuilder::handler),
    /// which documents the rules.
    ///
    /// Keep the guard that the call returns: dropping it cancels the handler, and
    /// `let _ = bus.on(..)?` drops it at once.
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
    /// let guard = bus.on("n.*", move |event| {
    ///     sum += event.data();
    ///     sender.send(sum)
    /// })?;
    /// bus.publish("n.a", 2)?;
    /// bus.publish("n.b", 3)?;
    /// assert!(bus.flush_within(Duration::from_secs(5)));
    /// assert_eq!(sums.try_iter().collect::<Vec<_>>(), [2, 5]);
    /// drop(guard); // cancels
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("listen", "add_listener", "callback"))]
    pub fn on<F, R>(
        &self,
        patterns: impl IntoPatterns,
        handler: F,
    ) -> Result<HandlerGuard<T>, SubscribeError>
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        self.subscription(patterns).handler(handler)
    }
}

impl<T: Send + Sync + 'static> SubscriptionBuilder<T> {
    /// Opens the subscription with a closure, the handler. The handler pool calls it with every
    /// event, in order and one at a time. Every matching event that is published after this call
    /// has returned is handled.
    ///
    /// The closure returns nothing, or a `Result`. An error or a panic is counted and reported to
    /// the [observer](super::BusBuilder::observer) of the bus; then the closure is called with the
    /// next event. When the closure falls behind, the overflow policy of the subscription applies,
    /// and the gap is reported to the observer.
    ///
    /// Inside the closure no call waits for the bus: publishing into a full lane, and
    /// `publish_sequenced` always, fail with [`WouldDeadlock`](super::PublishError::WouldDeadlock).
    /// A closure that publishes should own a [`WeakBus`](super::WeakBus), because with a [`Bus`] it
    /// would keep the bus, and so itself, open.
    ///
    /// Handlers get their turns in order. While other handlers wait and calls take long, each turn
    /// is one call. A call that takes longer than
    /// [`HANDLER_STALL`](crate::limits::HANDLER_STALL) has its thread replaced by a spare thread,
    /// and spare threads also help if handlers wait for too long: see
    /// [`max_handler_threads`](super::BusBuilder::max_handler_threads). Use
    /// [`dedicated`](Self::dedicated) for closures whose calls always take long.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: as for [`open`](Self::open), and `Thread` if the system could not start
    /// a thread.
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<String>::builder().blocking(true).build()?;
    /// let guard = bus
    ///     .subscription("readings.**")
    ///     .overflow(Overflow::Block)
    ///     .handler(|event| event.data().parse::<f64>().map(|reading| println!("{reading}")))?;
    /// bus.publish("readings.attic", "21.5".to_owned())?;
    /// bus.publish("readings.cellar", "cold".to_owned())?;
    /// assert!(bus.flush_within(std::time::Duration::from_secs(5)));
    /// assert_eq!((guard.stats().received, guard.stats().errors), (2, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn handler<F, R>(self, handler: F) -> Result<HandlerGuard<T>, SubscribeError>
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        self.handler_with(|_, _| handler)
    }

    /// Like [`handler`](Self::handler), but `make` creates the closure from the number and the
    /// counters of the subscription, before the first event. `make` runs under the registry's lock.
    pub(crate) fn handler_with<F, R>(
        self,
        make: impl FnOnce(u64, &Arc<FeedShared>) -> F,
    ) -> Result<HandlerGuard<T>, SubscribeError>
    where
        F: FnMut(&Event<T>) -> R + Send + 'static,
        R: HandlerResult,
    {
        let request = self.into_request();
        let core = request.core.clone();
        let observed = core.clone();
        let task = move |number, feed: FeedConsumer| {
            let mut handler = make(number, feed.shared());
            let observer = observed.handlers.observer.lock().clone();
            match observer {
                None => Task::new(feed, handler),
                Some(observer) => Task::new(feed, move |event: &Event<T>| {
                    let _ = &observer; // the handler owns it
                    handler(event)
                }),
            }
        };
        let record = request.open_handler(Box::new(task))?;
        Ok(HandlerGuard {
            subscription: SubscriptionHandle::new(core, record),
            detached: false,
        })
    }
}

impl Request {
    /// Opens a subscription with the handler that `task` makes from the subscription's number and
    /// its feed.
    fn open_handler(
        self,
        task: Box<dyn FnOnce(u64, FeedConsumer) -> Task + '_>,
    ) -> Result<Arc<Record>, SubscribeError> {
        let core = &self.core.clone();
        let (dedicated, wait) = (self.dedicated, self.options.wait);
        // One of the two owns the closure of a handler that is refused. They outlive the lock under
        // which the subscription is opened: dropping a closure runs user code.
        let (mut task, mut made) = (Some(task), None);
        let opened = self.open_with(|config| {
            let number = config.number;
            let pool = core.handlers.make_pool(core);
            if !dedicated {
                pool.start()
                    .map_err(|error| SubscribeError::Thread(error.into()))?;
            }
            let mut producer = None;
            let mut feed_shared = None;
            let task = task.take().expect("opened once");
            let job: Arc<HandlerJob> = Arc::new_cyclic(|job| {
                let weak = job.clone() as std::sync::Weak<_>;
                let (feed_producer, consumer) = config.make(Listener::Callback(weak));
                producer = Some(feed_producer);
                feed_shared = Some(consumer.shared().clone());
                Job::new(pool.shared(number), Some(task(number, consumer)))
            });
            made = Some(job.clone());
            if dedicated {
                Pool::dedicate(&job, move |threads| wait.backoff(threads))
                    .map_err(|error| SubscribeError::Thread(error.into()))?;
            }
            pool.add_handler();
            Ok(OpenedFeed {
                producer: producer.expect("made above"),
                shared: feed_shared.expect("made above"),
                handler: Some(job),
            })
        });
        contain("the drop of a handler that was refused", || {
            drop((task, made))
        });
        opened
    }
}

/// Keeps a handler subscribed. Dropping the guard [cancels](Self::cancel) the handler, and waits
/// like `cancel` for at most 10 milliseconds while a call is running. Guards that are dropped one
/// after the other wait one after the other: 50 of them, each while a call is running, for up to
/// half a second. It does nothing if the guard was [detached](Self::detach).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let guard = bus.on("a", |event| println!("{}", event.data()))?;
/// assert_eq!(bus.stats().subscriptions, 1);
/// drop(guard);
/// assert_eq!(bus.stats().subscriptions, 0);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the guard cancels the handler; `detach` lets it run"]
pub struct HandlerGuard<T: Send + Sync + 'static> {
    subscription: SubscriptionHandle<T>,
    detached: bool,
}

impl<T: Send + Sync + 'static> HandlerGuard<T> {
    /// Cancels the handler. After this has returned, no call of the handler begins.
    ///
    /// A call of the handler that is running may finish. `cancel` waits for it for at most 10
    /// milliseconds, and does not wait if it is called from inside that handler. Returns whether
    /// `cancel` ended the subscription; `false` means that the subscription had ended before. Also
    /// then no call begins after this has returned: if the handler was disconnected, the events
    /// that are left in its ring are not handled, and the observer gets
    /// [`Notice::Disconnected`](crate::Notice::Disconnected).
    ///
    /// A thread that runs handlers drops the closure soon afterwards. Under
    /// [`Dispatch::Manual`], the next call that drives the bus drops it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let guard = bus.on("a", |event| println!("{}", event.data()))?;
    /// assert!(guard.cancel());
    /// assert!(!guard.cancel());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("abort", "stop"))]
    pub fn cancel(&self) -> bool {
        self.subscription.cancel()
    }

    /// Cancels the handler, and waits until no call of it is running, but no longer than `limit`.
    /// Returns `true` if no call is running. Inside a handler it does not wait.
    ///
    /// **Blocks the thread**, and there is no async form. In async code call it where blocking is
    /// allowed, such as with tokio's `spawn_blocking`. [`ended`](SubscriptionHandle::ended) does
    /// not wait for a call that is running.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let guard = bus.on("a", |_| std::thread::sleep(Duration::from_millis(20)))?;
    /// bus.publish("a", 1)?;
    /// assert!(guard.cancel_and_wait(Duration::from_secs(5)));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "join")]
    pub fn cancel_and_wait(&self, limit: Duration) -> bool {
        let limit = TimeLimit::enter(limit);
        self.subscription.cancel_at_once();
        self.subscription.wait_for_handler(limit.deadline())
    }

    /// Consumes the guard, and keeps the handler subscribed until the bus closes, or until
    /// [`SubscriptionHandle::cancel`] is called.
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
    #[doc(alias("forget", "leak"))]
    pub fn detach(mut self) -> SubscriptionHandle<T> {
        self.detached = true;
        self.subscription.clone()
    }

    /// Consumes the guard, and keeps the handler subscribed. What it returns can cancel the
    /// handler, and keeps nothing of the bus alive.
    pub(crate) fn detach_weak(self) -> WeakHandler<T> {
        let handle = self.detach();
        let record = handle.record();
        let handler = record.handler.as_ref();
        WeakHandler {
            core: Arc::downgrade(handle.core()),
            record: Arc::downgrade(record),
            feed: Arc::downgrade(&record.feed),
            handler: Arc::downgrade(handler.expect("the guard of a handler")),
            payloads: PhantomData,
        }
    }

    /// Returns a handle to the subscription, for its statistics and patterns, and to wait for its
    /// end.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let guard = bus.on("a", |event| println!("{}", event.data()))?;
    /// assert!(guard.subscription().add("b")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscription(&self) -> &SubscriptionHandle<T> {
        &self.subscription
    }

    /// Returns the statistics of the subscription. See [`SubscriptionStats`] for an example.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let guard = bus.on("a", |event| println!("{}", event.data()))?;
    /// assert_eq!(guard.stats().panics, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> SubscriptionStats {
        self.subscription.stats()
    }
}

impl<T: Send + Sync + 'static> Drop for HandlerGuard<T> {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for HandlerGuard<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerGuard")
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}

/// Cancels a handler, like a [`SubscriptionHandle`], but keeps nothing of the bus alive.
pub(crate) struct WeakHandler<T: Send + Sync + 'static> {
    core: Weak<Core>,
    record: Weak<Record>,
    /// The handler owns it, and may outlive the core: once all events are in the rings, the handler
    /// pool needs no core.
    feed: Weak<FeedShared>,
    handler: Weak<dyn HandlerControl>,
    payloads: PhantomData<fn(T) -> T>,
}

impl<T: Send + Sync + 'static> WeakHandler<T> {
    /// Cancels the handler. A call that is running, or starting at this moment, may finish.
    pub(crate) fn cancel_at_once(&self) {
        if let (Some(core), Some(record)) = (self.core.upgrade(), self.record.upgrade()) {
            SubscriptionHandle::<T>::new(core, record).cancel_at_once();
            return;
        }
        // The subscription is not registered any more. If the handler was dropped, too, no call of
        // it will start.
        if let Some(handler) = self.handler.upgrade() {
            handler.disable();
        }
        if let Some(feed) = self.feed.upgrade() {
            feed.finish(End::Cancelled);
        }
    }

    /// Waits until no call of the handler is running. Returns `false` at the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let Some(handler) = self.handler.upgrade() else {
            return true;
        };
        handler.wait_for(deadline, &mut || !handler.is_running())
    }
}
