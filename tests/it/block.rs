//! `Overflow::Block`: nothing is lost, and the bus goes on as soon as there is room, without anybody's further doing.

use fanout::{Dispatch, Overflow, RecvError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::{bus, ends, rounds};

/// The last event of a burst must come through although nobody publishes after it: the reader makes room at any moment,
/// also while the dispatcher is just about to ask for it.
#[test]
fn the_last_event_before_a_silence_comes_through() {
    for mode in [Dispatch::Pool, Dispatch::Inline] {
        for (capacity, subscribers) in [(1, 1), (2, 1), (3, 2), (1, 3)] {
            ends(
                &format!("{mode:?}, {subscribers} of capacity {capacity}"),
                move || {
                    bursts(mode, capacity, subscribers);
                },
            );
        }
    }
}

fn bursts(mode: Dispatch, capacity: usize, subscribers: u64) {
    let bus = bus(|b| b.dispatch(mode));
    let mut publisher = bus.publisher();
    let received = Arc::new(AtomicU64::new(0));
    let reading: Vec<_> = (0..subscribers)
        .map(|_| {
            let sub = bus
                .subscription("a")
                .capacity(capacity)
                .overflow(Overflow::Block);
            let (mut sub, received) = (sub.open().expect("open"), received.clone());
            thread::spawn(move || {
                loop {
                    match sub.recv() {
                        Ok(_) => drop(received.fetch_add(1, Ordering::SeqCst)),
                        Err(ending) => return assert_eq!(ending, RecvError::Closed),
                    }
                }
            })
        })
        .collect();
    let mut published = 0;
    for burst in rounds(20_000) {
        for _ in 0..1 + burst % 5 {
            publisher.publish("a", burst).expect("open");
            published += subscribers;
        }
        while received.load(Ordering::SeqCst) < published {
            thread::yield_now();
        }
    }
    drop((bus, publisher));
    reading
        .into_iter()
        .for_each(|thread| thread.join().expect("closed"));
}

/// The reader sleeps in `recv` most of the time, and so does the pool.
#[test]
fn a_slow_reader_gets_everything() {
    for mode in [Dispatch::Pool, Dispatch::Inline] {
        for dispatchers in [1, 3] {
            ends(&format!("{mode:?}, {dispatchers} dispatchers"), move || {
                let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(8));
                let reading: Vec<_> = [1, 2, 7, 64, 100]
                    .map(|capacity| {
                        bus.subscription("a")
                            .capacity(capacity)
                            .overflow(Overflow::Block)
                    })
                    .map(|builder| builder.open().expect("open"))
                    .map(|mut sub| {
                        thread::spawn(move || {
                            let mut next = 1;
                            while let Ok(event) = sub.recv() {
                                assert_eq!(event.id(), next);
                                next += 1;
                                if next % 512 == 0 {
                                    crate::support::linger();
                                }
                            }
                            next - 1
                        })
                    })
                    .into();
                for n in 0..20_000_u32 {
                    bus.publish("a", n).expect("open");
                }
                drop(bus);
                for reading in reading {
                    assert_eq!(reading.join().expect("no loss"), 20_000);
                }
            });
        }
    }
}
