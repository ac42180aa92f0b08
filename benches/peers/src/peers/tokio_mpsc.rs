//! `tokio::sync::mpsc`: one bounded channel per subscriber. A publisher sends a copy to each.

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::harness::{CAPACITY, Outcome, System, Work, run_all_as_tasks, run_tasks};
use crate::tick::{Checker, Tick, Ticks};

/// The maximum size of a batch. It is the same as that of fanout.
const BATCH: usize = 64;

/// tokio's mpsc channels with subscribers that are tasks.
pub enum TokioMpsc {
    /// Publishers are threads, as in the other systems.
    Threads,
    /// Publishers are threads, and subscribers receive batches.
    Batches,
    /// Publishers are tasks on the runtime of the subscribers.
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
                "one bounded sync::mpsc channel per subscriber, each gets a copy, recv(); \
                 publishers are threads with blocking_send(); no order across publishers"
            }
            Self::Batches => "as tokio-mpsc, but recv_many() receives up to 64 events at a time",
            Self::Tasks => {
                "as tokio-mpsc, but publishers are tasks on the same runtime, so its two workers \
                 are the only threads"
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
                let subscribers =
                    receivers.map(|receiver| |checker| receive_each(receiver, checker));
                run_tasks(
                    work,
                    senders.map(publisher).collect(),
                    subscribers.collect(),
                )
            }
            Self::Batches => {
                let subscribers =
                    receivers.map(|receiver| |checker| receive_batches(receiver, checker));
                run_tasks(
                    work,
                    senders.map(publisher).collect(),
                    subscribers.collect(),
                )
            }
            Self::Tasks => {
                let publishers = senders.map(|senders| |ticks| publish(senders, ticks));
                let subscribers =
                    receivers.map(|receiver| |checker| receive_each(receiver, checker));
                run_all_as_tasks(work, publishers.collect(), subscribers.collect())
            }
        }
    }
}

async fn receive_each(mut receiver: Receiver<Tick>, mut checker: Checker) -> Checker {
    while let Some(tick) = receiver.recv().await {
        checker.accept(&tick);
    }
    checker
}

async fn receive_batches(mut receiver: Receiver<Tick>, mut checker: Checker) -> Checker {
    let mut ticks = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut ticks, BATCH).await > 0 {
        for tick in ticks.drain(..) {
            checker.accept(&tick);
        }
    }
    checker
}

fn publisher(senders: Vec<Sender<Tick>>) -> impl FnOnce(Ticks) + Send {
    move |ticks| {
        for tick in ticks {
            for sender in &senders {
                sender
                    .blocking_send(tick)
                    .expect("a subscriber dropped its receiver");
            }
        }
    }
}

async fn publish(senders: Vec<Sender<Tick>>, ticks: Ticks) {
    for tick in ticks {
        for sender in &senders {
            sender
                .send(tick)
                .await
                .expect("a subscriber dropped its receiver");
        }
    }
}
