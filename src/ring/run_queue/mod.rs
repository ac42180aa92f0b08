//! Jobs that wait for a thread, and the threads' turns at them.
//!
//! A [`Job`] is state that one thread at a time works on, and a word that says whether somebody does and whether somebody
//! should. Whoever has something for it [asks](Job::schedule); the first to ask a job that rests must [`push`](RunQueue::push)
//! it. A worker [takes](RunQueue::take) a [`Turn`] at it, and at the end of the turn the job [rests](Turn::finish) or waits
//! again. So a job waits in the queue at most once, and never while it is worked on.
//!
//! | word | `schedule` | `take` | `finish` |
//! | --- | --- | --- | --- |
//! | resting | QUEUED: the asker pushes it | - | - |
//! | QUEUED | nothing: a turn is to come | RUNNING | - |
//! | RUNNING | RUNNING and QUEUED | - | resting |
//! | RUNNING and QUEUED | nothing | - | QUEUED: pushed once more |
//!
//! The race that the last row closes: the worker looks into the job's ring, finds nothing, and finishes; a producer fills
//! the ring in between. Its `schedule` comes before the `finish` on the one word, so the `finish` sees it.
//!
//! Two more bits: [`bar`](Job::disable) forbids and tells whether a turn is in progress, on the same word, so a turn that
//! begins afterwards sees it; [`request_finish_notice`](Job::request_finish_notice) asks the end of the turn to say so.
//!
//! # The queue
//!
//! ```text
//! push --> inbox --whole--> first 16 --> the taker's slots --one by one--> turns
//!                           the rest --> the taker's overflow --16 at a time, by anybody-->
//! ```
//!
//! The inbox is a stack (Treiber's) that is only ever taken whole, so it has no ABA problem; the jobs are its links, so
//! it needs no memory. A worker keeps sixteen on its slots, and the rest of the chain on its overflow, where anybody finds it.
//! Who finds inbox and overflows empty steals half a slots (as in [Blumofe and Leiserson][w]'s deques, but each place of a
//! slots changes workers by a swap of its own). What was pushed later is looked at when the overflows are empty: no job starves.
//!
//! Every job has one place at a time, and every place is emptied by a swap: exactly one taker gets it.
//!
//! [w]: https://dl.acm.org/doi/10.1145/324133.324234 "R. D. Blumofe, C. E. Leiserson, Scheduling Multithreaded Computations by Work Stealing, JACM 1999"

#![allow(
    unsafe_code,
    reason = "links jobs by pointer, and lends their state by turn; one of the rooms that ARCHITECTURE.md names"
)]

#[cfg(all(test, loom))]
mod models;

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;

use crossbeam::utils::CachePadded;

use crate::sync::{Arc, AtomicPtr, AtomicU32, Ordering, UnsafeCell};

/// Somebody has to take a turn at the job.
const QUEUED: u32 = 0b0001;
/// Somebody is at it.
const RUNNING: u32 = 0b0010;
/// Never to be set back; see [`Job::disable`].
const DISABLED: u32 = 0b0100;
/// The end of the turn has to say so; see [`Job::request_finish_notice`].
const FINISH_AWAITED: u32 = 0b1000;

/// State that is worked on in turns, and what everybody may see of it.
pub(crate) struct Job<P, S> {
    word: AtomicU32,
    /// The job behind this one, while it is in the inbox or on a overflow.
    next: AtomicPtr<Job<P, S>>,
    pub(crate) shared: P,
    state: UnsafeCell<S>,
}

// SAFETY: the state is reached through `Turn` alone, of which there is one at a time, and the word's Release and Acquire
// carry it from thread to thread; `shared` is only ever shared. So sharing a job shares a `P` and moves an `S`.
unsafe impl<P: Send + Sync, S: Send> Sync for Job<P, S> {}
// SAFETY: as above.
unsafe impl<P: Send + Sync, S: Send> Send for Job<P, S> {}

impl<P, S> Job<P, S> {
    /// A job that rests.
    pub(crate) fn new(shared: P, state: S) -> Self {
        Self {
            word: AtomicU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            shared,
            state: UnsafeCell::new(state),
        }
    }

    /// Asks for a turn. `true`: the job was resting, and the caller has to see to it that somebody takes the turn.
    #[inline]
    pub(crate) fn schedule(&self) -> bool {
        // AcqRel: Release what we did before to the turn that our bit brings about; Acquire, for who pushes.
        // Partners: `begin` and `Turn::finish`.
        self.word.fetch_or(QUEUED, Ordering::AcqRel) & (QUEUED | RUNNING) == 0
    }

    /// Forbids, for ever: what a turn must not do any more is the user's to say. `true`: a turn is in progress, and may
    /// not have seen it yet.
    pub(crate) fn disable(&self) -> bool {
        // AcqRel, partner `begin`: a turn that begins later sees the bit.
        self.word.fetch_or(DISABLED, Ordering::AcqRel) & RUNNING != 0
    }

    /// Whether somebody is at it.
    pub(crate) fn is_running(&self) -> bool {
        // Acquire, partner `Turn::finish`: what the turn did.
        self.word.load(Ordering::Acquire) & RUNNING != 0
    }

    /// Asks the end of the turn to say so. `false`: the job rests.
    pub(crate) fn request_finish_notice(&self) -> bool {
        // AcqRel, partner `Turn::finish`: either it sees the bit, or we see all that the turn did.
        self.word.fetch_or(FINISH_AWAITED, Ordering::AcqRel) & (QUEUED | RUNNING) != 0
    }
}

/// Begins a turn, if one was asked for and nobody is at it: for a job that has a thread of its own, and is in no queue.
pub(crate) fn try_begin<P, S>(job: &Arc<Job<P, S>>) -> Option<Turn<P, S>> {
    // Relaxed: `begin` acquires.
    let word = job.word.load(Ordering::Relaxed);
    (word & (QUEUED | RUNNING) == QUEUED).then(|| begin(job.clone()))
}

/// The job has been asked, and the caller has it from where it waited.
fn begin<P, S>(job: Arc<Job<P, S>>) -> Turn<P, S> {
    // AcqRel, partners `schedule`, `bar` and the last `Turn::finish`: everything that was asked for before, and the state as
    // the last turn left it.
    let old = job.word.fetch_xor(QUEUED | RUNNING, Ordering::AcqRel);
    debug_assert_eq!(old & (QUEUED | RUNNING), QUEUED, "waits, and once");
    Turn {
        job,
        lends: PhantomData,
    }
}

/// The one who is at a job. Dereferences to its state.
pub(crate) struct Turn<P, S> {
    job: Arc<Job<P, S>>,
    /// Gives out `&S`, so it may be shared only where an `S` may.
    lends: PhantomData<S>,
}

/// How a turn ended.
pub(crate) struct Finished<P, S> {
    /// Somebody asked meanwhile: the caller has to see to it that somebody takes the next turn.
    pub(crate) again: Option<Arc<Job<P, S>>>,
    /// Somebody waits for the end of this turn.
    pub(crate) awaited: bool,
}

impl<P, S> Turn<P, S> {
    pub(crate) fn job(&self) -> &Arc<Job<P, S>> {
        &self.job
    }

    /// The parts: what all may see, the disabled, and the state.
    pub(crate) fn parts(&mut self) -> (&P, DisabledFlag<'_>, &mut S) {
        let disabled = DisabledFlag {
            word: &self.job.word,
        };
        // SAFETY: as in `deref_mut`; the state is not reached through `shared` or the word.
        let state = self.job.state.with_mut(|state| unsafe { &mut *state });
        (&self.job.shared, disabled, state)
    }

    /// Ends the turn.
    pub(crate) fn finish(self) -> Finished<P, S> {
        // AcqRel: Release the state to the next turn, and what was done to who waits for it; Acquire what was asked for.
        // Partners: `begin`, `schedule`, `request_finish_notice`.
        let old = self
            .job
            .word
            .fetch_and(!(RUNNING | FINISH_AWAITED), Ordering::AcqRel);
        // SAFETY: read once, and `self` is forgotten.
        let job = unsafe { ptr::read(&self.job) };
        std::mem::forget(self);
        Finished {
            again: (old & QUEUED != 0).then_some(job),
            awaited: old & FINISH_AWAITED != 0,
        }
    }
}

/// Whether a job was barred, for the one who is at it.
#[derive(Clone, Copy)]
pub(crate) struct DisabledFlag<'a> {
    word: &'a AtomicU32,
}

impl DisabledFlag<'_> {
    /// Seen at once by a turn that begins after [`Job::disable`]; by one in progress, soon.
    #[inline(always)]
    pub(crate) fn is_set(self) -> bool {
        // Relaxed: who needs to know that it was seen waits for the end of the turn.
        self.word.load(Ordering::Relaxed) & DISABLED != 0
    }
}

impl<P, S> Deref for Turn<P, S> {
    type Target = S;

    fn deref(&self) -> &S {
        // SAFETY: there is one `Turn` at a time, so nobody else refers to the state; the borrow is ours.
        self.job.state.with(|state| unsafe { &*state })
    }
}

impl<P, S> DerefMut for Turn<P, S> {
    fn deref_mut(&mut self) -> &mut S {
        // SAFETY: as above, and `self` is borrowed exclusively.
        self.job.state.with_mut(|state| unsafe { &mut *state })
    }
}

impl<P, S> Drop for Turn<P, S> {
    /// Only a panic gets here. Who waits for the end must not wait for ever; what was asked for is not done.
    fn drop(&mut self) {
        // Release, partner `is_running`.
        self.job.word.fetch_and(!RUNNING, Ordering::AcqRel);
    }
}

/// Places of a slots.
const LOCAL_SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

/// Where jobs wait.
pub(crate) struct RunQueue<P, S> {
    inbox: CachePadded<AtomicPtr<Job<P, S>>>,
    queues: Box<[CachePadded<WorkerQueue<P, S>>]>,
    /// Owns jobs, and carries them from thread to thread: an `AtomicPtr` says neither.
    jobs: PhantomData<Arc<Job<P, S>>>,
}

/// A worker's own places. Filled by the worker alone, emptied by anybody.
struct WorkerQueue<P, S> {
    /// A chain.
    overflow: AtomicPtr<Job<P, S>>,
    /// Single jobs.
    slots: [AtomicPtr<Job<P, S>>; LOCAL_SLOTS],
}

/// The right to fill a queue.
pub(crate) struct Worker {
    /// Index of the queue.
    index: usize,
    /// The next place of the slots to empty: 0 to `LOCAL_SLOTS`.
    next: usize,
}

impl Worker {
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// What a worker gets.
pub(crate) struct Taken<P, S> {
    pub(crate) turn: Turn<P, S>,
    /// More was found than this worker can do at once: somebody may help.
    pub(crate) more: bool,
}

impl<P, S> RunQueue<P, S> {
    /// A queue for up to `workers` workers, and a hand for each.
    pub(crate) fn new(workers: usize) -> (Self, Vec<Worker>) {
        let place = || AtomicPtr::new(ptr::null_mut());
        let queue = || WorkerQueue {
            overflow: place(),
            slots: std::array::from_fn(|_| place()),
        };
        let queue = Self {
            inbox: CachePadded::new(place()),
            queues: (0..workers).map(|_| CachePadded::new(queue())).collect(),
            jobs: PhantomData,
        };
        let workers = (0..workers)
            .map(|index| Worker {
                index,
                next: LOCAL_SLOTS,
            })
            .collect();
        (queue, workers)
    }

    /// Puts a job into the inbox; [`Job::schedule`] or [`Turn::finish`] told the caller to. `true`: the inbox was empty, so
    /// somebody has to be called. (Who pushes behind others need not: the first of them called.)
    #[inline]
    pub(crate) fn push(&self, job: Arc<Job<P, S>>) -> bool {
        let job = Arc::into_raw(job).cast_mut();
        let mut head = self.inbox.load(Ordering::Relaxed);
        loop {
            // SAFETY: counted for us by `into_raw`, so alive. Relaxed: the link goes with the head.
            unsafe { (*job).next.store(head, Ordering::Relaxed) };
            // Release, partner `take_slot`: the link, and the job.
            match self
                .inbox
                .compare_exchange_weak(head, job, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return head.is_null(),
                Err(now) => head = now,
            }
        }
    }

    /// Takes a job, from wherever there is one, and begins a turn at it.
    pub(crate) fn take(&self, worker: &mut Worker) -> Option<Taken<P, S>> {
        if let Some(job) = self.next_local(worker) {
            return Some(Taken {
                turn: begin(job),
                more: false,
            });
        }
        let chain = self.take_chain(worker.index);
        if chain.is_null() {
            return self.steal(worker);
        }
        // SAFETY: a chain that was taken is its taker's alone.
        let first = unsafe { Arc::from_raw(chain) };
        let mut rest = first.next.load(Ordering::Relaxed);
        let more = !rest.is_null();
        let queue = &self.queues[worker.index];
        let mut filled = 0;
        while filled < LOCAL_SLOTS && !rest.is_null() {
            // SAFETY: as above. Read before the job is given away.
            let next = unsafe { (*rest).next.load(Ordering::Relaxed) };
            // Release, partner `take_slot`. The slots is empty: `next_local` has been through it.
            queue.slots[filled].store(rest, Ordering::Release);
            filled += 1;
            rest = next;
        }
        worker.next = 0;
        if !rest.is_null() {
            // Release, partner `take_slot`. The overflow is empty: `take_chain` looked there first, and only we fill it.
            queue.overflow.store(rest, Ordering::Release);
        }
        Some(Taken {
            turn: begin(first),
            more,
        })
    }

    /// A worker goes: what is on its slots goes back to the inbox. Its overflow is open to all.
    pub(crate) fn clear(&self, worker: &mut Worker) {
        while let Some(job) = self.next_local(worker) {
            self.push(job);
        }
    }

    /// A worker is stuck: what is on its slots goes back to the inbox. By anybody.
    pub(crate) fn release_local(&self, queue: usize) {
        for place in &self.queues[queue].slots {
            let job = take_slot(place);
            if !job.is_null() {
                // SAFETY: the place counted it, and the swap gave it to us alone.
                self.push(unsafe { Arc::from_raw(job) });
            }
        }
    }

    /// Whether there is something to take.
    pub(crate) fn has_work(&self) -> bool {
        // Acquire: a hint, but for who is about to sleep; see `Signal`.
        let full = |place: &AtomicPtr<Job<P, S>>| !place.load(Ordering::Acquire).is_null();
        full(&self.inbox)
            || self
                .queues
                .iter()
                .any(|queue| full(&queue.overflow) || queue.slots.iter().any(full))
    }

    fn next_local(&self, worker: &mut Worker) -> Option<Arc<Job<P, S>>> {
        while worker.next < LOCAL_SLOTS {
            let job = take_slot(&self.queues[worker.index].slots[worker.next]);
            worker.next += 1;
            if !job.is_null() {
                // SAFETY: the place counted it, and the swap gave it to us alone.
                return Some(unsafe { Arc::from_raw(job) });
            }
        }
        None
    }

    /// A chain: from the own overflow, from another one, or the inbox.
    fn take_chain(&self, own: usize) -> *mut Job<P, S> {
        let (left, right) = self.queues.split_at(own);
        for queue in right.iter().chain(left) {
            let chain = take_slot(&queue.overflow);
            if !chain.is_null() {
                return chain;
            }
        }
        take_slot(&self.inbox)
    }

    /// Takes half of another's slots.
    fn steal(&self, worker: &mut Worker) -> Option<Taken<P, S>> {
        let own = &self.queues[worker.index].slots;
        let (left, right) = self.queues.split_at(worker.index);
        for victim in right.iter().skip(1).chain(left) {
            let full = |place: &&AtomicPtr<Job<P, S>>| !place.load(Ordering::Relaxed).is_null();
            let wanted = victim.slots.iter().filter(full).count().div_ceil(2);
            let mut first = None;
            let mut filled = 0;
            for place in victim.slots.iter().rev() {
                if first.is_some() as usize + filled == wanted {
                    break;
                }
                let job = take_slot(place);
                if job.is_null() {
                    continue;
                }
                if first.is_none() {
                    // SAFETY: the place counted it, and the swap gave it to us alone.
                    first = Some(unsafe { Arc::from_raw(job) });
                } else {
                    // Release, partner `take_slot`.
                    own[filled].store(job, Ordering::Release);
                    filled += 1;
                }
            }
            if let Some(first) = first {
                worker.next = 0;
                return Some(Taken {
                    turn: begin(first),
                    more: filled > 0,
                });
            }
        }
        None
    }
}

/// Empties a place.
#[inline]
fn take_slot<P, S>(place: &AtomicPtr<Job<P, S>>) -> *mut Job<P, S> {
    // Looked at first: a swap takes the line away from whoever else looks.
    if place.load(Ordering::Relaxed).is_null() {
        return ptr::null_mut();
    }
    // Acquire, partners `push` and the stores to trays and overflows: the links, and the jobs.
    place.swap(ptr::null_mut(), Ordering::Acquire)
}

impl<P, S> Drop for RunQueue<P, S> {
    /// Lets go of what nobody took.
    fn drop(&mut self) {
        for place in self.queues.iter().flat_map(|queue| &queue.slots) {
            let job = take_slot(place);
            if !job.is_null() {
                // SAFETY: the place counted it, and the swap gave it to us alone.
                drop(unsafe { Arc::from_raw(job) });
            }
        }
        let overflows = self.queues.iter().map(|queue| &queue.overflow);
        for chain in overflows.chain([&*self.inbox]) {
            let mut job = take_slot(chain);
            while !job.is_null() {
                // SAFETY: the chain counted it, and is ours alone.
                let counted = unsafe { Arc::from_raw(job) };
                job = counted.next.load(Ordering::Relaxed);
            }
        }
    }
}
