//! `tokio::sync::mpsc`: one bounded channel per subscriber; a publisher sends a copy to each.

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::race::{CAPACITY, Outcome, System, Work, race_tasks, race_tasks_alone};
use crate::tick::{Checker, Tick, Ticks};

/// Events that are taken at once at most, as many as fanout lends at once.
const BATCH: usize = 64;

/// What its publishers are, and how its subscribers receive.
pub enum TokioMpsc {
    /// Threads, as everywhere.
    Threads,
    /// Threads; and its subscribers receive by the batch.
    Batches,
    /// Tasks on the runtime of the subscribers.
    Tasks,
}

impl System for TokioMpsc {
    fn name(&self) -> &'static str {
        match self {
            Self::Threads => "tokio-mpsc",
            Self::Batches => "tokio-mpsc-batches",
            Self::Tasks => "tokio-mpsc-all-tasks",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Threads => {
                "one bounded sync::mpsc channel per subscriber, recv(); publishing threads \
                 blocking_send(), a copy to each; no order across publishers"
            }
            Self::Batches => "the same, recv_many() takes up to 64 events at a time",
            Self::Tasks => {
                "as tokio-mpsc, publishers are tasks on the same runtime: no thread but its two workers"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("tokio")
    }

    fn run(&self, work: &Work) -> Outcome {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..work.subscribers).map(|_| channel(CAPACITY)).unzip();
        let senders = vec![senders; work.publishers as usize].into_iter();
        let receivers = receivers.into_iter();
        match self {
            Self::Threads => {
                let subscribers = receivers.map(|receiver| |check| one_by_one(receiver, check));
                race_tasks(
                    work,
                    senders.map(publisher).collect(),
                    subscribers.collect(),
                )
            }
            Self::Batches => {
                let subscribers = receivers.map(|receiver| |check| in_batches(receiver, check));
                race_tasks(
                    work,
                    senders.map(publisher).collect(),
                    subscribers.collect(),
                )
            }
            Self::Tasks => {
                let publishers = senders.map(|senders| |ticks| publish(senders, ticks));
                let subscribers = receivers.map(|receiver| |check| one_by_one(receiver, check));
                race_tasks_alone(work, publishers.collect(), subscribers.collect())
            }
        }
    }
}

async fn one_by_one(mut receiver: Receiver<Tick>, mut check: Checker) -> Checker {
    while let Some(tick) = receiver.recv().await {
        check.accept(&tick);
    }
    check
}

async fn in_batches(mut receiver: Receiver<Tick>, mut check: Checker) -> Checker {
    let mut ticks = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut ticks, BATCH).await > 0 {
        for tick in ticks.drain(..) {
            check.accept(&tick);
        }
    }
    check
}

fn publisher(senders: Vec<Sender<Tick>>) -> impl FnOnce(Ticks) + Send {
    move |ticks| {
        for tick in ticks {
            for sender in &senders {
                sender.blocking_send(tick).expect("a subscriber left");
            }
        }
    }
}

async fn publish(senders: Vec<Sender<Tick>>, ticks: Ticks) {
    for tick in ticks {
        for sender in &senders {
            sender.send(tick).await.expect("a subscriber left");
        }
    }
}
