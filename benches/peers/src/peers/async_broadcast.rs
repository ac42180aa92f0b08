//! `async-broadcast`: one broadcast channel, overflow off; where subscribers are threads, through
//! its blocking calls.

use std::iter;

use async_broadcast::{Sender, broadcast};

use crate::race::{CAPACITY, Outcome, System, Work, race, race_tasks};
use crate::tick::{Checker, Tick, Ticks};

/// See the module.
pub struct AsyncBroadcast;

impl System for AsyncBroadcast {
    fn name(&self) -> &'static str {
        "async-broadcast"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel, overflow off, broadcast_blocking() and recv_blocking()"
    }

    fn package(&self) -> Option<&'static str> {
        Some("async-broadcast")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (sender, receiver) = broadcast(CAPACITY);
        let publishers = publishers(work, sender);
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
                move |check: &mut Checker| {
                    while let Ok(tick) = receiver.recv_blocking() {
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
        "async-broadcast-tasks"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel, overflow off, recv(); publishing threads broadcast_blocking()"
    }

    fn package(&self) -> Option<&'static str> {
        Some("async-broadcast")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (sender, receiver) = broadcast(CAPACITY);
        let publishers = publishers(work, sender);
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
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

/// Threads that publish.
fn publishers(work: &Work, sender: Sender<Tick>) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    iter::repeat_n(sender, work.publishers as usize)
        .map(|sender| {
            move |ticks: Ticks| {
                for tick in ticks {
                    let pushed_out = sender.broadcast_blocking(tick).expect("all left");
                    assert!(pushed_out.is_none(), "overflow is off");
                }
            }
        })
        .collect()
}
