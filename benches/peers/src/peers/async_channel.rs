//! `async-channel`: one bounded channel per subscriber. A publisher sends a copy to each.

use async_channel::bounded;

use crate::harness::{CAPACITY, Outcome, System, Work, run_tasks};
use crate::tick::{Checker, Ticks};

/// async-channel with subscribers that are tasks.
pub struct AsyncChannel;

impl System for AsyncChannel {
    fn name(&self) -> &'static str {
        "async-channel"
    }

    fn about(&self) -> &'static str {
        "one bounded channel per subscriber, each gets a copy, recv(); publishers are threads with \
         send_blocking(); no order across publishers"
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
                            sender
                                .send_blocking(tick)
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
