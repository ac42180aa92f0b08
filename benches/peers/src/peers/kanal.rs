//! `kanal`: one bounded channel per subscriber. A publisher sends a copy to each.

use kanal::bounded;

use crate::harness::{CAPACITY, Outcome, System, Work, run_tasks, run_threads};
use crate::tick::{Checker, Ticks};

/// kanal with subscribers that are threads.
pub struct Kanal;

impl System for Kanal {
    fn name(&self) -> &'static str {
        "kanal"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, each gets a copy; no order across publishers"
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

/// kanal with subscribers that are tasks.
pub struct Tasks;

impl System for Tasks {
    fn name(&self) -> &'static str {
        "kanal-tasks"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, each gets a copy, AsyncReceiver; publishers are \
         threads with a Sender; no order across publishers"
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
                |mut checker: Checker| async move {
                    while let Ok(tick) = receiver.recv().await {
                        checker.accept(&tick);
                    }
                    checker
                }
            })
            .collect();
        run_tasks(work, publishers, subscribers)
    }
}
