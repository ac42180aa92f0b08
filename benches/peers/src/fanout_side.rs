//! fanout itself: a publisher handle (a lane) per publisher, one topic, one pattern that all
//! subscribers share, `Overflow::Block`, so nothing is lost.

use fanout::{Bus, Dispatch, Overflow, RecvError};

use crate::race::{CAPACITY, Outcome, System, Work, race};
use crate::tick::{Checker, Tick, Ticks};

/// How the subscribers receive, and which threads carry the events.
pub enum Fanout {
    /// `recv`, one event at a time, default dispatch (a pool): the headline row.
    Recv,
    /// `next_batch`, default dispatch.
    Batches,
    /// `recv`, inline dispatch: publishing threads carry their events where they can.
    Inline,
}

impl System for Fanout {
    fn name(&self) -> &'static str {
        match self {
            Self::Recv => "fanout",
            Self::Batches => "fanout-batches",
            Self::Inline => "fanout-inline",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Recv => "one lane per publisher, Overflow::Block, recv() lends each event",
            Self::Batches => "the same, next_batch() lends up to 64 events at a time",
            Self::Inline => "the same as fanout, Dispatch::Inline",
        }
    }

    fn package(&self) -> &'static str {
        "fanout"
    }

    fn is_fanout(&self) -> bool {
        true
    }

    fn topics(&self) -> bool {
        true
    }

    fn refuses(&self, work: &Work) -> Option<&'static str> {
        (matches!(self, Self::Inline) && work.publishers > 1).then_some("shown for one publisher")
    }

    fn run(&self, work: &Work) -> Outcome {
        let mut builder = Bus::<Tick>::builder().blocking(true).capacity(CAPACITY);
        if matches!(self, Self::Inline) {
            builder = builder.dispatch(Dispatch::Inline);
        }
        let bus = builder.build().expect("a valid configuration");

        let subscribers: Vec<_> = (0..work.subscribers)
            .map(|_| {
                bus.subscription("bench.**")
                    .capacity(CAPACITY)
                    .overflow(Overflow::Block)
                    .open()
                    .expect("a valid subscription")
            })
            .collect();
        let publishers = (0..work.publishers)
            .map(|_| {
                let topic = bus.topic("bench.tick").expect("a valid topic");
                let mut publisher = bus.publisher();
                move |ticks: Ticks| {
                    for tick in ticks {
                        publisher.publish(&topic, tick).expect("the bus is open");
                    }
                }
            })
            .collect();
        // From here on the publishers keep the bus open: it closes when the last of them is done.
        drop(bus);

        if matches!(self, Self::Batches) {
            let receiving = subscribers
                .into_iter()
                .map(|mut subscriber| {
                    move |check: &mut Checker| loop {
                        match subscriber.next_batch() {
                            Ok(batch) => {
                                for event in &batch {
                                    check.accept(event.data());
                                }
                            }
                            Err(RecvError::Closed) => break,
                            Err(error) => panic!("next_batch: {error}"),
                        }
                    }
                })
                .collect();
            race(work, publishers, receiving)
        } else {
            let receiving = subscribers
                .into_iter()
                .map(|mut subscriber| {
                    move |check: &mut Checker| loop {
                        match subscriber.recv() {
                            Ok(event) => check.accept(event.data()),
                            Err(RecvError::Closed) => break,
                            Err(error) => panic!("recv: {error}"),
                        }
                    }
                })
                .collect();
            race(work, publishers, receiving)
        }
    }
}
