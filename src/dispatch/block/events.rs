//! The memory of a block's events, for a type of payloads that is known only at run time.
//!
//! A [`Block`](super::Block) is not generic, so that most of the path of an event is compiled once,
//! with this crate. What has to be known of the payloads is in an [`EventType`].
//!
//! # Failure modes
//!
//! * There is no memory for the events of a block: the process aborts, as it does with `Box`.
//! * The events of a block would take more than `isize::MAX` bytes, which only huge payloads on a
//!   32-bit system can: a panic, and the bus breaks.

#![allow(
    unsafe_code,
    reason = "allocates events by hand; ARCHITECTURE.md lists this module"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::TypeId;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use super::event::{Event, EventHead};
use crate::contain::contain;
use crate::park::NonBlockingScope;

/// What code that is not generic needs for events whose payloads are of one type.
#[derive(Clone, Copy)]
pub(super) struct EventType {
    payload: TypeId,
    /// Of an event.
    layout: Layout,
    /// Drops the payloads of these events of a block; `None`: there is nothing to drop.
    drop_payloads: Option<unsafe fn(&mut Events, Range<usize>)>,
}

impl EventType {
    /// Blocks may be sent to other threads and shared, and so may their payloads.
    pub(super) fn of<T: Send + Sync + 'static>() -> Self {
        Self {
            payload: TypeId::of::<T>(),
            layout: Layout::new::<Event<T>>(),
            drop_payloads: std::mem::needs_drop::<T>().then_some(drop_payloads::<T>),
        }
    }

    pub(super) fn payload_type(&self) -> TypeId {
        self.payload
    }
}

/// Drops these payloads. Contains a panic in the `drop` of a payload, which must not wait for the
/// bus: the calling thread may be the reader that makes the room.
///
/// # Safety
///
/// The payloads are of type `T` and initialised, and they are not accessed again.
unsafe fn drop_payloads<T>(events: &mut Events, indices: Range<usize>) {
    let _scope = NonBlockingScope::enter();
    for index in indices {
        // SAFETY: the type is right, as the caller promises.
        let slot = unsafe { events.slot::<T>(index) };
        contain("a payload's drop", || {
            // SAFETY: initialised, and not accessed again, as the caller promises.
            unsafe { slot.assume_init_mut().drop_payload() };
        });
    }
}

/// Memory for the events of a block.
pub(super) struct Events {
    /// Owned; `room` events, one behind the other.
    start: NonNull<EventHead>,
    room: usize,
    event_type: EventType,
}

impl Events {
    /// Allocates on the heap directly: the events of a block may be larger than a stack.
    pub(super) fn allocate(event_type: EventType, room: usize) -> Self {
        let layout = array_layout(event_type, room);
        // SAFETY: the size is not 0, since an event has a head and there is room for one.
        let memory = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(memory.cast()) else {
            handle_alloc_error(layout);
        };
        Self {
            start,
            room,
            event_type,
        }
    }

    /// How many events there is room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    pub(super) fn payload_type(&self) -> TypeId {
        self.event_type.payload
    }

    /// Bytes of an event.
    pub(super) fn event_size(&self) -> usize {
        self.event_type.layout.size()
    }

    /// The address of the first event.
    pub(super) fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// The first event, as one with payloads of type `T`.
    #[inline]
    pub(super) fn start<T>(&self) -> NonNull<Event<T>> {
        debug_assert_eq!(self.event_type.layout, Layout::new::<Event<T>>());
        self.start.cast()
    }

    /// The head of an event.
    ///
    /// # Panics
    ///
    /// If there is no room for such an event.
    pub(super) fn head(&self, index: usize) -> NonNull<EventHead> {
        assert!(index < self.room, "a block with room for {}", self.room);
        // SAFETY: within the memory. An event begins with its head, and its size is the distance of
        // two events.
        unsafe { self.start.byte_add(index * self.event_type.layout.size()) }
    }

    /// The place of an event.
    ///
    /// # Panics
    ///
    /// If there is no room for such an event.
    ///
    /// # Safety
    ///
    /// The payloads are of type `T`.
    #[inline]
    pub(super) unsafe fn slot<T>(&mut self, index: usize) -> &mut MaybeUninit<Event<T>> {
        assert!(index < self.room, "a block with room for {}", self.room);
        // SAFETY: within the memory, which is borrowed exclusively.
        unsafe { self.start::<T>().add(index).cast().as_mut() }
    }

    /// Whether dropping a payload runs any code.
    pub(super) fn need_drop(&self) -> bool {
        self.event_type.drop_payloads.is_some()
    }

    /// Drops the payloads of these events. Contains a panic in the `drop` of a payload.
    ///
    /// # Safety
    ///
    /// They are initialised, and not accessed again.
    pub(super) unsafe fn drop_payloads(&mut self, indices: Range<usize>) {
        if let Some(drop_payloads) = self.event_type.drop_payloads {
            // SAFETY: it was made for this type of payloads; the rest as the caller promises.
            unsafe { drop_payloads(self, indices) };
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe {
            dealloc(
                self.start.as_ptr().cast(),
                array_layout(self.event_type, self.room),
            );
        }
    }
}

fn array_layout(event_type: EventType, room: usize) -> Layout {
    let layout = event_type.layout;
    let size = layout.size().checked_mul(room);
    size.and_then(|size| Layout::from_size_align(size, layout.align()).ok())
        .expect("the events of a block fit into the address space")
}
