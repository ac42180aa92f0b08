//! Handlers that share threads: turns in order, bounded waits, and threads that make no progress.

use fanout::{Bus, HandlerGuard, Notice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{FOR_EVER, Gate, bus, ends, eventually};

/// Handlers whose calls sleep, on the topic `slow`. Their rings are full from now on.
struct SlowHandlers {
    calls: Vec<Arc<AtomicUsize>>,
    stop: Arc<AtomicBool>,
    publishing: Option<thread::JoinHandle<()>>,
    _guards: Vec<HandlerGuard<u64>>,
}

impl SlowHandlers {
    fn start(bus: &Bus<u64>, handlers: usize, call: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let calls: Vec<_> = (0..handlers)
            .map(|_| Arc::new(AtomicUsize::new(0)))
            .collect();
        let guards = calls
            .iter()
            .map(|calls| {
                let (calls, stop) = (calls.clone(), stop.clone());
                let handler = move |_: &_| {
                    if !stop.load(Ordering::Relaxed) {
                        calls.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(call);
                    }
                };
                bus.on("slow", handler).expect("open")
            })
            .collect();
        let publishing = {
            let (bus, stop) = (bus.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    (0..20).for_each(|n| bus.publish("slow", n).expect("open"));
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let slow = Self {
            calls,
            stop,
            publishing: Some(publishing),
            _guards: guards,
        };
        eventually("all were called", || {
            thread::sleep(Duration::from_millis(1));
            slow.counts().into_iter().all(|calls| calls >= 2)
        });
        slow
    }

    /// How often each of them was called.
    fn counts(&self) -> Vec<usize> {
        let count = |calls: &Arc<AtomicUsize>| calls.load(Ordering::SeqCst);
        self.calls.iter().map(count).collect()
    }
}

impl Drop for SlowHandlers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let publishing = self.publishing.take().expect("joined once");
        publishing.join().expect("the bus is open");
    }
}

/// A handler of short calls waits for one call of each handler in front of it, and not for more.
#[test]
fn handlers_get_their_turns_in_order() {
    for call in [1, 4, 9, 30] {
        ends(&format!("calls of {call} ms"), move || {
            // There are no spare threads, so the order alone decides.
            let bus = bus::<u64>(|b| b.handler_threads(2).max_handler_threads(2));
            let slow = SlowHandlers::start(&bus, 10, Duration::from_millis(call));
            let (sender, handled) = mpsc::channel();
            let quick = bus.on("quick", move |_| sender.send(())).expect("open");
            let mut most = 0;
            for round in 1..=5 {
                bus.publish("quick", 0).expect("open");
                eventually("it is in the ring", || quick.stats().matched == round);
                let before = slow.counts();
                handled.recv_timeout(FOR_EVER).expect("handled");
                let after = slow.counts();
                let calls = before
                    .iter()
                    .zip(&after)
                    .map(|(before, after)| after - before);
                most = most.max(calls.max().expect("ten"));
            }
            // One call, and one more if a call was about to begin.
            println!("calls of {call} ms: at most {most} calls of one handler");
            assert!(most <= 3, "{most} calls of one handler came first");
        });
    }
}

/// While there are spare threads, a handler of short calls does not wait for the slow ones.
#[test]
fn spare_threads_bound_the_wait_of_a_handler() {
    for (handlers, call) in [(20, 30), (60, 30), (20, 9), (60, 3)] {
        ends(&format!("{handlers} handlers of {call} ms"), move || {
            let bus = bus::<u64>(|b| b.handler_threads(2).max_handler_threads(64));
            let slow = SlowHandlers::start(&bus, handlers, Duration::from_millis(call));
            let (sender, handled) = mpsc::channel();
            let _quick = bus.on("quick", move |_| sender.send(())).expect("open");
            let mut waits = Vec::new();
            for _ in 0..20 {
                let start = Instant::now();
                bus.publish("quick", 0).expect("open");
                handled.recv_timeout(FOR_EVER).expect("handled");
                waits.push(start.elapsed());
                thread::sleep(Duration::from_millis(7));
            }
            waits.sort();
            println!(
                "{handlers} handlers of {call} ms: median {:?}, longest {:?}",
                waits[10], waits[19]
            );
            // On an idle machine the longest wait is below 50 ms.
            assert!(waits[19] < Duration::from_millis(400), "{waits:?}");
            drop(slow);
        });
    }
}

/// The same if everything is idle before, so that all threads but two have ended.
#[test]
fn spare_threads_bound_the_wait_in_a_burst() {
    ends("burst", || {
        let bus = bus::<u64>(|b| b.handler_threads(2).max_handler_threads(64));
        let _slow: Vec<_> = (0..40)
            .map(|_| {
                let handler = |_: &_| thread::sleep(Duration::from_millis(30));
                bus.on("slow", handler).expect("open")
            })
            .collect();
        let (sender, handled) = mpsc::channel();
        let _quick = bus.on("quick", move |_| sender.send(())).expect("open");
        let mut waits = Vec::new();
        for _ in 0..5 {
            (0..10).for_each(|n| bus.publish("slow", n).expect("open"));
            let start = Instant::now();
            bus.publish("quick", 0).expect("open");
            handled.recv_timeout(FOR_EVER).expect("handled");
            waits.push(start.elapsed());
            assert!(bus.flush_within(FOR_EVER));
            thread::sleep(Duration::from_millis(300));
        }
        println!("{waits:?}");
        // In order on two threads it would be 600 ms. On an idle machine it is below 50 ms.
        waits.sort();
        assert!(waits[2] < Duration::from_millis(300), "{waits:?}");
    });
}

/// The observer blocks on the notice of a stall: later stalls are found, counted and replaced.
#[test]
fn an_observer_that_blocks_does_not_stop_the_stall_protection() {
    ends("observer", || {
        let (observer_gate, gate) = (Gate::default(), Gate::default());
        let notices = Arc::new(AtomicUsize::new(0));
        let bus = bus::<u64>(|b| {
            let (observer_gate, notices) = (observer_gate.clone(), notices.clone());
            b.handler_threads(1).observer(move |notice| {
                if let Notice::Stalled { .. } = notice {
                    observer_gate.wait();
                    notices.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let handled = Arc::new(AtomicUsize::new(0));
        let stuck: Vec<_> = (0..5)
            .map(|n| {
                let gate = gate.clone();
                let handler = move |_: &_| gate.wait();
                bus.on(format!("stuck.{n}"), handler).expect("open")
            })
            .collect();
        let _well = {
            let handled = handled.clone();
            let handler = move |_: &_| {
                handled.fetch_add(1, Ordering::SeqCst);
            };
            bus.on("well", handler).expect("open")
        };
        for n in 0..5 {
            bus.publish(format!("stuck.{n}"), 0).expect("open");
            eventually("it is called", || gate.waiting() == n + 1);
            eventually("the observer blocks", || observer_gate.waiting() == 1);
            bus.publish("well", 0).expect("open");
            eventually("handled meanwhile", || {
                handled.load(Ordering::SeqCst) == n + 1
            });
        }
        let is_counted = |handle: &HandlerGuard<u64>| handle.stats().stalls == 1;
        eventually("each is counted", || stuck.iter().all(is_counted));
        assert_eq!(observer_gate.waiting(), 1, "one notice at a time");
        observer_gate.open();
        eventually("each is reported", || notices.load(Ordering::SeqCst) == 5);
        gate.open();
        assert!(bus.close_within(FOR_EVER).in_time);
    });
}

/// The monitor does not wait for the registry's lock, and still counts each stall.
#[test]
fn stalls_are_counted_while_subscriptions_come_and_go() {
    ends("churn", || {
        let bus = bus::<u64>(|b| b.handler_threads(1));
        let stop = Arc::new(AtomicBool::new(false));
        let churning = {
            let (bus, stop) = (bus.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    drop(bus.subscribe("other").expect("open"));
                }
            })
        };
        let gate = Gate::default();
        let stuck: Vec<_> = (0..8)
            .map(|_| {
                let gate = gate.clone();
                bus.on("stuck", move |_| gate.wait()).expect("open")
            })
            .collect();
        bus.publish("stuck", 0).expect("open");
        eventually("all are called", || gate.waiting() == 8);
        let is_counted = |handle: &HandlerGuard<u64>| handle.stats().stalls == 1;
        eventually("each is counted", || stuck.iter().all(is_counted));
        stop.store(true, Ordering::Relaxed);
        churning.join().expect("the bus is open");
        gate.open();
    });
}
