//! The pool that keeps the memory of blocks between two uses.
//!
//! Any thread may drop the last reference to a block and push its memory onto a list (Treiber's
//! stack). Only the owner of the [`BlockSource`] pops, and it always takes the whole list at once,
//! so the stack has no ABA problem. Once the pool is warm, a bus allocates no blocks.
//!
//! # Failure modes
//!
//! * A list is full: the memory of the block is freed, and the source allocates again later.
//! * The source is dropped while blocks are still referenced: each block frees itself with its last
//!   reference, and the last block frees the pool.

#![allow(
    unsafe_code,
    reason = "recycles blocks by pointer; ARCHITECTURE.md lists this module"
)]

use std::any::TypeId;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::events::EventType;
use super::{AnyBlock, Block, BlockWriter, CLASSES, RawWriter};
use crate::sync::{Arc, AtomicPtr, AtomicUsize, Ordering};
use crate::time_limit::{self, Kind};

/// Free blocks of each class that a pool keeps at most, on each side of the hand-over. The pool
/// keeps as many blocks of one event as the rings of a few slow subscribers hold: otherwise these
/// blocks would be allocated and freed over and over. It keeps fewer of the larger classes, so that
/// the free blocks of each class take about the same memory.
const FREE_BLOCKS_MAX: [usize; CLASSES.len()] = [4096, 1024, 256];

/// The lists that every thread pushes to.
pub(crate) struct Pool {
    pub(super) event_type: EventType,
    free: [FreeList; CLASSES.len()],
}

struct FreeList {
    /// The top of the stack, or [`closed`] once no source takes from it any more.
    head: AtomicPtr<Block>,
    /// About how many blocks were pushed since the list was last taken: pushes that failed count,
    /// too.
    len: AtomicUsize,
}

/// The head of a list from which no source takes any more. Compared, never dereferenced.
fn closed() -> *mut Block {
    ptr::without_provenance_mut(1)
}

impl Pool {
    /// Drops what is in the block, and keeps or frees its memory. If the time of the calling thread
    /// is over, another thread does so: see [`time_limit`].
    ///
    /// # Safety
    ///
    /// The block came from [`Block::allocate`], and no other thread accesses it.
    pub(super) unsafe fn recycle(block: NonNull<Block>) {
        // SAFETY: the caller accesses the block exclusively.
        let cleared = unsafe { block.as_ref().body.with_mut(|body| (*body).clear()) };
        if !cleared {
            let unused = UnusedBlock(block);
            // SAFETY: the other thread is the only one that has the block from now on.
            return time_limit::hand_over(Kind::Drop, move || unsafe {
                Self::recycle(unused.into_inner())
            });
        }
        // SAFETY: the caller accesses the block exclusively until it is pushed, and the pool lives
        // as long as the block.
        let list = unsafe { &block.as_ref().pool.free[block.as_ref().class as usize] };
        if !list.push(block) {
            // SAFETY: not pushed, so still exclusively the caller's; allocated by `Box`.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
    }
}

/// A block without references, on its way to another thread.
struct UnusedBlock(NonNull<Block>);

// SAFETY: it is the only access to the block, and a `Block` may be sent.
unsafe impl Send for UnusedBlock {}

impl UnusedBlock {
    fn into_inner(self) -> NonNull<Block> {
        self.0
    }
}

impl FreeList {
    /// Pushes a block that the caller accesses exclusively. `false`: the list is full or closed,
    /// and the block is still the caller's. After `true` another thread may have freed the block,
    /// and with it this list.
    fn push(&self, block: NonNull<Block>) -> bool {
        // SAFETY: the block is the caller's, so it is alive.
        let class = unsafe { block.as_ref().class };
        // Relaxed: the number bounds the idle memory, and need not be exact.
        if self.len.fetch_add(1, Ordering::Relaxed) >= FREE_BLOCKS_MAX[class as usize] {
            return false;
        }
        let mut head = self.head.load(Ordering::Relaxed);
        while head != closed() {
            // SAFETY: the block is exclusively the caller's until the exchange succeeds.
            unsafe { block.as_ref().next.with_mut(|next| *next = head) };
            // Release, partner `take`: the link, and that the payloads were dropped.
            match self.head.compare_exchange_weak(
                head,
                block.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
        false
    }

    /// Takes the whole chain, and leaves `replacement`.
    fn take(&self, replacement: *mut Block) -> *mut Block {
        // Relaxed: as in `push`.
        self.len.store(0, Ordering::Relaxed);
        // Acquire, partner `push`.
        self.head.swap(replacement, Ordering::Acquire)
    }
}

/// Pops the first block of a chain that belongs to the caller alone.
fn pop(chain: &mut *mut Block) -> Option<NonNull<Block>> {
    let block = NonNull::new(*chain)?;
    debug_assert!(block.as_ptr() != closed(), "the end of a closed list");
    // SAFETY: the chain belongs to the thread that took it.
    *chain = unsafe { block.as_ref().next.with(|next| *next) };
    Some(block)
}

/// Hands out blocks to be filled with payloads of type `T`. Owned by the sequencer.
pub(crate) struct BlockSource<T> {
    pub(super) raw: RawSource,
    /// Invariant in `T`, as in [`BlockWriter`].
    payloads: PhantomData<fn(T) -> T>,
}

/// Hands out blocks to be filled. Owned by whatever fills them: the sequencer, or a `Conflate`
/// feed.
pub(crate) struct RawSource {
    pool: Arc<Pool>,
    /// For each class, a chain that was taken from the pool.
    taken: [*mut Block; CLASSES.len()],
}

// SAFETY: the chains belong to this source alone, and a `Block` may be sent.
unsafe impl Send for RawSource {}

impl<T: Send + Sync + 'static> BlockSource<T> {
    pub(crate) fn new() -> Self {
        Self {
            raw: RawSource::new(EventType::of::<T>()),
            payloads: PhantomData,
        }
    }
}

impl<T> BlockSource<T> {
    /// An empty block of the smallest class with room for `events` events, or of the largest class
    /// if they are more than that.
    pub(crate) fn block(
        &mut self,
        events: usize,
        first_id: u64,
        created_at_ns: u64,
    ) -> BlockWriter<T> {
        BlockWriter {
            raw: self.raw.block(events, first_id, created_at_ns),
            payloads: PhantomData,
        }
    }
}

impl RawSource {
    /// For blocks whose payloads are of the same type as those of this block.
    pub(crate) fn like(block: &AnyBlock) -> Self {
        Self::new(block.block().pool.event_type)
    }

    /// The type of the payloads.
    pub(super) fn payload_type(&self) -> TypeId {
        self.pool.event_type.payload_type()
    }

    fn new(event_type: EventType) -> Self {
        let list = || FreeList {
            head: AtomicPtr::new(ptr::null_mut()),
            len: AtomicUsize::new(0),
        };
        let pool = Pool {
            event_type,
            free: [list(), list(), list()],
        };
        Self {
            pool: Arc::new(pool),
            taken: [ptr::null_mut(); CLASSES.len()],
        }
    }

    /// An empty block of the smallest class with room for `events` events, or of the largest class
    /// if they are more than that.
    pub(super) fn block(&mut self, events: usize, first_id: u64, created_at_ns: u64) -> RawWriter {
        let class = CLASSES
            .iter()
            .position(|&room| events <= room)
            .unwrap_or(CLASSES.len() - 1);
        let mut writer = RawWriter {
            block: self.take(class),
        };
        let body = writer.body_mut();
        debug_assert_eq!(body.len, 0, "a block in the pool is empty");
        debug_assert_eq!(body.events.room(), CLASSES[class]);
        body.first_id = first_id;
        body.created_at_ns = created_at_ns;
        body.weight = Block::bytes(class, body.events.event_size());
        writer
    }

    fn take(&mut self, class: usize) -> NonNull<Block> {
        let chain = &mut self.taken[class];
        if chain.is_null() {
            *chain = self.pool.free[class].take(ptr::null_mut());
        }
        pop(chain).unwrap_or_else(|| Block::allocate(class as u8, self.pool.clone()))
    }
}

impl Drop for RawSource {
    /// Frees the free blocks. Blocks that are still referenced free themselves.
    fn drop(&mut self) {
        let pushed = self.pool.free.each_ref().map(|list| list.take(closed()));
        for mut chain in self.taken.into_iter().chain(pushed) {
            while let Some(block) = pop(&mut chain) {
                // SAFETY: popped, so exclusively ours; allocated by `Box`.
                drop(unsafe { Box::from_raw(block.as_ptr()) });
            }
        }
    }
}
