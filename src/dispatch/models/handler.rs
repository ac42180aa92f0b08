//! A handler's turns, as the feed's callback schedules them.

use std::sync::Arc as Plain;

use super::super::feed::{FeedConsumer, Found, Listener, ReaderCallback, feed};
use super::super::loss::Overflow;
use super::super::signal::{Latch, Signal};
use super::{Layer, Payload, Told, limits, offer};
use crate::ring::run_queue::{Job, RunQueue, Turn, schedule};
use crate::sync::explore::{Steps, explore_bounded};
use crate::sync::{Arc, thread};

/// A handler's turns: the dispatcher asks when it has put something into a ring that was found empty.
struct Handled {
    job: Arc<Job<(), FeedConsumer<Payload>>>,
    queue: Arc<RunQueue<(), FeedConsumer<Payload>>>,
    signal: Arc<Signal>,
}

impl ReaderCallback for Handled {
    fn schedule_read(self: Plain<Self>) {
        if let Some(job) = schedule(self.job.clone())
            && self.queue.push(job)
        {
            self.signal.wake_one();
        }
    }
}

/// A worker sleeps when there is nothing to do, and handles everything: no event waits in a ring that nobody looks at.
#[test]
fn loom_handler_turns_against_commits() {
    explore_bounded("handler: turns against commits", 2, || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let (queue, mut hands) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let mut ends = None;
        let handled = Plain::new_cyclic(|handled: &std::sync::Weak<Handled>| {
            let reader = Listener::Callback(handled.clone());
            let (producer, mut consumer) = feed(limits(2, Overflow::DropNewest), latch, reader);
            assert!(consumer.request_wake());
            ends = Some(producer);
            Handled {
                job: Arc::new(Job::new((), consumer)),
                queue: queue.clone(),
                signal: signal.clone(),
            }
        });
        let mut producer = ends.expect("made above");
        let laid = [layer.block(&["a"]), layer.block(&["a"])];
        let working = {
            let steps = steps.clone();
            let mut hand = hands.pop().expect("one");
            thread::spawn(move || {
                let mut told = Told::default();
                loop {
                    steps.step();
                    if let Some(taken) = queue.take(&mut hand) {
                        let mut turn = taken.turn;
                        let over = handle(&mut told, &mut turn);
                        if let Some(job) = turn.finish().again {
                            queue.push(job);
                        }
                        if over {
                            return told;
                        }
                        continue;
                    }
                    signal.prepare_sleep(0);
                    if queue.has_work() {
                        signal.cancel_sleep(0);
                    } else {
                        signal.sleep(0);
                    }
                }
            })
        };
        producer.begin(1);
        for block in laid {
            steps.step();
            offer(&mut producer, &block);
        }
        producer.close(2);
        let told = working.join().unwrap();
        assert_eq!(told.ids.len() as u64 + told.lost, 2);
        drop(handled);
    });
}

/// A turn: what there is. `true`: the end was found.
fn handle(told: &mut Told, turn: &mut Turn<(), FeedConsumer<Payload>>) -> bool {
    loop {
        match told.look(turn) {
            Found::Empty if turn.request_wake() => return false,
            Found::Closed => return true,
            _ => {}
        }
    }
}
