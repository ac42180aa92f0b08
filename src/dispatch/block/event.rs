//! An event, and an owned handle to one.

#![allow(
    unsafe_code,
    reason = "finds the block of an event by pointer; ARCHITECTURE.md lists this module"
)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::{Duration, SystemTime};

use super::envelope::UncountedEnvelope;
use super::{AnyBlock, Block, BlockRef, Body};
use crate::pattern::Topic;
use crate::sync::Ordering;

/// An event as a subscriber receives it: borrowed from the block that it was sequenced into.
///
/// To receive an event costs no copy of its payload and no reference count. To keep an event for
/// longer than the borrow, call [`share`](Event::share), which returns a [`SharedEvent`].
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
#[repr(C)] // a pointer to an event is a pointer to its head
pub struct Event<T> {
    pub(super) head: EventHead,
    /// Initialised, unless the event lies in a shadow.
    data: MaybeUninit<T>,
}

/// An event without its payload.
pub(super) struct EventHead {
    pub(super) id: u64,
    /// The block that this event lies in: [`Event::share`] needs its address. With [`SHADOW`] set
    /// if the payload lies in another block.
    block: NonNull<Block>,
    pub(super) envelope: UncountedEnvelope,
}

/// Set in the address of an event's block if the block is a [shadow](mod@super::shadow). The
/// address is a multiple of 64, so the bit is free.
const SHADOW: usize = 1;

// SAFETY: an event lies in a block, and `block` points to that same block, which is Send and Sync
// and lives at least as long as any borrow of the event. It gives out `&T`.
unsafe impl<T: Send + Sync> Send for Event<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Event<T> {}

impl<T> Event<T> {
    /// Writes an event of this block, with its payload, into its slot. Field by field, so that a
    /// large payload is moved once and never lies in a temporary `Event`.
    #[inline(always)]
    pub(super) fn write(
        slot: &mut MaybeUninit<Self>,
        id: u64,
        block: NonNull<Block>,
        envelope: UncountedEnvelope,
        data: T,
    ) {
        let event = slot.as_mut_ptr();
        let head = EventHead {
            id,
            block,
            envelope,
        };
        // SAFETY: fields of the slot, which is borrowed exclusively; `MaybeUninit<T>` has the
        // layout of `T`. What is in the slot is not dropped: an event has no drop code of its own.
        unsafe {
            // First: a write of something else would keep the compiler from moving the payload
            // straight from where the caller has it.
            (&raw mut (*event).data).cast::<T>().write(data);
            (&raw mut (*event).head).write(head);
        }
    }

    /// Drops the payload in place.
    ///
    /// # Safety
    ///
    /// The event was written by [`write`](Self::write), and its payload is not accessed again.
    pub(super) unsafe fn drop_payload(&mut self) {
        debug_assert!(!self.head.is_shadow());
        // SAFETY: as the caller promises.
        unsafe { self.data.assume_init_drop() };
    }

    /// The position of the event in the total order of its bus. The first event published has id 1,
    /// and the id rises by 1 with each event, whether or not it has subscribers.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<&str>::new();
    /// let mut orders = bus.subscribe("orders.*")?;
    /// bus.publish("orders.eu", "first")?;
    /// bus.publish("quotes.acme", "second")?;
    /// bus.publish("orders.us", "third")?;
    /// assert_eq!(orders.recv()?.id(), 1);
    /// assert_eq!(orders.recv()?.id(), 3);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn id(&self) -> u64 {
        self.head.id
    }

    /// The topic that the event was published on.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.**")?;
    /// bus.publish("orders.eu.created", 1)?;
    /// assert_eq!(sub.recv()?.topic().as_str(), "orders.eu.created");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn topic(&self) -> &Topic {
        self.head.envelope.topic()
    }

    /// The payload.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<String>::new();
    /// let mut sub = bus.subscribe("notes")?;
    /// bus.publish("notes", "hello".to_owned())?;
    /// assert_eq!(sub.recv()?.data(), "hello");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn data(&self) -> &T {
        if self.head.is_shadow() {
            return self.origin().data();
        }
        // SAFETY: the event is not in a shadow, so `write` wrote it, with its payload.
        unsafe { self.data.assume_init_ref() }
    }

    /// How many events of the same topic this event replaced, for a subscriber under
    /// [`Overflow::Conflate`](crate::Overflow::Conflate): those after the last event of the topic
    /// that the subscriber received or lost, and before this one. Always 0 under every other
    /// policy.
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
        if !self.head.is_shadow() {
            return 0;
        }
        // Relaxed: written before the event became visible, and not since.
        self.head.block_body().shadow.superseded[self.index()].load(Ordering::Relaxed)
    }

    /// The name of the event, such as `OrderCreated`, if its publisher set one with
    /// [`Message::name`](crate::Message::name).
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders")?;
    /// bus.send(Message::new("orders", 1).name("OrderCreated"))?;
    /// bus.publish("orders", 2)?;
    /// assert_eq!(sub.recv()?.name(), Some("OrderCreated"));
    /// assert_eq!(sub.recv()?.name(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.head.envelope.name()
    }

    /// The source of the event, such as `billing`, if its publisher set one with
    /// [`Message::source`](crate::Message::source).
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders")?;
    /// bus.send(Message::new("orders", 1).source("billing"))?;
    /// assert_eq!(sub.recv()?.source(), Some("billing"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn source(&self) -> Option<&str> {
        self.head.envelope.source()
    }

    /// The time of the system clock at which the event was sequenced, with a resolution of one
    /// nanosecond. It never decreases as ids rise, even if the system clock is set back. Events
    /// that were sequenced in the same round have the same time.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("ticks")?;
    /// bus.publish("ticks", 1)?;
    /// bus.publish("ticks", 2)?;
    /// let first = sub.recv()?.created_at();
    /// let second = sub.recv()?.created_at();
    /// assert!(first <= second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn created_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.head.block_body().created_at_ns)
    }

    /// Returns an owned handle to this event.
    ///
    /// The handle keeps the whole block alive, up to 64 events with their payloads. Creating and
    /// dropping the handle each change the reference count of the block once; the payload is not
    /// copied.
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
        // Owns no reference, so it must not be dropped. The borrow of the event keeps the block
        // alive.
        let uncounted = ManuallyDrop::new(AnyBlock {
            block: self.head.block(),
        });
        SharedEvent {
            block: BlockRef {
                block: AnyBlock::clone(&uncounted),
                payloads: PhantomData,
            },
            index,
        }
    }

    /// The event whose payload this event of a shadow borrows.
    #[cold]
    fn origin(&self) -> &Self {
        let origin = self.head.block_body().shadow.origin.as_ref();
        let origin = origin.expect("a shadow has an origin until it is cleared");
        // SAFETY: a shadow has the event type of its origin.
        let events = unsafe { origin.body().events::<T>() };
        let event = &events[(self.head.id - origin.first_id()) as usize];
        debug_assert!(event.head.id == self.head.id && !event.head.is_shadow());
        event
    }

    /// The index of the event in its block, 0 to 63.
    fn index(&self) -> usize {
        let body = self.head.block_body();
        let offset = std::ptr::from_ref(self).addr() - body.events.address();
        let index = offset / size_of::<Self>();
        debug_assert!(index < body.len, "an event lies in its block");
        index
    }
}

impl EventHead {
    /// Writes the head of this event into a slot of a shadow of its block. The payload stays where
    /// it is.
    ///
    /// # Safety
    ///
    /// `slot` is a head of the shadow, which the caller accesses exclusively.
    pub(super) unsafe fn write_shadow(&self, slot: NonNull<Self>, shadow: NonNull<Block>) {
        debug_assert!(
            !self.is_shadow(),
            "a shadow borrows from the block that has the payloads"
        );
        let head = Self {
            id: self.id,
            block: shadow.map_addr(|address| address | SHADOW),
            envelope: self.envelope.copy(),
        };
        // SAFETY: as the caller promises. What is in the slot is not dropped: an event has no drop
        // code of its own.
        unsafe { slot.write(head) };
    }

    #[inline(always)]
    fn is_shadow(&self) -> bool {
        self.block.addr().get() & SHADOW != 0
    }

    fn block(&self) -> NonNull<Block> {
        let block = self.block.as_ptr().map_addr(|address| address & !SHADOW);
        // SAFETY: it is the address of a block, which `write_shadow` may have set the bit in.
        unsafe { NonNull::new_unchecked(block) }
    }

    fn block_body(&self) -> &Body {
        // SAFETY: events are only borrowed from their own sequenced block. So that block is alive,
        // and no thread writes to its body.
        unsafe { self.block().as_ref().body.with(|body| &*body) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id())
            .field("topic", &self.topic().as_str())
            .field("name", &self.name())
            .field("source", &self.source())
            .field("data", self.data())
            .finish_non_exhaustive()
    }
}

/// An owned handle to an event. Dereferences to [`Event`].
///
/// [`Event::share`] returns it. It keeps the whole block of the event alive, up to 64 events with
/// their payloads. To keep a few of many events for a long time, copy the payloads instead.
///
/// ```
/// use fanout::{Bus, SharedEvent};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<String>::new();
/// let mut sub = bus.subscribe("notes")?;
/// bus.publish("notes", "hello".to_owned())?;
/// let kept: SharedEvent<String> = sub.recv()?.share();
/// let reader = std::thread::spawn(move || kept.data().len());
/// assert_eq!(reader.join().unwrap(), 5);
/// # Ok(())
/// # }
/// ```
pub struct SharedEvent<T> {
    block: BlockRef<T>,
    /// 0 to 63, less than the number of events in the block.
    index: usize,
}

impl<T> Deref for SharedEvent<T> {
    type Target = Event<T>;

    fn deref(&self) -> &Event<T> {
        &self.block.events()[self.index]
    }
}

impl<T> Clone for SharedEvent<T> {
    /// Changes the reference count of the block once. The payload is not copied.
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

/// A shared event can be sent if its payload can be sent and shared, as with `Arc`.
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<fanout::SharedEvent<std::cell::Cell<u8>>>();
/// ```
#[cfg(doctest)]
struct AsAnArc;
