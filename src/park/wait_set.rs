//! The wakers of several threads and tasks that wait for the same change ([`WaitSet`]).
//!
//! A waiter has one entry, however often it registers: a [`Registration`] says which one. It takes
//! the entry out when it no longer waits, so a future that is dropped leaves no waker behind. All
//! of this costs the same however many waiters there are.
//!
//! | waiter | notifying thread |
//! | --- | --- |
//! | 1. `register`: puts its waker into its entry, with the lock held | 1. makes the change |
//! | 2. changes the word, by a read-modify-write | 2. `notify`: reads the word, by a read-modify-write |
//! | 3. looks once more; if it finds the change, it does not sleep | 3. the word counts an entry: takes all entries, and wakes them |
//!
//! **A notifying thread never waits for the lock.** It sets [`NOTIFIED`] in the word, and then only
//! tries to take the lock. If another thread has the lock, that thread looks at the word after it
//! has released the lock, and then does what the notifying thread wanted to do. Both accesses of
//! the word are read-modify-writes, so one of them comes first: if that of the holder does, the
//! notifying thread finds the lock free.
//!
//! # Failure modes
//!
//! * **A waker panics**, in `clone`, `drop` or `wake`: none of them runs with the lock held. The
//!   panic of a `clone` goes to the waiter, and the others are contained.
//! * **A waiter is suspended while it has the lock**: other waiters wait for it. Notifying threads
//!   do not, but the others sleep until it has released the lock.

use std::ops::DerefMut;
use std::task::Waker;
use std::time::Instant;

use super::{clone_waker, drop_waker, park, thread_waker, wake};
use crate::sync::{AtomicU64, Mutex, Ordering, spin_loop};

/// The bit of [`WaitSet::word`] that says that all entries are to be woken.
const NOTIFIED: u64 = 1;

/// What one entry adds to [`WaitSet::word`].
const ONE_ENTRY: u64 = 2;

/// The largest number of empty lists that a [`WaitSet`] keeps.
const SPARES_KEPT: usize = 16;

/// The largest capacity of a list that a [`WaitSet`] keeps.
const CAPACITY_KEPT: usize = 1024;

/// The wakers of several threads and tasks that wait for the same change: publishers that wait for
/// room in the shared lane, callers of flush and close, those that wait for the end of a
/// subscription.
pub(crate) struct WaitSet {
    /// [`ONE_ENTRY`] for each entry, and perhaps [`NOTIFIED`]. Both sides synchronise on this word.
    word: AtomicU64,
    entries: Mutex<Entries>,
    /// Empty lists, at most [`SPARES_KEPT`], which keep their memory for reuse: one for each thread
    /// that notified at the same time as others. So in a steady state neither side allocates. No
    /// thread waits for this lock.
    spares: Mutex<Vec<Vec<Entry>>>,
}

/// The entry of one waiter in a [`WaitSet`], if it has one. The waiter gives it back with
/// [`WaitSet::forget`].
#[derive(Debug, Default)]
pub(crate) struct Registration(Option<Place>);

impl Registration {
    /// Whether the waiter has an entry, which may have been taken.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.0.is_some()
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    /// [`Entries::taken`] at the time of the registration. If it has changed, the entry was taken.
    taken: u64,
}

struct Entries {
    list: Vec<Entry>,
    /// The first free entry, or [`NONE`].
    first_free: usize,
    /// The number of entries that are not free, 0 to the length of the list.
    waiting: usize,
    /// How often all entries were taken.
    taken: u64,
}

enum Entry {
    Waiting(Waker),
    Free {
        /// The next free entry, or [`NONE`].
        next: usize,
    },
}

/// Not an index: the end of the list of free entries.
const NONE: usize = usize::MAX;

impl WaitSet {
    pub(crate) fn new() -> Self {
        let entries = Entries {
            list: Vec::new(),
            first_free: NONE,
            waiting: 0,
            taken: 0,
        };
        Self {
            word: AtomicU64::new(0),
            entries: Mutex::new(entries),
            spares: Mutex::new(Vec::new()),
        }
    }

    /// Registers a waker for the next `notify`, in the entry that the waiter has already, or in a
    /// new one. The caller looks once more afterwards.
    pub(crate) fn register(&self, registration: &mut Registration, waker: &Waker) {
        if let Some(place) = registration.0
            && self.with_entries(|entries| entries.get(place).is_some_and(|w| w.will_wake(waker)))
        {
            return;
        }
        let new = clone_waker(waker);
        let old = self.with_entries(|entries| {
            let known = registration.0.and_then(|place| entries.get(place));
            if let Some(known) = known {
                return Some(std::mem::replace(known, new));
            }
            if entries.list.capacity() == 0 {
                // A thread that notified without a spare list has taken this one.
                entries.list = self.spare();
            }
            registration.0 = Some(entries.add(new));
            // AcqRel, partner `notify`: a change before an earlier notify is visible to the
            // caller's next look.
            self.word.fetch_add(ONE_ENTRY, Ordering::AcqRel);
            None
        });
        drop_waker(old);
    }

    /// The waiter no longer waits, and gives its entry back.
    pub(crate) fn forget(&self, registration: &mut Registration) {
        let Some(place) = registration.0.take() else {
            return;
        };
        let waker = self.with_entries(|entries| {
            let waker = entries.remove(place)?;
            // AcqRel, as in `register`.
            self.word.fetch_sub(ONE_ENTRY, Ordering::AcqRel);
            Some(waker)
        });
        drop_waker(waker);
    }

    /// Runs `f` with the lock held, and then does what a thread left that notified meanwhile.
    fn with_entries<R>(&self, f: impl FnOnce(&mut Entries) -> R) -> R {
        let result = f(&mut self.entries.lock());
        if self.is_notified() {
            self.wake_all();
        }
        result
    }

    /// Whether a thread has notified, and perhaps found the lock held by the caller, who has
    /// released it.
    fn is_notified(&self) -> bool {
        // AcqRel, partner the `fetch_or` in `notify_waiting`: if this line comes first, that thread
        // finds the lock free. Partner also `notify`: as in `register`, for an entry that was kept.
        self.word.fetch_add(0, Ordering::AcqRel) & NOTIFIED != 0
    }

    /// Wakes all wakers that were registered before. The caller must make the change before this
    /// call.
    #[inline]
    pub(crate) fn notify(&self) {
        // A read-modify-write, so that it is ordered with `register`. AcqRel, partner `register`.
        if self.word.fetch_add(0, Ordering::AcqRel) != 0 {
            self.notify_waiting();
        }
    }

    #[cold]
    fn notify_waiting(&self) {
        // AcqRel, partner `is_notified`.
        self.word.fetch_or(NOTIFIED, Ordering::AcqRel);
        self.wake_all();
    }

    #[cold]
    fn wake_all(&self) {
        let mut woken = self.spare();
        // If the lock is not free, its holder looks at the word after it has released it.
        while let Some(mut entries) = self.entries.try_lock() {
            // AcqRel, and a read-modify-write instead of a store: the next `register` must see what
            // comes before *every* earlier notify, also before one that found no entry between
            // our look and this line. A store would end the release sequence of that notify.
            let word = self.word.swap(0, Ordering::AcqRel);
            debug_assert_eq!(word / ONE_ENTRY, entries.waiting as u64);
            entries.take_all(&mut woken);
            drop(entries);
            // Before the wakers, which are user code and may block.
            if !self.is_notified() {
                break;
            }
        }
        for entry in woken.drain(..) {
            if let Entry::Waiting(waker) = entry {
                wake(waker);
            }
        }
        self.keep_spare(woken);
    }

    fn spare(&self) -> Vec<Entry> {
        let spares = self.try_lock_spares();
        spares
            .and_then(|mut spares| spares.pop())
            .unwrap_or_default()
    }

    fn keep_spare(&self, list: Vec<Entry>) {
        debug_assert!(list.is_empty());
        if (1..=CAPACITY_KEPT).contains(&list.capacity())
            && let Some(mut spares) = self.try_lock_spares()
            && spares.len() < SPARES_KEPT
        {
            spares.push(list);
        }
    }

    /// Tries a few times, since the lock is held for a few instructions: a list that is not kept
    /// has to be allocated again. A holder that the system suspends stops no other thread.
    fn try_lock_spares(&self) -> Option<impl DerefMut<Target = Vec<Vec<Entry>>> + '_> {
        const TRIES: usize = if cfg!(loom) { 1 } else { 100 };
        (0..TRIES).find_map(|_| {
            let spares = self.spares.try_lock();
            if spares.is_none() {
                spin_loop();
            }
            spares
        })
    }

    /// Blocks until `ready` returns a value. Returns `None` at the deadline.
    pub(crate) fn wait_until<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let mut waiter = self.waiter();
        loop {
            if let Some(value) = ready() {
                return Some(value);
            }
            waiter.register(&thread_waker());
            if let Some(value) = ready() {
                return Some(value);
            }
            if !park(deadline) {
                return ready();
            }
        }
    }

    /// A waiter without an entry.
    pub(crate) fn waiter(&self) -> Waiter<'_> {
        Waiter {
            set: self,
            registration: Registration::default(),
        }
    }

    /// The number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let entries = self.entries.lock();
        let used = |entry: &&Entry| matches!(entry, Entry::Waiting(_));
        assert_eq!(entries.list.iter().filter(used).count(), entries.waiting);
        entries.waiting
    }
}

impl Drop for WaitSet {
    /// The entries of waiters that were leaked, one by one, since their drops may panic.
    fn drop(&mut self) {
        let mut left = Vec::new();
        self.entries.lock().take_all(&mut left);
        for entry in left {
            if let Entry::Waiting(waker) = entry {
                drop_waker(Some(waker));
            }
        }
    }
}

/// A waiter that gives its entry back when it is dropped.
pub(crate) struct Waiter<'a> {
    set: &'a WaitSet,
    registration: Registration,
}

impl Waiter<'_> {
    /// See [`WaitSet::register`].
    pub(crate) fn register(&mut self, waker: &Waker) {
        self.set.register(&mut self.registration, waker);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.set.forget(&mut self.registration);
    }
}

impl Entries {
    /// The waker in that entry. `None`: the entry was taken.
    fn get(&mut self, place: Place) -> Option<&mut Waker> {
        if place.taken != self.taken {
            return None;
        }
        match &mut self.list[place.index] {
            Entry::Waiting(waker) => Some(waker),
            Entry::Free { .. } => unreachable!("only its waiter removes an entry, and once"),
        }
    }

    fn add(&mut self, waker: Waker) -> Place {
        let index = match self.list.get(self.first_free) {
            Some(Entry::Free { next }) => std::mem::replace(&mut self.first_free, *next),
            _ => self.list.len(),
        };
        debug_assert!(self.waiting <= self.list.len());
        self.waiting += 1;
        let entry = Entry::Waiting(waker);
        match self.list.get_mut(index) {
            Some(free) => *free = entry,
            None => self.list.push(entry),
        }
        Place {
            index,
            taken: self.taken,
        }
    }

    fn remove(&mut self, place: Place) -> Option<Waker> {
        self.get(place)?;
        let free = Entry::Free {
            next: self.first_free,
        };
        let entry = std::mem::replace(&mut self.list[place.index], free);
        self.first_free = place.index;
        self.waiting -= 1;
        if self.waiting == 0 {
            self.list.clear();
            self.list.shrink_to(CAPACITY_KEPT);
            self.first_free = NONE;
        }
        match entry {
            Entry::Waiting(waker) => Some(waker),
            Entry::Free { .. } => None,
        }
    }

    /// Moves all entries into `woken`.
    fn take_all(&mut self, woken: &mut Vec<Entry>) {
        if woken.is_empty() {
            std::mem::swap(woken, &mut self.list);
        } else {
            woken.append(&mut self.list);
        }
        self.first_free = NONE;
        self.waiting = 0;
        self.taken += 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::park::deadline_after;
    use crate::sync::{Arc, AtomicUsize};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wakers(count: usize) -> Vec<(Arc<Wakes>, Waker)> {
        let waker = |_| {
            let wakes = Arc::new(Wakes::default());
            (wakes.clone(), Waker::from(wakes))
        };
        (0..count).map(waker).collect()
    }

    /// 1,000 waiters that register 100 times each have 1,000 entries, and are woken once each.
    #[test]
    fn a_waiter_has_one_entry() {
        /// Few under Miri, which would need minutes.
        const WAITERS: usize = if cfg!(miri) { 20 } else { 1000 };
        const TIMES: usize = if cfg!(miri) { 3 } else { 100 };
        let set = WaitSet::new();
        let wakers = wakers(WAITERS);
        let mut waiters: Vec<_> = wakers.iter().map(|_| set.waiter()).collect();
        let mut register_all = |times| {
            for _ in 0..times {
                for (waiter, (_, waker)) in waiters.iter_mut().zip(&wakers) {
                    waiter.register(waker);
                }
            }
        };
        register_all(TIMES);
        assert_eq!(set.len(), WAITERS);
        set.notify();
        assert_eq!(set.len(), 0);
        set.notify();
        assert!(
            wakers
                .iter()
                .all(|(wakes, _)| wakes.0.load(Ordering::Relaxed) == 1)
        );
        register_all(TIMES);
        assert_eq!(set.len(), WAITERS);
        // In another order than they came, and some of them come back.
        let mut first = waiters.split_off(WAITERS / 2);
        drop(waiters);
        assert_eq!(set.len(), WAITERS / 2);
        first.extend((0..WAITERS * 3 / 10).map(|_| set.waiter()));
        for (waiter, (_, waker)) in first.iter_mut().rev().zip(&wakers) {
            waiter.register(waker);
        }
        assert_eq!(set.len(), WAITERS * 8 / 10);
        assert_eq!(
            set.entries.lock().list.len(),
            WAITERS,
            "free entries are used first"
        );
        drop(first);
        assert_eq!(set.len(), 0);
        assert_eq!(set.word.load(Ordering::Relaxed), 0);
        assert_eq!(set.entries.lock().list.len(), 0);
        // No waker is kept.
        assert!(
            wakers
                .iter()
                .all(|(wakes, _)| Arc::strong_count(wakes) == 2)
        );
    }

    /// A waiter whose entry was taken has no part in that of another one.
    #[test]
    fn a_registration_that_was_woken_names_no_entry() {
        let set = WaitSet::new();
        let wakers = wakers(2);
        let (mut one, mut other) = (set.waiter(), set.waiter());
        one.register(&wakers[0].1);
        set.notify();
        other.register(&wakers[1].1); // in the entry that the first one had
        drop(one);
        assert_eq!(set.len(), 1);
        set.notify();
        let count = |index: usize| wakers[index].0.0.load(Ordering::Relaxed);
        assert_eq!((count(0), count(1)), (1, 1));
    }

    /// A task that is polled by another executor has one entry, with the last waker.
    #[test]
    fn the_last_waker_is_woken() {
        let set = WaitSet::new();
        let wakers = wakers(2);
        let mut waiter = set.waiter();
        wakers.iter().for_each(|(_, waker)| waiter.register(waker));
        assert_eq!(set.len(), 1);
        set.notify();
        let count = |index: usize| wakers[index].0.0.load(Ordering::Relaxed);
        assert_eq!((count(0), count(1)), (0, 1));
    }

    #[test]
    fn a_thread_that_waits_takes_its_entry_along() {
        let set = WaitSet::new();
        for _ in 0..10 {
            let mut looks = 0;
            let never = set.wait_until(deadline_after(Duration::from_millis(1)), || {
                looks += 1;
                assert!(set.len() <= 1);
                None::<()>
            });
            assert_eq!(never, None);
            assert!(looks >= 3);
            assert_eq!(set.len(), 0);
        }
        assert_eq!(set.word.load(Ordering::Relaxed), 0);
    }

    /// A notifying thread that finds the lock held does not wait. The holder wakes for it.
    #[test]
    fn a_notification_during_a_registration_is_not_lost() {
        let set = WaitSet::new();
        let wakers = wakers(1);
        let mut waiter = set.waiter();
        waiter.register(&wakers[0].1);
        set.with_entries(|_| set.notify());
        assert_eq!(wakers[0].0.0.load(Ordering::Relaxed), 1);
        assert_eq!(set.word.load(Ordering::Relaxed), 0);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::explore::{Steps, explore_bounded};
    use crate::sync::{Arc, AtomicUsize, thread};

    /// Two threads wait for different changes, and two others make the changes and notify: no
    /// thread sleeps for ever.
    #[test]
    fn loom_wait_set() {
        explore_bounded("wait set", 2, || {
            let set = Arc::new(WaitSet::new());
            let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let wait_for = |flag: usize| {
                let (set, flags) = (set.clone(), flags.clone());
                move || {
                    let is_set = || (flags[flag].load(Ordering::Relaxed) != 0).then_some(());
                    assert_eq!(set.wait_until(None, is_set), Some(()));
                }
            };
            let waiting = thread::spawn(wait_for(0));
            let notifying: Vec<_> = (0..2)
                .map(|flag| {
                    let (set, flags) = (set.clone(), flags.clone());
                    thread::spawn(move || {
                        flags[flag].store(1, Ordering::Relaxed);
                        set.notify();
                    })
                })
                .collect();
            wait_for(1)();
            waiting.join().unwrap();
            notifying.into_iter().for_each(|n| n.join().unwrap());
            assert_eq!(set.len(), 0);
        });
    }

    /// One waiter gives up while a thread notifies: the entry that it gives back is not that of the
    /// other, which is woken.
    #[test]
    fn loom_wait_set_one_gives_up() {
        explore_bounded("wait set: one gives up", 2, || {
            let set = Arc::new(WaitSet::new());
            let flag = Arc::new(AtomicUsize::new(0));
            let steps = Steps::new();
            let giving_up = {
                let (set, steps) = (set.clone(), steps.clone());
                thread::spawn(move || {
                    let mut waiter = set.waiter();
                    waiter.register(&thread_waker());
                    waiter.register(&thread_waker());
                    steps.step();
                })
            };
            let notifying = {
                let (set, flag, steps) = (set.clone(), flag.clone(), steps.clone());
                thread::spawn(move || {
                    flag.store(1, Ordering::Relaxed);
                    steps.step();
                    set.notify();
                })
            };
            let is_set = || (flag.load(Ordering::Relaxed) != 0).then_some(());
            assert_eq!(set.wait_until(None, is_set), Some(()));
            giving_up.join().unwrap();
            notifying.join().unwrap();
            assert_eq!(set.len(), 0);
            assert_eq!(set.word.load(Ordering::Relaxed) & !NOTIFIED, 0);
        });
    }
}
