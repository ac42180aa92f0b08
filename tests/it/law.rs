//! The delivery law: for each subscription, over `first_id ..= last_id`, received + lost +
//! superseded + unread = matched holds exactly, ids rise strictly, no event is delivered twice, and
//! each loss is reported once, in its place, exactly. The test uses every policy, subscribers that
//! are fast, slow, or pause for a while, and handlers.
//!
//! The test computes the events that should have matched from a record of all events, by comparing
//! texts, without a pattern. The record is what a `**` subscriber with `Overflow::Block` received.
//! It is checked against the data of the publishers: every accepted event is in it, once, in the
//! order of its lane, under the id of its receipt.

use crossbeam::queue::SegQueue;
use fanout::{
    Bus, Dispatch, Event, Gap, Notice, Overflow, RecvError, RecvTimeoutError, Subscriber,
    SubscriptionHandle, SubscriptionStats, TryRecvError,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{self, StreamItem};
use crate::support::{MODES, PATIENCE, Random, bus, ends_within, eventually};

const PUBLISHERS: usize = 8;
/// How many of the publishers publish through the shared lane.
const SHARED: usize = 3;
const SUBSCRIBERS: usize = 64;
/// The number of events of an episode, if it is not closed before.
const EVENTS: u32 = 120_000;
const CAPACITIES: [usize; 9] = [1, 2, 7, 30, 63, 64, 65, 1024, 4096];
/// The capacities under `Disconnect`: with smaller ones, subscriptions would end too soon.
const CAPACITIES_DISCONNECT: [usize; 5] = [30, 64, 65, 256, 1024];

/// The block timeouts of `Block` subscribers, in milliseconds.
const LONGEST_WAITS_MS: [Option<u64>; 5] = [None, None, Some(0), Some(1), Some(20)];

/// Runs for `FANOUT_LAW_EVENTS` events or `FANOUT_LAW_SECONDS` seconds, whichever comes first, but
/// at least once in each dispatch mode.
#[test]
fn the_delivery_law_holds_under_churn() {
    let events = number("FANOUT_LAW_EVENTS").unwrap_or(u64::MAX);
    run(events, number("FANOUT_LAW_SECONDS").unwrap_or(10));
}

#[test]
#[ignore = "an hour, or as long as FANOUT_LAW_SECONDS says"]
fn the_delivery_law_holds_for_long() {
    run(u64::MAX, number("FANOUT_LAW_SECONDS").unwrap_or(3600));
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs episodes in all dispatch modes, at least once in each, until the number of events or the
/// time limit is reached.
fn run(enough: u64, seconds: u64) {
    let start = Instant::now();
    let time = Duration::from_secs(seconds);
    let mut episodes = 0;
    let mut events = 0;
    for seed in 1.. {
        for mode in MODES {
            for dispatchers in [1, 3] {
                if seed > 1 && (start.elapsed() > time || events >= enough) {
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

// ---- topics and patterns ----------------------------------------------------------

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

/// Patterns, each with a function that says what it matches, by comparing texts.
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

// ---- an episode ---------------------------------------------------------------------------------

/// The publisher of the event, and its number among the events of that publisher.
#[derive(Clone, Copy)]
struct Payload {
    publisher: usize,
    sequence: u32,
    topic: u8,
}

/// The data of one publisher.
struct Published {
    accepted: u32,
    /// The ids and the numbers of the events with a receipt.
    receipts: Vec<(u64, u32)>,
}

/// The items that one subscription received, and its checks.
struct Account {
    want: usize,
    overflow: Overflow,
    longest_wait: Option<Duration>,
    items: Vec<StreamItem>,
    /// The calls of the handler. Empty for a subscription without one.
    call_log: CallLog,
    ending: Option<RecvError>,
    /// The test has cancelled the handler.
    cancelled: bool,
    handle: SubscriptionHandle<Payload>,
}

/// The notices about handlers, each with a time: a counter that all handlers share.
#[derive(Default)]
struct NoticeLog {
    time: AtomicU64,
    notices: SegQueue<(u64, Notified)>,
}

struct Notified {
    subscription: u64,
    gap: Gap,
    is_end: bool,
}

impl NoticeLog {
    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::Relaxed)
    }

    fn note(&self, notice: &Notice<'_>) {
        let (subscription, gap, is_end) = match *notice {
            Notice::Lost {
                subscription, gap, ..
            } => (subscription, gap, false),
            Notice::Disconnected {
                subscription, gap, ..
            } => (subscription, gap, true),
            _ => return,
        };
        let notified = Notified {
            subscription,
            gap,
            is_end,
        };
        self.notices.push((self.now(), notified));
    }
}

/// The events that a handler was called with, and the times.
type CallLog = SegQueue<(u64, StreamItem)>;

fn episode(mode: Dispatch, dispatchers: usize, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let lane = [4, 64, 1024][random.below(3)];
    let notice_log = Arc::new(NoticeLog::default());
    let observer = notice_log.clone();
    let bus = bus::<Payload>(|b| {
        b.dispatch(mode)
            .dispatchers(dispatchers)
            .lane_capacity(lane)
            .handler_threads(2)
            .observer(move |notice| observer.note(notice))
    });
    let topics = topics();
    let observer = bus
        .subscription("**")
        .overflow(Overflow::Block)
        .open()
        .expect("open");
    let over = AtomicBool::new(false);
    let (cancels, to_cancel) = mpsc::channel();
    let (mut accounts, published, record) = thread::scope(|scope| {
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
                let notice_log = notice_log.clone();
                scope.spawn(move || subscriber(bus, random, &cancels, &notice_log))
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
            // The close comes while events flow.
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
    let stats = bus.stats();
    assert_eq!(stats.sequenced, record.len() as u64);
    assert_eq!(
        stats.matched,
        stats.received + stats.lost + stats.superseded + stats.unread,
        "{stats:?}"
    );
    add_notices(&notice_log, &mut accounts);
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

/// The record: every event, in the order of the ids, from 1 without a hole.
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

/// Cancels the handles that it receives, on a separate thread.
fn cancel_from_afar(to_cancel: mpsc::Receiver<SubscriptionHandle<Payload>>) {
    for handle in to_cancel {
        thread::yield_now();
        handle.cancel(); // the subscriber may have received the end already
    }
}

/// One thread opens one subscription after the other, until the bus is closed.
fn subscriber(
    bus: &Bus<Payload>,
    mut random: Random,
    cancels: &mpsc::Sender<SubscriptionHandle<Payload>>,
    notice_log: &Arc<NoticeLog>,
) -> Vec<Account> {
    let mut accounts = Vec::new();
    loop {
        let want = random.below(WANTS.len());
        let overflow = [
            Overflow::DropNewest,
            Overflow::DropNewest,
            Overflow::DropOldest,
            Overflow::DropOldest,
            Overflow::Conflate,
            Overflow::Disconnect,
            Overflow::Block,
            Overflow::Block,
        ][random.below(8)];
        let capacities = if overflow == Overflow::Disconnect {
            &CAPACITIES_DISCONNECT[..]
        } else {
            &CAPACITIES
        };
        let mut builder = bus
            .subscription(WANTS[want].0)
            .capacity(capacities[random.below(capacities.len())])
            .overflow(overflow);
        let longest_wait = LONGEST_WAITS_MS[random.below(LONGEST_WAITS_MS.len())];
        let longest_wait = longest_wait.map(Duration::from_millis);
        builder = builder.block_timeout(longest_wait);
        if overflow != Overflow::Disconnect && random.one_in(4) {
            builder = builder.pin_bytes([1, 3000, 1 << 16][random.below(3)]);
        }
        let open = |handle| Account {
            want,
            overflow,
            longest_wait,
            items: Vec::new(),
            call_log: CallLog::new(),
            ending: None,
            cancelled: false,
            handle,
        };
        if random.one_in(4) {
            let call_log = Arc::new(CallLog::new());
            let slow = !holds_up(overflow, longest_wait) && random.one_in(3);
            let random_of_its_own = Random::new(random.next());
            let handler = handler(
                call_log.clone(),
                notice_log.clone(),
                slow,
                random_of_its_own,
            );
            let Ok(handle) = builder.handler(handler) else {
                return accounts;
            };
            let mut account = open(handle.detach());
            account.handled(call_log, &mut random, bus);
            accounts.push(account);
            continue;
        }
        let Ok(mut sub) = builder.open() else {
            return accounts;
        };
        let handle = sub.handle();
        let mut account = open(handle.clone());
        account.read(&mut sub, &mut random, bus);
        match random.below(4) {
            _ if account.ending.is_some() => {}
            0 => {
                let ends_it = handle.cancel();
                account.read_to_end(&mut sub);
                match account.ending {
                    Some(RecvError::Cancelled) => assert!(ends_it),
                    Some(RecvError::Disconnected(_)) => assert!(!ends_it),
                    other => panic!("{other:?}"),
                }
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

/// Whether all others wait when this subscriber is slow.
fn holds_up(overflow: Overflow, longest_wait: Option<Duration>) -> bool {
    overflow == Overflow::Block && longest_wait != Some(Duration::ZERO)
}

/// Records its events, and sometimes pauses.
fn handler(
    call_log: Arc<CallLog>,
    notice_log: Arc<NoticeLog>,
    slow: bool,
    mut random: Random,
) -> impl FnMut(&Event<Payload>) + Send + 'static {
    move |event| {
        call_log.push((notice_log.now(), StreamItem::of(event)));
        if slow && random.one_in(200) {
            (0..20).for_each(|_| thread::yield_now());
        }
        if slow && random.one_in(20_000) {
            thread::sleep(2 * fanout::limits::HANDLER_STALL);
        }
    }
}

/// Enters the notices into the accounts of their subscriptions, in the order of time.
fn add_notices(notice_log: &NoticeLog, accounts: &mut [Account]) {
    let mut by_number: HashMap<u64, Vec<(u64, Notified)>> = HashMap::new();
    while let Some((time, notified)) = notice_log.notices.pop() {
        let notices = by_number.entry(notified.subscription).or_default();
        notices.push((time, notified));
    }
    for account in accounts {
        let notices = by_number.remove(&account.handle.number());
        account.add_notices(notices.unwrap_or_default());
    }
    assert!(by_number.is_empty(), "notices without a subscription");
}

impl Account {
    /// Receives for a while, with a random receive method.
    fn read(&mut self, sub: &mut Subscriber<Payload>, random: &mut Random, bus: &Bus<Payload>) {
        let way = random.below(4);
        // A subscriber that delays all others is fast, and pauses only if no other waits for it.
        let slow = !holds_up(self.overflow, self.longest_wait) && random.one_in(3);
        let stalls = !self.is_waited_for() && random.one_in(4);
        for turn in 0..random.below(4000) {
            if slow && turn % 64 == 0 {
                (0..20).for_each(|_| thread::yield_now());
            }
            if stalls && random.one_in(500) {
                thread::sleep(Duration::from_millis(random.below(20) as u64));
            }
            if turn % 500 == 499 {
                // Another subscription changes its patterns, which must not affect this one.
                let handle = &self.handle;
                let _ = handle.add("churn.here");
                let _ = handle.remove("churn.here");
                assert!(bus.stats().subscriptions > 0 || bus.is_closed());
            }
            let item = match way {
                0 => sub.recv().map(|event| self.item(event)).map(Some),
                1 => {
                    if self.take_batch(sub) {
                        continue;
                    }
                    return;
                }
                2 => match sub.try_recv().map(|event| self.item(event)) {
                    Err(TryRecvError::Empty) => {
                        thread::yield_now();
                        Ok(None)
                    }
                    Ok(item) => Ok(Some(item)),
                    Err(TryRecvError::Lost(gap)) => Err(RecvError::Lost(gap)),
                    Err(TryRecvError::Disconnected(gap)) => Err(RecvError::Disconnected(gap)),
                    Err(TryRecvError::Closed) => Err(RecvError::Closed),
                    Err(other) => panic!("{other}"),
                },
                _ => match sub
                    .recv_timeout(Duration::from_micros(200))
                    .map(|event| self.item(event))
                {
                    Err(RecvTimeoutError::Timeout) => Ok(None),
                    Ok(item) => Ok(Some(item)),
                    Err(RecvTimeoutError::Lost(gap)) => Err(RecvError::Lost(gap)),
                    Err(RecvTimeoutError::Disconnected(gap)) => Err(RecvError::Disconnected(gap)),
                    Err(RecvTimeoutError::Closed) => Err(RecvError::Closed),
                    Err(other) => panic!("{other}"),
                },
            };
            if !self.take(item) {
                return;
            }
        }
    }

    fn read_to_end(&mut self, sub: &mut Subscriber<Payload>) {
        while self.take_batch(sub) {}
        assert_eq!(sub.recv().err(), self.ending, "for ever");
    }

    /// Lets the handler run for a while, or until it ends.
    fn handled(&mut self, mut call_log: Arc<CallLog>, random: &mut Random, bus: &Bus<Payload>) {
        let calls = random.below(4000) as u64;
        let to_end = random.one_in(4);
        let goes_on = |stats: SubscriptionStats| {
            stats.last_id.is_none() && (to_end || stats.received < calls)
        };
        while goes_on(self.handle.stats()) && !bus.is_closed() {
            thread::sleep(Duration::from_micros(500));
        }
        if to_end {
            self.ending = Some(RecvError::Closed); // unless a notice says otherwise
        } else {
            self.handle.cancel(); // it may have been disconnected
            self.cancelled = true;
        }
        eventually("the handler is dropped", || {
            thread::sleep(Duration::from_micros(100));
            Arc::get_mut(&mut call_log).is_some()
        });
        self.call_log = std::mem::take(Arc::get_mut(&mut call_log).expect("just seen"));
    }

    /// Merges the events of the handler with the notices about it.
    fn add_notices(&mut self, notices: Vec<(u64, Notified)>) {
        let mut items: Vec<_> = std::mem::take(&mut self.call_log).into_iter().collect();
        for (time, notified) in notices {
            if notified.is_end {
                assert!(items.iter().all(|(before, _)| *before < time), "the end");
                // After a cancel the events in front of this gap may be unhandled, and count as
                // unread.
                self.ending = (!self.cancelled).then_some(RecvError::Disconnected(notified.gap));
            } else {
                items.push((time, StreamItem::Lost(notified.gap)));
            }
        }
        items.sort_by_key(|(time, _)| *time);
        self.items.extend(items.into_iter().map(|(_, item)| item));
    }

    /// Waits without a limit.
    fn is_waited_for(&self) -> bool {
        self.overflow == Overflow::Block && self.longest_wait.is_none()
    }

    fn item(&self, event: &Event<Payload>) -> StreamItem {
        assert!(
            (WANTS[self.want].1)(event.topic().as_str()),
            "{} is not wanted",
            event.topic()
        );
        StreamItem::of(event)
    }

    fn take(&mut self, item: Result<Option<StreamItem>, RecvError>) -> bool {
        match item {
            Ok(item) => self.items.extend(item),
            Err(RecvError::Lost(gap)) => self.items.push(StreamItem::Lost(gap)),
            Err(ending) => self.ending = Some(ending),
        }
        self.ending.is_none()
    }

    fn take_batch(&mut self, sub: &mut Subscriber<Payload>) -> bool {
        match sub.next_batch() {
            Ok(batch) => batch
                .iter()
                .all(|event| self.take(Ok(Some(self.item(event))))),
            Err(error) => self.take(Err(error)),
        }
    }

    fn check(&self, record: &[Payload], topics: &[String]) {
        let wanted: Vec<bool> = topics
            .iter()
            .map(|topic| (WANTS[self.want].1)(topic))
            .collect();
        let topic = |id: u64| usize::from(record[id as usize - 1].topic);
        let account = accounts::Account {
            seen: &self.items,
            waited_for: self.is_waited_for(),
            ending: self.ending,
            stats: self.handle.stats(),
        };
        let ids = account.ids(record.len());
        account.check(ids.filter(|&id| wanted[topic(id)]), topic, topics.len());
    }
}
