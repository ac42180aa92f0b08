//! `crossbeam-channel`: one bounded channel per subscriber; a publisher sends a copy to each. Or,
//! where subscribers are closures, one per worker thread, which calls those that it owns: what one
//! would write by hand.

use std::thread;

use crossbeam_channel::bounded;

use crate::machine;
use crate::race::{CAPACITY, Outcome, System, Work, race, race_handlers};
use crate::tick::{Checker, Ticks};

/// See the module.
pub struct Crossbeam;

impl System for Crossbeam {
    fn name(&self) -> &'static str {
        "crossbeam-channel"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, a copy sent to each; no order across publishers"
    }

    fn package(&self) -> Option<&'static str> {
        Some("crossbeam-channel")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..work.subscribers).map(|_| bounded(CAPACITY)).unzip();
        let publishers = vec![senders; work.publishers as usize]
            .into_iter()
            .map(|senders| {
                move |ticks: Ticks| {
                    for tick in ticks {
                        for sender in &senders {
                            sender.send(tick).expect("a subscriber left");
                        }
                    }
                }
            })
            .collect();
        let subscribers = receivers
            .into_iter()
            .map(|receiver| {
                move |check: &mut Checker| {
                    while let Ok(tick) = receiver.recv() {
                        check.accept(&tick);
                    }
                }
            })
            .collect();
        race(work, publishers, subscribers)
    }
}

/// One worker per core, each with a channel and an equal part of the closures.
pub struct PerWorker;

impl System for PerWorker {
    fn name(&self) -> &'static str {
        "crossbeam-per-worker"
    }

    fn about(&self) -> &'static str {
        "no peer, but what one writes by hand where closures need no isolation: a worker thread per \
         core, each with one bounded channel and its part of the closures, which it calls one after \
         the other; the room of 1,024 events is that of a worker, and a slow \
         closure holds up all of its worker; no order across publishers"
    }

    fn package(&self) -> Option<&'static str> {
        Some("crossbeam-channel")
    }

    fn is_bound(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        let mut workers = Vec::new();
        let outcome = race_handlers(work, |handlers| {
            let mut senders = Vec::new();
            let mut parts: Vec<Vec<_>> = Vec::new();
            parts.resize_with(machine::cores().min(work.subscribers), Vec::new);
            for (number, handler) in handlers.into_iter().enumerate() {
                let worker = number % parts.len();
                parts[worker].push(handler.boxed());
            }
            for mut closures in parts {
                let (sender, receiver) = bounded(CAPACITY);
                senders.push(sender);
                workers.push(thread::spawn(move || {
                    while let Ok(tick) = receiver.recv() {
                        for closure in &mut closures {
                            closure(&tick);
                        }
                    }
                }));
            }
            vec![senders; work.publishers as usize]
                .into_iter()
                .map(|senders| {
                    move |ticks: Ticks| {
                        for tick in ticks {
                            for sender in &senders {
                                sender.send(tick).expect("a worker left");
                            }
                        }
                    }
                })
                .collect()
        });
        for worker in workers {
            worker.join().expect("a worker failed");
        }
        outcome
    }
}
