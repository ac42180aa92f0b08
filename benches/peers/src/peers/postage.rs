//! `postage`: its broadcast channel. It loses no event, because a sender waits for the slowest
//! receiver.

use std::iter;

use postage::broadcast;
use postage::prelude::{Sink, Stream};

use crate::harness::{CAPACITY, Outcome, System, Work, run_tasks};
use crate::tick::{Checker, Ticks};

/// postage with subscribers that are tasks.
pub struct Postage;

impl System for Postage {
    fn name(&self) -> &'static str {
        "postage"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel, recv(); publishers are threads with blocking_send()"
    }

    fn package(&self) -> Option<&'static str> {
        Some("postage")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (sender, receiver) = broadcast::channel(CAPACITY);
        let publishers = iter::repeat_n(sender, work.publishers as usize)
            .map(|mut sender| {
                move |ticks: Ticks| {
                    for tick in ticks {
                        sender
                            .blocking_send(tick)
                            .expect("all receivers were dropped");
                    }
                }
            })
            .collect();
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
                |mut checker: Checker| async move {
                    while let Some(tick) = receiver.recv().await {
                        checker.accept(&tick);
                    }
                    checker
                }
            })
            .collect();
        run_tasks(work, publishers, subscribers)
    }
}
