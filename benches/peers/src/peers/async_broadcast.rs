//! `async-broadcast`: one broadcast channel without overflow. If subscribers are threads, they use
//! the blocking calls.

use std::iter;

use async_broadcast::{Sender, broadcast};

use crate::harness::{CAPACITY, Outcome, System, Work, run_tasks, run_threads};
use crate::tick::{Checker, Tick, Ticks};

/// async-broadcast with subscribers that are threads.
pub struct AsyncBroadcast;

impl System for AsyncBroadcast {
    fn name(&self) -> &'static str {
        "async-broadcast"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel without overflow, broadcast_blocking() and recv_blocking()"
    }

    fn package(&self) -> Option<&'static str> {
        Some("async-broadcast")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (sender, receiver) = broadcast(CAPACITY);
        let publishers = publishers(work, sender);
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
                move |checker: &mut Checker| {
                    while let Ok(tick) = receiver.recv_blocking() {
                        checker.accept(&tick);
                    }
                }
            })
            .collect();
        run_threads(work, publishers, subscribers)
    }
}

/// async-broadcast with subscribers that are tasks.
pub struct Tasks;

impl System for Tasks {
    fn name(&self) -> &'static str {
        "async-broadcast-tasks"
    }

    fn about(&self) -> &'static str {
        "one broadcast channel without overflow, recv(); publishers are threads with \
         broadcast_blocking()"
    }

    fn package(&self) -> Option<&'static str> {
        Some("async-broadcast")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (sender, receiver) = broadcast(CAPACITY);
        let publishers = publishers(work, sender);
        let subscribers = iter::repeat_n(receiver, work.subscribers)
            .map(|mut receiver| {
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

/// The publishers, which are threads.
fn publishers(work: &Work, sender: Sender<Tick>) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    iter::repeat_n(sender, work.publishers as usize)
        .map(|sender| {
            move |ticks: Ticks| {
                for tick in ticks {
                    let evicted = sender
                        .broadcast_blocking(tick)
                        .expect("all receivers were dropped");
                    assert!(evicted.is_none(), "the channel does not drop events");
                }
            }
        })
        .collect()
}
