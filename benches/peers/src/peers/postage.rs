//! `postage`: its broadcast channel, which loses nothing: a sender waits for the slowest receiver.

use std::iter;

use postage::broadcast;
use postage::prelude::{Sink, Stream};

use crate::race::{CAPACITY, Outcome, System, Work, race_tasks};
use crate::tick::{Checker, Ticks};

/// See the module.
pub struct Postage;

impl System for Postage {
    fn name(&self) -> &'static str {
        "postage"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel, recv(); publishing threads blocking_send()"
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
                        sender.blocking_send(tick).expect("all left");
                    }
                }
            })
            .collect();
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
                |mut check: Checker| async move {
                    while let Some(tick) = receiver.recv().await {
                        check.accept(&tick);
                    }
                    check
                }
            })
            .collect();
        race_tasks(work, publishers, subscribers)
    }
}
