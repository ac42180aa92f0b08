//! `disruptor`: one ring with readers that spin. It is made for a core per thread, so it is
//! measured only if there is a core for each thread. If subscribers are threads, each uses an event
//! poller. If subscribers are handlers, disruptor calls each of them on a thread of its own.

use std::iter;

use disruptor::{
    BusySpin, Polling, Producer, Sequence, build_multi_producer, build_single_producer,
};

use crate::harness::{CAPACITY, Handler, Outcome, System, Work, run_handlers, run_threads};
use crate::machine;
use crate::tick::{Checker, Tick, Ticks};

/// A publisher thread.
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

/// A subscriber thread. It polls, and spins if there is no event, as `BusySpin` does.
macro_rules! subscriber {
    ($poller:expr) => {{
        let mut poller = $poller;
        move |checker: &mut Checker| loop {
            match poller.poll() {
                Ok(mut events) => {
                    for tick in &mut events {
                        checker.accept(tick);
                    }
                }
                Err(Polling::NoEvents) => {}
                Err(Polling::Shutdown) => break,
            }
        }
    }};
}

/// Excludes work with more threads than cores.
fn exclusion(work: &Work) -> Option<&'static str> {
    (work.threads() > machine::cores()).then_some("it spins, and there are more threads than cores")
}

/// disruptor with subscribers that are threads.
pub struct Disruptor;

impl System for Disruptor {
    fn name(&self) -> &'static str {
        "disruptor"
    }

    fn about(&self) -> &'static str {
        "one ring, BusySpin, event pollers, publish() for each event; every thread uses a core \
         fully, also when idle"
    }

    fn package(&self) -> Option<&'static str> {
        Some("disruptor")
    }

    fn spins(&self) -> bool {
        true
    }

    fn exclusion(&self, work: &Work) -> Option<&'static str> {
        exclusion(work)
    }

    fn run(&self, work: &Work) -> Outcome {
        // The types of the builders depend on the number of producers and consumers. Each case uses
        // the cheapest barriers that the library has for it.
        match (work.publishers, work.subscribers) {
            (1, 1) => {
                let ring = build_single_producer(CAPACITY, Tick::default, BusySpin);
                let (poller, ring) = ring.new_event_poller();
                run_threads(
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
                run_threads(work, vec![publisher!(ring.build())], subscribers)
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
                run_threads(work, publishers, subscribers)
            }
        }
    }
}

/// disruptor with subscribers that are handlers, through `handle_events_with`.
pub struct Handlers;

impl System for Handlers {
    fn name(&self) -> &'static str {
        "disruptor-handlers"
    }

    fn about(&self) -> &'static str {
        "one ring, BusySpin, handle_events_with(): a thread per handler, which uses a core fully, \
         also when idle"
    }

    fn package(&self) -> Option<&'static str> {
        Some("disruptor")
    }

    fn spins(&self) -> bool {
        true
    }

    fn exclusion(&self, work: &Work) -> Option<&'static str> {
        exclusion(work)
    }

    fn run(&self, work: &Work) -> Outcome {
        let wrap =
            |mut handler: Handler| move |tick: &Tick, _: Sequence, _: bool| handler.call(tick);
        run_handlers(work, |handlers| {
            let mut handlers = handlers.into_iter().map(wrap);
            let first = handlers.next().expect("there is at least one handler");
            // The drop of the last producer waits until all events are handled, and then drops the
            // handlers.
            if work.publishers > 1 {
                let ring = build_multi_producer(CAPACITY, Tick::default, BusySpin)
                    .with_multi_consumer()
                    .handle_events_with(first);
                let ring = handlers.fold(ring, |ring, next| ring.handle_events_with(next));
                return iter::repeat_n(ring.build(), work.publishers as usize)
                    .map(|producer| boxed(publisher!(producer)))
                    .collect();
            }
            let ring = build_single_producer(CAPACITY, Tick::default, BusySpin);
            vec![if work.subscribers == 1 {
                boxed(publisher!(ring.handle_events_with(first).build()))
            } else {
                let ring = ring.with_multi_consumer().handle_events_with(first);
                let ring = handlers.fold(ring, |ring, next| ring.handle_events_with(next));
                boxed(publisher!(ring.build()))
            }]
        })
    }
}

/// Boxes a publisher, so that publishers of all kinds have the same type. There is one call through
/// the box for all events of a publisher.
fn boxed(publisher: impl FnOnce(Ticks) + Send + 'static) -> Box<dyn FnOnce(Ticks) + Send> {
    Box::new(publisher)
}
