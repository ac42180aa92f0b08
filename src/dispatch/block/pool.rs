//! Where the memory of blocks rests between two uses.
//!
//! Any thread may let the last reference to a block go and push its memory onto a list (Treiber's stack); the
//! source's owner alone takes, and takes the whole list at once, so the stack has no ABA problem. Once warm, a
//! bus allocates no blocks.

#![allow(
    unsafe_code,
    reason = "recycles by pointer; one of the rooms that ARCHITECTURE.md names"
)]

use std::ptr::{self, NonNull};

use super::{Block, BlockWriter, CLASSES};
use crate::sync::{Arc, AtomicPtr, AtomicUsize, Ordering};

/// Free blocks of each class that a pool keeps at most, on each side of the hand-over. As many lone events as the
/// rings of a few slow subscribers hold, or else their blocks would be allocated and freed over and over; of the
/// bigger ones fewer, so that each class rests on about as much memory.
const FREE_BLOCKS_MAX: [usize; CLASSES.len()] = [4096, 1024, 256];

/// The lists that every dropper pushes to.
pub(crate) struct Pool<T> {
    free: [FreeList<T>; CLASSES.len()],
}

struct FreeList<T> {
    /// The top of the stack, or [`closed`] when nobody takes any more.
    head: AtomicPtr<Block<T>>,
    /// Blocks pushed since the list was last taken, about.
    len: AtomicUsize,
}

/// Stands at the head of a list from which nobody takes any more. Compared, never followed.
fn closed<T>() -> *mut Block<T> {
    ptr::without_provenance_mut(1)
}

impl<T> Pool<T> {
    /// Drops what is in the block and keeps or frees its memory.
    ///
    /// # Safety
    ///
    /// The block came from [`Block::allocate`], and the caller has it to itself.
    pub(super) unsafe fn recycle(block: NonNull<Block<T>>) {
        // SAFETY: the caller has the block to itself, up to the push.
        let list = unsafe {
            block.as_ref().body.with_mut(|body| (*body).clear());
            &block.as_ref().pool.free[block.as_ref().class as usize]
        };
        if !list.push(block) {
            // SAFETY: not pushed, so still the caller's alone; allocated by `Box`.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
    }
}

impl<T> FreeList<T> {
    /// Pushes a block that the caller has to itself; `false`: the list is full or closed. After `true` the block,
    /// and with it this list, may be gone.
    fn push(&self, block: NonNull<Block<T>>) -> bool {
        // SAFETY: the block is the caller's, so it is alive.
        let class = unsafe { block.as_ref().class };
        // Relaxed: the number is a bound on idle memory, and need not be exact.
        if self.len.fetch_add(1, Ordering::Relaxed) >= FREE_BLOCKS_MAX[class as usize] {
            return false;
        }
        let mut head = self.head.load(Ordering::Relaxed);
        while head != closed() {
            // SAFETY: the block is ours until the CAS succeeds.
            unsafe { block.as_ref().next.with_mut(|next| *next = head) };
            // Release, partner `take`: the link, and that the payloads are gone.
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

    /// Takes the whole chain, and leaves `instead`.
    fn take(&self, instead: *mut Block<T>) -> *mut Block<T> {
        self.len.store(0, Ordering::Relaxed);
        // Acquire, partner `push`.
        self.head.swap(instead, Ordering::Acquire)
    }
}

/// Takes the first block off a chain that is the caller's alone.
fn next_of<T>(chain: &mut *mut Block<T>) -> Option<NonNull<Block<T>>> {
    let block = NonNull::new(*chain)?;
    // SAFETY: a chain that was taken is its taker's alone.
    *chain = unsafe { block.as_ref().next.with(|next| *next) };
    Some(block)
}

/// The end of whoever lays blocks, the sequencer or a `Conflate` feed: hands out blocks to lay events in.
pub(crate) struct BlockSource<T> {
    pool: Arc<Pool<T>>,
    /// A chain per class, taken from the pool's lists.
    taken: [*mut Block<T>; CLASSES.len()],
}

// SAFETY: the chains are this source's alone; `Block<T>` may be sent under the same bounds.
unsafe impl<T: Send + Sync> Send for BlockSource<T> {}

impl<T> BlockSource<T> {
    pub(crate) fn new() -> Self {
        let list = || FreeList {
            head: AtomicPtr::new(ptr::null_mut()),
            len: AtomicUsize::new(0),
        };
        let pool = Pool {
            free: [list(), list(), list()],
        };
        Self {
            pool: Arc::new(pool),
            taken: [ptr::null_mut(); CLASSES.len()],
        }
    }

    /// An empty block with room for `events` events, or for as many as a block can hold.
    pub(crate) fn block(
        &mut self,
        events: usize,
        first_id: u64,
        created_at_ns: u64,
    ) -> BlockWriter<T> {
        let class = CLASSES
            .iter()
            .position(|&places| events <= places)
            .unwrap_or(CLASSES.len() - 1);
        let block = self.take(class);
        let mut writer = BlockWriter { block };
        writer.with_body(|body| {
            body.first_id = first_id;
            body.created_at_ns = created_at_ns;
            body.weight = Block::<T>::bytes(class);
        });
        writer
    }

    fn take(&mut self, class: usize) -> NonNull<Block<T>> {
        let chain = &mut self.taken[class];
        if chain.is_null() {
            *chain = self.pool.free[class].take(ptr::null_mut());
        }
        next_of(chain).unwrap_or_else(|| Block::allocate(class as u8, self.pool.clone()))
    }
}

impl<T> Drop for BlockSource<T> {
    /// Frees what is free; what is still referred to frees itself.
    fn drop(&mut self) {
        let given_back = self.pool.free.each_ref().map(|list| list.take(closed()));
        for mut chain in self.taken.into_iter().chain(given_back) {
            while let Some(block) = next_of(&mut chain) {
                // SAFETY: on a chain that was taken, so ours alone; allocated by `Box`.
                drop(unsafe { Box::from_raw(block.as_ptr()) });
            }
        }
    }
}
