//! `disruptor`: one ring, readers that spin. It is made for a core per thread, so it takes part only
//! where there is one; its event poller gives each reader a thread of ours.

use std::iter;

use disruptor::{BusySpin, Polling, Producer, build_multi_producer, build_single_producer};

use crate::race::{CAPACITY, Outcome, System, Work, race};
use crate::tick::{Checker, Tick, Ticks};

/// A thread that publishes.
macro_rules! publisher {
    ($producer:expr) => {{
        let mut producer = $producer;
        move |ticks: Ticks| {
            for tick in ticks {
                producer.publish(|slot| *slot = tick);
            }
        }
    }};
}

/// A thread that polls, and spins where there is nothing: what `BusySpin` does.
macro_rules! subscriber {
    ($poller:expr) => {{
        let mut poller = $poller;
        move |check: &mut Checker| loop {
            match poller.poll() {
                Ok(mut events) => {
                    for tick in &mut events {
                        check.accept(tick);
                    }
                }
                Err(Polling::NoEvents) => {}
                Err(Polling::Shutdown) => break,
            }
        }
    }};
}

/// See the module.
pub struct Disruptor;

impl System for Disruptor {
    fn name(&self) -> &'static str {
        "disruptor"
    }

    fn about(&self) -> &'static str {
        "one ring, BusySpin, event pollers, publish() one by one; every thread holds a core, also \
         when idle"
    }

    fn package(&self) -> &'static str {
        "disruptor"
    }

    fn spins(&self) -> bool {
        true
    }

    fn refuses(&self, work: &Work) -> Option<&'static str> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (work.threads() > cores).then_some("spins: more threads than cores")
    }

    fn run(&self, work: &Work) -> Outcome {
        // The builders' types differ with the number of producers and consumers; each case gets the
        // cheapest barriers that the library has for it.
        match (work.publishers, work.subscribers) {
            (1, 1) => {
                let ring = build_single_producer(CAPACITY, Tick::default, BusySpin);
                let (poller, ring) = ring.new_event_poller();
                race(
                    work,
                    vec![publisher!(ring.build())],
                    vec![subscriber!(poller)],
                )
            }
            (1, _) => {
                let mut ring =
                    build_single_producer(CAPACITY, Tick::default, BusySpin).with_multi_consumer();
                let mut subscribers = Vec::new();
                for _ in 0..work.subscribers {
                    let (poller, rest) = ring.new_event_poller();
                    subscribers.push(subscriber!(poller));
                    ring = rest;
                }
                race(work, vec![publisher!(ring.build())], subscribers)
            }
            _ => {
                let mut ring =
                    build_multi_producer(CAPACITY, Tick::default, BusySpin).with_multi_consumer();
                let mut subscribers = Vec::new();
                for _ in 0..work.subscribers {
                    let (poller, rest) = ring.new_event_poller();
                    subscribers.push(subscriber!(poller));
                    ring = rest;
                }
                let publishers = iter::repeat_n(ring.build(), work.publishers as usize)
                    .map(|producer| publisher!(producer))
                    .collect();
                race(work, publishers, subscribers)
            }
        }
    }
}
