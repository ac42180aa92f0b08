//! `async-channel`: one bounded channel per subscriber; a publisher sends a copy to each.

use async_channel::bounded;

use crate::race::{CAPACITY, Outcome, System, Work, race_tasks};
use crate::tick::{Checker, Ticks};

/// See the module.
pub struct AsyncChannel;

impl System for AsyncChannel {
    fn name(&self) -> &'static str {
        "async-channel"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, recv(); publishing threads send_blocking(), a copy to each; \
         no order across publishers"
    }

    fn package(&self) -> Option<&'static str> {
        Some("async-channel")
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
                            sender.send_blocking(tick).expect("a subscriber left");
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
