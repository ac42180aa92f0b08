//! An event, and an owner of one.

#![allow(
    unsafe_code,
    reason = "finds its block by pointer; one of the rooms that ARCHITECTURE.md names"
)]

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::{Duration, SystemTime};

use super::envelope::Lent;
use super::{Block, BlockRef};
use crate::pattern::Topic;

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
    /// The block that this event lies in; its address makes `share` possible.
    pub(super) block: NonNull<Block<T>>,
    pub(super) envelope: Lent,
    pub(super) data: T,
}

// SAFETY: an event lies in a block, and `block` points to that very one, which is Send and Sync under the same
// bounds and lives at least as long as any borrow of the event.
unsafe impl<T: Send + Sync> Send for Event<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Event<T> {}

impl<T> Event<T> {
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
        &self.data
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
        let body = self.block_body();
        let index = (self.id - body.first_id) as usize;
        // Not counted, so not dropped; the block is alive as long as the event is borrowed.
        let uncounted = std::mem::ManuallyDrop::new(BlockRef { block: self.block });
        SharedEvent {
            block: BlockRef::clone(&uncounted),
            index,
        }
    }

    fn block_body(&self) -> &super::Body<T> {
        // SAFETY: an event is only ever lent out of its own sequenced block, so that block is alive and no longer
        // written to.
        unsafe { self.block.as_ref().body.with(|body| &*body) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("topic", &self.topic().as_str())
            .field("name", &self.name())
            .field("source", &self.source())
            .field("data", &self.data)
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
