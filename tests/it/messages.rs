//! Every `send` method takes a message, and delivers its name and its source.

use fanout::{
    Bus, Dispatch, Message, PublishError, PublishSequencedError, Publisher, Receipt, Topic,
};
use std::borrow::Cow;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::support::{FOR_EVER, MODES, bus, ends, eventually, manual, payloads};
use crate::tasks::{RUNTIMES, Task, Wakes, block_on, now_or_never, poll};

type Way = (&'static str, fn(&Bus<u32>, &mut Publisher<u32>));

fn message<'a>() -> Message<'a, &'static str, u32> {
    Message::new("a", 7).name("Created").source("billing")
}

/// The methods without a receipt, which do not wait for a thread that drives.
const WAYS: [Way; 8] = [
    ("Bus::send", |bus, _| bus.send(message()).expect("open")),
    ("Bus::try_send", |bus, _| {
        bus.try_send(message()).expect("open")
    }),
    ("Bus::send_timeout", |bus, _| {
        bus.send_timeout(message(), FOR_EVER).expect("open");
    }),
    ("Bus::send_async", |bus, _| {
        block_on(bus.send_async(message())).expect("open");
    }),
    ("Publisher::send", |_, publisher| {
        publisher.send(message()).expect("open");
    }),
    ("Publisher::try_send", |_, publisher| {
        publisher.try_send(message()).expect("open");
    }),
    ("Publisher::send_timeout", |_, publisher| {
        publisher.send_timeout(message(), FOR_EVER).expect("open");
    }),
    ("Publisher::send_async", |_, publisher| {
        block_on(publisher.send_async(message())).expect("open");
    }),
];

#[test]
fn every_publish_method_carries_name_and_source() {
    let bus = manual::<u32>();
    let mut sub = bus.subscribe("a").expect("open");
    let mut publisher = bus.publisher();
    for (way, publish) in WAYS {
        publish(&bus, &mut publisher);
        bus.drive();
        let event = sub.try_recv().expect(way);
        assert_eq!(
            (event.name(), event.source(), *event.data()),
            (Some("Created"), Some("billing"), 7),
            "{way}"
        );
    }
}

#[test]
fn a_receipt_belongs_to_the_event_that_was_sent() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        ends(&format!("{mode:?}"), move || {
            let bus = bus::<u32>(|b| b.dispatch(mode));
            let mut sub = bus.subscribe("a").expect("open");
            let mut publisher = bus.publisher();
            let receipts = [
                bus.publish_sequenced("a", 7),
                bus.send_sequenced(message()),
                block_on(bus.publish_sequenced_async("a", 7)),
                block_on(bus.send_sequenced_async(message())),
                publisher.publish_sequenced("a", 7),
                publisher.send_sequenced(message()),
                block_on(publisher.publish_sequenced_async("a", 7)),
                block_on(publisher.send_sequenced_async(message())),
            ];
            for (n, receipt) in receipts.into_iter().enumerate() {
                let receipt = receipt.expect("open");
                let event = sub.recv().expect("delivered");
                assert_eq!(
                    (receipt.id(), receipt.created_at()),
                    (event.id(), event.created_at())
                );
                assert_eq!(event.name(), (n % 2 == 1).then_some("Created"));
            }
        });
    }
}

/// A message that owns its texts can move into a task or a queue, and wait there.
#[test]
fn a_message_may_own_its_texts_and_cross_an_await() {
    for runtime in RUNTIMES {
        ends(&format!("{runtime:?}"), move || {
            let bus = bus::<u32>(|b| b.lane_capacity(2));
            let mut sub = bus.subscription("*").capacity(4096).open().expect("open");
            let publishing = (0..8).map(|n| -> Task<()> {
                let message: Message<'static, Topic, u32> =
                    Message::new(bus.topic(format!("t{n}")).expect("a topic"), n)
                        .name(format!("name {n}"))
                        .source(Cow::Borrowed("source"));
                let bus = bus.clone();
                Box::pin(async move {
                    for _ in 0..100 {
                        bus.send_async(message.clone()).await.expect("open");
                    }
                    // The message borrows from the state of the task, across an await.
                    let name = format!("name {n}");
                    let borrowed = Message::new(format!("t{n}"), n).name(&name);
                    let mut publisher = bus.publisher();
                    publisher.send_async(borrowed).await.expect("open");
                })
            });
            runtime.run(publishing.collect());
            assert!(bus.flush_within(FOR_EVER));
            let mut received = 0;
            while let Ok(event) = sub.try_recv() {
                let n = event.data();
                assert_eq!(event.topic().as_str(), format!("t{n}"));
                assert_eq!(event.name(), Some(&*format!("name {n}")));
                received += 1;
            }
            assert_eq!(received, 8 * 101);
        });
    }
}

#[test]
fn messages_wait_in_a_queue_and_are_sent_on_another_thread() {
    let bus = bus::<u32>(|b| b);
    let mut sub = bus.subscribe("*").expect("open");
    let (sender, receiver) = std::sync::mpsc::channel();
    let publishing = thread::spawn({
        let bus = bus.clone();
        move || receiver.iter().try_for_each(|message| bus.send(message))
    });
    for n in 0..10 {
        let message = Message::new(format!("t{n}"), n).source(format!("s{n}"));
        sender.send(message).expect("it is read");
    }
    drop(sender);
    publishing.join().expect("no panic").expect("open");
    assert!(bus.flush_within(FOR_EVER));
    assert_eq!(payloads(&mut sub), (0..10).collect::<Vec<_>>());
}

/// If the future is dropped while it waits for room, no event is published. If it is dropped later,
/// only the receipt is lost.
#[test]
fn a_future_of_a_receipt_may_be_dropped() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual).lane_capacity(2));
    let mut sub = bus.subscribe("a").expect("open");
    let mut publisher = bus.publisher();
    let (_, waker) = Wakes::new();
    drop(bus.publish_sequenced_async("a", 90));
    drop(publisher.publish_sequenced_async("a", 91));
    for n in 1..=2 {
        // The event is accepted at the first poll, and the future is dropped before the receipt.
        assert!(now_or_never(bus.publish_sequenced_async("a", n)).is_none());
        assert!(now_or_never(publisher.publish_sequenced_async("a", 10 + n)).is_none());
    }
    let mut shared = Box::pin(bus.publish_sequenced_async("a", 92));
    let mut own = Box::pin(publisher.publish_sequenced_async("a", 93));
    assert!(poll(&mut shared, &waker).is_pending());
    assert!(poll(&mut own, &waker).is_pending());
    drop((shared, own));
    bus.drive();
    let mut received = payloads(&mut sub);
    received.sort_unstable();
    assert_eq!(received, [1, 2, 11, 12]);
}

#[test]
fn a_task_that_waits_for_its_receipt_is_woken() {
    for mode in MODES {
        ends(&format!("{mode:?}"), move || {
            let bus = bus::<u32>(|b| b.dispatch(mode));
            let (wakes, waker) = Wakes::new();
            let mut waiting = Box::pin(bus.publish_sequenced_async("a", 1));
            let mut answer = poll(&mut waiting, &waker);
            if answer.is_pending() {
                eventually("the task is woken", || {
                    bus.drive();
                    wakes.count() > 0
                });
                answer = poll(&mut waiting, &waker);
            }
            let Poll::Ready(Ok(receipt)) = answer else {
                panic!("{mode:?}: {answer:?}")
            };
            assert_eq!(receipt.id(), 1);
        });
    }
}

/// A close ends the wait for a receipt, whether the event was accepted or not.
#[test]
fn a_close_wakes_threads_that_wait_for_a_receipt() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual).lane_capacity(2));
    let (wakes, waker) = Wakes::new();
    let full = bus.subscription("a").capacity(1);
    let _full = full.overflow(fanout::Overflow::Block).open().expect("open");
    crate::support::fill(&bus, || bus.try_publish("a", 0).is_ok());
    let mut publisher = bus.publisher();
    let mut accepted = Box::pin(publisher.publish_sequenced_async("a", 1));
    let mut refused = Box::pin(bus.publish_sequenced_async("a", 2));
    assert!(poll(&mut accepted, &waker).is_pending());
    assert!(poll(&mut refused, &waker).is_pending());
    assert!(!bus.close_within(Duration::ZERO).in_time);
    crate::support::eventually("the task was woken", || wakes.count() > 0);
    let gone: Poll<Result<Receipt, _>> = poll(&mut accepted, &waker);
    assert!(matches!(
        gone,
        Poll::Ready(Err(PublishSequencedError::Unsequenced))
    ));
    assert!(matches!(
        poll(&mut refused, &waker),
        Poll::Ready(Err(PublishSequencedError::Refused(PublishError::Closed(2))))
    ));
}

/// On a runtime with one thread, a publisher that waits for room leaves the thread to the reader.
#[test]
fn publisher_and_slow_reader_share_one_thread() {
    ends("one thread", || {
        let bus = bus::<u32>(|b| b.lane_capacity(2));
        let sub = bus.subscription("a").capacity(1);
        let mut sub = sub.overflow(fanout::Overflow::Block).open().expect("open");
        let publishing: Task<u32> = Box::pin({
            let bus = bus.clone();
            async move {
                for n in 0..500 {
                    bus.publish_async("a", n).await.expect("open");
                }
                0
            }
        });
        let reading: Task<u32> = Box::pin(async move {
            for _ in 0..500 {
                sub.recv_async().await.expect("nothing is lost");
            }
            500
        });
        let runtime = crate::tasks::Runtime::TokioCurrentThread;
        assert_eq!(runtime.run(vec![publishing, reading]), [0, 500]);
    });
}
