//! `bus`: a broadcast ring for one sender. For several publishers there are two ways around that,
//! and both are measured: a mutex around the sender, and the one of its documentation, a channel
//! that feeds a thread that broadcasts.

use std::iter;
use std::sync::{Arc, Mutex};

use crate::race::{CAPACITY, Outcome, System, Work, race, too_many_threads};
use crate::tick::{Checker, Ticks};

/// How several publishers share the one sender.
pub enum Bus {
    /// A mutex; with a single publisher, nothing: it owns the sender.
    Mutex,
    /// A bounded crossbeam channel into a thread of its own.
    Feed,
}

impl System for Bus {
    fn name(&self) -> &'static str {
        match self {
            Self::Mutex => "bus",
            Self::Feed => "bus-feed",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Mutex => "one broadcast ring; several publishers share it behind a mutex",
            Self::Feed => {
                "the same, several publishers feed it through a bounded channel and a thread more"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("bus")
    }

    fn refuses(&self, work: &Work) -> Option<&'static str> {
        if matches!(self, Self::Feed) && work.publishers == 1 {
            return Some("nothing to merge");
        }
        too_many_threads(work)
    }

    fn run(&self, work: &Work) -> Outcome {
        let mut bus = bus::Bus::new(CAPACITY);
        let subscribers = (0..work.subscribers)
            .map(|_| {
                let mut receiver = bus.add_rx();
                move |check: &mut Checker| {
                    while let Ok(tick) = receiver.recv() {
                        check.accept(&tick);
                    }
                }
            })
            .collect();

        if work.publishers == 1 {
            let publisher = move |ticks: Ticks| {
                for tick in ticks {
                    bus.broadcast(tick);
                }
            };
            return race(work, vec![publisher], subscribers);
        }
        match self {
            Self::Mutex => {
                let bus = Arc::new(Mutex::new(bus));
                let publishers = iter::repeat_n(bus, work.publishers as usize)
                    .map(|bus| {
                        move |ticks: Ticks| {
                            for tick in ticks {
                                bus.lock().expect("no publisher panicked").broadcast(tick);
                            }
                        }
                    })
                    .collect();
                race(work, publishers, subscribers)
            }
            Self::Feed => {
                let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
                let feeder = std::thread::spawn(move || {
                    for tick in receiver {
                        bus.broadcast(tick);
                    }
                });
                let publishers = iter::repeat_n(sender, work.publishers as usize)
                    .map(|sender| {
                        move |ticks: Ticks| {
                            for tick in ticks {
                                sender.send(tick).expect("the feeder left");
                            }
                        }
                    })
                    .collect();
                let outcome = race(work, publishers, subscribers);
                feeder.join().expect("the feeder failed");
                outcome
            }
        }
    }
}
