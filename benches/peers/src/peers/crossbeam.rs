//! `crossbeam-channel`: one bounded channel per subscriber. A publisher sends a copy to each.
//!
//! For the scenario `handlers` there is also a variant that a user would write by hand: one bounded
//! channel per worker thread, and each worker calls its part of the handlers.

use std::thread;

use crossbeam_channel::bounded;

use crate::harness::{CAPACITY, Outcome, System, Work, run_handlers, run_threads};
use crate::machine;
use crate::tick::{Checker, Ticks};

/// crossbeam-channel with subscribers that are threads.
pub struct Crossbeam;

impl System for Crossbeam {
    fn name(&self) -> &'static str {
        "crossbeam-channel"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, each gets a copy; no order across publishers"
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
                            sender
                                .send(tick)
                                .expect("a subscriber dropped its receiver");
                        }
                    }
                }
            })
            .collect();
        let subscribers = receivers
            .into_iter()
            .map(|receiver| {
                move |checker: &mut Checker| {
                    while let Ok(tick) = receiver.recv() {
                        checker.accept(&tick);
                    }
                }
            })
            .collect();
        run_threads(work, publishers, subscribers)
    }
}

/// One worker thread per core, each with a channel and an equal part of the handlers. It is a
/// bound.
pub struct PerWorker;

impl System for PerWorker {
    fn name(&self) -> &'static str {
        "crossbeam-per-worker"
    }

    fn about(&self) -> &'static str {
        "a bound, not a peer, as a user would write it by hand: a worker thread per core, each \
         with one bounded channel and its part of the handlers; the capacity of 1,024 events is \
         per worker; a slow handler delays all handlers of its worker; no order across publishers"
    }

    fn package(&self) -> Option<&'static str> {
        Some("crossbeam-channel")
    }

    fn is_bound(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        let mut workers = Vec::new();
        let outcome = run_handlers(work, |handlers| {
            let mut senders = Vec::new();
            let mut parts: Vec<Vec<_>> = Vec::new();
            parts.resize_with(machine::cores().min(work.subscribers), Vec::new);
            for (number, handler) in handlers.into_iter().enumerate() {
                let worker = number % parts.len();
                parts[worker].push(handler.boxed());
            }
            for mut handlers in parts {
                let (sender, receiver) = bounded(CAPACITY);
                senders.push(sender);
                workers.push(thread::spawn(move || {
                    while let Ok(tick) = receiver.recv() {
                        for handler in &mut handlers {
                            handler(&tick);
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
                                sender.send(tick).expect("a worker thread ended too early");
                            }
                        }
                    }
                })
                .collect()
        });
        for worker in workers {
            worker.join().expect("a worker thread panicked");
        }
        outcome
    }
}
