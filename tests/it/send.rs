//! Which types may be sent to other threads and shared between them, checked by the compiler.

use fanout::{
    Batch, BatchIntoIter, BatchIter, BatchStream, Bus, BusBuilder, ChangeError, CloseReport, Event,
    EventStream, Gap, Message, PublishError, Publisher, Receipt, RecvError, SharedEvent,
    SubscribeError, Subscriber, SubscriptionBuilder, SubscriptionHandle, SubscriptionStats, Topic,
    TryPublishError, WaitStrategy, WeakBus, broadcast,
};
use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe};

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn both<T: Send + Sync>() {}
fn of_value<T: Send>(_: T) {}
fn of_static<T: Send + 'static>(_: T) {}

/// A payload may be of any type that is `Send + Sync + 'static`.
type Payload = Box<dyn Fn() + Send + Sync>;

/// A payload without `Debug`.
struct Opaque;

fn debug<T: std::fmt::Debug>() {}

/// The types that hold payloads implement `Debug` for payloads that do not. (`Event`, `SharedEvent`
/// and `Message` show their payloads, so they need it.)
#[test]
fn types_with_payloads_implement_debug() {
    debug::<(Bus<Opaque>, WeakBus<Opaque>, BusBuilder<Opaque>)>();
    debug::<(Publisher<Opaque>, Subscriber<Opaque>)>();
    debug::<(fanout::Iter<'static, Opaque>, fanout::HandlerGuard<Opaque>)>();
    debug::<(EventStream<Opaque>, BatchStream<Opaque>)>();
    debug::<(
        Batch<Opaque>,
        BatchIter<'static, Opaque>,
        BatchIntoIter<Opaque>,
    )>();
    debug::<(SubscriptionBuilder<Opaque>, SubscriptionHandle<Opaque>)>();
    debug::<(PublishError<Opaque>, TryPublishError<Opaque>)>();
}

#[test]
fn public_types_are_send_and_sync() {
    both::<Bus>();
    both::<Bus<Payload>>();
    both::<WeakBus<Payload>>();
    both::<Message<'static, Topic, Payload>>();
    both::<SubscriptionHandle<Payload>>();
    both::<Event<Payload>>();
    both::<SharedEvent<Payload>>();
    both::<Batch<Payload>>();
    both::<(BatchIter<'static, Payload>, BatchIntoIter<Payload>)>();
    both::<(EventStream<Payload>, BatchStream<Payload>)>();
    both::<WaitStrategy>();
    send::<Publisher<Payload>>();
    send::<Subscriber<Payload>>();
    sync::<Subscriber<Payload>>();
    send::<BusBuilder<Payload>>();
    send::<SubscriptionBuilder<Payload>>();
    both::<Topic>();
    both::<fanout::Pattern>();
    both::<fanout::PatternIndex<u32>>();
    both::<(Receipt, Gap, CloseReport, SubscriptionStats)>();
    both::<(
        RecvError,
        SubscribeError,
        ChangeError,
        fanout::PatternError,
        fanout::TopicError,
    )>();
    both::<(PublishError<Payload>, TryPublishError<Payload>)>();
    both::<(broadcast::Memory, Box<dyn broadcast::Broadcaster>)>();
    both::<(broadcast::SubscriptionGuard, broadcast::CancelToken)>();
    both::<broadcast::BroadcastEvent>();
    both::<(
        broadcast::BroadcastPublishError,
        broadcast::BroadcastCloseError,
    )>();
    // Errors and messages have no bound on the payload.
    send::<PublishError<Cell<u32>>>();
    send::<Message<'static, &str, Cell<u32>>>();
}

#[test]
fn public_types_may_cross_a_caught_panic() {
    fn safe<T: UnwindSafe + RefUnwindSafe>() {}
    safe::<(Topic, fanout::Pattern, RecvError, Gap, Receipt)>();
}

#[test]
fn futures_are_send() {
    let bus: Bus<Payload> = Bus::new();
    let mut publisher = bus.publisher();
    let topic = bus.topic("a").expect("a topic");
    of_value(bus.publish_async("a", Box::new(|| ())));
    of_value(bus.publish_async(String::from("a"), Box::new(|| ())));
    of_value(publisher.publish_async(topic.clone(), Box::new(|| ())));
    of_value(bus.send_async(Message::new("a", Box::new(|| ()) as Payload)));
    of_value(publisher.send_async(Message::new("a", Box::new(|| ()) as Payload)));
    of_value(bus.publish_sequenced_async(&topic, Box::new(|| ())));
    of_value(publisher.publish_sequenced_async(&topic, Box::new(|| ())));
    // The futures borrow nothing: a task may own them.
    of_static(bus.flush_async());
    of_static(bus.close_async());
    let mut sub = bus.subscribe("a").expect("open");
    of_value(sub.recv_async());
    of_value(sub.next_batch_async());
    // A task that owns its subscriber and receives in a loop, as in a program.
    of_value(async move { while sub.recv_async().await.is_ok() {} });
}

/// Publishers, subscribers and events move between threads.
#[test]
fn handles_can_move_to_other_threads() {
    let bus: Bus<String> = Bus::new();
    let mut publisher = bus.publisher();
    let mut sub = bus.subscribe("a").expect("open");
    let event = std::thread::spawn(move || {
        publisher.publish("a", String::from("x")).expect("open");
        sub.recv().expect("open").share()
    });
    let event = event.join().expect("no panic");
    let clone = event.clone();
    drop((event, bus));
    let length = std::thread::spawn(move || clone.data().len());
    assert_eq!(length.join().expect("no panic"), 1);
}
