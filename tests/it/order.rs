//! Order: events of one lane keep their order, all subscribers see the same order, ids have no
//! hole, and times never decrease.

use fanout::{Overflow, RecvError, Subscriber};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::{FOR_EVER, MODES, bus, ends, in_every_mode};

const PUBLISHERS: u64 = 6;
/// The number of events of each publisher. Readers with a capacity of one are woken for each event:
/// 30,000 events took more than a minute beside three busy processes on two cores.
const EVENTS: u64 = 1000;

/// The number of the publisher, and the sequence number of the event in its lane.
type Payload = (u64, u64);

#[test]
fn all_subscribers_see_one_order_that_keeps_the_order_of_each_lane() {
    for mode in MODES {
        for dispatchers in [1, 4] {
            ends(&format!("{mode:?}, {dispatchers} dispatchers"), move || {
                let bus =
                    bus::<Payload>(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(64));
                let readers: Vec<_> = [1, 2, 64, 1000, 1, 2, 64, 1000]
                    .map(|capacity| {
                        bus.subscription("**")
                            .capacity(capacity)
                            .overflow(Overflow::Block)
                    })
                    .map(|builder| builder.open().expect("open"))
                    .map(|sub| thread::spawn(move || sequence(sub)))
                    .into();
                let publishing: Vec<_> = (0..PUBLISHERS)
                    .map(|n| {
                        let (bus, mut lane) = (bus.clone(), bus.publisher());
                        thread::spawn(move || {
                            for sequence in 0..EVENTS {
                                let published = match n {
                                    0..3 => bus.publish("a.b", (n, sequence)),
                                    _ => lane.publish("b", (n, sequence)),
                                };
                                published.expect("open");
                            }
                        })
                    })
                    .collect();
                while publishing.iter().any(|thread| !thread.is_finished()) {
                    bus.drive();
                    thread::yield_now();
                }
                bus.close();
                let mut sequences = readers
                    .into_iter()
                    .map(|reader| reader.join().expect("read"));
                let first = sequences.next().expect("there are readers");
                for other in sequences {
                    assert!(first == other, "all subscribers see the same order");
                }
                check(&first);
            });
        }
    }
}

fn sequence(mut sub: Subscriber<Payload>) -> Vec<(u64, Payload)> {
    let mut seen = Vec::new();
    loop {
        match sub.recv() {
            Ok(event) => seen.push((event.id(), *event.data())),
            Err(ending) => {
                assert_eq!(ending, RecvError::Closed);
                return seen;
            }
        }
    }
}

fn check(seen: &[(u64, Payload)]) {
    assert_eq!(seen.len() as u64, PUBLISHERS * EVENTS);
    let mut next = [0; PUBLISHERS as usize];
    for (id, (expected_id, (publisher, sequence))) in (1..).zip(seen) {
        assert_eq!(id, *expected_id, "ids start at 1 and rise by one");
        assert_eq!(
            *sequence, next[*publisher as usize],
            "order of lane {publisher}"
        );
        next[*publisher as usize] += 1;
    }
}

/// If one thread publishes through two lanes, the order is guaranteed within each lane, but not
/// between the lanes.
#[test]
fn two_lanes_of_one_thread_each_keep_their_order() {
    in_every_mode(|mode| {
        let bus = bus::<Payload>(|b| b.dispatch(mode).lane_capacity(1 << 14).capacity(1 << 15));
        let sub = bus.subscribe("**").expect("open");
        let mut lane = bus.publisher();
        for sequence in 0..EVENTS {
            lane.publish("a", (0, sequence)).expect("open");
            bus.publish("a", (1, sequence)).expect("open");
        }
        assert!(bus.flush_within(FOR_EVER));
        bus.close();
        let seen = sequence(sub);
        for lane in 0..2 {
            let sequences = seen
                .iter()
                .filter(|(_, payload)| payload.0 == lane)
                .map(|(_, payload)| payload.1);
            assert!(sequences.eq(0..EVENTS), "lane {lane}");
        }
    });
}

/// The time of an event is that of its round, and stays the same while the clock runs backwards.
#[test]
fn time_never_runs_backwards() {
    in_every_mode(|mode| {
        let reads = Arc::new(AtomicU64::new(0));
        // 1000 s, 999 s, 1002 s, 997 s, 1004 s, ..: half of the readings lie in the past, one
        // before 1970.
        let clock = {
            let reads = reads.clone();
            move || match reads.fetch_add(1, Ordering::SeqCst) {
                7 => SystemTime::UNIX_EPOCH - Duration::from_secs(5),
                9 => panic_of_a_clock(),
                n if n % 2 == 1 => SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - n),
                n => SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n),
            }
        };
        let bus = bus(|b| b.dispatch(mode).clock(clock));
        let mut sub = bus.subscribe("a").expect("open");
        let mut last = SystemTime::UNIX_EPOCH;
        for n in 0..100 {
            bus.publish("a", n).expect("open");
            assert!(bus.flush_within(FOR_EVER));
            let event = sub.recv().expect("open");
            assert!(event.created_at() >= last, "event {n}");
            last = event.created_at();
        }
        assert!(last > SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        assert!(reads.load(Ordering::SeqCst) >= 100, "one reading per round");
    });
}

fn panic_of_a_clock() -> SystemTime {
    crate::support::panics_quietly();
    SystemTime::now()
}

#[test]
fn the_default_clock_is_the_system_clock() {
    let before = SystemTime::now();
    let bus = bus(|b| b);
    let receipt = bus.publish_sequenced("a", 1).expect("open");
    // Whole nanoseconds are kept, so nothing is rounded down.
    assert!(before <= receipt.created_at() && receipt.created_at() <= SystemTime::now());
}

#[test]
fn name_and_source_are_delivered() {
    use fanout::Message;
    for mode in MODES {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let mut lane = bus.publisher();
        let outsides = [
            (None, None),
            (Some("n"), None),
            (None, Some("s")),
            (Some("n"), Some("s")),
            (Some("s"), Some("n")),
            (Some(""), None),
        ];
        for (n, (name, source)) in outsides.into_iter().enumerate() {
            for lane in [None, Some(&mut lane)] {
                let mut message = Message::new("a", n);
                if let Some(name) = name {
                    message = message.name(name);
                }
                if let Some(source) = source {
                    message = message.source(source);
                }
                match lane {
                    None => bus.send(message).expect("open"),
                    Some(lane) => lane.send(message).expect("open"),
                }
                assert!(bus.flush_within(FOR_EVER));
            }
        }
        for (n, outside) in outsides.into_iter().enumerate() {
            for _ in 0..2 {
                let event = sub.recv().expect("open");
                assert_eq!(
                    (event.name(), event.source(), *event.data()),
                    (outside.0, outside.1, n)
                );
                assert_eq!(event.topic().as_str(), "a");
            }
        }
    }
}
