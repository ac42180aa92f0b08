//! Topics with equal hashes, from `publish` to `recv`: they make the bus slower, and every event
//! still reaches the right subscribers.

use super::{Bus, Subscriber};
use crate::pattern::colliding::with_hash;
use crate::{Dispatch, Overflow};

/// Many more than one set of the match cache holds.
const TOPICS: usize = 300;

/// Payload of the n-th topic in this round.
fn payload(round: usize, n: usize) -> usize {
    round * TOPICS + n
}

fn received(sub: &mut Subscriber<usize>) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    while let Ok(event) = sub.try_recv() {
        all.push((event.topic().to_string(), *event.data()));
    }
    all
}

fn each_gets_its_own(match_cache: bool) {
    let builder = Bus::<usize>::builder().dispatch(Dispatch::Manual);
    let bus = builder.match_cache(match_cache).build().expect("in range");
    let topic = |n: usize| format!("t{n}.x");
    let mut own: Vec<_> = (0..TOPICS)
        .map(|n| Some(bus.subscribe(topic(n)).expect("open")))
        .collect();
    let mut any = bus.subscribe("*.x").expect("open");
    let latest = bus.subscription("*.x").overflow(Overflow::Conflate);
    let mut latest = latest.capacity(TOPICS).open().expect("open");
    let mut publisher = bus.publisher();
    for rounds in [0..2, 2..4] {
        for round in rounds.clone() {
            for n in 0..TOPICS {
                publisher
                    .publish(topic(n), payload(round, n))
                    .expect("open");
                if n % 50 == 0 {
                    bus.drive();
                }
            }
            publisher.publish("nobody", 0).expect("open");
        }
        bus.drive();
        for (n, sub) in own.iter_mut().enumerate() {
            let expected: Vec<_> = rounds
                .clone()
                .map(|round| (topic(n), payload(round, n)))
                .collect();
            if let Some(sub) = sub {
                assert_eq!(received(sub), expected);
            }
        }
        let all: Vec<_> = rounds
            .clone()
            .flat_map(|round| (0..TOPICS).map(move |n| (topic(n), payload(round, n))))
            .collect();
        assert_eq!(received(&mut any), all);
        assert_eq!(received(&mut latest), all[TOPICS..]);
        // In the second half, every third topic has no subscriber of its own.
        own.iter_mut().step_by(3).for_each(|sub| *sub = None);
    }
    assert_eq!(own.iter().flatten().count(), TOPICS - TOPICS / 3);
}

#[test]
fn colliding_topics_are_distinguished() {
    for hash in [0, 1, 1 << 32, u64::MAX] {
        with_hash(hash, || {
            each_gets_its_own(true);
            each_gets_its_own(false);
        });
    }
}
