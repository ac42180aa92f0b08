//! fanout itself: each publisher has a handle with a lane of its own, there is one topic, and all
//! subscribers use the same pattern. With `Overflow::Block` no event is lost.

use std::iter;

use fanout::{
    Bus, BusBuilder, Dispatch, Overflow, Publisher, RecvError, Subscriber, SubscriptionBuilder,
    Topic, WaitStrategy,
};

use crate::harness::{CAPACITY, Outcome, System, Work, run_handlers, run_tasks, run_threads};
use crate::machine;
use crate::tick::{Checker, Tick, Ticks};

/// fanout with subscribers that are threads.
pub enum FanoutThreads {
    /// `recv`, one event at a time, with the default dispatch. This is the headline row.
    Recv,
    /// `next_batch`, with the default dispatch.
    Batches,
    /// `publish_batch` and `next_batch`, with the default dispatch.
    PublishBatch,
    /// `recv`, and publishing through the shared lane with the text of a topic, as in the first
    /// lines of code that a newcomer writes.
    Text,
    /// `next_batch`, and batches of events that are published through the shared lane with the text
    /// of a topic.
    TextBatch,
    /// `recv`, with readers that spin while they wait.
    Spin,
    /// `recv`, with a pool of dispatchers, if this is not the default dispatch.
    Pool,
    /// `recv`, with inline dispatch: a publishing thread dispatches its own events if it can.
    Inline,
}

impl FanoutThreads {
    fn dispatch(&self) -> Dispatch {
        match self {
            Self::Pool => Dispatch::Pool,
            Self::Inline => Dispatch::Inline,
            _ => Dispatch::default(),
        }
    }
}

impl System for FanoutThreads {
    fn name(&self) -> &'static str {
        match self {
            Self::Recv => "fanout",
            Self::Batches => "fanout-batches",
            Self::PublishBatch => "fanout-publish-batch",
            Self::Text => "fanout-text",
            Self::TextBatch => "fanout-text-batch",
            Self::Spin => "fanout-spin",
            Self::Pool => "fanout-pool",
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
            Self::Text => {
                "as fanout, but with bus.publish(\"bench.tick\", ..): the text of the topic is \
                 looked up for each event, and all publishers share a lane"
            }
            Self::TextBatch => {
                "as fanout-batches, but with bus.publish_batch(\"bench.tick\", ..): up to 64 events \
                 at a time, and all publishers share a lane"
            }
            Self::Spin => {
                "as fanout, but with WaitStrategy::Spin: a reader uses a core fully, also when idle"
            }
            Self::Pool => "as fanout, but with Dispatch::Pool",
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

    fn spins(&self) -> bool {
        matches!(self, Self::Spin)
    }

    fn exclusion(&self, work: &Work) -> Option<&'static str> {
        match self {
            Self::Spin if work.threads() > machine::cores() => {
                Some("it spins, and there are more threads than cores")
            }
            Self::Pool if Dispatch::default() == Dispatch::Pool => {
                Some("this is the default dispatch, so it is the row fanout")
            }
            Self::Inline if work.publishers > 1 => Some("measured only with one publisher"),
            _ => None,
        }
    }

    fn run(&self, work: &Work) -> Outcome {
        let bus = bus(self.dispatch());
        let wait = if matches!(self, Self::Spin) {
            WaitStrategy::Spin
        } else {
            WaitStrategy::default()
        };
        let subscribers: Vec<_> = (0..work.subscribers)
            .map(|_| {
                subscription(&bus)
                    .wait(wait)
                    .open()
                    .expect("the subscription is valid")
            })
            .collect();
        match self {
            Self::Text => run_threads(
                work,
                publishers_of_texts(bus, work, publish_each_text),
                receive_each(subscribers),
            ),
            Self::TextBatch => run_threads(
                work,
                publishers_of_texts(bus, work, publish_text_batch),
                receive_batches(subscribers),
            ),
            Self::Recv | Self::Spin | Self::Pool | Self::Inline => run_threads(
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
            let bus = bus(match self {
                Self::Pool => Dispatch::default(),
                Self::Inline => Dispatch::Inline,
            });
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
        let bus = bus(Dispatch::default());
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

/// A lossless bus with the capacity of the comparison.
pub fn bus(dispatch: Dispatch) -> Bus<Tick> {
    builder(dispatch)
        .build()
        .expect("the configuration is valid")
}

/// The settings of [`bus`].
pub fn builder(dispatch: Dispatch) -> BusBuilder<Tick> {
    Bus::builder()
        .blocking(true)
        .capacity(CAPACITY)
        .dispatch(dispatch)
}

/// The settings of each subscription.
pub fn subscription(bus: &Bus<Tick>) -> SubscriptionBuilder<Tick> {
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

/// Publishers that share a lane, each with a clone of the bus. The bus closes when the last of them
/// is done.
fn publishers_of_texts(
    bus: Bus<Tick>,
    work: &Work,
    publish: fn(&Bus<Tick>, Ticks),
) -> Vec<impl FnOnce(Ticks) + Send + use<>> {
    iter::repeat_n(bus, work.publishers as usize)
        .map(|bus| move |ticks: Ticks| publish(&bus, ticks))
        .collect()
}

/// Publishes the events one at a time, with the text of the topic.
fn publish_each_text(bus: &Bus<Tick>, ticks: Ticks) {
    for tick in ticks {
        bus.publish("bench.tick", tick).expect("the bus is open");
    }
}

/// Publishes the events with one call of `publish_batch`, with the text of the topic.
fn publish_text_batch(bus: &Bus<Tick>, ticks: Ticks) {
    bus.publish_batch("bench.tick", ticks)
        .expect("the bus is open");
}

/// Publishes the events one at a time.
pub fn publish_each(publisher: &mut Publisher<Tick>, topic: &Topic, ticks: Ticks) {
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
pub fn receive_each(
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
