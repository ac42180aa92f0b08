//! fanout itself: a publisher handle (a lane) per publisher, one topic, one pattern that all
//! subscribers share, `Overflow::Block`, so nothing is lost.

use fanout::{Bus, Dispatch, Overflow, RecvError, Subscriber, SubscriptionBuilder};

use crate::race::{CAPACITY, Outcome, System, Work, race, race_handlers, race_tasks};
use crate::tick::{Checker, Tick, Ticks};

/// Subscribers that are threads: how they receive, and which threads carry the events.
pub enum Fanout {
    /// `recv`, one event at a time, default dispatch (a pool): the headline row.
    Recv,
    /// `next_batch`, default dispatch.
    Batches,
    /// `publish_batch` and `next_batch`, default dispatch.
    BatchesPublished,
    /// `recv`, inline dispatch: publishing threads carry their events where they can.
    Inline,
}

impl System for Fanout {
    fn name(&self) -> &'static str {
        match self {
            Self::Recv => "fanout",
            Self::Batches => "fanout-batches",
            Self::BatchesPublished => "fanout-publish-batch",
            Self::Inline => "fanout-inline",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Recv => "one lane per publisher, Overflow::Block, recv() lends each event",
            Self::Batches => "the same, next_batch() lends up to 64 events at a time",
            Self::BatchesPublished => {
                "the same as fanout-batches, publish_batch() publishes up to 64 events at a time"
            }
            Self::Inline => "the same as fanout, Dispatch::Inline",
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("fanout")
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
        let bus = bus(matches!(self, Self::Inline));
        let subscribers: Vec<_> = (0..work.subscribers)
            .map(|_| subscription(&bus).open().expect("a valid subscription"))
            .collect();
        if matches!(self, Self::BatchesPublished) {
            return race(
                work,
                batch_publishers(bus, work),
                batch_readers(subscribers),
            );
        }
        let publishers = publishers(bus, work);
        if matches!(self, Self::Batches) {
            return race(work, publishers, batch_readers(subscribers));
        }
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

/// Subscribers that are closures, on a handler pool of as many threads as there are cores.
pub enum Called {
    /// Default dispatch: the headline row.
    Pool,
    /// Inline dispatch: publishing threads carry their events to the rings, the pool calls.
    Inline,
}

impl System for Called {
    fn name(&self) -> &'static str {
        match self {
            Self::Pool => "fanout-handlers",
            Self::Inline => "fanout-handlers-inline",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Pool => {
                "one lane per publisher, Overflow::Block, handler() on the default pool: a thread per \
                 core"
            }
            Self::Inline => "the same, Dispatch::Inline",
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("fanout")
    }

    fn is_fanout(&self) -> bool {
        true
    }

    fn topics(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        race_handlers(work, |handlers| {
            let bus = bus(matches!(self, Self::Inline));
            for mut handler in handlers {
                subscription(&bus)
                    .handler(move |event| handler.call(event.data()))
                    .expect("a valid subscription")
                    .detach();
            }
            publishers(bus, work)
        })
    }
}

/// Subscribers that are tasks: how they receive.
pub enum Tasks {
    /// `recv_async`, one event at a time: the headline row.
    Recv,
    /// `next_batch_async`.
    Batches,
}

impl System for Tasks {
    fn name(&self) -> &'static str {
        match self {
            Self::Recv => "fanout-tasks",
            Self::Batches => "fanout-tasks-batches",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Recv => {
                "one lane per publisher, Overflow::Block, recv_async() lends each event; publishing \
                 threads publish()"
            }
            Self::Batches => "the same, next_batch_async() lends up to 64 events at a time",
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("fanout")
    }

    fn is_fanout(&self) -> bool {
        true
    }

    fn topics(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        let bus = bus(false);
        let subscribers: Vec<_> = (0..work.subscribers)
            .map(|_| subscription(&bus).open().expect("a valid subscription"))
            .collect();
        let publishers = publishers(bus, work);

        if matches!(self, Self::Batches) {
            let receiving = subscribers
                .into_iter()
                .map(|mut subscriber| {
                    |mut check: Checker| async move {
                        loop {
                            match subscriber.next_batch_async().await {
                                Ok(batch) => {
                                    for event in &batch {
                                        check.accept(event.data());
                                    }
                                }
                                Err(RecvError::Closed) => return check,
                                Err(error) => panic!("next_batch_async: {error}"),
                            }
                        }
                    }
                })
                .collect();
            race_tasks(work, publishers, receiving)
        } else {
            let receiving = subscribers
                .into_iter()
                .map(|mut subscriber| {
                    |mut check: Checker| async move {
                        loop {
                            match subscriber.recv_async().await {
                                Ok(event) => check.accept(event.data()),
                                Err(RecvError::Closed) => return check,
                                Err(error) => panic!("recv_async: {error}"),
                            }
                        }
                    }
                })
                .collect();
            race_tasks(work, publishers, receiving)
        }
    }
}

fn bus(inline: bool) -> Bus<Tick> {
    let mut builder = Bus::builder().blocking(true).capacity(CAPACITY);
    if inline {
        builder = builder.dispatch(Dispatch::Inline);
    }
    builder.build().expect("a valid configuration")
}

fn subscription(bus: &Bus<Tick>) -> SubscriptionBuilder<Tick> {
    bus.subscription("bench.**")
        .capacity(CAPACITY)
        .overflow(Overflow::Block)
}

/// From here on the publishers keep the bus open: it closes when the last of them is done.
fn publishers(bus: Bus<Tick>, work: &Work) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    (0..work.publishers)
        .map(|_| {
            let topic = bus.topic("bench.tick").expect("a valid topic");
            let mut publisher = bus.publisher();
            move |ticks: Ticks| {
                for tick in ticks {
                    publisher.publish(&topic, tick).expect("the bus is open");
                }
            }
        })
        .collect()
}

/// Like `publishers`, with all events in one batch.
fn batch_publishers(bus: Bus<Tick>, work: &Work) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    (0..work.publishers)
        .map(|_| {
            let topic = bus.topic("bench.tick").expect("a valid topic");
            let mut publisher = bus.publisher();
            move |ticks: Ticks| {
                publisher
                    .publish_batch(&topic, ticks)
                    .expect("the bus is open");
            }
        })
        .collect()
}

fn batch_readers(
    subscribers: Vec<Subscriber<Tick>>,
) -> Vec<impl FnOnce(&mut Checker) + Send + use<>> {
    subscribers
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
        .collect()
}
