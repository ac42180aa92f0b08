//! `tokio::sync::mpsc`: one bounded channel per subscriber; a publisher sends a copy to each.

use tokio::sync::mpsc::channel;

use crate::race::{CAPACITY, Outcome, System, Work, race_tasks, race_tasks_alone};
use crate::tick::{Checker, Ticks};

/// What its publishers are.
pub enum TokioMpsc {
    /// Threads, as everywhere.
    Threads,
    /// Tasks on the runtime of the subscribers.
    Tasks,
}

impl System for TokioMpsc {
    fn name(&self) -> &'static str {
        match self {
            Self::Threads => "tokio-mpsc",
            Self::Tasks => "tokio-mpsc-all-tasks",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Threads => {
                "one bounded sync::mpsc channel per subscriber, recv(); publishing threads \
                 blocking_send(), a copy to each; no order across publishers"
            }
            Self::Tasks => {
                "the same, publishers are tasks on the same runtime: no thread but its two workers"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("tokio")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..work.subscribers).map(|_| channel(CAPACITY)).unzip();
        let subscribers = receivers
            .into_iter()
            .map(|mut receiver| {
                |mut check: Checker| async move {
                    while let Some(tick) = receiver.recv().await {
                        check.accept(&tick);
                    }
                    check
                }
            })
            .collect();
        let senders = vec![senders; work.publishers as usize].into_iter();
        match self {
            Self::Threads => {
                let publishers = senders
                    .map(|senders| {
                        move |ticks: Ticks| {
                            for tick in ticks {
                                for sender in &senders {
                                    sender.blocking_send(tick).expect("a subscriber left");
                                }
                            }
                        }
                    })
                    .collect();
                race_tasks(work, publishers, subscribers)
            }
            Self::Tasks => {
                let publishers = senders
                    .map(|senders| {
                        |ticks: Ticks| async move {
                            for tick in ticks {
                                for sender in &senders {
                                    sender.send(tick).await.expect("a subscriber left");
                                }
                            }
                        }
                    })
                    .collect();
                race_tasks_alone(work, publishers, subscribers)
            }
        }
    }
}
