//! `tokio::sync::broadcast`: it never makes a sender wait, it drops what a receiver was too slow
//! for. So it is made lossless from outside, in two ways.
//!
//! `blocking_recv` receives on plain threads, no runtime takes part; where subscribers are tasks,
//! `recv`.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::{Backoff, CachePadded};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use crate::race::{CAPACITY, Outcome, System, Work, race, race_tasks, too_many_threads};
use crate::tick::{Checker, Tick, Ticks};

/// What keeps it from losing events.
pub enum Tokio {
    /// Senders wait until the slowest receiver is less than the capacity behind.
    Credits,
    /// Room for all events of the run: senders never wait, memory is not bounded.
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
                "sync::broadcast, blocking_recv(), behind a credit counter of ours: senders wait \
                 for the slowest receiver"
            }
            Self::RoomForAll => {
                "sync::broadcast, blocking_recv(), with room for all events of the run: senders \
                 never wait, so this row does less than the others and its memory has no bound"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("tokio")
    }

    fn most_events(&self) -> u64 {
        match self {
            Self::Credits => u64::MAX,
            Self::RoomForAll => 1 << 20,
        }
    }

    fn refuses(&self, work: &Work) -> Option<&'static str> {
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
                        move |check: &mut Checker| {
                            let mut received = 0;
                            while let Some(tick) = ok(receiver.blocking_recv()) {
                                received += 1;
                                credits.progress[number].store(received, Ordering::Release);
                                check.accept(&tick);
                            }
                        }
                    })
                    .collect();
                race(
                    work,
                    publishers_with_credits(work, sender, credits),
                    subscribers,
                )
            }
            Self::RoomForAll => {
                let sender = sender_with_room_for_all(work);
                let subscribers = subscribe(&sender, work)
                    .map(|mut receiver| {
                        move |check: &mut Checker| {
                            while let Some(tick) = ok(receiver.blocking_recv()) {
                                check.accept(&tick);
                            }
                        }
                    })
                    .collect();
                race(work, publishers_that_never_wait(work, sender), subscribers)
            }
        }
    }
}

/// The same, for subscribers that are tasks.
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
                "sync::broadcast, recv(), behind a credit counter of ours: publishing threads wait \
                 for the slowest receiver"
            }
            Tokio::RoomForAll => {
                "sync::broadcast, recv(), with room for all events of the run: publishing threads \
                 never wait, so this row does less than the others and its memory has no bound"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        self.0.package()
    }

    fn most_events(&self) -> u64 {
        self.0.most_events()
    }

    fn run(&self, work: &Work) -> Outcome {
        match self.0 {
            Tokio::Credits => {
                let (sender, credits) = sender_with_credits(work);
                let subscribers = (0..work.subscribers)
                    .map(|number| {
                        let mut receiver = sender.subscribe();
                        let credits = Arc::clone(&credits);
                        move |mut check: Checker| async move {
                            let mut received = 0;
                            while let Some(tick) = ok(receiver.recv().await) {
                                received += 1;
                                credits.progress[number].store(received, Ordering::Release);
                                check.accept(&tick);
                            }
                            check
                        }
                    })
                    .collect();
                race_tasks(
                    work,
                    publishers_with_credits(work, sender, credits),
                    subscribers,
                )
            }
            Tokio::RoomForAll => {
                let sender = sender_with_room_for_all(work);
                let subscribers = subscribe(&sender, work)
                    .map(|mut receiver| {
                        |mut check: Checker| async move {
                            while let Some(tick) = ok(receiver.recv().await) {
                                check.accept(&tick);
                            }
                            check
                        }
                    })
                    .collect();
                race_tasks(work, publishers_that_never_wait(work, sender), subscribers)
            }
        }
    }
}

fn sender_with_room_for_all(work: &Work) -> Sender<Tick> {
    Sender::new(usize::try_from(work.events).expect("events fit"))
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

/// The event, or the end of the stream. A loss is a failure.
fn ok(received: Result<Tick, RecvError>) -> Option<Tick> {
    match received {
        Ok(tick) => Some(tick),
        Err(RecvError::Closed) => None,
        Err(RecvError::Lagged(lost)) => panic!("lost {lost} events"),
    }
}

fn publishers_that_never_wait(
    work: &Work,
    sender: Sender<Tick>,
) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    iter::repeat_n(sender, work.publishers as usize)
        .map(|sender| {
            move |ticks: Ticks| {
                for tick in ticks {
                    assert!(sender.send(tick).is_ok(), "all receivers left");
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
    let alone = work.publishers == 1;
    iter::repeat_n((sender, credits), work.publishers as usize)
        .map(|(sender, credits)| {
            move |ticks: Ticks| {
                let mut slowest = Slowest::default();
                for (own, tick) in (0..).zip(ticks) {
                    let place = if alone { own } else { credits.claim() };
                    credits.wait_for(place, &mut slowest);
                    assert!(sender.send(tick).is_ok(), "all receivers left");
                }
            }
        })
        .collect()
}

/// A sender that waited goes on when the slowest receiver is at most so far behind. (Other marks,
/// from 1 to all but one of the capacity, and sleeping in place of yielding were tried, too: no
/// difference beyond noise. What costs is probably that tokio wakes each sleeping receiver for each
/// event; that was not profiled.)
const LOW_WATER: u64 = CAPACITY as u64 / 2;

/// How far everybody is. An event may be sent when its place is less than the capacity ahead of the
/// slowest receiver; then it overwrites nothing that anybody still has to read.
struct Credits {
    /// Places given out: senders share it where there are several.
    claimed: CachePadded<AtomicU64>,
    /// Events received, each written by its receiver alone.
    progress: Vec<CachePadded<AtomicU64>>,
}

/// What a sender remembers of its last look.
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

    /// The place of the next event, where several senders share the channel.
    fn claim(&self) -> u64 {
        self.claimed.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until an event at this place overwrites nothing. Mostly the remembered minimum
    /// answers, without a look at the receivers; while waiting, only the slowest of them is looked
    /// at. A sender that has to wait waits until half of the ring is free, so that it then sends
    /// many.
    #[inline]
    fn wait_for(&self, place: u64, slowest: &mut Slowest) {
        if place >= slowest.received + CAPACITY as u64 {
            self.wait_long(place, slowest);
        }
    }

    #[cold]
    fn wait_long(&self, place: u64, slowest: &mut Slowest) {
        let enough = place - LOW_WATER;
        let backoff = Backoff::new();
        loop {
            for (number, progress) in self.progress.iter().enumerate() {
                let received = progress.load(Ordering::Acquire);
                if number == 0 || received < slowest.received {
                    *slowest = Slowest { number, received };
                }
            }
            if slowest.received >= enough {
                return;
            }
            let progress = &self.progress[slowest.number];
            while progress.load(Ordering::Acquire) < enough {
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
    fn a_sender_waits_for_the_slowest_receiver_alone() {
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
            assert!(!waiting.is_finished(), "nothing was received by the second");
            credits.progress[1].store(LOW_WATER, Ordering::Release);
            assert_eq!(waiting.join().unwrap(), LOW_WATER);
        });
    }
}
