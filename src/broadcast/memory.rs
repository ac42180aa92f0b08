//! The driver for one process: a bus whose payloads are the events.
//!
//! The bus does the work: a channel is a topic, a subscription a handler on the pattern that matches this topic alone, and
//! the event is the payload, so that handlers get the very one that was published. What is added here is the ledger, which
//! knows the channel of each subscription, and the drops of those that are gone.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::cancel::{CancelToken, TOKEN_LOOK};
use super::error::{ChannelError, CloseError, PublishError, SubscribeError};
use super::event::Event;
use super::report::{CloseReport, Incident, Logger};
use super::subscription::{Control, Subscription};
use super::{Broadcaster, Handler};
use crate::bus::{
    BuildError, Bus, PublishTimeoutError, SubscribeError as BusError, SubscriptionHandle,
};
use crate::dispatch::loss::Overflow;
use crate::handlers::notice::Notice;
use crate::park::deadline_after;
use crate::pattern::{Pattern, Topic};
use crate::sync::{Arc, Mutex, thread};

/// Events that wait for one handler unless told otherwise.
const BUFFER_DEFAULT: usize = 256;

/// How often a publisher inside a handler lends a hand, without anything to do for it, before it gives up.
const IDLE_LOOKS: u32 = 64;

/// Broadcasts inside the process.
///
/// Dropping it closes it, without waiting. See [the module](super) for what is promised.
///
/// ```
/// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Memory};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::builder()
///     .buffer(1024)
///     .logger(|incident| eprintln!("{incident}"))
///     .build()?;
/// let _shipped = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
/// broadcaster.publish(Event::new("orders.1", "OrderShipped", ""))?;
/// assert!(broadcaster.close_within(Duration::from_secs(5))?.in_time);
/// assert_eq!(broadcaster.dropped(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Memory {
    bus: Bus<Event>,
    ledger: Arc<Ledger>,
    dedicated: bool,
}

impl Memory {
    /// One with the defaults of [`MemoryBuilder`].
    ///
    /// # Panics
    ///
    /// If the system gives no thread; [`builder`](Self::builder) answers an error instead.
    pub fn new() -> Self {
        Self::builder()
            .build()
            .expect("the defaults are in range, and the system gives a thread")
    }

    /// One built to measure.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder {
            buffer: BUFFER_DEFAULT,
            pin_bytes: None,
            overflow: Overflow::DropNewest,
            dedicated: false,
            logger: None,
        }
    }

    /// Waits until all that was accepted so far is handled or dropped. `false`: not within that time.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Memory};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let (sender, names) = mpsc::channel();
    /// let _names = broadcaster.on("orders.1", move |event| sender.send(event.name().to_owned()))?;
    /// broadcaster.publish(Event::new("orders.1", "OrderShipped", ""))?;
    /// assert!(broadcaster.flush_within(Duration::from_secs(5)));
    /// assert_eq!(names.try_recv()?, "OrderShipped");
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush_within(&self, limit: Duration) -> bool {
        self.bus.flush_within(limit)
    }

    fn accept(&self, event: Event, token: Option<&CancelToken>) -> Result<(), PublishError> {
        let mut waiting = event;
        let mut idle_looks = 0;
        loop {
            if token.is_some_and(CancelToken::is_cancelled) {
                return Err(PublishError::Cancelled);
            }
            let limit = token.map(|_| TOKEN_LOOK);
            waiting = match self.bus.publish_by(waiting, Event::channel, limit) {
                Ok(()) => return Ok(()),
                Err(PublishTimeoutError::Timeout(event)) => event,
                // Inside a handler nobody waits for the dispatcher, but everybody can be it.
                Err(PublishTimeoutError::WouldDeadlock(event)) => {
                    if self.bus.drive() {
                        idle_looks = 0;
                    } else if idle_looks < IDLE_LOOKS {
                        idle_looks += 1;
                        thread::yield_now(); // somebody else is at it
                    } else {
                        return Err(PublishError::WouldDeadlock);
                    }
                    event
                }
                Err(PublishTimeoutError::Topic(error, _)) => {
                    return Err(ChannelError::from(error).into());
                }
                Err(PublishTimeoutError::Closed(_)) => return Err(PublishError::Closed),
                Err(error @ PublishTimeoutError::Broken(_)) => {
                    return Err(PublishError::Driver(error.to_string().into()));
                }
            };
        }
    }
}

impl Broadcaster for Memory {
    fn publish(&self, event: Event) -> Result<(), PublishError> {
        self.accept(event, None)
    }

    fn publish_until(&self, token: &CancelToken, event: Event) -> Result<(), PublishError> {
        self.accept(event, Some(token))
    }

    fn subscribe(
        &self,
        channel: &str,
        mut handler: Handler,
    ) -> Result<Subscription, SubscribeError> {
        let channel = Topic::new(channel).map_err(ChannelError::from)?;
        let mut subscription = self.bus.subscription(Pattern::exact(&channel));
        if self.dedicated {
            subscription = subscription.dedicated();
        }
        let mut opened = None;
        let handle = subscription.handler_with(|number| {
            // Before the first event, since a notice may come with it.
            self.ledger.open(number, channel);
            opened = Some(number);
            move |event: &crate::dispatch::block::Event<Event>| handler(event.data())
        });
        match handle {
            Ok(handle) => {
                // It is `Subscription` that cancels when it is dropped.
                let subscription = handle.detach();
                self.ledger.opened(&subscription);
                Ok(Subscription::new(Entry {
                    subscription,
                    ledger: self.ledger.clone(),
                }))
            }
            Err(error) => {
                if let Some(number) = opened {
                    self.ledger.forget(number);
                }
                Err(match error {
                    BusError::Closed => SubscribeError::Closed,
                    error => SubscribeError::Driver(error.into()),
                })
            }
        }
    }

    fn close_within(&self, limit: Duration) -> Result<CloseReport, CloseError> {
        let report = self.bus.close_within(limit);
        Ok(CloseReport {
            in_time: report.in_time,
            unhandled: report.unread,
            given_up: report.lost + report.unsequenced,
        })
    }

    fn dropped(&self) -> u64 {
        self.ledger.dropped()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("dropped", &self.dropped())
            .field("closed", &self.bus.is_closed())
            .finish_non_exhaustive()
    }
}

/// Configures a [`Memory`].
///
/// ```
/// use fanout::broadcast::Memory;
///
/// # fn main() -> Result<(), fanout::BuildError> {
/// let broadcaster = Memory::builder()
///     .buffer(256)
///     .pin_bytes(64 << 20)
///     .overflow(fanout::Overflow::DropNewest)
///     .dedicated(false)
///     .logger(|incident| eprintln!("{incident}"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "`build` makes the broadcaster"]
pub struct MemoryBuilder {
    buffer: usize,
    pin_bytes: Option<usize>,
    overflow: Overflow,
    dedicated: bool,
    logger: Option<Logger>,
}

impl MemoryBuilder {
    /// Events that may wait for one handler, 1 to [`CAPACITY_MAX`](crate::limits::CAPACITY_MAX). Default: 256. Those that the handler
    /// has taken, up to 64 at a time, no longer count.
    pub fn buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// Bytes that the events that wait for one handler may keep alive, at least 1; beyond, the buffer counts as full.
    /// Default: 64 MiB. See [`SubscriptionBuilder::pin_bytes`](crate::SubscriptionBuilder::pin_bytes).
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.pin_bytes = Some(bytes);
        self
    }

    /// What happens to an event whose handler's buffer is full. Default: [`Overflow::DropNewest`], and publishing waits for
    /// no handler. Under [`Overflow::Block`] nothing is dropped: a slow handler holds up everybody.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Gives every handler a thread of its own: for handlers that block. Default: no, they share a few threads.
    pub fn dedicated(mut self, dedicated: bool) -> Self {
        self.dedicated = dedicated;
        self
    }

    /// Is told what publishers never hear of: errors and panics of handlers, drops (once for a run of dropped events),
    /// handlers that take long. On a handler's thread, or one that watches, never on a publisher's. The same goes to
    /// `tracing`; without a logger, to `tracing` alone. A logger that panics hurts nobody.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Incident, Memory};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, incidents) = mpsc::channel();
    /// let broadcaster = Memory::builder()
    ///     .logger(move |incident| drop(sender.send(incident.to_string())))
    ///     .build()?;
    /// let _failing = broadcaster.on("orders.1", |event| Err(format!("{}? not here", event.name())))?;
    /// broadcaster.publish(Event::new("orders.1", "OrderShipped", ""))?;
    /// assert_eq!(
    ///     incidents.recv()?,
    ///     "channel orders.1: the handler failed: OrderShipped? not here",
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn logger(mut self, logger: impl Fn(&Incident<'_>) + Send + Sync + 'static) -> Self {
        self.logger = Some(Box::new(logger));
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a number out of its range, or no thread to be had.
    pub fn build(self) -> Result<Memory, BuildError> {
        let ledger = Arc::new(Ledger::default());
        let mut bus = Bus::builder()
            .capacity(self.buffer)
            .overflow(self.overflow)
            .blocking(self.overflow == Overflow::Block)
            .weigh(Event::weight);
        if let Some(bytes) = self.pin_bytes {
            bus = bus.pin_bytes(bytes);
        }
        if let Some(logger) = self.logger {
            let ledger = ledger.clone();
            bus = bus.observer(move |notice| ledger.log(&logger, notice));
        }
        Ok(Memory {
            bus: bus.build()?,
            ledger,
            dedicated: self.dedicated,
        })
    }
}

impl fmt::Debug for MemoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("buffer", &self.buffer)
            .field("pin_bytes", &self.pin_bytes)
            .field("overflow", &self.overflow)
            .field("dedicated", &self.dedicated)
            .finish_non_exhaustive()
    }
}

/// Behind a [`Subscription`].
struct Entry {
    subscription: SubscriptionHandle<Event>,
    ledger: Arc<Ledger>,
}

impl Control for Entry {
    fn cancel(&self) {
        self.subscription.cancel_at_once();
        self.ledger.ended(self.subscription.number());
    }

    fn wait(&self, limit: Duration) -> bool {
        self.subscription.wait_for_handler(deadline_after(limit))
    }
}

/// The subscriptions, by number, until the last of their events is accounted for.
///
/// Its lock is taken after the registry's, never the other way round, and not by events.
#[derive(Default)]
struct Ledger {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    pages: BTreeMap<u64, Page>,
    /// Those that were cancelled, and whose shard has not come by since: it may still be losing events to them.
    ended: Vec<u64>,
    /// Events dropped for subscriptions that have no page any more.
    dropped: u64,
}

struct Page {
    channel: Topic,
    /// `None` while it is being opened.
    subscription: Option<SubscriptionHandle<Event>>,
}

impl Ledger {
    fn open(&self, number: u64, channel: Topic) {
        let page = Page {
            channel,
            subscription: None,
        };
        self.books.lock().pages.insert(number, page);
    }

    fn opened(&self, subscription: &SubscriptionHandle<Event>) {
        let mut books = self.books.lock();
        if let Some(page) = books.pages.get_mut(&subscription.number()) {
            page.subscription = Some(subscription.clone());
        }
        let settled = books.settle();
        drop(books);
        drop(settled);
    }

    /// It was not opened after all.
    fn forget(&self, number: u64) {
        self.books.lock().pages.remove(&number);
    }

    fn ended(&self, number: u64) {
        let mut books = self.books.lock();
        if books.pages.contains_key(&number) && !books.ended.contains(&number) {
            books.ended.push(number);
        }
        let settled = books.settle();
        drop(books);
        drop(settled);
    }

    fn dropped(&self) -> u64 {
        let mut books = self.books.lock();
        let settled = books.settle();
        let open = books
            .pages
            .values()
            .filter_map(|page| page.subscription.as_ref());
        let dropped = books.dropped + open.map(|open| open.stats().lost).sum::<u64>();
        drop(books);
        drop(settled);
        dropped
    }

    fn log(&self, logger: &Logger, notice: &Notice<'_>) {
        match *notice {
            Notice::Failed { topic, error, .. } => logger(&Incident::Failed {
                channel: topic.as_str(),
                error,
            }),
            Notice::Panicked { topic, message, .. } => logger(&Incident::Panicked {
                channel: topic.as_str(),
                message,
            }),
            Notice::Lost { subscription, gap } => logger(&Incident::Dropped {
                channel: &self.channel(subscription),
                count: gap.count(),
            }),
            Notice::Disconnected { subscription, gap } => logger(&Incident::Disconnected {
                channel: &self.channel(subscription),
                count: gap.count(),
            }),
            Notice::Stalled {
                subscription,
                replaced,
            } => logger(&Incident::Stalled {
                channel: &self.channel(subscription),
                replaced,
            }),
        }
    }

    /// Empty if it was cancelled in this very moment.
    fn channel(&self, number: u64) -> String {
        let books = self.books.lock();
        let page = books.pages.get(&number);
        page.map_or_else(String::new, |page| page.channel.to_string())
    }
}

impl Books {
    /// Closes the pages of those that can lose nothing any more. They are dropped without the lock: a subscription may
    /// be the last to own a handler.
    #[must_use]
    fn settle(&mut self) -> Vec<Page> {
        let Self {
            pages,
            ended,
            dropped,
        } = self;
        let mut settled = Vec::new();
        ended.retain(|number| {
            let open = pages
                .get(number)
                .and_then(|page| page.subscription.as_ref());
            // Known once the shard has let go of it; `None` from one that is still being opened.
            if open.is_some_and(|open| open.last_id().is_none()) {
                return true;
            }
            if let Some(page) = pages.remove(number) {
                *dropped += page
                    .subscription
                    .as_ref()
                    .map_or(0, |open| open.stats().lost);
                settled.push(page);
            }
            false
        });
        settled
    }
}
