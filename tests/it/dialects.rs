//! Patterns in all languages on one bus: each subscription receives the events that its pattern
//! matches, and patterns that are added and removed are distinguished by language and text.

use fanout::{Bus, Dispatch, Pattern, Syntax, Topic};

use crate::support::{FOR_EVER, bus, payloads};

const TOPICS: [&str; 10] = [
    "a", "a.b", "a.b.c", "a.*", "$a", "$a.b", "a/b", "a.b/c", "é", "b.a",
];

/// Each pattern matches some of the topics, but not all.
const PATTERNS: [(Syntax, &str); 16] = [
    (Syntax::Segments, "a.*"),
    (Syntax::Segments, "**.{a,b}"),
    (Syntax::Nats, "a.*"),
    (Syntax::Nats, "a.>"),
    (Syntax::Amqp, "a.*"),
    (Syntax::Amqp, "#.b.#"),
    (Syntax::Mqtt, "+/b"),
    (Syntax::Mqtt, "a/#"),
    (Syntax::Mqtt, "#"),
    (Syntax::Path, "a.*"),
    (Syntax::Path, "a?b"),
    (Syntax::Path, "[!$]*"),
    (Syntax::Redis, "a.*"),
    (Syntax::Redis, "a.b[./]c"),
    (Syntax::Redis, "??"),
    (Syntax::Redis, "*a"),
];

fn patterns() -> impl Iterator<Item = Pattern> {
    PATTERNS
        .iter()
        .map(|&(syntax, text)| Pattern::parse_as(text, syntax).expect("a pattern"))
}

/// The indices in [`TOPICS`] of those that one of the patterns matches.
fn matching(patterns: &[Pattern]) -> Vec<usize> {
    let matches = |topic: &str| {
        let topic = Topic::new(topic).expect("a topic");
        patterns.iter().any(|pattern| pattern.matches(&topic))
    };
    (0..TOPICS.len())
        .filter(|&at| matches(TOPICS[at]))
        .collect()
}

/// Publishes an event on each of [`TOPICS`], with its index, and waits until all are in rings. A
/// pool thread may hold a role at that moment, for example because it has just started, and deliver
/// events a little later than the publishing thread would.
fn publish_all(bus: &Bus<usize>) {
    for (at, topic) in TOPICS.iter().enumerate() {
        bus.publish(*topic, at).expect("open");
    }
    assert!(bus.flush_within(FOR_EVER));
}

#[test]
fn each_subscription_gets_what_its_pattern_matches() {
    let bus = bus(|b| b.dispatch(Dispatch::Inline));
    let mut all: Vec<_> = patterns()
        .map(|pattern| (bus.subscribe(&pattern).expect("open"), pattern))
        .collect();
    let mut any = bus.subscribe(patterns().collect::<Vec<_>>()).expect("open");
    publish_all(&bus);
    for (subscriber, pattern) in &mut all {
        assert_eq!(
            payloads(subscriber),
            matching(std::slice::from_ref(pattern)),
            "{pattern:?}"
        );
    }
    assert_eq!(
        payloads(&mut any),
        matching(&patterns().collect::<Vec<_>>()),
        "each event once, even if several patterns match"
    );
}

#[test]
fn patterns_with_one_text_are_added_and_removed_independently() {
    let bus = bus(|b| b.dispatch(Dispatch::Inline));
    let mut subscriber = bus
        .subscribe(Pattern::parse_as("z", Syntax::Nats).expect("a pattern"))
        .expect("open");
    let handle = subscriber.handle();
    let mut current = handle.patterns();
    let languages = Syntax::ALL.map(|syntax| Pattern::parse_as("a.*", syntax).expect("a pattern"));
    // Each pattern is added, then each is removed in the same order.
    for step in 0..2 * languages.len() {
        let pattern = &languages[step % languages.len()];
        if step < languages.len() {
            assert_eq!(handle.add(pattern.clone()), Ok(true), "{pattern:?}");
            assert_eq!(handle.add(pattern), Ok(false), "{pattern:?}");
            current.push(pattern.clone());
        } else {
            assert_eq!(handle.remove(pattern.clone()), Ok(true), "{pattern:?}");
            assert_eq!(handle.remove(pattern), Ok(false), "{pattern:?}");
            current.retain(|other| other != pattern);
        }
        assert_eq!(handle.patterns(), current);
        publish_all(&bus);
        assert_eq!(payloads(&mut subscriber), matching(&current), "{current:?}");
    }
}

#[test]
fn a_subscription_returns_its_patterns_with_their_languages() {
    let bus = bus::<u32>(|b| b);
    let patterns: Vec<_> = patterns().collect();
    let subscriber = bus.subscribe(patterns.clone()).expect("open");
    assert_eq!(subscriber.handle().patterns(), patterns);
}
