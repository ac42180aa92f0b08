//! `bus`: a broadcast ring with one sender. Several publishers can share it in two ways, and both
//! are measured: with a mutex around the sender, or with a channel to a thread that broadcasts, as
//! its documentation recommends.

use std::iter;
use std::sync::{Arc, Mutex};

use crate::harness::{CAPACITY, Outcome, System, Work, run_threads, too_many_threads};
use crate::tick::{Checker, Ticks};

/// bus with subscribers that are threads. The variants are the ways to share the sender.
pub enum Bus {
    /// A mutex. A single publisher owns the sender and needs no mutex.
    Mutex,
    /// A bounded crossbeam channel to a thread that owns the sender.
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
            Self::Mutex => "one broadcast ring; several publishers share the sender behind a mutex",
            Self::Feed => {
                "as bus, but several publishers send through a bounded channel to a thread that \
                 broadcasts"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("bus")
    }

    fn exclusion(&self, work: &Work) -> Option<&'static str> {
        if matches!(self, Self::Feed) && work.publishers == 1 {
            return Some("a single publisher does not share the sender");
        }
        too_many_threads(work)
    }

    fn run(&self, work: &Work) -> Outcome {
        let mut bus = bus::Bus::new(CAPACITY);
        let subscribers = (0..work.subscribers)
            .map(|_| {
                let mut receiver = bus.add_rx();
                move |checker: &mut Checker| {
                    while let Ok(tick) = receiver.recv() {
                        checker.accept(&tick);
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
            return run_threads(work, vec![publisher], subscribers);
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
                run_threads(work, publishers, subscribers)
            }
            Self::Feed => {
                let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
                let forwarder = std::thread::spawn(move || {
                    for tick in receiver {
                        bus.broadcast(tick);
                    }
                });
                let publishers = iter::repeat_n(sender, work.publishers as usize)
                    .map(|sender| {
                        move |ticks: Ticks| {
                            for tick in ticks {
                                sender
                                    .send(tick)
                                    .expect("the forwarding thread ended too early");
                            }
                        }
                    })
                    .collect();
                let outcome = run_threads(work, publishers, subscribers);
                forwarder.join().expect("the forwarding thread panicked");
                outcome
            }
        }
    }
}
