//! `kanal`: one bounded channel per subscriber; a publisher sends a copy to each.

use kanal::bounded;

use crate::race::{CAPACITY, Outcome, System, Work, race, race_tasks};
use crate::tick::{Checker, Ticks};

/// See the module.
pub struct Kanal;

impl System for Kanal {
    fn name(&self) -> &'static str {
        "kanal"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, a copy sent to each; no order across publishers"
    }

    fn package(&self) -> Option<&'static str> {
        Some("kanal")
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

/// The same, for subscribers that are tasks.
pub struct Tasks;

impl System for Tasks {
    fn name(&self) -> &'static str {
        "kanal-tasks"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, an AsyncReceiver for each; publishing threads send() with \
         its Sender, a copy to each; no order across publishers"
    }

    fn package(&self) -> Option<&'static str> {
        Some("kanal")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..work.subscribers)
            .map(|_| {
                let (sender, receiver) = bounded(CAPACITY);
                (sender, receiver.to_async())
            })
            .unzip();
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
                |mut check: Checker| async move {
                    while let Ok(tick) = receiver.recv().await {
                        check.accept(&tick);
                    }
                    check
                }
            })
            .collect();
        race_tasks(work, publishers, subscribers)
    }
}
