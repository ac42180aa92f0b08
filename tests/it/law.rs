//! The delivery law: for each subscription, over `first_id ..= last_id`, received + lost + unread = matched, exactly;
//! ids rise strictly, nothing comes twice, and each loss is told once, in its place, to the event.
//!
//! What should have matched is computed here, from a record of all events and by comparing text, not by a pattern. The
//! record is what a `**` subscriber with `Overflow::Block` received, and is itself checked against what publishers
//! know: every accepted event is in it, once, in the order of its lane, under the id of its receipt.

use fanout::{
    Bus, Dispatch, Gap, Overflow, RecvError, RecvTimeoutError, Subscriber, SubscriptionHandle,
    TryRecvError,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{MODES, PATIENCE, Random, bus, ends_within};

const PUBLISHERS: usize = 8;
/// Of those, the ones that publish through the bus's shared lane.
const SHARED: usize = 3;
const SUBSCRIBERS: usize = 64;
/// Events of an episode, if it is not closed before.
const EVENTS: u32 = 120_000;
const CAPACITIES: [usize; 7] = [1, 2, 63, 64, 65, 1024, 4096];

#[test]
fn the_delivery_law_holds_under_churn() {
    run(Duration::from_secs(60));
}

#[test]
#[ignore = "as long as FANOUT_LAW_SECONDS says"]
fn the_delivery_law_holds_for_long() {
    let seconds = std::env::var("FANOUT_LAW_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    run(Duration::from_secs(seconds.unwrap_or(600)));
}

/// Episodes over all ways of dispatching, each at least once, until the time is up.
fn run(time: Duration) {
    let start = Instant::now();
    let mut episodes = 0;
    let mut events = 0;
    for seed in 1.. {
        for mode in MODES {
            for dispatchers in [1, 3] {
                if seed > 1 && start.elapsed() > time {
                    println!(
                        "{episodes} episodes, {events} events, {:?}",
                        start.elapsed()
                    );
                    return;
                }
                let what = format!("{mode:?} with {dispatchers} dispatchers, seed {seed}");
                events += ends_within(2 * PATIENCE, &what.clone(), move || {
                    println!("{what}");
                    episode(mode, dispatchers, seed)
                });
                episodes += 1;
            }
        }
    }
}

// ---- topics and what is wanted of them ------------------------------------------------------------

fn topics() -> Vec<String> {
    let mut topics = Vec::new();
    for group in 0..4 {
        topics.push(format!("g{group}"));
        for key in 0..4 {
            topics.push(format!("g{group}.k{key}"));
            topics.push(format!("g{group}.k{key}.x0"));
            topics.push(format!("g{group}.k{key}.x1"));
        }
    }
    topics
}

/// Patterns, each with what it means, by comparing text.
type Meaning = fn(&str) -> bool;
const WANTS: [(&[&str], Meaning); 12] = [
    (&["**"], |_| true),
    (&["*"], |_| true),
    (&["g1.**"], |t| t == "g1" || t.starts_with("g1.")),
    (&["**.x1"], |t| t.ends_with(".x1")),
    (&["g2.*.x0"], |t| t.starts_with("g2.") && t.ends_with(".x0")),
    (&["g0.k0.x0"], |t| t == "g0.k0.x0"),
    (&["g[0-1].k?"], |t| {
        (t.starts_with("g0.k") || t.starts_with("g1.k")) && t.len() == 5
    }),
    (&["?*"], |t| t.len() == 2),
    (&["g{0,3}.**.x*"], |t| {
        (t.starts_with("g0") || t.starts_with("g3")) && t.contains(".x")
    }),
    (&["g1.**", "**.x1", "g1.k1"], |t| {
        t.starts_with("g1") || t.ends_with(".x1")
    }),
    (&["g0", "g1", "g2", "g3.*"], |t| {
        ["g0", "g1", "g2"].contains(&t) || t.starts_with("g3.") && t.len() == 5
    }),
    (&["no.such.topic"], |_| false),
];

// ---- an episode -----------------------------------------------------------------------------------

/// Who published it, and the how-manieth of that publisher.
#[derive(Clone, Copy)]
struct Payload {
    publisher: usize,
    sequence: u32,
    topic: u8,
}

/// What one publisher knows.
struct Published {
    accepted: u32,
    /// Id and sequence of events that it has a receipt for.
    receipts: Vec<(u64, u32)>,
}

/// What one subscription was told, and what must be so.
struct Account {
    want: usize,
    told: Vec<Told>,
    ending: Option<RecvError>,
    handle: SubscriptionHandle<Payload>,
}

enum Told {
    Id(u32),
    Lost(Gap),
}

fn episode(mode: Dispatch, dispatchers: usize, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let lane = [4, 64, 1024][random.below(3)];
    let bus = bus::<Payload>(|b| {
        b.dispatch(mode)
            .dispatchers(dispatchers)
            .lane_capacity(lane)
    });
    let topics = topics();
    let observer = bus
        .subscription("**")
        .overflow(Overflow::Block)
        .open()
        .expect("open");
    let over = AtomicBool::new(false);
    let (cancels, to_cancel) = mpsc::channel();
    let (accounts, published, record) = thread::scope(|scope| {
        let observer = scope.spawn(|| observe(observer));
        if mode == Dispatch::Manual {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if !bus.drive() {
                        thread::yield_now();
                    }
                }
            });
        }
        scope.spawn(move || cancel_from_afar(to_cancel));
        let subscribers: Vec<_> = (0..SUBSCRIBERS as u64)
            .map(|n| {
                let (bus, cancels, random) = (&bus, cancels.clone(), Random::new(seed << 16 | n));
                scope.spawn(move || subscriber(bus, random, &cancels))
            })
            .collect();
        drop(cancels);
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|n| {
                let (bus, topics, random) =
                    (&bus, &topics, Random::new(seed << 16 | 1 << 12 | n as u64));
                scope.spawn(move || publisher(bus, n, topics, random))
            })
            .collect();
        if random.one_in(2) {
            // In the midst of it all.
            while bus.stats().sequenced < u64::from(EVENTS) / 2 {
                thread::yield_now();
            }
            bus.close();
        }
        let published: Vec<_> = publishers
            .into_iter()
            .map(|t| t.join().expect("published"))
            .collect();
        bus.close();
        let accounts: Vec<_> = subscribers
            .into_iter()
            .flat_map(|t| t.join().expect("received"))
            .collect();
        let record = observer.join().expect("observed");
        over.store(true, Ordering::Relaxed);
        (accounts, published, record)
    });

    check_record(&record, &published);
    assert_eq!(bus.stats().sequenced, record.len() as u64);
    for account in &accounts {
        account.check(&record, &topics);
    }
    record.len() as u64
}

fn publisher(
    bus: &Bus<Payload>,
    number: usize,
    topics: &[String],
    mut random: Random,
) -> Published {
    let mut lane = (number >= SHARED).then(|| bus.publisher());
    let mut published = Published {
        accepted: 0,
        receipts: Vec::new(),
    };
    while published.accepted < EVENTS / PUBLISHERS as u32 {
        let topic = random.below(topics.len());
        let text = &*topics[topic];
        let sequence = published.accepted;
        let payload = Payload {
            publisher: number,
            sequence,
            topic: topic as u8,
        };
        let accepted = match (&mut lane, random.below(1000)) {
            (Some(lane), 0) => lane
                .publish_sequenced(text, payload)
                .map(Some)
                .map_err(drop),
            (None, 0) => bus.publish_sequenced(text, payload).map(Some).map_err(drop),
            (Some(lane), 1..100) => lane.try_publish(text, payload).map(|()| None).map_err(drop),
            (None, 1..100) => bus.try_publish(text, payload).map(|()| None).map_err(drop),
            (Some(lane), _) => lane.publish(text, payload).map(|()| None).map_err(drop),
            (None, _) => bus.publish(text, payload).map(|()| None).map_err(drop),
        };
        match accepted {
            Ok(receipt) => {
                published.accepted += 1;
                published
                    .receipts
                    .extend(receipt.map(|receipt| (receipt.id(), sequence)));
            }
            Err(()) if bus.is_closed() => break,
            Err(()) => thread::yield_now(), // the lane was full
        }
        if random.one_in(5000) {
            (0..random.below(50)).for_each(|_| thread::yield_now());
        }
    }
    published
}

/// The record: every event, in the order of ids, from 1 and without a hole.
fn observe(mut observer: Subscriber<Payload>) -> Vec<Payload> {
    let mut record = Vec::new();
    loop {
        match observer.next_batch() {
            Ok(batch) => {
                for event in &batch {
                    record.push(*event.data());
                    assert_eq!(
                        event.id(),
                        record.len() as u64,
                        "ids start at 1 and rise by one"
                    );
                }
            }
            Err(ending) => {
                assert_eq!(ending, RecvError::Closed);
                return record;
            }
        }
    }
}

fn check_record(record: &[Payload], published: &[Published]) {
    let mut next = [0; PUBLISHERS];
    for payload in record {
        assert_eq!(
            payload.sequence, next[payload.publisher],
            "order of lane {}",
            payload.publisher
        );
        next[payload.publisher] += 1;
    }
    for (number, published) in published.iter().enumerate() {
        assert_eq!(
            next[number], published.accepted,
            "accepted by lane {number}"
        );
        for &(id, sequence) in &published.receipts {
            let payload = record[id as usize - 1];
            assert_eq!((payload.publisher, payload.sequence), (number, sequence));
        }
    }
}

/// Cancels what it is sent, on a thread that is neither the subscriber's nor the bus's.
fn cancel_from_afar(to_cancel: mpsc::Receiver<SubscriptionHandle<Payload>>) {
    for handle in to_cancel {
        thread::yield_now();
        handle.cancel(); // it may have read the end already, and gone
    }
}

/// One thread, one subscription after the other, until the bus is closed.
fn subscriber(
    bus: &Bus<Payload>,
    mut random: Random,
    cancels: &mpsc::Sender<SubscriptionHandle<Payload>>,
) -> Vec<Account> {
    let mut accounts = Vec::new();
    loop {
        let want = random.below(WANTS.len());
        let overflow = if random.one_in(4) {
            Overflow::Block
        } else {
            Overflow::DropNewest
        };
        let mut builder = bus
            .subscription(WANTS[want].0)
            .capacity(CAPACITIES[random.below(CAPACITIES.len())])
            .overflow(overflow);
        if random.one_in(4) {
            builder = builder.pin_bytes([1, 3000, 1 << 16][random.below(3)]);
        }
        let Ok(mut sub) = builder.open() else {
            return accounts;
        };
        let handle = sub.handle();
        let mut account = Account {
            want,
            told: Vec::new(),
            ending: None,
            handle: handle.clone(),
        };
        account.read(&mut sub, &mut random, overflow, bus);
        match random.below(4) {
            _ if account.ending.is_some() => {}
            0 => {
                assert!(handle.cancel());
                account.read_to_end(&mut sub);
                assert_eq!(account.ending, Some(RecvError::Cancelled));
            }
            1 => {
                cancels.send(handle).expect("it listens to the end");
                account.read_to_end(&mut sub);
            }
            2 => drop(sub),
            _ => account.read_to_end(&mut sub),
        }
        accounts.push(account);
    }
}

impl Account {
    /// Reads for a while, in one of many ways.
    fn read(
        &mut self,
        sub: &mut Subscriber<Payload>,
        random: &mut Random,
        overflow: Overflow,
        bus: &Bus<Payload>,
    ) {
        let way = random.below(4);
        // Who blocks everybody else is quick about it.
        let slow = overflow != Overflow::Block && random.one_in(3);
        for turn in 0..random.below(4000) {
            if slow && turn % 64 == 0 {
                (0..20).for_each(|_| thread::yield_now());
            }
            if turn % 500 == 499 {
                // Somebody else's patterns change: no concern of anybody's.
                let handle = &self.handle;
                let _ = handle.add("churn.here");
                let _ = handle.remove("churn.here");
                assert!(bus.stats().subscriptions > 0 || bus.is_closed());
            }
            let goes_on = match way {
                0 => self.take(sub.recv().map(|event| self.id(event))),
                1 => self.take_batch(sub),
                2 => match sub.try_recv().map(|event| self.id(event)) {
                    Err(TryRecvError::Empty) => {
                        thread::yield_now();
                        true
                    }
                    Ok(id) => self.take(Ok(id)),
                    Err(TryRecvError::Lost(gap)) => self.take(Err(RecvError::Lost(gap))),
                    Err(TryRecvError::Closed) => self.take(Err(RecvError::Closed)),
                    Err(other) => panic!("{other}"),
                },
                _ => match sub
                    .recv_timeout(Duration::from_micros(200))
                    .map(|event| self.id(event))
                {
                    Err(RecvTimeoutError::Timeout) => true,
                    Ok(id) => self.take(Ok(id)),
                    Err(RecvTimeoutError::Lost(gap)) => self.take(Err(RecvError::Lost(gap))),
                    Err(RecvTimeoutError::Closed) => self.take(Err(RecvError::Closed)),
                    Err(other) => panic!("{other}"),
                },
            };
            if !goes_on {
                return;
            }
        }
    }

    fn read_to_end(&mut self, sub: &mut Subscriber<Payload>) {
        while self.take_batch(sub) {}
    }

    fn id(&self, event: &fanout::Event<Payload>) -> u64 {
        assert!(
            (WANTS[self.want].1)(event.topic().as_str()),
            "{} is not wanted",
            event.topic()
        );
        event.id()
    }

    fn take(&mut self, told: Result<u64, RecvError>) -> bool {
        match told {
            Ok(id) => self.told.push(Told::Id(id as u32)),
            Err(RecvError::Lost(gap)) => self.told.push(Told::Lost(gap)),
            Err(ending) => self.ending = Some(ending),
        }
        self.ending.is_none()
    }

    fn take_batch(&mut self, sub: &mut Subscriber<Payload>) -> bool {
        match sub.next_batch() {
            Ok(batch) => batch.iter().all(|event| self.take(Ok(self.id(event)))),
            Err(error) => self.take(Err(error)),
        }
    }

    fn check(&self, record: &[Payload], topics: &[String]) {
        let stats = self.handle.stats();
        let (Some(first_id), Some(last_id)) = (stats.first_id, stats.last_id) else {
            panic!("it has ended, and the dispatcher has come by: {stats:?}");
        };
        assert!(
            first_id >= 1
                && last_id < first_id + record.len() as u64
                && last_id <= record.len() as u64
        );
        let wanted: Vec<bool> = topics
            .iter()
            .map(|topic| (WANTS[self.want].1)(topic))
            .collect();
        let mut expected =
            (first_id..=last_id).filter(|&id| wanted[record[id as usize - 1].topic as usize]);

        let mut received = 0;
        let mut lost = 0;
        for told in &self.told {
            match told {
                Told::Id(id) => {
                    assert_eq!(
                        Some(u64::from(*id)),
                        expected.next(),
                        "the next that matches"
                    );
                    received += 1;
                }
                Told::Lost(gap) => {
                    assert_eq!(
                        Some(gap.from()),
                        expected.next(),
                        "a gap begins where it is told"
                    );
                    let mut last = gap.from();
                    for _ in 1..gap.count() {
                        last = expected.next().expect("a gap counts what matched");
                    }
                    assert_eq!(gap.to(), last);
                    lost += gap.count();
                }
            }
        }
        let untold = expected.count() as u64;
        assert_eq!(stats.matched, received + lost + untold, "{stats:?}");
        assert_eq!(
            stats.matched,
            stats.received + stats.lost + stats.unread,
            "{stats:?}"
        );
        assert_eq!(stats.received, received);
        assert!(stats.lost >= lost, "{stats:?}");
        match self.ending {
            Some(RecvError::Closed) => assert_eq!((untold, stats.lost, stats.unread), (0, lost, 0)),
            Some(RecvError::Cancelled) | None => {}
            Some(other) => panic!("{other}"),
        }
    }
}
