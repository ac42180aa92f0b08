//! Jobs that wait for a worker thread, and the turns that threads take at them.
//!
//! A [`Job`] has state that one thread at a time works on. Its word says whether a thread is
//! working on it, and whether a thread should. A thread that has something for the job to do
//! [schedules](schedule) it, and if the job was idle, [pushes](RunQueue::push) it. A worker
//! [takes](RunQueue::take) a [`Turn`] at the job. When the turn [finishes](Turn::finish), the job
//! is idle, or has to be pushed again.
//!
//! So a job is in the queue at most once, and never while a thread works on it. The types keep
//! this: only a [`Scheduled`] can be pushed, and there is at most one for each job.
//!
//! | word | `schedule` | `take` | `finish` |
//! | --- | --- | --- | --- |
//! | idle | to QUEUED; the caller pushes the job | - | - |
//! | QUEUED | no change, since a turn will begin | to RUNNING | - |
//! | RUNNING | to RUNNING and QUEUED | - | to idle |
//! | RUNNING and QUEUED | no change | - | to QUEUED; the caller pushes the job again |
//!
//! The last row closes a race: a worker finds nothing more to do, and finishes the turn, while
//! another thread adds something. If that thread's `schedule` comes before the `finish`, the
//! `finish` sees it on the one word. If it comes after, the job is idle, and that thread pushes it.
//!
//! The word has more bits. [`disable`](Job::disable) sets one for ever, and returns whether a
//! turn is in progress; since it is the same word, a turn that begins later sees the bit.
//! [`request_finish_notice`](Job::request_finish_notice) sets another, which the end of the
//! turn reports.
//!
//! # The queue
//!
//! Jobs get their turns in the order in which they were pushed.
//!
//! ```text
//! push --> inbox --as a whole, oldest first--> a worker: the first 16 --> its slots --> turns
//!                                                        the rest ------> its overflow list
//! front list, overflow lists ----as a whole----^
//! ```
//!
//! The inbox is a [Treiber] stack that is only ever taken as a whole, so it has no ABA problem. It
//! is linked through the jobs, so it needs no memory. The worker that takes it reverses it, so that
//! the oldest job comes first, keeps 16 jobs in its slots and the rest in its overflow list, which
//! every worker may take. Workers look at the inbox only when they find the other lists empty,
//! since what is in the inbox is newer. A worker that finds all lists empty steals half of another
//! worker's slots, as with the deques of [Blumofe and Leiserson][steal], but with one swap for each
//! slot.
//!
//! Jobs in the slots of a worker wait for that worker, so they are a batch for short turns only.
//! Two things keep a long turn from delaying them:
//!
//! * [`release_local`](RunQueue::release_local) moves the jobs of a worker that makes no progress
//!   into the front list, at which every worker looks first.
//! * In [single steps](RunQueue::set_single_steps) a worker takes one job out of a list and puts
//!   the rest back, and fills no slots. So the workers share one queue, in its order.
//!
//! Each job has the number of the [tick](RunQueue::advance_tick) in which it was pushed, and
//! `take` says how many ticks it has waited.
//!
//! A job is in one place at a time, and every place is emptied by a swap, so exactly one worker
//! gets the job.
//!
//! # Failure modes
//!
//! * **A worker is suspended by the system, between turns or inside of one**: the jobs in its slots
//!   and in its overflow list can be taken by other workers. The exception is a worker that is
//!   suspended in `take` between the swap that empties a list and the store that puts the rest of
//!   the list back: these jobs wait until it runs again.
//!
//! [Treiber]: https://dominoweb.draco.res.ibm.com/58319a2ed2b1078985257003004617ef.html "R. K. Treiber, Systems Programming: Coping with Parallelism, IBM RJ 5118, 1986"
//! [steal]: https://dl.acm.org/doi/10.1145/324133.324234 "R. D. Blumofe, C. E. Leiserson, Scheduling Multithreaded Computations by Work Stealing, JACM 1999"

#![allow(
    unsafe_code,
    reason = "jobs are linked by pointers, turns use their state; ARCHITECTURE.md lists this module"
)]

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;

use crossbeam::utils::CachePadded;

use crate::sync::unmodelled::{AtomicBool as UnmodelledBool, AtomicU32 as UnmodelledU32};
use crate::sync::{Arc, AtomicPtr, AtomicU32, Ordering, UnsafeCell};

/// A thread has to take a turn at the job.
const QUEUED: u32 = 0b0001;
/// A thread has a turn at the job.
const RUNNING: u32 = 0b0010;
/// Never cleared; see [`Job::disable`].
const DISABLED: u32 = 0b0100;
/// The end of the turn has to be reported; see [`Job::request_finish_notice`].
const FINISH_AWAITED: u32 = 0b1000;
/// Never cleared; see [`Job::dedicate`].
const DEDICATED: u32 = 0b1_0000;

/// State that one thread at a time works on, and data that all threads share.
pub(crate) struct Job<P, S> {
    /// The five bits above.
    word: AtomicU32,
    /// The tick in which the job was pushed, wrapping.
    pushed_at: UnmodelledU32,
    /// The next job in the same list, while this job is in the inbox or in another list.
    next: AtomicPtr<Job<P, S>>,
    pub(crate) shared: P,
    state: UnsafeCell<S>,
}

// SAFETY: the state is reached through a `Turn` alone. There is one turn at a time, and the word,
// by Release and Acquire, orders one turn after the other. `shared` is only ever shared. So sharing
// a job shares a `P` and moves an `S` between threads.
unsafe impl<P: Send + Sync, S: Send> Sync for Job<P, S> {}
// SAFETY: as above.
unsafe impl<P: Send + Sync, S: Send> Send for Job<P, S> {}

impl<P, S> Job<P, S> {
    /// A job that is idle.
    pub(crate) fn new(shared: P, state: S) -> Self {
        Self {
            word: AtomicU32::new(0),
            pushed_at: UnmodelledU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            shared,
            state: UnsafeCell::new(state),
        }
    }

    /// Sets `QUEUED`, and returns the word as it was before.
    #[inline]
    fn set_queued(&self) -> u32 {
        // AcqRel: Release what the caller did before to the turn that will begin; Acquire the end
        // of the last turn. Partners: `begin` and `Turn::finish`.
        self.word.fetch_or(QUEUED, Ordering::AcqRel)
    }

    /// Sets `DEDICATED`, for ever: the job is never pushed, but has a thread of its own, which
    /// calls [`try_begin`].
    ///
    /// # Panics
    ///
    /// If the job is not idle, or is disabled or dedicated.
    pub(crate) fn dedicate(&self) {
        // Relaxed: the caller hands the job to its thread afterwards.
        let old = self.word.fetch_or(DEDICATED, Ordering::Relaxed);
        assert_eq!(old, 0, "a job is dedicated once, before it is used");
    }

    /// Sets `DISABLED`, for ever. The user of the job decides what a turn must not do any more.
    /// `true`: a turn is in progress, which may not have seen the flag yet.
    pub(crate) fn disable(&self) -> bool {
        // AcqRel, partner `begin`: a turn that begins later sees the bit.
        self.word.fetch_or(DISABLED, Ordering::AcqRel) & RUNNING != 0
    }

    /// Whether a turn is in progress.
    pub(crate) fn is_running(&self) -> bool {
        // Acquire, partner `Turn::finish`: what the turn did.
        self.word.load(Ordering::Acquire) & RUNNING != 0
    }

    /// Sets `FINISH_AWAITED`, which the end of the turn clears and reports in
    /// [`Finished::awaited`]. `false`: the job is idle, and all that its last turn did is visible.
    pub(crate) fn request_finish_notice(&self) -> bool {
        // AcqRel, partner `Turn::finish`: either it sees the bit, or we see all that the turn did.
        self.word.fetch_or(FINISH_AWAITED, Ordering::AcqRel) & (QUEUED | RUNNING) != 0
    }
}

/// A job that was idle and is `QUEUED` now, but is in no queue. There is at most one for each job.
///
/// It has to be pushed or, if the job is dedicated, its thread has to be woken. A job whose
/// `Scheduled` is dropped stays `QUEUED`, and gets no turn from a queue any more.
#[must_use = "the job has to be pushed"]
pub(crate) struct Scheduled<P, S>(Arc<Job<P, S>>);

impl<P, S> Scheduled<P, S> {
    pub(crate) fn job(&self) -> &Arc<Job<P, S>> {
        &self.0
    }
}

/// Sets `QUEUED`. `None`: the job was not idle, so a turn will begin anyway.
#[inline]
pub(crate) fn schedule<P, S>(job: Arc<Job<P, S>>) -> Option<Scheduled<P, S>> {
    (job.set_queued() & (QUEUED | RUNNING) == 0).then(|| Scheduled(job))
}

/// Begins a turn if the job is scheduled and no turn is in progress. Only the thread of a
/// [dedicated](Job::dedicate) job may call this.
///
/// # Panics
///
/// If the job is not dedicated: it may be in a queue.
pub(crate) fn try_begin<P, S>(job: &Arc<Job<P, S>>) -> Option<Turn<P, S>> {
    // Relaxed: `begin` acquires.
    let word = job.word.load(Ordering::Relaxed);
    assert!(word & DEDICATED != 0, "the job may be in a queue");
    (word & (QUEUED | RUNNING) == QUEUED).then(|| begin(job.clone()))
}

/// Begins a turn: clears `QUEUED` and sets `RUNNING`. The caller has taken the job out of its
/// place.
///
/// # Panics
///
/// If the job is not scheduled, or a turn is in progress: a second turn would be a second `&mut` to
/// the state. The word and the other turn stay as they are.
fn begin<P, S>(job: Arc<Job<P, S>>) -> Turn<P, S> {
    let mut current = QUEUED;
    loop {
        // AcqRel, partners `schedule`, `disable` and the last `Turn::finish`: all that was
        // scheduled before is visible, and the state as the last turn has left it.
        match job.word.compare_exchange(
            current,
            current ^ (QUEUED | RUNNING),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            Ok(_) => break,
            Err(actual) => {
                assert!(
                    actual & (QUEUED | RUNNING) == QUEUED,
                    "a turn began at a job that is not scheduled or has a turn (word {actual:#07b})"
                );
                current = actual;
            }
        }
    }
    Turn {
        job,
        _marker: PhantomData,
    }
}

/// The right to work on a job. It dereferences to the state of the job.
pub(crate) struct Turn<P, S> {
    job: Arc<Job<P, S>>,
    /// It gives access to an `S`, so it may be shared only if an `S` may.
    _marker: PhantomData<S>,
}

/// What happened during a turn, as its end has found.
pub(crate) struct Finished<P, S> {
    /// The job, if it was scheduled during the turn.
    pub(crate) again: Option<Scheduled<P, S>>,
    /// A thread waits for the end of this turn: `FINISH_AWAITED` was set.
    pub(crate) awaited: bool,
}

impl<P, S> Turn<P, S> {
    pub(crate) fn job(&self) -> &Arc<Job<P, S>> {
        &self.job
    }

    /// Sets `QUEUED`, so that the end of this turn returns the job in [`Finished::again`].
    pub(crate) fn schedule_again(&self) {
        self.job.set_queued();
    }

    /// The shared data, the `DISABLED` flag and the state.
    pub(crate) fn parts(&mut self) -> (&P, DisabledFlag<'_>, &mut S) {
        let disabled = DisabledFlag {
            word: &self.job.word,
        };
        // SAFETY: as in `deref_mut`; the state is not part of `shared` or of the word.
        let state = self.job.state.with_mut(|state| unsafe { &mut *state });
        (&self.job.shared, disabled, state)
    }

    /// Ends the turn: clears `RUNNING` and `FINISH_AWAITED`.
    pub(crate) fn finish(self) -> Finished<P, S> {
        // AcqRel: Release the state to the next turn, and what this turn did to a thread that waits
        // for its end; Acquire what was scheduled. Partners: `begin`, `schedule`,
        // `request_finish_notice`.
        let old = self
            .job
            .word
            .fetch_and(!(RUNNING | FINISH_AWAITED), Ordering::AcqRel);
        debug_assert!(old & RUNNING != 0, "only the end of the turn clears it");
        // SAFETY: read once, since `self` is forgotten.
        let job = unsafe { ptr::read(&self.job) };
        std::mem::forget(self);
        Finished {
            again: (old & QUEUED != 0).then_some(Scheduled(job)),
            awaited: old & FINISH_AWAITED != 0,
        }
    }
}

/// Whether a job was disabled, for the thread that has a turn at it.
#[derive(Clone, Copy)]
pub(crate) struct DisabledFlag<'a> {
    word: &'a AtomicU32,
}

impl DisabledFlag<'_> {
    /// A turn that begins after [`Job::disable`] sees the flag at once, one in progress sees it
    /// soon.
    #[inline(always)]
    pub(crate) fn is_set(self) -> bool {
        // Relaxed: a thread that must be sure that the flag was seen waits for the end of the turn.
        self.word.load(Ordering::Relaxed) & DISABLED != 0
    }
}

impl<P, S> Deref for Turn<P, S> {
    type Target = S;

    fn deref(&self) -> &S {
        // SAFETY: there is one `Turn` at a time, and `self` is borrowed, so there is no `&mut` to
        // the state.
        self.job.state.with(|state| unsafe { &*state })
    }
}

impl<P, S> DerefMut for Turn<P, S> {
    fn deref_mut(&mut self) -> &mut S {
        // SAFETY: there is one `Turn` at a time, and `self` is borrowed exclusively, so there is no
        // other reference to the state.
        self.job.state.with_mut(|state| unsafe { &mut *state })
    }
}

impl<P, S> Drop for Turn<P, S> {
    /// Runs only if the turn panics. Clears the same bits as [`finish`](Self::finish), so that no
    /// thread waits for ever for the end of the turn. The user notifies the threads that wait.
    /// What was scheduled meanwhile is not done.
    fn drop(&mut self) {
        // AcqRel, partners as in `finish`.
        self.job
            .word
            .fetch_and(!(RUNNING | FINISH_AWAITED), Ordering::AcqRel);
    }
}

/// Slots of a worker. Few in a model, so that it fills them.
const LOCAL_SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

/// The places in which jobs wait for a worker.
pub(crate) struct RunQueue<P, S> {
    /// The job pushed last, linked to those pushed before it.
    inbox: CachePadded<AtomicPtr<Job<P, S>>>,
    clock: CachePadded<Clock>,
    /// A linked list of jobs that are older than all others. Any thread may fill and empty it.
    front: AtomicPtr<Job<P, S>>,
    queues: Box<[CachePadded<WorkerQueue<P, S>>]>,
    /// It owns jobs and moves them between threads, neither of which an `AtomicPtr` says.
    _marker: PhantomData<Arc<Job<P, S>>>,
}

/// Read for each job, and written rarely. Hints: no other data depends on them.
struct Clock {
    /// The number of the current tick, wrapping.
    tick: UnmodelledU32,
    single_steps: UnmodelledBool,
}

/// The places of one worker. Only this worker fills them; every worker may empty them.
struct WorkerQueue<P, S> {
    /// A linked list of jobs, the oldest first.
    overflow: AtomicPtr<Job<P, S>>,
    /// Single jobs.
    slots: [AtomicPtr<Job<P, S>>; LOCAL_SLOTS],
}

/// The right to fill one of the queues.
pub(crate) struct Worker {
    /// Index of the queue.
    index: usize,
    /// The slot to empty next, 0 to `LOCAL_SLOTS`. All slots in front of it are empty.
    next: usize,
}

impl Worker {
    /// 0 to the number of workers, exclusive.
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// What [`RunQueue::take`] has found.
pub(crate) struct Taken<P, S> {
    pub(crate) turn: Turn<P, S>,
    /// There are more jobs than this one, so the caller should wake another worker.
    pub(crate) more: bool,
    /// The number of ticks that the job has waited.
    pub(crate) waited_ticks: u32,
}

impl<P, S> RunQueue<P, S> {
    /// A queue for `workers` workers, and the workers.
    pub(crate) fn new(workers: usize) -> (Self, Vec<Worker>) {
        let place = || AtomicPtr::new(ptr::null_mut());
        let queue = || WorkerQueue {
            overflow: place(),
            slots: std::array::from_fn(|_| place()),
        };
        let clock = Clock {
            tick: UnmodelledU32::new(0),
            single_steps: UnmodelledBool::new(false),
        };
        let queue = Self {
            inbox: CachePadded::new(place()),
            clock: CachePadded::new(clock),
            front: place(),
            queues: (0..workers).map(|_| CachePadded::new(queue())).collect(),
            _marker: PhantomData,
        };
        let workers = (0..workers)
            .map(|index| Worker {
                index,
                next: LOCAL_SLOTS,
            })
            .collect();
        (queue, workers)
    }

    /// Begins the next tick. One thread calls this, at regular intervals.
    pub(crate) fn advance_tick(&self) {
        let tick = &self.clock.tick;
        // Relaxed: a hint, and written by one thread.
        tick.store(
            tick.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Sets whether workers take one job at a time, because turns take long. Any thread may call
    /// this.
    pub(crate) fn set_single_steps(&self, single_steps: bool) {
        // Relaxed: a hint.
        if self.has_single_steps() != single_steps {
            self.clock
                .single_steps
                .store(single_steps, Ordering::Relaxed);
        }
    }

    /// Whether workers take one job at a time.
    #[inline]
    pub(crate) fn has_single_steps(&self) -> bool {
        // Relaxed: a hint.
        self.clock.single_steps.load(Ordering::Relaxed)
    }

    /// Puts a job into the inbox.
    ///
    /// `true`: the inbox was empty, so the caller has to wake a worker. A caller that pushes behind
    /// other jobs need not: the caller that pushed the first of them does.
    ///
    /// # Panics
    ///
    /// If the job is dedicated.
    #[inline]
    pub(crate) fn push(&self, job: Scheduled<P, S>) -> bool {
        // Relaxed: never changed once the job is in use.
        let word = job.0.word.load(Ordering::Relaxed);
        assert!(word & DEDICATED == 0, "the job has a thread of its own");
        // Relaxed: hints.
        let tick = self.clock.tick.load(Ordering::Relaxed);
        job.0.pushed_at.store(tick, Ordering::Relaxed);
        let job = Arc::into_raw(job.0).cast_mut();
        let mut head = self.inbox.load(Ordering::Relaxed);
        loop {
            // SAFETY: `into_raw` keeps our reference, so the job is alive. Relaxed: the CAS
            // publishes it.
            unsafe { (*job).next.store(head, Ordering::Relaxed) };
            // AcqRel: Release the link, and the job, partner `take_place`; Acquire what a thread
            // did before it found nothing, partner `has_work_in_order`.
            match self
                .inbox
                .compare_exchange_weak(head, job, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return head.is_null(),
                Err(now) => head = now,
            }
        }
    }

    /// Takes a job from any place, and begins a turn at it.
    pub(crate) fn take(&self, worker: &mut Worker) -> Option<Taken<P, S>> {
        if let Some(job) = self.next_local(worker) {
            return Some(self.taken(job, false));
        }
        let front = take_place(&self.front);
        if !front.is_null() {
            let (first, rest) = split(front);
            if !rest.is_null() {
                self.put_in_front(rest);
            }
            return Some(self.taken(first, !rest.is_null()));
        }
        let list = self.take_list(worker.index);
        if list.is_null() {
            return self.steal(worker);
        }
        let (first, mut rest) = split(list);
        let more = !rest.is_null();
        let queue = &self.queues[worker.index];
        if !self.has_single_steps() {
            let mut filled = 0;
            while filled < LOCAL_SLOTS && !rest.is_null() {
                // SAFETY: the list counted this job, and the swap gave the list to this worker
                // alone. Read before another worker can take the job.
                let next = unsafe { (*rest).next.load(Ordering::Relaxed) };
                debug_assert!(queue.slots[filled].load(Ordering::Relaxed).is_null());
                // Release, partner `take_place`. The slot is empty: `next_local` has been through
                // all of them.
                queue.slots[filled].store(rest, Ordering::Release);
                filled += 1;
                rest = next;
            }
            worker.next = 0;
        }
        if !rest.is_null() {
            debug_assert!(queue.overflow.load(Ordering::Relaxed).is_null());
            // Release, partner `take_place`. The list is empty: `take_list` has looked there first,
            // and only this worker fills it.
            queue.overflow.store(rest, Ordering::Release);
        }
        Some(self.taken(first, more))
    }

    /// Begins the turn at a job that was taken out of its place.
    fn taken(&self, job: Arc<Job<P, S>>, more: bool) -> Taken<P, S> {
        // Relaxed: hints.
        let tick = self.clock.tick.load(Ordering::Relaxed);
        let waited_ticks = tick.wrapping_sub(job.pushed_at.load(Ordering::Relaxed));
        Taken {
            turn: begin(job),
            more,
            waited_ticks,
        }
    }

    /// Moves the jobs in this worker's slots to the front list: the worker ends. Other workers find
    /// its overflow list.
    pub(crate) fn clear(&self, worker: &mut Worker) {
        self.release_local(worker.index);
        worker.next = LOCAL_SLOTS;
    }

    /// Moves the jobs in the slots of the worker with this index to the front list, because that
    /// worker makes no progress. Returns whether there were jobs. Any thread may call this.
    pub(crate) fn release_local(&self, index: usize) -> bool {
        let mut list = ptr::null_mut();
        for slot in self.queues[index].slots.iter().rev() {
            let job = take_place(slot);
            if !job.is_null() {
                // SAFETY: the slot counted this job, and the swap gave it to this thread alone.
                // Relaxed: published with the list.
                unsafe { (*job).next.store(list, Ordering::Relaxed) };
                list = job;
            }
        }
        if list.is_null() {
            return false;
        }
        self.put_in_front(list);
        true
    }

    /// Fills the front list with a list that belongs to this thread alone, and with what other
    /// threads have put there meanwhile.
    #[cold]
    fn put_in_front(&self, list: *mut Job<P, S>) {
        debug_assert!(!list.is_null());
        // Release, partner `take_place`: the links, and the jobs.
        while self
            .front
            .compare_exchange(ptr::null_mut(), list, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            let newer = take_place(&self.front);
            let mut last = list;
            loop {
                // SAFETY: both lists counted their jobs, and the swaps gave them to this thread
                // alone. Relaxed: published with the list.
                let next = unsafe { (*last).next.load(Ordering::Relaxed) };
                if next.is_null() {
                    break;
                }
                last = next;
            }
            // SAFETY: as above.
            unsafe { (*last).next.store(newer, Ordering::Relaxed) };
        }
    }

    /// Whether there is a job in any place.
    pub(crate) fn has_work(&self) -> bool {
        // Acquire: a worker that is about to sleep relies on it, see `Signal`; for others it is a
        // hint.
        let is_filled = |place: &AtomicPtr<Job<P, S>>| !place.load(Ordering::Acquire).is_null();
        is_filled(&self.inbox)
            || is_filled(&self.front)
            || self
                .queues
                .iter()
                .any(|queue| is_filled(&queue.overflow) || queue.slots.iter().any(is_filled))
    }

    /// Whether there is a job in any place. If there is none, a thread whose [`push`](Self::push)
    /// comes later sees all that the caller wrote before this call.
    pub(crate) fn has_work_in_order(&self) -> bool {
        let empty = ptr::null_mut();
        // AcqRel: a read-modify-write that changes nothing has a place in the order of the changes
        // of the inbox. Partner `push`: one of the two sees what the other one did before.
        self.inbox
            .compare_exchange(empty, empty, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
            || self.has_work()
    }

    /// The next job in the worker's own slots.
    fn next_local(&self, worker: &mut Worker) -> Option<Arc<Job<P, S>>> {
        debug_assert!(worker.next <= LOCAL_SLOTS);
        while worker.next < LOCAL_SLOTS {
            let job = take_place(&self.queues[worker.index].slots[worker.next]);
            worker.next += 1;
            if !job.is_null() {
                // SAFETY: the slot counted this job, and the swap gave it to this worker alone.
                return Some(unsafe { Arc::from_raw(job) });
            }
        }
        None
    }

    /// A linked list of jobs, the oldest first: the worker's own overflow list, that of another
    /// worker, or the inbox.
    fn take_list(&self, own: usize) -> *mut Job<P, S> {
        let (left, right) = self.queues.split_at(own);
        for queue in right.iter().chain(left) {
            let list = take_place(&queue.overflow);
            if !list.is_null() {
                return list;
            }
        }
        reverse(take_place(&self.inbox))
    }

    /// Takes half of the jobs in the slots of another worker; in single steps, the oldest of them.
    fn steal(&self, worker: &mut Worker) -> Option<Taken<P, S>> {
        debug_assert_eq!(worker.next, LOCAL_SLOTS, "its own slots are empty");
        let own = &self.queues[worker.index].slots;
        let (left, right) = self.queues.split_at(worker.index);
        let single_steps = self.has_single_steps();
        for victim in right.iter().skip(1).chain(left) {
            let is_filled = |slot: &&AtomicPtr<Job<P, S>>| !slot.load(Ordering::Relaxed).is_null();
            if single_steps {
                let mut jobs = victim.slots.iter().map(take_place);
                if let Some(job) = jobs.find(|job| !job.is_null()) {
                    // SAFETY: the slot counted this job, and the swap gave it to this worker alone.
                    let job = unsafe { Arc::from_raw(job) };
                    let more = victim.slots.iter().any(|slot| is_filled(&slot));
                    return Some(self.taken(job, more));
                }
                continue;
            }
            let wanted = victim.slots.iter().filter(is_filled).count().div_ceil(2);
            let mut first = None;
            let mut filled = 0;
            for slot in victim.slots.iter().rev() {
                if first.is_some() as usize + filled == wanted {
                    break;
                }
                let job = take_place(slot);
                if job.is_null() {
                    continue;
                }
                if first.is_none() {
                    // SAFETY: the slot counted this job, and the swap gave it to this worker alone.
                    first = Some(unsafe { Arc::from_raw(job) });
                } else {
                    debug_assert!(own[filled].load(Ordering::Relaxed).is_null());
                    // Release, partner `take_place`.
                    own[filled].store(job, Ordering::Release);
                    filled += 1;
                }
            }
            if let Some(first) = first {
                worker.next = 0;
                return Some(self.taken(first, filled > 0));
            }
        }
        None
    }
}

/// Splits off the first job of a list that belongs to the caller alone and is not empty.
fn split<P, S>(list: *mut Job<P, S>) -> (Arc<Job<P, S>>, *mut Job<P, S>) {
    // SAFETY: the list counted this job, and belongs to the caller alone.
    let first = unsafe { Arc::from_raw(list) };
    let rest = first.next.load(Ordering::Relaxed);
    (first, rest)
}

/// Reverses a list that belongs to the caller alone.
fn reverse<P, S>(mut list: *mut Job<P, S>) -> *mut Job<P, S> {
    let mut reversed = ptr::null_mut();
    while !list.is_null() {
        // SAFETY: the list counts its jobs, and belongs to the caller alone. Relaxed: for the same
        // reason.
        let next = unsafe {
            let next = (*list).next.load(Ordering::Relaxed);
            (*list).next.store(reversed, Ordering::Relaxed);
            next
        };
        reversed = list;
        list = next;
    }
    reversed
}

/// Empties a place, a slot or the head of a list.
#[inline]
fn take_place<P, S>(place: &AtomicPtr<Job<P, S>>) -> *mut Job<P, S> {
    // A load first: a swap takes the cache line away from other threads that look.
    if place.load(Ordering::Relaxed).is_null() {
        return ptr::null_mut();
    }
    // Acquire, partners `push`, `put_in_front` and the stores to slots and overflow lists: the
    // links, and the jobs.
    place.swap(ptr::null_mut(), Ordering::Acquire)
}

impl<P, S> Drop for RunQueue<P, S> {
    /// Drops the references to the jobs that no worker has taken.
    fn drop(&mut self) {
        for slot in self.queues.iter().flat_map(|queue| &queue.slots) {
            let job = take_place(slot);
            if !job.is_null() {
                // SAFETY: the slot counted this job, and the swap gave it to us alone.
                drop(unsafe { Arc::from_raw(job) });
            }
        }
        let overflows = self.queues.iter().map(|queue| &queue.overflow);
        for list in overflows.chain([&*self.inbox, &self.front]) {
            let mut job = take_place(list);
            while !job.is_null() {
                // SAFETY: the list counted this job, and the swap gave the list to us alone.
                let counted = unsafe { Arc::from_raw(job) };
                job = counted.next.load(Ordering::Relaxed);
            }
        }
    }
}
