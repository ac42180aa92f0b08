//! Invalid input: every setting at its bound and one beyond it, and errors that name the input, the
//! place and the rule.

use fanout::limits::{CAPACITY_MAX, DISPATCHERS_MAX, LANE_CAPACITY_MAX};
use fanout::{
    BuildError, Bus, BusBuilder, ChangeError, Dispatch, Message, Overflow, Pattern, PublishError,
    PublishSequencedError, PublishTimeoutError, RecvError, RecvTimeoutError, Start, SubscribeError,
    ThreadError, Topic, TopicError, TryPublishError, TryRecvError,
};
use std::error::Error;
use std::io;
use std::time::Duration;

use crate::support::{bus, manual};
use crate::tasks::block_on;

/// A payload that implements nothing, not even `Debug`.
struct Bare(u32);

fn build(change: impl FnOnce(BusBuilder<Bare>) -> BusBuilder<Bare>) -> Result<(), BuildError> {
    change(Bus::builder().dispatch(Dispatch::Manual))
        .build()
        .map(drop)
}

#[test]
fn bus_settings_at_and_beyond_their_bounds() {
    for ok in [1, 2, CAPACITY_MAX - 1, CAPACITY_MAX] {
        build(|b| b.capacity(ok)).expect("in range");
    }
    for (bad, text) in [
        (0, "a capacity of 0 events is not in 1..=16777216"),
        (
            CAPACITY_MAX + 1,
            "a capacity of 16777217 events is not in 1..=16777216",
        ),
    ] {
        let refused = build(|b| b.capacity(bad)).unwrap_err();
        assert!(matches!(refused, BuildError::Capacity(n) if n == bad));
        assert_eq!(refused.to_string(), text);
    }

    for ok in [1, DISPATCHERS_MAX] {
        build(|b| b.dispatchers(ok)).expect("in range");
    }
    for (bad, text) in [
        (0, "0 dispatchers is not in 1..=64"),
        (65, "65 dispatchers is not in 1..=64"),
    ] {
        let refused = build(|b| b.dispatchers(bad)).unwrap_err();
        assert!(matches!(refused, BuildError::Dispatchers(n) if n == bad));
        assert_eq!(refused.to_string(), text);
    }

    for ok in [1, 2, 3] {
        build(|b| b.lane_capacity(ok)).expect("in range");
    }
    for (bad, text) in [
        (0, "a lane capacity of 0 events is not in 1..=16777216"),
        (
            LANE_CAPACITY_MAX + 1,
            "a lane capacity of 16777217 events is not in 1..=16777216",
        ),
    ] {
        let refused = build(|b| b.lane_capacity(bad)).unwrap_err();
        assert!(matches!(refused, BuildError::LaneCapacity(n) if n == bad));
        assert_eq!(refused.to_string(), text);
    }

    build(|b| b.pin_bytes(1)).expect("in range");
    build(|b| b.pin_bytes(usize::MAX)).expect("in range");
    let refused = build(|b| b.pin_bytes(0)).unwrap_err();
    assert!(matches!(refused, BuildError::PinBytes));
    assert_eq!(refused.to_string(), "pin_bytes must be at least 1");
}

#[test]
fn the_largest_number_of_dispatchers_works() {
    let bus = bus(|b| b.dispatchers(DISPATCHERS_MAX));
    let mut subs: Vec<_> = (0..DISPATCHERS_MAX + 1)
        .map(|_| bus.subscribe("a").expect("open"))
        .collect();
    bus.publish("a", 7).expect("open");
    for sub in &mut subs {
        assert_eq!(sub.recv().map(|event| *event.data()), Ok(7));
    }
}

#[test]
fn subscription_settings_at_and_beyond_their_bounds() {
    let bus = manual::<Bare>();
    for ok in [1, CAPACITY_MAX] {
        bus.subscription("a")
            .capacity(ok)
            .start(Start::Now)
            .open()
            .expect("in range");
    }
    for bad in [0, CAPACITY_MAX + 1, usize::MAX] {
        let refused = bus.subscription("a").capacity(bad).open().unwrap_err();
        assert_eq!(refused, SubscribeError::Capacity(bad));
        assert_eq!(
            refused.to_string(),
            format!("a capacity of {bad} events is not in 1..=16777216")
        );
    }
    bus.subscription("a").pin_bytes(1).open().expect("in range");
    let refused = bus.subscription("a").pin_bytes(0).open().unwrap_err();
    assert_eq!(refused, SubscribeError::PinBytes);
    assert_eq!(refused.to_string(), "pin_bytes must be at least 1");

    let refused = bus.subscribe([""; 0]).unwrap_err();
    assert_eq!(refused, SubscribeError::NoPattern);
    assert_eq!(
        refused.to_string(),
        "a subscription needs at least one pattern"
    );
    assert_eq!(
        bus.subscribe(Vec::<Pattern>::new()).unwrap_err(),
        SubscribeError::NoPattern
    );

    let refused = bus.subscribe(["a.*", "a..b"]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "pattern `a..b`, byte 2: a segment must not be empty"
    );
    assert_eq!(
        bus.stats().subscriptions,
        0,
        "a refusal leaves nothing behind"
    );
}

#[test]
fn block_needs_a_bus_that_allows_blocking() {
    let plain = Bus::<Bare>::builder().build().expect("in range");
    let refused = plain
        .subscription("a")
        .overflow(Overflow::Block)
        .open()
        .unwrap_err();
    assert_eq!(refused, SubscribeError::BlockingNotAllowed);
    assert!(refused.to_string().contains("blocking(true)"), "{refused}");
    let by_default = Bus::<Bare>::builder().overflow(Overflow::Block).build();
    let refused = by_default.unwrap_err();
    assert_eq!(refused, BuildError::BlockingNotAllowed);
    assert!(refused.to_string().contains("blocking(true)"), "{refused}");
    bus::<Bare>(|b| b.overflow(Overflow::Block))
        .subscribe("a")
        .expect("allowed");
}

#[test]
fn texts_at_and_beyond_their_bounds() {
    let bus = manual::<u32>();
    let mut sub = bus.subscribe("**").expect("open");
    let longest = "t".repeat(1024);
    bus.publish(&longest, 1).expect("1024 bytes");
    bus.publisher().publish(&longest, 2).expect("1024 bytes");
    for refused in [
        bus.publish("t".repeat(1025), 3).unwrap_err(),
        bus.publisher().publish("t".repeat(1025), 3).unwrap_err(),
    ] {
        let text = refused.to_string();
        assert!(
            matches!(
                refused,
                PublishError::Topic(TopicError::TooLong { bytes: 1025, .. }, 3)
            ),
            "{text}"
        );
        assert!(
            text.contains("1025") && text.contains("1024") && text.len() < 200,
            "{text}"
        );
    }
    bus.drive();
    assert_eq!(
        sub.recv().map(|event| event.topic().as_str().len()),
        Ok(1024)
    );

    bus.subscribe("p".repeat(1024)).expect("1024 bytes");
    sub.handle().add(&*"p".repeat(1024)).expect("1024 bytes");
    let refused = bus.subscribe("p".repeat(1025)).unwrap_err();
    assert!(matches!(refused, SubscribeError::Pattern(_)));
    assert!(
        refused.to_string().contains("1024") && refused.to_string().len() < 200,
        "{refused}"
    );
    assert!(matches!(
        sub.handle().add(&*"p".repeat(1025)),
        Err(ChangeError::Pattern(_))
    ));
    assert!(matches!(
        sub.handle().remove(&*"p".repeat(1025)),
        Err(ChangeError::Pattern(_))
    ));
}

/// Texts that are not valid topics, each with the place and the rule that its error must name.
const BAD_TOPICS: [(&str, &str, &str); 6] = [
    ("", "", "empty"),
    (".a", "byte 0", "empty"),
    ("a.", "byte 2", "empty"),
    ("a..b", "byte 2", "empty"),
    ("a.\u{7}b", "byte 2", "control"),
    ("é.\u{85}", "byte 3", "control"),
];

#[test]
fn an_invalid_topic_is_reported_and_the_payload_returned() {
    let bus = manual::<Bare>();
    let mut publisher = bus.publisher();
    for (topic, place, rule) in BAD_TOPICS {
        let message = || Message::new(topic, Bare(7)).name("n").source("s");
        let wait = Duration::MAX;
        let publish = PublishError::into_value;
        let try_publish = TryPublishError::into_value;
        let timeout = PublishTimeoutError::into_value;
        let sequenced = |error: PublishSequencedError<Bare>| {
            error.into_value().expect("the event was not accepted")
        };
        let texts = [
            refused(bus.publish(topic, Bare(7)), publish),
            refused(bus.send(message()), publish),
            refused(bus.try_publish(topic, Bare(7)), try_publish),
            refused(bus.try_send(message()), try_publish),
            refused(bus.publish_timeout(topic, Bare(7), wait), timeout),
            refused(bus.send_timeout(message(), wait), timeout),
            refused(block_on(bus.publish_async(topic, Bare(7))), publish),
            refused(block_on(bus.send_async(message())), publish),
            refused(bus.publish_sequenced(topic, Bare(7)), sequenced),
            refused(bus.send_sequenced(message()), sequenced),
            refused(
                block_on(bus.publish_sequenced_async(topic, Bare(7))),
                sequenced,
            ),
            refused(block_on(bus.send_sequenced_async(message())), sequenced),
            refused(publisher.publish(topic, Bare(7)), publish),
            refused(publisher.send(message()), publish),
            refused(publisher.try_publish(topic, Bare(7)), try_publish),
            refused(publisher.try_send(message()), try_publish),
            refused(publisher.publish_timeout(topic, Bare(7), wait), timeout),
            refused(publisher.send_timeout(message(), wait), timeout),
            refused(block_on(publisher.publish_async(topic, Bare(7))), publish),
            refused(block_on(publisher.send_async(message())), publish),
            refused(publisher.publish_sequenced(topic, Bare(7)), sequenced),
            refused(publisher.send_sequenced(message()), sequenced),
            refused(
                block_on(publisher.publish_sequenced_async(topic, Bare(7))),
                sequenced,
            ),
            refused(
                block_on(publisher.send_sequenced_async(message())),
                sequenced,
            ),
            bus.topic(topic).unwrap_err().to_string(),
            Topic::new(topic).unwrap_err().to_string(),
        ];
        for text in &texts {
            assert_eq!(text, &texts[0]);
            assert!(
                text.contains(place) && text.contains(rule),
                "{topic:?}: {text}"
            );
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
    assert!(!bus.drive(), "nothing was accepted");
}

fn refused<R, E: Error>(answer: Result<R, E>, into_value: impl FnOnce(E) -> Bare) -> String {
    let Err(error) = answer else {
        panic!("the topic is not valid")
    };
    let text = reported(&error);
    assert_eq!(into_value(error).0, 7, "the value comes back");
    text
}

/// What an error reporter prints: the error and the chain of its sources. No text occurs twice.
fn reported(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = error;
    while let Some(source) = last.source() {
        let more = source.to_string();
        assert!(!text.contains(&more), "{text:?} repeats {more:?}");
        text = format!("{text}: {more}");
        last = source;
    }
    text
}

#[test]
fn an_error_shows_its_source_once() {
    let bus = manual::<Bare>();
    let pattern = Pattern::parse("a..b").unwrap_err();
    let thread = ThreadError::from(io::Error::other("no more threads"));
    let sub = bus.subscribe("a").expect("open");
    let label = bus.subscription("a").label("", "").open().unwrap_err();
    let wrapping: [(&dyn Error, &str); 7] = [
        (&bus.subscribe("a..b").unwrap_err(), &pattern.to_string()),
        (&sub.handle().add("a..b").unwrap_err(), &pattern.to_string()),
        (&label, "a key of 0 bytes"),
        (&SubscribeError::Thread(thread.clone()), "no more threads"),
        (&BuildError::Thread(thread.clone()), "no more threads"),
        (&BuildError::from(io::Error::other("a reason")), "a reason"),
        (&thread, "the system could not start a thread"),
    ];
    for (error, text) in wrapping {
        assert!(reported(error).contains(text), "{error}");
    }
    assert_eq!(thread, ThreadError::from(io::Error::other("another text")));
    assert_ne!(
        thread,
        ThreadError::from(io::Error::from(io::ErrorKind::OutOfMemory))
    );
}

/// An error that hands a value back implements `Debug`, `Display` and `Error`, whatever the value
/// is.
#[test]
fn errors_are_displayed_without_their_payload() {
    let bus = bus::<Bare>(|b| b.dispatch(Dispatch::Manual).lane_capacity(2));
    for _ in 0..2 {
        bus.try_publish("a", Bare(1)).expect("there is room");
    }
    let full = bus.try_publish("a", Bare(2)).unwrap_err();
    assert_eq!(
        (format!("{full:?}"), full.to_string()),
        ("Full(..)".into(), "the lane is full".into())
    );
    assert_eq!((full.value().0, full.into_value().0), (2, 2));
    let late = bus
        .publish_timeout("a", Bare(3), Duration::ZERO)
        .unwrap_err();
    assert_eq!(format!("{late:?}"), "Timeout(..)");
    assert_eq!((late.value().0, late.into_value().0), (3, 3));
    bus.close();
    let closed = bus.publish("a", Bare(4)).unwrap_err();
    assert_eq!(
        (format!("{closed:?}"), closed.to_string()),
        ("Closed(..)".into(), "the bus is closed".into())
    );
    let sequenced = bus.publish_sequenced("a", Bare(5)).unwrap_err();
    assert_eq!(sequenced.to_string(), "the bus is closed");
    assert_eq!(format!("{sequenced:?}"), "Refused(Closed(..))");
    assert_eq!(sequenced.value().map(|value| value.0), Some(5));
    assert_eq!(sequenced.into_value().map(|value| value.0), Some(5));
    let unsequenced = PublishSequencedError::<Bare>::Unsequenced;
    assert!(unsequenced.value().is_none() && unsequenced.into_value().is_none());
    let topic = bus.publish("", Bare(6)).unwrap_err();
    assert!(format!("{topic:?}").starts_with("Topic("), "{topic:?}");
    // Whatever the payload is, `?` converts the error into a box.
    let boxed: Box<dyn Error + Send + Sync> = Box::new(topic);
    assert_eq!(boxed.to_string(), TopicError::Empty.to_string());
    let texts = [RecvError::Closed, RecvError::Cancelled, RecvError::Broken].map(|e| {
        let text = e.to_string();
        assert_eq!(text, TryRecvError::from(e).to_string());
        assert_eq!(text, RecvTimeoutError::from(e).to_string());
        text
    });
    assert!(texts.iter().all(|text| !text.is_empty()));
}

/// Handles and builders implement `Debug`, whatever the payload is.
#[test]
fn all_types_implement_debug() {
    let bus = manual::<Bare>();
    let sub = bus.subscribe("a.*").expect("open");
    let builder = Bus::<Bare>::builder();
    for text in [
        format!("{bus:?}"),
        format!("{:?}", bus.publisher()),
        format!("{:?}", bus.downgrade()),
        format!("{sub:?}"),
        format!("{:?}", sub.handle()),
        format!("{builder:?}"),
        format!("{:?}", bus.stats()),
        format!("{:?}", sub.stats()),
    ] {
        assert!(!text.is_empty());
    }
    assert!(format!("{:?}", sub.handle()).contains("a.*"));
}

/// Weights are added up without an overflow.
#[test]
fn very_large_weights_do_not_overflow() {
    for overflow in [Overflow::DropNewest, Overflow::Block] {
        crate::support::ends(&format!("{overflow:?}"), move || {
            let bus = bus(|b| {
                b.dispatch(Dispatch::Manual)
                    .weigh(|_: &u32| usize::MAX)
                    .pin_bytes(usize::MAX)
            });
            let mut sub = bus
                .subscription("a")
                .overflow(overflow)
                .open()
                .expect("open");
            let mut received = 0;
            for n in 0..10 {
                bus.publish("a", n).expect("open");
                bus.publish("a", n).expect("open");
                bus.drive();
                received += crate::support::read_out(&mut sub).0.len();
            }
            bus.drive();
            received += crate::support::read_out(&mut sub).0.len();
            assert_eq!(received, 20);
        });
    }
}
