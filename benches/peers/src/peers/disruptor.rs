//! `disruptor`: one ring, readers that spin. It is made for a core per thread, so it takes part
//! only where there is one. Its event poller gives each reader a thread of ours; where subscribers
//! are closures, it calls each on a thread of its own.

use std::iter;

use disruptor::{
    BusySpin, Polling, Producer, Sequence, build_multi_producer, build_single_producer,
};

use crate::machine;
use crate::race::{CAPACITY, Handler, Outcome, System, Work, race, race_handlers};
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

fn refuses(work: &Work) -> Option<&'static str> {
    (work.threads() > machine::cores()).then_some("spins: more threads than cores")
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

    fn package(&self) -> Option<&'static str> {
        Some("disruptor")
    }

    fn spins(&self) -> bool {
        true
    }

    fn refuses(&self, work: &Work) -> Option<&'static str> {
        refuses(work)
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

/// Subscribers are closures, which it calls: `handle_events_with`.
pub struct Called;

impl System for Called {
    fn name(&self) -> &'static str {
        "disruptor-handlers"
    }

    fn about(&self) -> &'static str {
        "one ring, BusySpin, handle_events_with(): a thread for each closure, which holds a core, \
         also when idle"
    }

    fn package(&self) -> Option<&'static str> {
        Some("disruptor")
    }

    fn spins(&self) -> bool {
        true
    }

    fn refuses(&self, work: &Work) -> Option<&'static str> {
        refuses(work)
    }

    fn run(&self, work: &Work) -> Outcome {
        let closure =
            |mut handler: Handler| move |tick: &Tick, _: Sequence, _: bool| handler.call(tick);
        race_handlers(work, |handlers| {
            let mut closures = handlers.into_iter().map(closure);
            let first = closures.next().expect("at least one");
            // A producer's drop waits until all is handled, and drops the closures.
            if work.publishers > 1 {
                let ring = build_multi_producer(CAPACITY, Tick::default, BusySpin)
                    .with_multi_consumer()
                    .handle_events_with(first);
                let ring = closures.fold(ring, |ring, next| ring.handle_events_with(next));
                return iter::repeat_n(ring.build(), work.publishers as usize)
                    .map(|producer| boxed(publisher!(producer)))
                    .collect();
            }
            let ring = build_single_producer(CAPACITY, Tick::default, BusySpin);
            vec![if work.subscribers == 1 {
                boxed(publisher!(ring.handle_events_with(first).build()))
            } else {
                let ring = ring.with_multi_consumer().handle_events_with(first);
                let ring = closures.fold(ring, |ring, next| ring.handle_events_with(next));
                boxed(publisher!(ring.build()))
            }]
        })
    }
}

/// So that publishers of all kinds are of one type; one call for all of a publisher's events.
fn boxed(publisher: impl FnOnce(Ticks) + Send + 'static) -> Box<dyn FnOnce(Ticks) + Send> {
    Box::new(publisher)
}
