//! The delivery law for tasks: publishers and subscribers drop their futures at random, on a
//! runtime with several threads, while other tasks cancel. Received + lost + superseded + unread =
//! matched holds exactly, for every policy. Every accepted event is sequenced once, and an event
//! that was not accepted is never sequenced.
//!
//! What should have matched is computed from the record of a `Block` subscriber to everything.

use fanout::{
    Bus, Dispatch, Ending, Overflow, RecvError, Subscriber, SubscriptionHandle, TryRecvError,
};
use smol::stream::StreamExt;
use std::time::Duration;

use crate::accounts::{self, StreamItem};
use crate::support::{PATIENCE, Random, ends_within, eventually};
use crate::tasks::now_or_never;

const PUBLISHERS: u64 = 4;
const SUBSCRIBERS: u64 = 16;
/// Events that each publisher tries to publish.
const EVENTS: u64 = 5_000;
const TOPICS: [&str; 4] = ["a", "b", "a.c", "b.c"];
/// Patterns, each with a function that says what it matches.
type Meaning = fn(&str) -> bool;
const WANTS: [(&str, Meaning); 4] = [
    ("**", |_| true),
    ("a.**", |topic| topic.starts_with('a')),
    ("*.c", |topic| topic.ends_with(".c")),
    ("b", |topic| topic == "b"),
];

#[test]
fn the_delivery_law_holds_for_tasks() {
    for (mode, seed) in [
        (Dispatch::Pool, 1),
        (Dispatch::Inline, 2),
        (Dispatch::Pool, 3),
    ] {
        ends_within(2 * PATIENCE, &format!("{mode:?}, seed {seed}"), move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(4)
                .enable_time()
                .build();
            runtime.expect("a runtime").block_on(episode(mode, seed));
        });
    }
}

/// The publisher of the event, the number of its attempt, and the topic.
type Payload = (u64, u64, usize);

async fn episode(mode: Dispatch, seed: u64) {
    let bus = Bus::builder().dispatch(mode).dispatchers(2).blocking(true);
    let bus = bus.lane_capacity(8).build().expect("in range");
    let observer = bus.subscription("**").overflow(Overflow::Block);
    let observer = tokio::spawn(observe(observer.open().expect("open")));
    let mut accounts = Vec::new();
    let mut handles = Vec::new();
    for number in 0..SUBSCRIBERS {
        let mut random = Random::new(seed << 8 | number);
        let (pattern, meaning) = WANTS[random.below(WANTS.len())];
        let overflow = [
            Overflow::Block,
            Overflow::DropNewest,
            Overflow::DropOldest,
            Overflow::Conflate,
            Overflow::Disconnect,
        ][number as usize % 5];
        let sub = bus.subscription(pattern).overflow(overflow);
        let sub = sub.capacity([1, 7, 64, 500][random.below(4)]);
        let waited_for = overflow == Overflow::Block && random.one_in(2);
        let longest_wait = (!waited_for).then_some(Duration::from_millis(1));
        let sub = sub.block_timeout(longest_wait).open().expect("open");
        handles.push(sub.handle());
        let receiving = receive(sub, random);
        accounts.push(tokio::spawn(async move {
            let (seen, ending, handle) = receiving.await;
            Account {
                meaning,
                waited_for,
                seen,
                ending,
                handle,
            }
        }));
    }
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let random = Random::new(seed << 8 | 1 << 7 | number);
            tokio::spawn(publish(bus.clone(), number, random))
        })
        .collect();
    // Another task cancels every fourth subscription while it receives.
    let mut cancelling = Vec::new();
    for handle in handles.into_iter().step_by(4) {
        let bus = bus.clone();
        cancelling.push(tokio::spawn(async move {
            while bus.stats().sequenced < EVENTS {
                tokio::task::yield_now().await;
            }
            let disconnects = handle.stats().overflow == Overflow::Disconnect;
            assert!(handle.cancel() || disconnects, "it is open");
        }));
    }
    let mut accepted = Vec::new();
    for publisher in publishing {
        accepted.push(publisher.await.expect("published"));
    }
    for cancelling in cancelling {
        cancelling.await.expect("cancelled");
    }
    bus.close();
    let record = observer.await.expect("observed");
    assert_eq!(bus.stats().sequenced, record.len() as u64);
    for (number, accepted) in accepted.iter().enumerate() {
        let own = record.iter().filter(|payload| payload.0 == number as u64);
        let mut own: Vec<u64> = own.map(|payload| payload.1).collect();
        own.sort_unstable(); // the order within each lane is tested in `law.rs`
        assert_eq!(
            own, *accepted,
            "accepted by {number}: all of it, once, and nothing else"
        );
    }
    for account in accounts {
        account.await.expect("received").check(&record);
    }
}

/// The record: every event, in the order of the ids.
async fn observe(observer: Subscriber<Payload>) -> Vec<Payload> {
    let mut record = Vec::new();
    let mut batches = observer.into_batch_stream();
    while let Some(batch) = batches.next().await {
        for event in &batch.expect("nothing is lost") {
            record.push(*event.data());
            assert_eq!(event.id(), record.len() as u64);
        }
    }
    record
}

/// Publishes, and drops some of its futures. Returns the accepted events.
async fn publish(bus: Bus<Payload>, number: u64, mut random: Random) -> Vec<u64> {
    let mut publisher = bus.publisher();
    let mut accepted = Vec::new();
    for n in 0..EVENTS {
        let topic = random.below(TOPICS.len());
        let payload = (number, n, topic);
        let own = random.one_in(2);
        let answer = match (own, random.one_in(3)) {
            (true, true) => now_or_never(publisher.publish_async(TOPICS[topic], payload)),
            (false, true) => now_or_never(bus.publish_async(TOPICS[topic], payload)),
            (true, false) => Some(publisher.publish_async(TOPICS[topic], payload).await),
            (false, false) => Some(bus.publish_async(TOPICS[topic], payload).await),
        };
        match answer {
            Some(answer) => {
                answer.expect("open");
                accepted.push(n);
            }
            None => tokio::task::yield_now().await, // full, and dropped
        }
    }
    accepted
}

/// The items that one subscription received, and its checks.
struct Account {
    meaning: Meaning,
    waited_for: bool,
    seen: Vec<StreamItem>,
    ending: RecvError,
    handle: SubscriptionHandle<Payload>,
}

/// Receives up to the end, with random receive methods. Most of its futures are dropped before they
/// are ready.
async fn receive(
    mut sub: Subscriber<Payload>,
    mut random: Random,
) -> (Vec<StreamItem>, RecvError, SubscriptionHandle<Payload>) {
    let handle = sub.handle();
    let mut seen: Vec<StreamItem> = Vec::new();
    let ending = loop {
        let result = match random.below(6) {
            0 => sub
                .recv_async()
                .await
                .map(|event| vec![StreamItem::of(event)]),
            1 => sub
                .next_batch_async()
                .await
                .map(|batch| batch.iter().map(StreamItem::of).collect()),
            2 => match now_or_never(sub.recv_async()) {
                Some(result) => result.map(|event| vec![StreamItem::of(event)]),
                None => Ok(vec![]),
            },
            3 => {
                let limit = Duration::from_micros(random.below(300) as u64);
                match tokio::time::timeout(limit, sub.next_batch_async()).await {
                    Ok(result) => result.map(|batch| batch.iter().map(StreamItem::of).collect()),
                    Err(_) => Ok(vec![]),
                }
            }
            4 => match sub.try_recv() {
                Ok(event) => Ok(vec![StreamItem::of(event)]),
                Err(TryRecvError::Lost(gap)) => Err(RecvError::Lost(gap)),
                Err(_) => Ok(vec![]), // the end is returned again
            },
            _ => {
                let mut stream = sub.into_stream();
                let mut some = Vec::new();
                while let Some(Some(item)) = now_or_never(stream.next()) {
                    some.push(item.map_or_else(StreamItem::Lost, |event| StreamItem::of(&event)));
                    if some.len() == 40 {
                        break;
                    }
                }
                if let Some(Ending::Disconnected(_)) = stream.ending() {
                    some.pop(); // that gap is the end, which is returned again
                }
                seen.append(&mut some);
                sub = stream.into_inner();
                Ok(vec![])
            }
        };
        match result {
            Ok(some) if some.is_empty() => tokio::task::yield_now().await,
            Ok(some) => seen.extend(some),
            Err(RecvError::Lost(gap)) => seen.push(StreamItem::Lost(gap)),
            Err(ending) => break ending,
        }
    };
    (seen, ending, handle)
}

impl Account {
    fn check(&self, record: &[Payload]) {
        eventually("the shard has run", || self.handle.last_id().is_some());
        let topic = |id: u64| record[id as usize - 1].2;
        let account = accounts::Account {
            seen: &self.seen,
            ending: Some(self.ending),
            waited_for: self.waited_for,
            stats: self.handle.stats(),
        };
        let ids = account.ids(record.len());
        let matched = ids.filter(|&id| (self.meaning)(TOPICS[topic(id)]));
        account.check(matched, topic, TOPICS.len());
    }
}
