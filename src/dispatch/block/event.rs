//! An event, and an owner of one.

#![allow(
    unsafe_code,
    reason = "finds its block by pointer; one of the rooms that ARCHITECTURE.md names"
)]

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::{Duration, SystemTime};

use super::envelope::Lent;
use super::{Block, BlockRef};
use crate::pattern::Topic;
use crate::sync::Ordering;

/// An event as a subscriber receives it: lent from the block that it was sequenced into.
///
/// Nothing is copied and nothing is counted to receive one. To keep an event for longer than the borrow, take a
/// [`SharedEvent`] with [`share`](Event::share).
///
/// ```
/// use fanout::{Bus, Message};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscribe("orders.*.created")?;
/// bus.send(Message::new("orders.eu.created", 7).name("OrderCreated").source("billing"))?;
///
/// let event = sub.recv()?;
/// assert_eq!(event.id(), 1);
/// assert_eq!(event.topic().as_str(), "orders.eu.created");
/// assert_eq!(*event.data(), 7);
/// assert_eq!(event.name(), Some("OrderCreated"));
/// assert_eq!(event.source(), Some("billing"));
/// assert!(event.created_at() <= std::time::SystemTime::now());
/// # Ok(())
/// # }
/// ```
pub struct Event<T> {
    pub(super) id: u64,
    /// The block that this event lies in; its address makes `share` possible. [`SHADOW`] is set if the payload is not here.
    block: NonNull<Block<T>>,
    envelope: Lent,
    data: MaybeUninit<T>,
}

/// Set in the address of an event's block, which is a multiple of 64, if the block is a [shadow](mod@super::shadow).
const SHADOW: usize = 1;

// SAFETY: an event lies in a block, and `block` points to that very one, which is Send and Sync under the same
// bounds and lives at least as long as any borrow of the event.
unsafe impl<T: Send + Sync> Send for Event<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Event<T> {}

impl<T> Event<T> {
    /// An event in this block, with its payload.
    #[inline]
    pub(super) fn new(id: u64, block: NonNull<Block<T>>, envelope: Lent, data: T) -> Self {
        Self {
            id,
            block,
            envelope,
            data: MaybeUninit::new(data),
        }
    }

    /// This event once more, in a shadow of its block.
    pub(super) fn borrowed_in(&self, shadow: NonNull<Block<T>>) -> Self {
        Self {
            id: self.id,
            block: shadow.map_addr(|address| address | SHADOW),
            envelope: self.envelope.again(),
            data: MaybeUninit::uninit(),
        }
    }

    /// # Safety
    ///
    /// It was made by `new`, and its payload is not looked at again.
    pub(super) unsafe fn drop_data(&mut self) {
        // SAFETY: as the caller promises.
        unsafe { self.data.assume_init_drop() };
    }

    /// The event's place in the bus's total order: from 1, rising by one with each event published, whoever
    /// subscribes to it.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The topic that it was published on.
    #[inline]
    pub fn topic(&self) -> &Topic {
        self.envelope.topic()
    }

    /// The payload.
    #[inline]
    pub fn data(&self) -> &T {
        if self.is_shadow() {
            return self.origin().data();
        }
        // SAFETY: made by `new`, since it is not a shadow's.
        unsafe { self.data.assume_init_ref() }
    }

    /// How many events of its topic this one came in place of, for a subscriber under
    /// [`Overflow::Conflate`](crate::Overflow::Conflate): those between the last event of the topic that it received, or lost,
    /// and this one. 0 for everybody else.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<f64>::builder().dispatch(Dispatch::Manual).build()?;
    /// let mut quotes = bus.subscription("quotes.*").overflow(Overflow::Conflate).open()?;
    /// for price in [9.5, 9.6, 9.4] {
    ///     bus.publish("quotes.acme", price)?;
    /// }
    /// bus.drive();
    /// let quote = quotes.recv()?;
    /// assert_eq!((*quote.data(), quote.superseded()), (9.4, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn superseded(&self) -> u64 {
        if !self.is_shadow() {
            return 0;
        }
        // Relaxed: written before the event was shown, and not since.
        self.block_body().shadow.superseded[self.index()].load(Ordering::Relaxed)
    }

    /// The event's name, if its publisher gave one, such as `OrderCreated`.
    pub fn name(&self) -> Option<&str> {
        self.envelope.name()
    }

    /// Where it came from, if its publisher said so, such as `billing`.
    pub fn source(&self) -> Option<&str> {
        self.envelope.source()
    }

    /// When it was sequenced, by the system's clock, held so that it never runs backwards along rising ids.
    /// Events of one round share one reading.
    pub fn created_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.block_body().created_at_ns)
    }

    /// An owner of this event. It keeps the whole block of up to 64 events alive, and costs one change of the
    /// block's reference count, here and when it is dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<&str>::new();
    /// let mut sub = bus.subscribe("a.*")?;
    /// bus.publish("a.b", "kept")?;
    /// let kept = sub.recv()?.share();
    /// drop(sub);
    /// assert_eq!(*kept.data(), "kept");
    /// # Ok(())
    /// # }
    /// ```
    pub fn share(&self) -> SharedEvent<T> {
        let index = self.index();
        // Not counted, so not dropped; the block is alive as long as the event is borrowed.
        let uncounted = std::mem::ManuallyDrop::new(BlockRef {
            block: self.block(),
        });
        SharedEvent {
            block: BlockRef::clone(&uncounted),
            index,
        }
    }

    #[inline(always)]
    fn is_shadow(&self) -> bool {
        self.block.addr().get() & SHADOW != 0
    }

    /// The event whose payload this one borrows.
    #[cold]
    fn origin(&self) -> &Self {
        let origin = self.block_body().shadow.origin.as_ref();
        let origin = origin.expect("a shadow has one until it is cleared");
        &origin.events()[(self.id - origin.first_id()) as usize]
    }

    /// Where it lies among the events of its block.
    fn index(&self) -> usize {
        let first = self.block_body().events().as_ptr().addr();
        (std::ptr::from_ref(self).addr() - first) / size_of::<Self>()
    }

    fn block(&self) -> NonNull<Block<T>> {
        let block = self.block.as_ptr().map_addr(|address| address & !SHADOW);
        // SAFETY: it was a block's address before the bit was set.
        unsafe { NonNull::new_unchecked(block) }
    }

    fn block_body(&self) -> &super::Body<T> {
        // SAFETY: an event is only ever lent out of its own sequenced block, so that block is alive and no longer
        // written to.
        unsafe { self.block().as_ref().body.with(|body| &*body) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("topic", &self.topic().as_str())
            .field("name", &self.name())
            .field("source", &self.source())
            .field("data", self.data())
            .finish_non_exhaustive()
    }
}

/// An event that its holder keeps: dereferences to [`Event`].
///
/// It pins the block that the event came in, up to 64 events with their payloads. To keep a few events out of many
/// for long, copy the payload.
pub struct SharedEvent<T> {
    block: BlockRef<T>,
    /// 0 to 63, less than the block's length.
    index: usize,
}

impl<T> Deref for SharedEvent<T> {
    type Target = Event<T>;

    fn deref(&self) -> &Event<T> {
        &self.block.events()[self.index]
    }
}

impl<T> Clone for SharedEvent<T> {
    fn clone(&self) -> Self {
        Self {
            block: self.block.clone(),
            index: self.index,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}
