//! A handler's turns, as the feed's callback schedules them.

use std::sync::Arc as Plain;

use super::super::feed::{FeedConsumer, Found, Listener, ReaderCallback, feed};
use super::super::loss::Overflow;
use super::super::signal::{Latch, Signal};
use super::{BlockMaker, Payload, ReadLog, limits, offer};
use crate::ring::run_queue::{Job, RunQueue, Turn, schedule};
use crate::sync::explore::{Steps, explore_bounded};
use crate::sync::{Arc, thread};

/// The handler's side of a feed: the dispatcher schedules a turn when it has pushed to a ring whose
/// handler had found it empty.
struct TestHandler {
    job: Arc<Job<(), FeedConsumer>>,
    queue: Arc<RunQueue<(), FeedConsumer>>,
    signal: Arc<Signal>,
}

impl ReaderCallback for TestHandler {
    fn schedule_read(self: Plain<Self>) {
        if let Some(job) = schedule(self.job.clone())
            && self.queue.push(job)
        {
            self.signal.wake_one();
        }
    }
}

/// A worker sleeps when there is nothing to do, and handles all events: none waits in a ring for
/// which no turn is scheduled.
#[test]
fn loom_handler_turns_against_commits() {
    explore_bounded("handler: turns against commits", 2, || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let (queue, mut workers) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let mut ends = None;
        let handler = Plain::new_cyclic(|handler: &std::sync::Weak<TestHandler>| {
            let reader = Listener::Callback(handler.clone());
            let (producer, mut consumer) = feed(limits(2, Overflow::DropNewest), latch, reader);
            assert!(consumer.request_wake());
            ends = Some(producer);
            TestHandler {
                job: Arc::new(Job::new((), consumer)),
                queue: queue.clone(),
                signal: signal.clone(),
            }
        });
        let mut producer = ends.expect("made above");
        let laid = [maker.block(&["a"]), maker.block(&["a"])];
        let working = {
            let steps = steps.clone();
            let mut worker = workers.pop().expect("one");
            thread::spawn(move || {
                let mut log = ReadLog::default();
                loop {
                    steps.step();
                    if let Some(taken) = queue.take(&mut worker) {
                        let mut turn = taken.turn;
                        let over = handle(&mut log, &mut turn);
                        if let Some(job) = turn.finish().again {
                            queue.push(job);
                        }
                        if over {
                            return log;
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
        let log = working.join().unwrap();
        assert_eq!(log.ids.len() as u64 + log.lost, 2);
        drop(handler);
    });
}

/// A turn: reads until the feed is empty. `true`: it has ended.
fn handle(log: &mut ReadLog, turn: &mut Turn<(), FeedConsumer>) -> bool {
    loop {
        match log.read_one(turn) {
            Found::Empty if turn.request_wake() => return false,
            Found::Closed => return true,
            _ => {}
        }
    }
}
