//! `async-broadcast`: one broadcast channel, overflow off, through its blocking calls.

use std::iter;

use async_broadcast::broadcast;

use crate::race::{CAPACITY, Outcome, System, Work, race};
use crate::tick::{Checker, Ticks};

/// See the module.
pub struct AsyncBroadcast;

impl System for AsyncBroadcast {
    fn name(&self) -> &'static str {
        "async-broadcast"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel, overflow off, broadcast_blocking() and recv_blocking()"
    }

    fn package(&self) -> &'static str {
        "async-broadcast"
    }

    fn run(&self, work: &Work) -> Outcome {
        let (sender, receiver) = broadcast(CAPACITY);
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
                move |check: &mut Checker| {
                    while let Ok(tick) = receiver.recv_blocking() {
                        check.accept(&tick);
                    }
                }
            })
            .collect();
        let publishers = iter::repeat_n(sender, work.publishers as usize)
            .map(|sender| {
                move |ticks: Ticks| {
                    for tick in ticks {
                        let pushed_out = sender.broadcast_blocking(tick).expect("all left");
                        assert!(pushed_out.is_none(), "overflow is off");
                    }
                }
            })
            .collect();
        race(work, publishers, subscribers)
    }
}
