//! The path of an event under every schedule. How to run and read the models: [`crate::sync::explore`].

use std::sync::Arc as Plain;
use std::sync::atomic::{AtomicUsize as PlainUsize, Ordering as PlainOrdering};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use super::block::{BlockRef, BlockSource, EnvelopeTable, Leaving, Waiting, shadow};
use super::feed::{End, FeedConsumer, FeedProducer, Found, Limits, Listener, ReaderCallback, feed};
use super::lane::{Pending, Receipt, ReceiptSlot, receipt};
use super::loss::{LongestWait, Overflow};
use super::role::Role;
use super::shard::{Change, ChangeKind, Shard, ShardShared};
use super::signal::{Latch, Signal};
use super::{Dispatch, Engine, EngineConfig, Weigh};
use crate::index::{Batch, SharedIndex};
use crate::park::{forget_registered, park, register_thread, thread_waker};
use crate::pattern::Pattern;
use crate::ring::run_queue::{Job, RunQueue, Turn, schedule};
use crate::ring::{mpsc, spsc};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering, Queue, thread};

/// A payload that loom watches: reading it and dropping it must not race. Counts its drops, outside of the model.
struct Payload {
    watched: AtomicU64,
    drops: Drops,
}

#[derive(Clone, Default)]
struct Drops(Plain<PlainUsize>);

impl Drops {
    fn payload(&self) -> Payload {
        Payload {
            watched: AtomicU64::new(1),
            drops: self.clone(),
        }
    }

    fn count(&self) -> usize {
        self.0.load(PlainOrdering::Relaxed)
    }
}

impl Payload {
    fn read(&self) {
        assert_eq!(self.watched.load(Ordering::Relaxed), 1);
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // Fails if a read of another thread does not come before.
        self.watched.with_mut(|watched| *watched = 0);
        self.drops.0.fetch_add(1, PlainOrdering::Relaxed);
    }
}

/// Lays blocks without a sequencer.
struct Layer {
    source: BlockSource<Payload>,
    table: EnvelopeTable,
    next_id: u64,
    drops: Drops,
}

impl Layer {
    fn new() -> Self {
        Self {
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            next_id: 1,
            drops: Drops::default(),
        }
    }

    /// A block with an event on each topic.
    fn block(&mut self, topics: &[&str]) -> BlockRef<Payload> {
        let mut writer = self.source.block(topics.len(), self.next_id, 0);
        for topic in topics {
            let envelope = self.table.envelope(topic, None, None).expect("a topic");
            writer.push(envelope, self.drops.payload(), 0);
            self.next_id += 1;
        }
        writer.finish()
    }
}

fn limits(capacity: usize, overflow: Overflow) -> Limits {
    Limits {
        capacity,
        pin_bytes: usize::MAX,
        overflow,
    }
}

fn shared(signal: &Arc<Signal>) -> Arc<ShardShared<Payload>> {
    Arc::new(ShardShared {
        routes: SharedIndex::new(),
        changes: Queue::new(),
        delivered_id: AtomicU64::new(0),
        latch: Arc::new(Latch::new(signal.clone())),
    })
}

/// What the registry does: the change first, then the index that goes with it.
struct Book {
    shared: Arc<ShardShared<Payload>>,
}

impl Book {
    fn new(shared: &Arc<ShardShared<Payload>>) -> Self {
        Self {
            shared: shared.clone(),
        }
    }

    fn open(&mut self, pattern: &str, slot: u32, limits: Limits) -> FeedConsumer<Payload> {
        self.open_waiting(pattern, slot, limits, LongestWait::FOR_EVER)
    }

    fn open_waiting(
        &mut self,
        pattern: &str,
        slot: u32,
        limits: Limits,
        longest_wait: LongestWait,
    ) -> FeedConsumer<Payload> {
        let (producer, consumer) = feed(limits, self.shared.latch.clone(), Listener::waker());
        let producer = producer.waiting_for(longest_wait);
        let kind = ChangeKind::Attach {
            slot,
            feed: Box::new(producer),
        };
        self.publish(kind, |batch| {
            batch.insert(&Pattern::parse(pattern).expect("a pattern"), slot);
        });
        consumer
    }

    fn cancel(&mut self, pattern: &str, slot: u32, consumer: &FeedConsumer<Payload>) {
        consumer.shared().finish(End::Cancelled);
        self.publish(ChangeKind::Detach { slot }, |batch| {
            batch.remove(&Pattern::parse(pattern).expect("a pattern"), &slot);
        });
    }

    fn publish(&mut self, kind: ChangeKind<Payload>, change: impl FnOnce(&mut Batch<'_, u32>)) {
        self.shared.routes.batch(|batch| {
            change(batch);
            let version = batch.version();
            self.shared.changes.push(Change { version, kind });
        });
    }
}

/// What a reader was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    ids: Vec<u64>,
    lost: u64,
    /// Everything up to here, received or lost.
    last: u64,
    /// The last that came was a gap.
    in_gap: bool,
}

impl Told {
    /// Takes one thing, and checks that it comes in its place.
    fn look(&mut self, consumer: &mut FeedConsumer<Payload>) -> Found {
        let found = consumer.check();
        match found {
            Found::Event => {
                let event = consumer.take();
                event.data().read();
                assert!(event.id() > self.last, "{} after {}", event.id(), self.last);
                self.last = event.id();
                self.in_gap = false;
                self.ids.push(self.last);
            }
            Found::Gap(gap) => {
                assert!(gap.from() > self.last, "{gap} after {}", self.last);
                assert!(!self.in_gap, "{gap}: a run is told once");
                self.in_gap = true;
                // A run of losses has nothing in between that was received, since the events here all match.
                assert_eq!(gap.count(), gap.to() - gap.from() + 1);
                self.last = gap.to();
                self.lost += gap.count();
            }
            _ => {}
        }
        found
    }

    /// Reads, asleep when there is nothing, until nothing more comes.
    fn read_all(&mut self, consumer: &mut FeedConsumer<Payload>) -> Found {
        loop {
            match self.look(consumer) {
                Found::Event | Found::Gap(_) => {}
                Found::Empty => {
                    sleep(consumer);
                }
                found => return found,
            }
        }
    }
}

/// Sleeps until there is something to look at, or for no reason.
fn sleep(consumer: &mut FeedConsumer<Payload>) {
    register_thread(consumer.waker());
    if consumer.request_wake() {
        park(None);
    }
}

/// One look as a task takes it, and as `Subscriber::look_or_register` does: `Empty` means that the waker will be called.
fn poll(told: &mut Told, consumer: &mut FeedConsumer<Payload>, waker: &Waker) -> Found {
    loop {
        match told.look(consumer) {
            Found::Empty => {}
            found => return found,
        }
        consumer.waker().register(waker.clone());
        if consumer.request_wake() {
            return Found::Empty;
        }
    }
}

/// Polls until nothing more comes, asleep in between. Each wait is polled twice: first for a task that has lost interest,
/// and nobody comes when its waker is called; then for this thread. `dropped`: the first future was dropped in between, and
/// its waker forgotten.
fn poll_all(told: &mut Told, consumer: &mut FeedConsumer<Payload>, dropped: bool) -> Found {
    loop {
        let mut found = poll(told, consumer, Waker::noop());
        if found == Found::Empty {
            if dropped {
                forget_registered(consumer.waker());
            }
            found = poll(told, consumer, &thread_waker());
        }
        match found {
            Found::Event | Found::Gap(_) => {}
            Found::Empty => {
                park(None);
            }
            found => return found,
        }
    }
}

/// A pool thread sleeps twice; a caller that took its bit for the first sleep may come late, in the second, and take
/// the waker that another caller needs.
#[test]
fn loom_signal_late_caller() {
    explore("signal: a late caller of an earlier sleep", || {
        let signal = Arc::new(Signal::new(1));
        let work = Arc::new(AtomicUsize::new(0));
        let calling: Vec<_> = (0..2)
            .map(|_| {
                let (signal, work) = (signal.clone(), work.clone());
                thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    signal.wake_one();
                })
            })
            .collect();
        loop {
            let before = work.load(Ordering::Relaxed);
            if before == 2 {
                break;
            }
            signal.prepare_sleep(0);
            if work.load(Ordering::Relaxed) == before {
                signal.sleep(0);
            } else {
                signal.cancel_sleep(0);
            }
        }
        calling.into_iter().for_each(|c| c.join().unwrap());
    });
}

/// Two sleepers and two pieces of work, called for one by one: each is found.
#[test]
fn loom_signal_two_sleepers() {
    explore_bounded("signal: two sleepers", 2, || {
        let signal = Arc::new(Signal::new(2));
        let work = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let sleeper = |index| {
            let (signal, work, done) = (signal.clone(), work.clone(), done.clone());
            move || {
                // Takes work, one piece at a time; the last to be done sends everybody home.
                let take = || {
                    let one = |left: usize| left.checked_sub(1);
                    work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
                        .is_ok()
                };
                while done.load(Ordering::Acquire) < 2 {
                    signal.prepare_sleep(index);
                    if take() {
                        signal.cancel_sleep(index);
                        if done.fetch_add(1, Ordering::AcqRel) == 1 {
                            signal.wake_all();
                        }
                    } else if done.load(Ordering::Acquire) < 2 {
                        signal.sleep(index);
                    }
                }
            }
        };
        let sleeping = thread::spawn(sleeper(1));
        let calling = {
            let (signal, work) = (signal.clone(), work.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    work.fetch_add(1, Ordering::Relaxed);
                    signal.wake_one();
                }
            })
        };
        sleeper(0)();
        sleeping.join().unwrap();
        calling.join().unwrap();
    });
}

/// Whoever pushes and finds the role held leaves a mark, and the holder comes back: nothing stays in the lane.
#[test]
fn loom_role_release_against_push() {
    explore("role: release against push", || {
        let (producers, lane) = mpsc::ring(2);
        let producers = Arc::new(producers);
        let role = Arc::new(Role::new((lane, 0)));
        let push = |value: u64| {
            let (producers, role) = (producers.clone(), role.clone());
            move || {
                producers.try_push(value).expect("there is room");
                while let Some(mut held) = role.try_hold() {
                    let (lane, sum) = &mut *held;
                    *sum += std::iter::from_fn(|| lane.pop()).sum::<u64>();
                    if !held.release() {
                        break;
                    }
                }
            }
        };
        let pushing = thread::spawn(push(1));
        push(2)();
        pushing.join().unwrap();
        let held = role.try_hold().expect("everybody let go");
        assert_eq!(held.1, 3, "nothing was left behind");
    });
}

/// The state goes from holder to holder in one piece.
#[test]
fn loom_role_hand_over() {
    explore("role: hand-over between three", || {
        let steps = Steps::new();
        let role = Arc::new(Role::new([0_u64; 2]));
        let turns = |times| {
            let (role, steps) = (role.clone(), steps.clone());
            move || {
                let mut held = 0;
                for _ in 0..times {
                    steps.step();
                    if let Some(mut state) = role.try_hold() {
                        assert_eq!(state[0], state[1]);
                        state[0] += 1;
                        steps.step();
                        state[1] += 1;
                        held += 1;
                        // Whoever left a mark only wanted a turn.
                        let _marked = state.release();
                    }
                }
                held
            }
        };
        let others = [thread::spawn(turns(1)), thread::spawn(turns(1))];
        let mut held = turns(2)();
        for other in others {
            held += other.join().unwrap();
        }
        let state = role.try_hold().expect("everybody let go");
        assert_eq!(*state, [held, held]);
        assert!(held >= 1);
    });
}

fn wait_for(slot: &ReceiptSlot) -> Option<Receipt> {
    loop {
        if let Some(answer) = slot.look() {
            return answer;
        }
        register_thread(&slot.waker);
        if slot.look().is_none() {
            park(None);
        }
    }
}

/// Registering a waker against waking it: the receipt comes, with its time, or the word that it never will.
#[test]
fn loom_waker_registration_against_wake() {
    explore("receipt: register against wake", || {
        let (sender, slot) = receipt();
        let filling = thread::spawn(move || sender.fill(7, 5));
        let receipt = wait_for(&slot).expect("filled");
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        assert_eq!((receipt.id(), receipt.created_at()), (7, created_at));
        filling.join().unwrap();
        let (sender, slot) = self::receipt();
        let dropping = thread::spawn(move || drop(sender));
        assert_eq!(wait_for(&slot), None);
        dropping.join().unwrap();
    });
}

/// Two threads let the last references to a block go while the source of blocks goes too: the payloads are dropped once,
/// after every read, and the memory is freed (the pool's `Arc` would be told as leaked).
#[test]
fn loom_last_block_reference() {
    explore(
        "block: last reference against the end of the source",
        || {
            let mut layer = Layer::new();
            let drops = layer.drops.clone();
            let block = layer.block(&["a", "b"]);
            let mut shares = block.shares(3);
            let reading: Vec<_> = (0..2)
                .map(|_| {
                    let share = shares.take();
                    thread::spawn(move || {
                        share.events().iter().for_each(|event| event.data().read())
                    })
                })
                .collect();
            drop(shares); // one was not taken
            drop(block);
            drop(layer);
            reading.into_iter().for_each(|r| r.join().unwrap());
            assert_eq!(drops.count(), 2);
        },
    );
}

/// Memory that one thread gives back is laid again by the source.
#[test]
fn loom_block_recycled() {
    explore("block: given back against taken again", || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let drops = layer.drops.clone();
        let kept = layer.block(&["a"]);
        let shared = kept.events()[0].share();
        let given = layer.block(&["b"]);
        let giving = {
            let steps = steps.clone();
            thread::spawn(move || {
                drop(kept);
                steps.step();
                drop(given);
                steps.step();
                shared.data().read();
                drop(shared);
            })
        };
        for _ in 0..2 {
            steps.step();
            let block = layer.block(&["c"]);
            block.events()[0].data().read();
        }
        giving.join().unwrap();
        drop(layer);
        assert_eq!(drops.count(), 4);
    });
}

/// What becomes of the events of a shadow beside the one that the other thread takes.
enum Others {
    Taken,
    LetGo,
    /// Two of them, with one step.
    LetGoTogether,
}

/// Events of a shadow, some let go and some taken, while its pool and that of its origin go: it is freed once, by whoever is
/// last, after all that is read in it; and one of them says what it weighed.
fn last_of_a_shadow(name: &str, others: Others) {
    let topics: &[&str] = match others {
        Others::LetGoTogether => &["a", "b", "c"],
        Others::Taken | Others::LetGo => &["a", "b"],
    };
    explore(name, move || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let drops = layer.drops.clone();
        let mut shadows = BlockSource::new();
        let mut events = shadow(
            &mut shadows,
            layer.block(topics),
            (1 << topics.len()) - 1,
            usize::MAX,
        );
        let weight = events.weight();
        let [first, second] = [(); 2].map(|()| events.next().expect("two"));
        let third = events.next();
        drop(events);
        let read = |event: Waiting<Payload>, superseded| {
            event.set_superseded(superseded);
            let taken = event.take();
            let index = taken.mask.trailing_zeros() as usize;
            let event = &taken.block.events()[index];
            event.data().read();
            assert_eq!(event.superseded(), superseded);
            taken.freed
        };
        let taking = {
            let steps = steps.clone();
            thread::spawn(move || {
                steps.step();
                read(first, 7)
            })
        };
        steps.step();
        let mut freed = match others {
            Others::Taken => read(second, 9),
            Others::LetGo => second.let_go(),
            Others::LetGoTogether => {
                let mut leaving = Leaving::none();
                leaving.let_go(second);
                leaving.let_go(third.expect("three"));
                leaving.finish() as usize
            }
        };
        drop((shadows, layer));
        freed += taking.join().unwrap();
        assert_eq!(freed, weight);
        assert_eq!(drops.count(), topics.len());
    });
}

#[test]
fn loom_shadow_taken_against_let_go() {
    last_of_a_shadow("shadow: taken against let go", Others::LetGo);
}

#[test]
fn loom_shadow_taken_twice() {
    last_of_a_shadow("shadow: taken on both sides", Others::Taken);
}

#[test]
fn loom_shadow_taken_against_let_go_together() {
    last_of_a_shadow(
        "shadow: taken against two let go together",
        Others::LetGoTogether,
    );
}

/// The memory of a shadow that one thread lets go is laid again, for other events with other numbers.
#[test]
fn loom_shadow_recycled() {
    explore("shadow: let go against laid again", || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let drops = layer.drops.clone();
        let mut shadows = BlockSource::new();
        let mut lay = move |topics: &[&str], number: u64| {
            let block = layer.block(topics);
            let mask = (1 << topics.len()) - 1;
            let events = shadow(&mut shadows, block, mask, usize::MAX);
            events.map(move |event| {
                event.set_superseded(number);
                event
            })
        };
        fn read(event: Waiting<Payload>, number: u64) {
            let taken = event.take();
            let event = &taken.block.events()[taken.mask.trailing_zeros() as usize];
            event.data().read();
            assert_eq!(event.superseded(), number);
        }
        let mut events = lay(&["a", "b"], 1);
        let [first, second] = [(); 2].map(|()| events.next().expect("two"));
        drop(events);
        let taking = {
            let steps = steps.clone();
            thread::spawn(move || {
                steps.step();
                read(first, 1);
            })
        };
        second.let_go();
        for number in 2..=3 {
            steps.step();
            lay(&["c", "d"], number).for_each(|event| read(event, number));
        }
        taking.join().unwrap();
        drop(lay);
        assert_eq!(drops.count(), 6);
    });
}

/// The producer's half of a feed without a shard.
fn offer(producer: &mut FeedProducer<Payload>, block: &BlockRef<Payload>) {
    let mask = (1 << block.events().len()) - 1;
    if producer.matched(block, mask) {
        let mut shares = block.shares(1);
        assert_eq!(
            producer.offer(block, &mut shares, mask),
            0,
            "nothing is held back"
        );
        producer.commit();
    }
}

/// Received + lost = offered, under every schedule; every gap in its place; a run is told once.
fn feed_accounting(
    capacity: usize,
    overflow: Overflow,
    blocks: &'static [&'static [&'static str]],
) {
    explore(
        &format!("{overflow:?} feed of {capacity}: losses against reading"),
        move || {
            let steps = Steps::new();
            let mut layer = Layer::new();
            let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
            let (mut producer, mut consumer) =
                feed(limits(capacity, overflow), latch, Listener::waker());
            let laid: Vec<_> = blocks.iter().map(|topics| layer.block(topics)).collect();
            let offered = layer.next_id - 1;
            let offering = {
                let steps = steps.clone();
                thread::spawn(move || {
                    producer.begin(1);
                    for block in laid {
                        steps.step();
                        offer(&mut producer, &block);
                    }
                    producer.close(offered);
                })
            };
            let mut told = Told::default();
            for _ in 0..2 {
                steps.step();
                told.look(&mut consumer);
            }
            offering.join().unwrap();
            // Awake: nobody has to be told any more.
            while !matches!(told.look(&mut consumer), Found::Closed) {}
            assert_accounts(&told, &consumer, offered);
            assert!(told.ids.len() >= capacity.min(offered as usize));
            drop(consumer);
            assert_eq!(layer.drops.count() as u64, offered);
        },
    );
}

fn assert_accounts(told: &Told, consumer: &FeedConsumer<Payload>, offered: u64) {
    assert_eq!(told.ids.len() as u64 + told.lost, offered);
    assert_eq!(told.last, offered, "the last one was told of, too");
    let stats = consumer.shared().stats();
    assert_eq!(
        (stats.matched, stats.received),
        (offered, told.ids.len() as u64)
    );
    assert_eq!(stats.lost.iter().sum::<u64>(), told.lost);
    assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(offered)));
}

#[test]
fn loom_feed_accounting_capacity_1() {
    feed_accounting(1, Overflow::DropNewest, &[&["a"], &["a"], &["a"]]);
}

#[test]
fn loom_feed_accounting_capacity_2() {
    feed_accounting(2, Overflow::DropNewest, &[&["a"], &["a", "a"], &["a"]]);
}

#[test]
fn loom_feed_accounting_oldest_capacity_1() {
    feed_accounting(1, Overflow::DropOldest, &[&["a"], &["a"], &["a"]]);
}

#[test]
fn loom_feed_accounting_oldest_capacity_2() {
    feed_accounting(2, Overflow::DropOldest, &[&["a"], &["a", "a"], &["a"]]);
}

/// More events at once than there is room for: the newest stay.
#[test]
fn loom_feed_accounting_oldest_capacity_2_of_3() {
    feed_accounting(2, Overflow::DropOldest, &[&["a", "a", "a"], &["a", "a"]]);
}

/// The same with a reader that sleeps: it is woken for events, gaps and the end. In each round there is a commit, and a wake-up, for
/// so many blocks of an event.
fn losses_against_sleep(overflow: Overflow, rounds: &'static [usize]) {
    let name = format!("{overflow:?} feed of 1: rounds of {rounds:?} against a reader that sleeps");
    explore(&name, move || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) = feed(limits(1, overflow), latch, Listener::waker());
        let offered = rounds.iter().sum::<usize>() as u64;
        let mut laid: Vec<_> = (0..offered).map(|_| layer.block(&["a"])).collect();
        let offering = thread::spawn(move || {
            producer.begin(1);
            for &blocks in rounds {
                for block in laid.drain(..blocks) {
                    assert!(producer.matched(&block, 1));
                    assert_eq!(producer.offer(&block, &mut block.shares(1), 1), 0);
                }
                producer.commit();
            }
            producer
        });
        // The end would wake the reader too: it comes when all events are accounted for.
        let mut told = Told::default();
        while told.last < offered {
            if told.look(&mut consumer) == Found::Empty {
                sleep(&mut consumer);
            }
        }
        offering.join().unwrap().close(offered);
        assert_eq!(told.look(&mut consumer), Found::Closed);
        assert_accounts(&told, &consumer, offered);
        drop(consumer);
        assert_eq!(layer.drops.count() as u64, offered);
    });
}

#[test]
fn loom_feed_losses_against_sleep() {
    losses_against_sleep(Overflow::DropNewest, &[1, 1]);
}

#[test]
fn loom_feed_oldest_against_sleep() {
    losses_against_sleep(Overflow::DropOldest, &[1, 1]);
}

/// The second event of the round evicts the first, so it commits in the midst of it; the wake-up comes with the end, and with a
/// commit of what came after it.
#[test]
fn loom_feed_oldest_round_against_sleep() {
    losses_against_sleep(Overflow::DropOldest, &[3]);
}

/// What evicts is published first: a reader who has not read what was there finds something, at any time.
#[test]
fn loom_feed_oldest_is_never_empty_for_nothing() {
    explore(
        "DropOldest feed of 1: a look in the midst of a round",
        || {
            let steps = Steps::new();
            let mut layer = Layer::new();
            let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
            let (mut producer, mut consumer) =
                feed(limits(1, Overflow::DropOldest), latch, Listener::waker());
            offer(&mut producer, &layer.block(&["a"]));
            let laid = [layer.block(&["a"]), layer.block(&["a"])];
            let offering = {
                let steps = steps.clone();
                thread::spawn(move || {
                    for block in &laid {
                        steps.step();
                        assert!(producer.matched(block, 1));
                        assert_eq!(producer.offer(block, &mut block.shares(1), 1), 0);
                    }
                    steps.step();
                    producer
                })
            };
            steps.step();
            let mut told = Told::default();
            let found = told.look(&mut consumer);
            assert!(matches!(found, Found::Event | Found::Gap(_)), "{found:?}");
            drop(offering.join().unwrap());
            drop(consumer);
            assert_eq!(layer.drops.count(), 3);
        },
    );
}

/// Cancelled while the shard evicts: what the reader let go, and what the shard still pushes, is dropped once; a gap right where
/// it was cancelled is told, and no other.
#[test]
fn loom_feed_oldest_against_cancel() {
    explore_bounded("DropOldest feed of 1: evictions against cancel", 2, || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(1, Overflow::DropOldest), latch, Listener::waker());
        let laid = [layer.block(&["a"]), layer.block(&["a"])];
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                for block in &laid {
                    steps.step();
                    offer(&mut producer, block);
                }
                producer
            })
        };
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                steps.step();
                assert!(shared.finish(End::Cancelled));
            })
        };
        let mut told = Told::default();
        let end = Found::Ended(End::Cancelled);
        assert_eq!(told.read_all(&mut consumer), end);
        assert_eq!(told.look(&mut consumer), end, "for ever");
        assert_eq!(told.last, told.ids.len() as u64 + told.lost, "in its place");
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        let stats = consumer.shared().stats();
        assert_eq!(stats.received, told.ids.len() as u64);
        assert!(stats.lost.iter().sum::<u64>() >= told.lost);
        assert!(stats.received + stats.lost.iter().sum::<u64>() <= stats.matched);
        drop(consumer);
        assert_eq!(layer.drops.count(), 2);
    });
}

/// What a reader was told by a conflating feed.
struct Latest {
    /// By id, from 1: its topic, and which event of that topic it is.
    events: Vec<(usize, u64)>,
    /// By topic: the event received last.
    last: [u64; 3],
    received: u64,
    superseded: u64,
    lost: u64,
}

impl Latest {
    fn of(blocks: &[&[&str]]) -> Self {
        let mut counts = [0; 3];
        let topics = blocks.iter().copied().flatten();
        let events = topics.map(|topic| {
            let topic = usize::from(topic.as_bytes()[0] - b'a');
            counts[topic] += 1;
            (topic, counts[topic])
        });
        Self {
            events: events.collect(),
            last: [0; 3],
            received: 0,
            superseded: 0,
            lost: 0,
        }
    }

    /// Takes one thing. `exact`: nothing is lost, and so each event says exactly how many came before it.
    fn look(&mut self, consumer: &mut FeedConsumer<Payload>, exact: bool) -> Found {
        let found = consumer.check();
        match found {
            Found::Event => {
                let event = consumer.take();
                event.data().read();
                let (topic, ordinal) = self.events[event.id() as usize - 1];
                assert_eq!(event.topic().as_str(), ["a", "b", "c"][topic]);
                let before = std::mem::replace(&mut self.last[topic], ordinal);
                let replaced = event.superseded();
                assert!(before + replaced < ordinal, "{ordinal} after {before}");
                assert!(!exact || before + replaced + 1 == ordinal);
                self.received += 1;
                self.superseded += replaced;
            }
            Found::Gap(gap) => {
                assert!(!exact, "{gap}");
                self.lost += gap.count();
            }
            _ => {}
        }
        found
    }

    /// At rest, and all of it read.
    fn end(&self, consumer: &FeedConsumer<Payload>, exact: bool) {
        let offered = self.events.len() as u64;
        let stats = consumer.shared().stats();
        assert_eq!((stats.matched, stats.received), (offered, self.received));
        assert_eq!(stats.lost.iter().sum::<u64>(), self.lost);
        assert_eq!(self.received + self.lost + stats.superseded, offered);
        assert!(!exact || stats.superseded == self.superseded);
        assert_eq!((stats.gauges.depth, stats.gauges.pinned_bytes), (0, 0));
        assert_eq!(stats.gauges.report_lost, self.lost);
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(offered)));
    }
}

/// Received + lost + superseded = offered, under every schedule, and each event says what it replaced. `watched`: somebody asks
/// for the numbers meanwhile, and finds them plausible.
fn conflate_accounting(
    capacity: usize,
    blocks: &'static [&'static [&'static str]],
    exact: bool,
    watched: bool,
) {
    let name = format!("Conflate feed of {capacity}: {blocks:?} against reading");
    let preemptions = if exact && !watched { 3 } else { 2 };
    explore_bounded(&name, preemptions, move || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) = feed(
            limits(capacity, Overflow::Conflate),
            latch,
            Listener::waker(),
        );
        let laid: Vec<_> = blocks.iter().map(|topics| layer.block(topics)).collect();
        let pinned_max = laid
            .iter()
            .map(|block| 4 * block.weight() as u64)
            .sum::<u64>();
        let offered = layer.next_id - 1;
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                producer.begin(1);
                for block in laid {
                    steps.step();
                    offer(&mut producer, &block);
                }
                producer.close(offered);
            })
        };
        let mut latest = Latest::of(blocks);
        for _ in 0..2 {
            steps.step();
            latest.look(&mut consumer, exact);
            if watched {
                let stats = consumer.shared().stats();
                let lost = stats.lost.iter().sum::<u64>();
                assert!(stats.received + lost + stats.superseded <= stats.matched);
                assert!(stats.gauges.pinned_bytes <= pinned_max);
                assert!(stats.gauges.depth <= offered);
            }
        }
        offering.join().unwrap();
        // Awake: nobody has to be told any more.
        while latest.look(&mut consumer, exact) != Found::Closed {}
        latest.end(&consumer, exact);
        drop(consumer);
        assert_eq!(layer.drops.count() as u64, offered);
    });
}

#[test]
fn loom_feed_conflate_one_topic() {
    conflate_accounting(1, &[&["a"], &["a"], &["a"]], true, false);
}

#[test]
fn loom_feed_conflate_two_topics() {
    conflate_accounting(2, &[&["a", "b"], &["b"], &["a"]], true, false);
}

/// The same topic twice in a block, around another: the second replaces the first, unless that was taken.
#[test]
fn loom_feed_conflate_runs_of_a_topic() {
    conflate_accounting(2, &[&["a"], &["a", "b", "a", "a"]], true, true);
}

/// Room for one topic of two: one is evicted, and its box is another's, perhaps, or its own again.
#[test]
fn loom_feed_conflate_evicts() {
    conflate_accounting(1, &[&["a"], &["b"], &["a"]], false, false);
}

/// Three at once, where one fits: boxes go from topic to topic while the reader takes.
#[test]
fn loom_feed_conflate_evicts_in_a_block() {
    conflate_accounting(1, &[&["a"], &["b", "c", "a"]], false, false);
}

/// A reader that sleeps is woken for what comes to wait, also if the shard evicts in the midst of a round; what is replaced is
/// there already.
fn conflate_against_sleep(
    capacity: usize,
    blocks: &'static [&'static [&'static str]],
    rounds: usize,
) {
    let exact = capacity > 1;
    let name = format!("Conflate feed of {capacity}: {blocks:?}, {rounds} a round, against sleep");
    explore_bounded(&name, 2, move || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) = feed(
            limits(capacity, Overflow::Conflate),
            latch,
            Listener::waker(),
        );
        let laid: Vec<_> = blocks.iter().map(|topics| layer.block(topics)).collect();
        let offered = layer.next_id - 1;
        let offering = thread::spawn(move || {
            producer.begin(1);
            for round in laid.chunks(rounds) {
                for block in round {
                    let mask = (1 << block.events().len()) - 1;
                    assert!(producer.matched(block, mask));
                    assert_eq!(producer.offer(block, &mut block.shares(1), mask), 0);
                }
                producer.commit();
            }
            producer
        });
        // The end would wake the reader too: it comes when the last event is there, or lost.
        let mut latest = Latest::of(blocks);
        let (topic, ordinal) = *latest.events.last().expect("some");
        while latest.last[topic] < ordinal {
            if latest.look(&mut consumer, exact) == Found::Empty {
                sleep(&mut consumer);
            }
        }
        offering.join().unwrap().close(offered);
        while latest.look(&mut consumer, exact) != Found::Closed {}
        latest.end(&consumer, exact);
        drop(consumer);
        assert_eq!(layer.drops.count() as u64, offered);
    });
}

#[test]
fn loom_feed_conflate_against_sleep() {
    conflate_against_sleep(2, &[&["a"], &["a"]], 1);
}

#[test]
fn loom_feed_conflate_evicts_against_sleep() {
    conflate_against_sleep(1, &[&["a"], &["b"]], 1);
}

#[test]
fn loom_feed_conflate_round_against_sleep() {
    conflate_against_sleep(1, &[&["a"], &["b"]], 2);
}

/// Cancelled, or gone, while the shard replaces and evicts: everything is dropped once, and what the numbers say in the end
/// is true.
fn conflate_against_the_end(drop_it: bool) {
    let name = format!("Conflate feed of 1: against its end, dropped: {drop_it}");
    explore_bounded(&name, 2, move || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(1, Overflow::Conflate), latch, Listener::waker());
        let blocks: &[&[&str]] = &[&["a"], &["a", "b"], &["a"]];
        let laid: Vec<_> = blocks.iter().map(|topics| layer.block(topics)).collect();
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                for block in &laid {
                    steps.step();
                    offer(&mut producer, block);
                }
                drop(laid);
                producer
            })
        };
        let mut latest = Latest::of(blocks);
        steps.step();
        latest.look(&mut consumer, false);
        steps.step();
        let shared = consumer.shared().clone();
        let mut consumer = if drop_it {
            drop(consumer);
            None
        } else {
            assert!(shared.finish(End::Cancelled));
            let found = latest.look(&mut consumer, false);
            let end = Found::Ended(End::Cancelled);
            assert!(matches!(found, Found::Gap(_)) || found == end);
            assert_eq!(consumer.check(), end, "for ever");
            Some(consumer)
        };
        let producer = offering.join().unwrap();
        if let Some(consumer) = &mut consumer {
            consumer.check();
        }
        let stats = shared.stats();
        let lost = stats.lost.iter().sum::<u64>();
        assert_eq!(stats.received, latest.received);
        assert!(lost >= latest.lost);
        assert!(stats.received + lost + stats.superseded <= stats.matched);
        assert_eq!((stats.gauges.depth, stats.gauges.pinned_bytes), (0, 0));
        drop((producer, consumer));
        assert_eq!(layer.drops.count(), 4);
    });
}

#[test]
fn loom_feed_conflate_against_cancel() {
    conflate_against_the_end(false);
}

#[test]
fn loom_feed_conflate_against_drop() {
    conflate_against_the_end(true);
}

/// Room for one, and then two at once: it ends with the last of them, or with both.
fn disconnects() -> (
    Layer,
    [BlockRef<Payload>; 3],
    FeedProducer<Payload>,
    FeedConsumer<Payload>,
) {
    let mut layer = Layer::new();
    let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
    let (producer, consumer) = feed(limits(1, Overflow::Disconnect), latch, Listener::waker());
    producer.begin(1);
    let laid = [
        layer.block(&["a"]),
        layer.block(&["a", "a"]),
        layer.block(&["a"]),
    ];
    (layer, laid, producer, consumer)
}

/// All that waits is read first, and then it is told of the end, with what did not fit, and of nothing else, for ever. The
/// reader that sleeps is woken by the end alone. `close`: the bus closes behind it.
fn disconnect_against_reading(close: bool) {
    explore(&format!("Disconnect feed of 1, close {close}"), move || {
        let (layer, laid, mut producer, mut consumer) = disconnects();
        let offering = thread::spawn(move || {
            laid.iter().for_each(|block| offer(&mut producer, block));
            if close {
                producer.close(4);
                None
            } else {
                Some(producer)
            }
        });
        let mut told = Told::default();
        let end = told.read_all(&mut consumer);
        let Found::Disconnected(gap) = end else {
            panic!("{end:?}");
        };
        assert!(told.ids.iter().copied().eq(1..gap.from()) && !told.ids.is_empty());
        assert_eq!((gap.to(), gap.count(), told.lost), (3, 4 - gap.from(), 0));
        drop(offering.join().unwrap());
        assert_eq!(told.look(&mut consumer), end, "for ever");
        let stats = consumer.shared().stats();
        assert_eq!((stats.matched, stats.received), (3, told.ids.len() as u64));
        assert_eq!(stats.lost.iter().sum::<u64>(), gap.count());
        assert_eq!(stats.gauges.report_lost, gap.count(), "told once");
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(3)));
        drop(consumer);
        assert_eq!(layer.drops.count(), 4);
    });
}

#[test]
fn loom_feed_disconnect_against_reading() {
    disconnect_against_reading(false);
}

#[test]
fn loom_feed_disconnect_against_reading_and_close() {
    disconnect_against_reading(true);
}

/// Whichever of the two ends it is what the reader is told, and all that it is told.
#[test]
fn loom_feed_disconnect_against_cancel() {
    explore_bounded("Disconnect feed of 1: against cancel", 2, || {
        let steps = Steps::new();
        let (layer, laid, mut producer, mut consumer) = disconnects();
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                for block in &laid {
                    steps.step();
                    offer(&mut producer, block);
                }
                producer.detach(4);
            })
        };
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                steps.step();
                shared.finish(End::Cancelled)
            })
        };
        let mut told = Told::default();
        let end = told.read_all(&mut consumer);
        offering.join().unwrap();
        let cancelled = cancelling.join().unwrap();
        assert_eq!(told.look(&mut consumer), end, "for ever");
        let stats = consumer.shared().stats();
        let lost = stats.lost.iter().sum::<u64>();
        match end {
            Found::Disconnected(gap) => {
                assert!(!cancelled);
                assert!(told.ids.iter().copied().eq(1..gap.from()));
                assert_eq!((told.lost, lost), (0, gap.count()));
                assert_eq!((stats.matched, stats.gauges.report_lost), (3, lost));
            }
            Found::Ended(End::Cancelled) => {
                assert!(cancelled);
                assert_eq!(told.last, told.ids.len() as u64 + told.lost, "in its place");
                assert_eq!(stats.gauges.report_lost, told.lost);
                assert!(stats.received + lost <= stats.matched && told.lost <= lost);
            }
            end => panic!("{end:?}"),
        }
        drop(consumer);
        assert_eq!(layer.drops.count(), 4);
    });
}

/// Cancelled while asleep: the reader is woken and told, and what it left is dropped.
#[test]
fn loom_feed_cancel_against_sleep() {
    explore("feed: cancel against sleep", || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let block = layer.block(&["a"]);
        let offering = thread::spawn(move || {
            offer(&mut producer, &block);
            producer
        });
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || assert!(shared.finish(End::Cancelled)))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Ended(End::Cancelled));
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        drop(consumer);
        assert_eq!(layer.drops.count(), 1);
    });
}

/// Cancelled, and the shard has let go, between two steps of one look: it ends as cancelled, although its ring is closed.
#[test]
fn loom_feed_detach_against_look() {
    explore("feed: cancel and detach against a look", || {
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                assert!(shared.finish(End::Cancelled));
                producer.detach(0);
            })
        };
        let mut told = Told::default();
        let end = Found::Ended(End::Cancelled);
        assert_eq!(told.read_all(&mut consumer), end);
        cancelling.join().unwrap();
        assert_eq!(told.look(&mut consumer), end, "for ever");
    });
}

/// A task that polls for one waker and then for another, against an event and the close: only the last is sure to be
/// woken, and it always is.
fn poll_against_close(name: &str, dropped: bool) {
    explore(name, move || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let block = layer.block(&["a"]);
        let offering = thread::spawn(move || {
            producer.begin(1);
            offer(&mut producer, &block);
            producer.close(1);
        });
        let mut told = Told::default();
        let end = poll_all(&mut told, &mut consumer, dropped);
        assert_eq!((end, &told.ids[..]), (Found::Closed, &[1][..]));
        offering.join().unwrap();
        assert_accounts(&told, &consumer, 1);
        drop(consumer);
        assert_eq!(layer.drops.count(), 1);
    });
}

#[test]
fn loom_poll_two_wakers_against_close() {
    poll_against_close("feed: two wakers against an event and the close", false);
}

#[test]
fn loom_poll_dropped_against_close() {
    poll_against_close(
        "feed: a dropped future against an event and the close",
        true,
    );
}

/// The same against a cancel.
#[test]
fn loom_poll_two_wakers_against_cancel() {
    explore("feed: two wakers against a cancel", || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let block = layer.block(&["a"]);
        let offering = thread::spawn(move || {
            offer(&mut producer, &block);
            producer
        });
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || assert!(shared.finish(End::Cancelled)))
        };
        let mut told = Told::default();
        let end = poll_all(&mut told, &mut consumer, true);
        assert_eq!(end, Found::Ended(End::Cancelled));
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        drop(consumer);
        assert_eq!(layer.drops.count(), 1);
    });
}

/// A shard on a thread of its own, as a pool thread runs it: asleep when it is idle or waits for room.
fn run_shard(mut shard: Shard<Payload>, signal: &Signal) {
    loop {
        let mut round = shard.round(false);
        if !round.progress && !round.more && !round.finished {
            signal.prepare_sleep(0);
            round = shard.round(false);
            if !round.progress && !round.more && !round.finished {
                signal.sleep_until(0, round.deadline);
            } else {
                signal.cancel_sleep(0);
            }
        }
        if round.finished {
            return;
        }
    }
}

/// Longer than nothing: in a model, it is over when somebody has slept until then.
fn some_time() -> LongestWait {
    LongestWait::new(Duration::from_millis(1)).expect("in range")
}

/// A shard with these blocks before it, and nothing to come.
fn shard_with(
    blocks: Vec<BlockRef<Payload>>,
    shared: &Arc<ShardShared<Payload>>,
) -> Shard<Payload> {
    let (mut output, input) = spsc::ring(blocks.len());
    for block in blocks {
        assert!(output.push(block).is_ok());
    }
    assert_eq!(output.commit(), Ok(false));
    Shard::new(input, shared.clone())
}

/// Two full rings: the shard is called when the last of them has room, and then finds room in both.
#[test]
fn loom_latch_of_two() {
    explore("latch: two rings", || {
        let signal = Arc::new(Signal::new(1));
        let latch = Arc::new(Latch::new(signal.clone()));
        let rooms = Arc::new(AtomicUsize::new(0));
        latch.arm(2);
        let arriving: Vec<_> = (0..2)
            .map(|_| {
                let (latch, rooms) = (latch.clone(), rooms.clone());
                thread::spawn(move || {
                    rooms.fetch_add(1, Ordering::Relaxed);
                    latch.arrive_and_wake();
                })
            })
            .collect();
        if !latch.arrive() {
            while !latch.is_open() {
                signal.prepare_sleep(0);
                if latch.is_open() {
                    signal.cancel_sleep(0);
                } else {
                    signal.sleep(0);
                }
            }
        }
        assert_eq!(rooms.load(Ordering::Relaxed), 2);
        arriving.into_iter().for_each(|a| a.join().unwrap());
    });
}

/// A full `Block` ring: the reader makes room while the shard is about to wait for it.
#[test]
fn loom_block_doze_against_claim() {
    explore("feed of 1: waiting for room against reading", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let latch = Arc::new(Latch::new(signal.clone()));
        let (mut producer, mut consumer) =
            feed(limits(1, Overflow::Block), latch.clone(), Listener::waker());
        let blocks = [layer.block(&["a"]), layer.block(&["a"])];
        let offering = thread::spawn(move || {
            for block in &blocks {
                assert!(producer.matched(block, 1));
                while producer.offer(block, &mut block.shares(1), 1) != 0 {
                    // As `Shard::ask_for_room` does, and then the pool thread.
                    latch.arm(1);
                    if producer.request_wake(block.weight(), 1) {
                        latch.arrive();
                    }
                    if !latch.arrive() {
                        while !latch.is_open() {
                            signal.prepare_sleep(0);
                            if latch.is_open() {
                                signal.cancel_sleep(0);
                            } else {
                                signal.sleep(0);
                            }
                        }
                    }
                    producer.take_wake_request();
                }
                producer.commit();
            }
            producer.close(2);
        });
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Closed);
        assert_eq!(told.ids, [1, 2]);
        offering.join().unwrap();
    });
}

/// A `Block` subscriber with room for one, and a shard that waits for it: nothing is lost, and nobody sleeps for ever.
#[test]
fn loom_stalled_shard_against_reader() {
    explore("stalled: shard against reader", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut consumer = Book::new(&shared).open("a", 0, limits(1, Overflow::Block));
        let blocks = vec![layer.block(&["a", "a"])];
        let shard = shard_with(blocks, &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Closed);
        assert_eq!((told.ids, told.lost), (vec![1, 2], 0));
        dispatching.join().unwrap();
        assert_eq!(shared.delivered_id.load(Ordering::Relaxed), 2);
        drop(consumer);
        assert_eq!(layer.drops.count(), 2);
    });
}

/// The same with a longest wait, which is over at whatever moment the shard comes to sleep: all is received or lost, in its
/// place, and the last event, too, whether it is waited for again or not.
#[test]
fn loom_stalled_shard_gives_up_against_reader() {
    explore_bounded("stalled: giving up against reader", 2, || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let mut consumer = book.open_waiting("a", 0, limits(1, Overflow::Block), some_time());
        let blocks = vec![layer.block(&["a", "a"]), layer.block(&["a"])];
        let shard = shard_with(blocks, &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Closed);
        dispatching.join().unwrap();
        assert_accounts(&told, &consumer, 3);
        assert_eq!(shared.delivered_id.load(Ordering::Relaxed), 3);
        drop((book, shared, consumer));
        assert_eq!(layer.drops.count(), 3);
    });
}

/// Two have no room, and only one of them is given up, or neither: the other loses nothing, and nobody sleeps for ever.
#[test]
fn loom_stalled_shard_gives_up_one_of_two() {
    explore_bounded("stalled: giving up one of two", 2, || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let hangs = book.open_waiting("a", 0, limits(1, Overflow::Block), some_time());
        let mut reads = book.open("a", 1, limits(1, Overflow::Block));
        let shard = shard_with(vec![layer.block(&["a", "a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut reads), Found::Closed);
        assert_eq!((told.ids, told.lost), (vec![1, 2], 0));
        dispatching.join().unwrap();
        let stats = hangs.shared().stats();
        assert_eq!((stats.matched, stats.lost.iter().sum()), (2, 1_u64));
    });
}

/// The same, and the subscriber goes away after the first event: the shard goes on without it.
#[test]
fn loom_stalled_shard_against_drop() {
    explore("stalled: shard against the reader's end", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let mut consumer = book.open("a", 0, limits(1, Overflow::Block));
        let shard = shard_with(vec![layer.block(&["a"]), layer.block(&["a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        told.look(&mut consumer);
        drop(consumer);
        dispatching.join().unwrap();
        drop((book, shared));
        assert_eq!(layer.drops.count(), 2);
    });
}

/// Cancelled by a handle while the shard waits for room: carried out by whoever holds the shard.
#[test]
fn loom_stalled_shard_against_cancel() {
    explore("stalled: shard against cancel", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let mut consumer = book.open("a", 0, limits(1, Overflow::Block));
        let shard = shard_with(vec![layer.block(&["a"]), layer.block(&["a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        book.cancel("a", 0, &consumer);
        signal.wake_one(); // as `Engine::apply_changes` does
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Ended(End::Cancelled));
        dispatching.join().unwrap();
        drop((book, shared, consumer));
        assert_eq!(layer.drops.count(), 2);
    });
}

/// What is published after `subscribe` returned is delivered; what was published after `cancel` is not; and a slot
/// that is used again never delivers to the wrong feed.
#[test]
fn loom_subscribe_against_dispatch() {
    explore("subscribe and cancel against dispatch", || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(0));
        let shared = shared(&signal);
        let (mut output, input) = spsc::ring(4);
        let mut publish = |topics: &[&str], steps: &Steps| {
            assert!(output.push(layer.block(topics)).is_ok());
            steps.step();
            assert_eq!(output.commit(), Ok(false));
        };
        let role = Arc::new(Role::new(Shard::new(input, shared.clone())));
        let dispatching = {
            let (role, steps) = (role.clone(), steps.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    steps.step();
                    let mut shard = role.try_hold().expect("nobody else holds it");
                    shard.round(false);
                    assert!(!shard.release());
                }
            })
        };
        let mut book = Book::new(&shared);
        let limits = limits(4, Overflow::DropNewest);
        publish(&["a"], &steps);
        let first = book.open("a", 0, limits);
        publish(&["a"], &steps); // id 2
        book.cancel("a", 0, &first);
        publish(&["b"], &steps); // id 3, before the second one opened: it may go to it or not
        let mut second = book.open("b", 0, limits);
        publish(&["a", "b"], &steps); // ids 4 and 5
        dispatching.join().unwrap();

        let mut shard = role.try_hold().expect("nobody holds it");
        shard.round(false);
        assert!(!shard.release());
        let mut told = Told::default();
        while told.look(&mut second) != Found::Empty {}
        let first_id = second.shared().stats().first_id.expect("it began");
        let own: Vec<u64> = [3, 5].into_iter().filter(|id| *id >= first_id).collect();
        assert_eq!(
            told.ids, own,
            "all of its own from its first id on, and nothing else"
        );
        assert!(own.contains(&5), "published after it was open");
        // Id 2 was published after it opened; if it was dispatched before the cancel, it was matched.
        let stats = first.shared().stats();
        assert!(stats.matched <= 2, "ids 1 and 2 at most");
        assert!(stats.first_id.is_some_and(|first_id| first_id <= 4));
        assert_eq!(
            stats.matched > 0,
            stats.last_id > stats.first_id.map(|id| id - 1)
        );
    });
}

fn engine(dispatch: Dispatch) -> Arc<Engine<Payload>> {
    engine_of(dispatch, 1)
}

fn engine_of(dispatch: Dispatch, dispatchers: usize) -> Arc<Engine<Payload>> {
    Arc::new(Engine::new(EngineConfig {
        dispatch,
        dispatchers,
        lane_capacity: 2,
        clock: Box::new(|| SystemTime::UNIX_EPOCH),
        weigh: Weigh::Nothing,
        match_cache: true,
    }))
}

fn pending(drops: &Drops) -> (Pending<Payload>, Arc<ReceiptSlot>) {
    let envelope = EnvelopeTable::new()
        .envelope("a", None, None)
        .expect("a topic");
    let (sender, slot) = receipt();
    (
        Pending {
            #[cfg(feature = "latency")]
            stamp_ns: 0,
            envelope,
            data: drops.payload(),
            receipt: Some(sender),
        },
        slot,
    )
}

/// A publisher's own lane against the pool thread that goes to sleep, and then the close: the event is sequenced, the
/// thread ends.
#[test]
fn loom_lane_push_against_sleeping_sequencer() {
    explore("lane: push against a sequencer that goes to sleep", || {
        let drops = Drops::default();
        let engine = engine(Dispatch::Pool);
        let pool = {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(0))
        };
        let (mut lane, _shared) = engine.own_lane(1);
        let (pending, slot) = pending(&drops);
        assert!(lane.push(pending).is_ok());
        engine.accepted(lane.commit().expect("nobody closed"));
        assert_eq!(wait_for(&slot).map(|receipt| receipt.id()), Some(1));
        engine.begin_close();
        pool.join().unwrap();
        assert!(engine.is_finished());
        drop((engine, lane));
        assert_eq!(drops.count(), 1);
    });
}

/// A thread that drives for a moment (a flush, say) must not keep the pool thread, which goes to sleep meanwhile, from
/// asking the lanes to call.
#[test]
fn loom_drive_against_last_look() {
    explore("pool: somebody else drives at the last look", || {
        let drops = Drops::default();
        let engine = engine(Dispatch::Pool);
        let pool = {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(0))
        };
        engine.drive();
        let (pending, slot) = pending(&drops);
        let wake_requested = engine
            .shared_lane()
            .try_push(pending)
            .ok()
            .expect("there is room");
        engine.accepted(wake_requested);
        assert_eq!(wait_for(&slot).map(|receipt| receipt.id()), Some(1));
        engine.begin_close();
        pool.join().unwrap();
        drop(engine);
        assert_eq!(drops.count(), 1);
    });
}

/// An engine with a subscriber of capacity 1 that has a longest wait, and never reads.
fn engine_with_one_that_hangs(
    dispatch: Dispatch,
    dispatchers: usize,
) -> (Arc<Engine<Payload>>, FeedConsumer<Payload>) {
    let engine = engine_of(dispatch, dispatchers);
    let mut book = Book::new(engine.shard_shared(0));
    let hangs = book.open_waiting("a", 0, limits(1, Overflow::Block), some_time());
    (engine, hangs)
}

fn publish(engine: &Engine<Payload>, drops: &Drops) {
    let (pending, _slot) = pending(drops);
    let wake_requested = engine.shared_lane().try_push(pending);
    engine.accepted(wake_requested.ok().expect("there is room"));
}

/// Waits for the pool, without lending it a hand.
fn await_delivery(engine: &Engine<Payload>, id: u64) {
    let delivered_id = &engine.shard_shared(0).delivered_id;
    let delivered = || (delivered_id.load(Ordering::Acquire) == id).then_some(());
    engine.progress.wait_until(None, delivered);
}

/// The publishing thread stalls the shard and goes away: the pool thread, which may be about to sleep without a deadline,
/// hears of the one there is now.
#[test]
fn loom_deadline_of_another_thread() {
    explore_bounded("deadline: a stall under the publishing thread", 2, || {
        let drops = Drops::default();
        let (engine, hangs) = engine_with_one_that_hangs(Dispatch::Inline, 1);
        let pool = {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(0))
        };
        publish(&engine, &drops);
        publish(&engine, &drops);
        await_delivery(&engine, 2);
        assert_eq!(hangs.shared().stats().lost.iter().sum::<u64>(), 1);
        engine.begin_close();
        pool.join().unwrap();
        drop((engine, hangs));
        assert_eq!(drops.count(), 2);
    });
}

/// Two pool threads, of which one may find the shard held by the other at its last look: one of them sleeps until the
/// deadline.
#[test]
fn loom_deadline_of_two_pool_threads() {
    explore_bounded("deadline: two pool threads go to sleep", 1, || {
        let drops = Drops::default();
        let (engine, hangs) = engine_with_one_that_hangs(Dispatch::Pool, 2);
        publish(&engine, &drops);
        publish(&engine, &drops);
        engine.drive(); // stalled, and nobody has gone to sleep yet
        let pool = [0, 1].map(|index| {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(index))
        });
        await_delivery(&engine, 2);
        assert_eq!(hangs.shared().stats().lost.iter().sum::<u64>(), 1);
        engine.begin_close();
        pool.into_iter().for_each(|thread| thread.join().unwrap());
        drop((engine, hangs));
        assert_eq!(drops.count(), 2);
    });
}

/// A flush against another thread at the roles: it is told when it is done, and everything accepted before is
/// delivered, also from a lane that is new.
#[test]
fn loom_flush_against_drive() {
    explore("flush against another driver", || {
        let drops = Drops::default();
        let engine = engine(Dispatch::Manual);
        let driving = {
            let engine = engine.clone();
            thread::spawn(move || engine.drive())
        };
        let (mut lane, _shared) = engine.own_lane(1);
        let (pending, slot) = pending(&drops);
        assert!(lane.push(pending).is_ok());
        engine.accepted(lane.commit().expect("nobody closed"));
        assert!(engine.flush(None));
        assert!(
            matches!(slot.look(), Some(Some(_))),
            "accepted before the flush, so sequenced"
        );
        assert_eq!(
            engine.shard_shared(0).delivered_id.load(Ordering::Relaxed),
            1
        );
        driving.join().unwrap();
        drop((engine, lane));
        assert_eq!(drops.count(), 1);
    });
}

/// On a manual bus: another thread may begin a longest wait while the flush looks, and goes away. The flush hears of it, whatever
/// it found held.
#[test]
fn loom_deadline_flush_against_drive() {
    explore_bounded("deadline: a flush against another driver", 2, || {
        let drops = Drops::default();
        let (engine, hangs) = engine_with_one_that_hangs(Dispatch::Manual, 1);
        publish(&engine, &drops);
        publish(&engine, &drops);
        let driving = {
            let engine = engine.clone();
            thread::spawn(move || engine.drive())
        };
        assert!(engine.flush(None));
        assert_eq!(hangs.shared().stats().lost.iter().sum::<u64>(), 1);
        driving.join().unwrap();
        drop((engine, hangs));
        assert_eq!(drops.count(), 2);
    });
}

/// A handler's turns: the dispatcher asks when it has put something into a ring that was found empty.
struct Handled {
    job: Arc<Job<(), FeedConsumer<Payload>>>,
    queue: Arc<RunQueue<(), FeedConsumer<Payload>>>,
    signal: Arc<Signal>,
}

impl ReaderCallback for Handled {
    fn schedule_read(self: Plain<Self>) {
        if let Some(job) = schedule(self.job.clone())
            && self.queue.push(job)
        {
            self.signal.wake_one();
        }
    }
}

/// A worker sleeps when there is nothing to do, and handles everything: no event waits in a ring that nobody looks at.
#[test]
fn loom_handler_turns_against_commits() {
    explore_bounded("handler: turns against commits", 2, || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let (queue, mut hands) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let mut ends = None;
        let handled = Plain::new_cyclic(|handled: &std::sync::Weak<Handled>| {
            let reader = Listener::Callback(handled.clone());
            let (producer, mut consumer) = feed(limits(2, Overflow::DropNewest), latch, reader);
            assert!(consumer.request_wake());
            ends = Some(producer);
            Handled {
                job: Arc::new(Job::new((), consumer)),
                queue: queue.clone(),
                signal: signal.clone(),
            }
        });
        let mut producer = ends.expect("made above");
        let laid = [layer.block(&["a"]), layer.block(&["a"])];
        let working = {
            let steps = steps.clone();
            let mut hand = hands.pop().expect("one");
            thread::spawn(move || {
                let mut told = Told::default();
                loop {
                    steps.step();
                    if let Some(taken) = queue.take(&mut hand) {
                        let mut turn = taken.turn;
                        let over = handle(&mut told, &mut turn);
                        if let Some(job) = turn.finish().again {
                            queue.push(job);
                        }
                        if over {
                            return told;
                        }
                        continue;
                    }
                    signal.prepare_sleep(0);
                    if queue.has_work() {
                        signal.cancel_sleep(0);
                    } else {
                        signal.sleep(0);
                    }
                }
            })
        };
        producer.begin(1);
        for block in laid {
            steps.step();
            offer(&mut producer, &block);
        }
        producer.close(2);
        let told = working.join().unwrap();
        assert_eq!(told.ids.len() as u64 + told.lost, 2);
        drop(handled);
    });
}

/// A turn: what there is. `true`: the end was found.
fn handle(told: &mut Told, turn: &mut Turn<(), FeedConsumer<Payload>>) -> bool {
    loop {
        match told.look(turn) {
            Found::Empty if turn.request_wake() => return false,
            Found::Closed => return true,
            _ => {}
        }
    }
}
