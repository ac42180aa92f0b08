//! fanout itself: each publisher has a handle with a lane of its own, there is one topic, and all
//! subscribers use the same pattern. With `Overflow::Block` no event is lost.

use fanout::{
    Bus, Dispatch, Overflow, Publisher, RecvError, Subscriber, SubscriptionBuilder, Topic,
};

use crate::harness::{CAPACITY, Outcome, System, Work, run_handlers, run_tasks, run_threads};
use crate::tick::{Checker, Tick, Ticks};

/// fanout with subscribers that are threads.
pub enum FanoutThreads {
    /// `recv`, one event at a time, with the default dispatch (a pool). This is the headline row.
    Recv,
    /// `next_batch`, with the default dispatch.
    Batches,
    /// `publish_batch` and `next_batch`, with the default dispatch.
    PublishBatch,
    /// `recv`, with inline dispatch: a publishing thread dispatches its own events if it can.
    Inline,
}

impl System for FanoutThreads {
    fn name(&self) -> &'static str {
        match self {
            Self::Recv => "fanout",
            Self::Batches => "fanout-batches",
            Self::PublishBatch => "fanout-publish-batch",
            Self::Inline => "fanout-inline",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Recv => "one lane per publisher, Overflow::Block, recv()",
            Self::Batches => "as fanout, but next_batch() receives up to 64 events at a time",
            Self::PublishBatch => {
                "as fanout-batches, but publish_batch() publishes up to 64 events at a time"
            }
            Self::Inline => "as fanout, but with Dispatch::Inline",
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("fanout")
    }

    fn is_fanout(&self) -> bool {
        true
    }

    fn has_topics(&self) -> bool {
        true
    }

    fn exclusion(&self, work: &Work) -> Option<&'static str> {
        (matches!(self, Self::Inline) && work.publishers > 1)
            .then_some("measured only with one publisher")
    }

    fn run(&self, work: &Work) -> Outcome {
        let bus = bus(matches!(self, Self::Inline));
        let subscribers: Vec<_> = (0..work.subscribers)
            .map(|_| {
                subscription(&bus)
                    .open()
                    .expect("the subscription is valid")
            })
            .collect();
        match self {
            Self::Recv | Self::Inline => run_threads(
                work,
                publishers(bus, work, publish_each),
                receive_each(subscribers),
            ),
            Self::Batches => run_threads(
                work,
                publishers(bus, work, publish_each),
                receive_batches(subscribers),
            ),
            Self::PublishBatch => run_threads(
                work,
                publishers(bus, work, publish_batch),
                receive_batches(subscribers),
            ),
        }
    }
}

/// fanout with subscribers that are handlers, on a pool with as many threads as there are cores.
pub enum FanoutHandlers {
    /// The default dispatch. This is the headline row.
    Pool,
    /// Inline dispatch: a publishing thread puts its events into the rings, and the pool calls the
    /// handlers.
    Inline,
}

impl System for FanoutHandlers {
    fn name(&self) -> &'static str {
        match self {
            Self::Pool => "fanout-handlers",
            Self::Inline => "fanout-handlers-inline",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Pool => {
                "one lane per publisher, Overflow::Block, handler() on the default pool with a \
                 thread per core"
            }
            Self::Inline => "as fanout-handlers, but with Dispatch::Inline",
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("fanout")
    }

    fn is_fanout(&self) -> bool {
        true
    }

    fn has_topics(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        run_handlers(work, |handlers| {
            let bus = bus(matches!(self, Self::Inline));
            for mut handler in handlers {
                subscription(&bus)
                    .handler(move |event| handler.call(event.data()))
                    .expect("the subscription is valid")
                    .detach();
            }
            publishers(bus, work, publish_each)
        })
    }
}

/// fanout with subscribers that are tasks.
pub enum FanoutTasks {
    /// `recv_async`, one event at a time. This is the headline row.
    Recv,
    /// `next_batch_async`.
    Batches,
}

impl System for FanoutTasks {
    fn name(&self) -> &'static str {
        match self {
            Self::Recv => "fanout-tasks",
            Self::Batches => "fanout-tasks-batches",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Recv => {
                "one lane per publisher, Overflow::Block, recv_async(); publishers are threads"
            }
            Self::Batches => {
                "as fanout-tasks, but next_batch_async() receives up to 64 events at a time"
            }
        }
    }

    fn package(&self) -> Option<&'static str> {
        Some("fanout")
    }

    fn is_fanout(&self) -> bool {
        true
    }

    fn has_topics(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        let bus = bus(false);
        let subscribers: Vec<_> = (0..work.subscribers)
            .map(|_| {
                subscription(&bus)
                    .open()
                    .expect("the subscription is valid")
            })
            .collect();
        let publishers = publishers(bus, work, publish_each);

        if matches!(self, Self::Batches) {
            let receiving = subscribers
                .into_iter()
                .map(|mut subscriber| {
                    |mut checker: Checker| async move {
                        loop {
                            match subscriber.next_batch_async().await {
                                Ok(batch) => {
                                    for event in &batch {
                                        checker.accept(event.data());
                                    }
                                }
                                Err(RecvError::Closed) => return checker,
                                Err(error) => panic!("next_batch_async: {error}"),
                            }
                        }
                    }
                })
                .collect();
            run_tasks(work, publishers, receiving)
        } else {
            let receiving = subscribers
                .into_iter()
                .map(|mut subscriber| {
                    |mut checker: Checker| async move {
                        loop {
                            match subscriber.recv_async().await {
                                Ok(event) => checker.accept(event.data()),
                                Err(RecvError::Closed) => return checker,
                                Err(error) => panic!("recv_async: {error}"),
                            }
                        }
                    }
                })
                .collect();
            run_tasks(work, publishers, receiving)
        }
    }
}

fn bus(inline: bool) -> Bus<Tick> {
    let mut builder = Bus::builder().blocking(true).capacity(CAPACITY);
    if inline {
        builder = builder.dispatch(Dispatch::Inline);
    }
    builder.build().expect("the configuration is valid")
}

fn subscription(bus: &Bus<Tick>) -> SubscriptionBuilder<Tick> {
    bus.subscription("bench.**")
        .capacity(CAPACITY)
        .overflow(Overflow::Block)
}

/// The publishers, each with a handle of its own. The bus closes when the last of them is done.
fn publishers<F>(bus: Bus<Tick>, work: &Work, publish: F) -> Vec<impl FnOnce(Ticks) + Send + use<F>>
where
    F: FnOnce(&mut Publisher<Tick>, &Topic, Ticks) + Copy + Send,
{
    (0..work.publishers)
        .map(|_| {
            let topic = bus.topic("bench.tick").expect("the topic is valid");
            let mut publisher = bus.publisher();
            move |ticks: Ticks| publish(&mut publisher, &topic, ticks)
        })
        .collect()
}

/// Publishes the events one at a time.
fn publish_each(publisher: &mut Publisher<Tick>, topic: &Topic, ticks: Ticks) {
    for tick in ticks {
        publisher.publish(topic, tick).expect("the bus is open");
    }
}

/// Publishes the events with one call of `publish_batch`.
fn publish_batch(publisher: &mut Publisher<Tick>, topic: &Topic, ticks: Ticks) {
    publisher
        .publish_batch(topic, ticks)
        .expect("the bus is open");
}

/// Threads that receive one event at a time.
fn receive_each(
    subscribers: Vec<Subscriber<Tick>>,
) -> Vec<impl FnOnce(&mut Checker) + Send + use<>> {
    subscribers
        .into_iter()
        .map(|mut subscriber| {
            move |checker: &mut Checker| loop {
                match subscriber.recv() {
                    Ok(event) => checker.accept(event.data()),
                    Err(RecvError::Closed) => break,
                    Err(error) => panic!("recv: {error}"),
                }
            }
        })
        .collect()
}

/// Threads that receive batches of events.
fn receive_batches(
    subscribers: Vec<Subscriber<Tick>>,
) -> Vec<impl FnOnce(&mut Checker) + Send + use<>> {
    subscribers
        .into_iter()
        .map(|mut subscriber| {
            move |checker: &mut Checker| loop {
                match subscriber.next_batch() {
                    Ok(batch) => {
                        for event in &batch {
                            checker.accept(event.data());
                        }
                    }
                    Err(RecvError::Closed) => break,
                    Err(error) => panic!("next_batch: {error}"),
                }
            }
        })
        .collect()
}
