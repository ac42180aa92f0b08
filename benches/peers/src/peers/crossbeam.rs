//! `crossbeam-channel`: one bounded channel per subscriber; a publisher sends a copy to each.

use crossbeam_channel::bounded;

use crate::race::{CAPACITY, Outcome, System, Work, race};
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

    fn package(&self) -> &'static str {
        "crossbeam-channel"
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
