//! `tokio::sync::broadcast`: a sender never waits, and the channel drops events if a receiver is
//! too slow. This file makes it lossless in two ways.
//!
//! If subscribers are threads, they use `blocking_recv` without a runtime. If they are tasks, they
//! use `recv`.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::{Backoff, CachePadded};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use crate::harness::{CAPACITY, Outcome, System, Work, run_tasks, run_threads, too_many_threads};
use crate::tick::{Checker, Tick, Ticks};

/// tokio's broadcast channel with subscribers that are threads. The variants are the ways to avoid
/// the loss of events.
pub enum Tokio {
    /// A sender waits while the slowest receiver is behind by the whole capacity.
    Credits,
    /// The channel has capacity for all events of the run. A sender never waits, and the memory has
    /// no bound.
    RoomForAll,
}

impl System for Tokio {
    fn name(&self) -> &'static str {
        match self {
            Self::Credits => "tokio-credits",
            Self::RoomForAll => "tokio-room-for-all",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Credits => {
                "sync::broadcast, blocking_recv(), with a credit counter, so that a publisher \
                 waits for the slowest receiver"
            }
            Self::RoomForAll => {
                "a reference, not a peer: sync::broadcast, blocking_recv(), with capacity for all \
                 events of the run; a publisher never waits, so this row does less work than the \
                 others, and its memory has no bound"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("tokio")
    }

    fn is_reference(&self) -> bool {
        matches!(self, Self::RoomForAll)
    }

    fn max_events(&self) -> u64 {
        match self {
            Self::Credits => u64::MAX,
            Self::RoomForAll => 1 << 20,
        }
    }

    fn exclusion(&self, work: &Work) -> Option<&'static str> {
        too_many_threads(work)
    }

    fn run(&self, work: &Work) -> Outcome {
        match self {
            Self::Credits => {
                let (sender, credits) = sender_with_credits(work);
                let subscribers = (0..work.subscribers)
                    .map(|number| {
                        let mut receiver = sender.subscribe();
                        let credits = Arc::clone(&credits);
                        move |checker: &mut Checker| {
                            let mut received = 0;
                            while let Some(tick) = event_or_end(receiver.blocking_recv()) {
                                received += 1;
                                credits.progress[number].store(received, Ordering::Release);
                                checker.accept(&tick);
                            }
                        }
                    })
                    .collect();
                run_threads(
                    work,
                    publishers_with_credits(work, sender, credits),
                    subscribers,
                )
            }
            Self::RoomForAll => {
                let sender = sender_with_capacity_for_all(work);
                let subscribers = subscribe(&sender, work)
                    .map(|mut receiver| {
                        move |checker: &mut Checker| {
                            while let Some(tick) = event_or_end(receiver.blocking_recv()) {
                                checker.accept(&tick);
                            }
                        }
                    })
                    .collect();
                run_threads(work, publishers_without_credits(work, sender), subscribers)
            }
        }
    }
}

/// tokio's broadcast channel with subscribers that are tasks.
pub struct Tasks(pub Tokio);

impl System for Tasks {
    fn name(&self) -> &'static str {
        match self.0 {
            Tokio::Credits => "tokio-credits-tasks",
            Tokio::RoomForAll => "tokio-room-for-all-tasks",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Tokio::Credits => {
                "sync::broadcast, recv(), with a credit counter, so that a publisher, which is a \
                 thread, waits for the slowest receiver"
            }
            Tokio::RoomForAll => {
                "a reference, not a peer: sync::broadcast, recv(), with capacity for all events of \
                 the run; a publisher, which is a thread, never waits, so this row does less work \
                 than the others, and its memory has no bound"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        self.0.package()
    }

    fn is_reference(&self) -> bool {
        self.0.is_reference()
    }

    fn max_events(&self) -> u64 {
        self.0.max_events()
    }

    fn run(&self, work: &Work) -> Outcome {
        match self.0 {
            Tokio::Credits => {
                let (sender, credits) = sender_with_credits(work);
                let subscribers = (0..work.subscribers)
                    .map(|number| {
                        let mut receiver = sender.subscribe();
                        let credits = Arc::clone(&credits);
                        move |mut checker: Checker| async move {
                            let mut received = 0;
                            while let Some(tick) = event_or_end(receiver.recv().await) {
                                received += 1;
                                credits.progress[number].store(received, Ordering::Release);
                                checker.accept(&tick);
                            }
                            checker
                        }
                    })
                    .collect();
                run_tasks(
                    work,
                    publishers_with_credits(work, sender, credits),
                    subscribers,
                )
            }
            Tokio::RoomForAll => {
                let sender = sender_with_capacity_for_all(work);
                let subscribers = subscribe(&sender, work)
                    .map(|mut receiver| {
                        |mut checker: Checker| async move {
                            while let Some(tick) = event_or_end(receiver.recv().await) {
                                checker.accept(&tick);
                            }
                            checker
                        }
                    })
                    .collect();
                run_tasks(work, publishers_without_credits(work, sender), subscribers)
            }
        }
    }
}

fn sender_with_capacity_for_all(work: &Work) -> Sender<Tick> {
    Sender::new(usize::try_from(work.events).expect("the number of events is small enough"))
}

fn sender_with_credits(work: &Work) -> (Sender<Tick>, Arc<Credits>) {
    (
        Sender::new(CAPACITY),
        Arc::new(Credits::new(work.subscribers)),
    )
}

fn subscribe(sender: &Sender<Tick>, work: &Work) -> impl Iterator<Item = Receiver<Tick>> {
    (0..work.subscribers).map(|_| sender.subscribe())
}

/// The event, or `None` at the end of the stream. It panics if events were lost.
fn event_or_end(received: Result<Tick, RecvError>) -> Option<Tick> {
    match received {
        Ok(tick) => Some(tick),
        Err(RecvError::Closed) => None,
        Err(RecvError::Lagged(lost)) => panic!("lost {lost} events"),
    }
}

fn publishers_without_credits(
    work: &Work,
    sender: Sender<Tick>,
) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    iter::repeat_n(sender, work.publishers as usize)
        .map(|sender| {
            move |ticks: Ticks| {
                for tick in ticks {
                    assert!(sender.send(tick).is_ok(), "all receivers were dropped");
                }
            }
        })
        .collect()
}

fn publishers_with_credits(
    work: &Work,
    sender: Sender<Tick>,
    credits: Arc<Credits>,
) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    let is_single = work.publishers == 1;
    iter::repeat_n((sender, credits), work.publishers as usize)
        .map(|(sender, credits)| {
            move |ticks: Ticks| {
                let mut slowest = Slowest::default();
                for (own, tick) in (0..).zip(ticks) {
                    let position = if is_single { own } else { credits.claim() };
                    credits.wait_for(position, &mut slowest);
                    assert!(sender.send(tick).is_ok(), "all receivers were dropped");
                }
            }
        })
        .collect()
}

/// A sender that had to wait continues when the slowest receiver is at most this number of events
/// behind. Other values, from 1 to the capacity minus one, and sleeping instead of yielding were
/// tried and made no difference beyond the noise. Most of the cost is probably that tokio wakes
/// each sleeping receiver for each event, but this was not profiled.
const LOW_WATER_MARK: u64 = CAPACITY as u64 / 2;

/// The progress of all receivers. An event may be sent if its position is ahead of the slowest
/// receiver by less than the capacity. Then it overwrites no event that a receiver has not read.
struct Credits {
    /// The next position, if several senders share the channel.
    claimed: CachePadded<AtomicU64>,
    /// The number of events that each receiver has received. Only the receiver writes it (Release),
    /// and the loads in `wait_slow` are its partners (Acquire).
    progress: Vec<CachePadded<AtomicU64>>,
}

/// The slowest receiver when a sender last read the progress of all receivers.
#[derive(Default)]
struct Slowest {
    number: usize,
    received: u64,
}

impl Credits {
    fn new(receivers: usize) -> Self {
        Self {
            claimed: CachePadded::default(),
            progress: iter::repeat_with(CachePadded::default)
                .take(receivers)
                .collect(),
        }
    }

    /// Claims the position of the next event, if several senders share the channel.
    fn claim(&self) -> u64 {
        self.claimed.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until an event at this position overwrites no unread event. In most calls the cached
    /// minimum is sufficient, and the progress of the receivers is not read. While a
    /// sender waits, it reads only the progress of the slowest receiver. It waits until half of the
    /// ring is free, so that it can then send many events.
    #[inline]
    fn wait_for(&self, position: u64, slowest: &mut Slowest) {
        if position >= slowest.received + CAPACITY as u64 {
            self.wait_slow(position, slowest);
        }
    }

    #[cold]
    fn wait_slow(&self, position: u64, slowest: &mut Slowest) {
        let target = position - LOW_WATER_MARK;
        let backoff = Backoff::new();
        loop {
            for (number, progress) in self.progress.iter().enumerate() {
                let received = progress.load(Ordering::Acquire);
                if number == 0 || received < slowest.received {
                    *slowest = Slowest { number, received };
                }
            }
            if slowest.received >= target {
                return;
            }
            let progress = &self.progress[slowest.number];
            while progress.load(Ordering::Acquire) < target {
                if backoff.is_completed() {
                    thread::yield_now();
                } else {
                    backoff.snooze();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_waits_for_the_slowest_receiver() {
        let credits = Credits::new(2);
        let mut slowest = Slowest::default();
        let capacity = CAPACITY as u64;
        credits.wait_for(capacity - 1, &mut slowest);
        credits.progress[0].store(capacity, Ordering::Release);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                credits.wait_for(capacity, &mut slowest);
                slowest.received
            });
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(
                !waiting.is_finished(),
                "the second receiver has received no event"
            );
            credits.progress[1].store(LOW_WATER_MARK, Ordering::Release);
            assert_eq!(waiting.join().unwrap(), LOW_WATER_MARK);
        });
    }
}
