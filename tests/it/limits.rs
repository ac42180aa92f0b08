//! Every bound in `fanout::limits`: a value at the bound is accepted, and a value one beyond it is
//! refused. The texts of the errors are in `errors.rs`.

use std::time::Duration;

use fanout::limits::{
    BLOCK_TIMEOUT_MAX, BRACE_EXPANSIONS_MAX, CAPACITY_MAX, DISPATCHERS_MAX, DROPPED_LANES_MAX,
    HANDLER_STALL, HANDLER_THREADS_MAX, LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX,
    LANE_CAPACITY_MAX, MQTT_LEVELS_MAX, PATTERN_BYTES_MAX, SET_STEPS_MAX, TOPIC_BYTES_MAX,
};
use fanout::{
    BuildError, Bus, BusBuilder, Dispatch, LabelRule, Pattern, PatternRule, SubscribeError,
    SubscriptionBuilder, Syntax, TooComplex, Topic, TopicError,
};

/// Manual dispatch, which needs no threads.
fn build(change: impl FnOnce(BusBuilder<()>) -> BusBuilder<()>) -> Result<(), BuildError> {
    let builder = Bus::builder().dispatch(Dispatch::Manual);
    change(builder).build().map(drop)
}

fn open(
    change: impl FnOnce(SubscriptionBuilder<()>) -> SubscriptionBuilder<()>,
) -> Result<(), SubscribeError> {
    let bus = Bus::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("the bounds are in range");
    change(bus.subscription("a")).open().map(drop)
}

fn label_rule(opened: Result<(), SubscribeError>) -> LabelRule {
    match opened {
        Err(SubscribeError::Label(error)) => error.rule(),
        other => panic!("not refused for a label: {other:?}"),
    }
}

/// The behaviour at the bound is in `lanes.rs`.
#[test]
fn the_lanes_of_dropped_publishers() {
    assert_eq!(DROPPED_LANES_MAX, 1024);
}

#[test]
fn the_capacity_of_a_ring() {
    build(|b| b.capacity(CAPACITY_MAX)).expect("at the bound");
    let past = build(|b| b.capacity(CAPACITY_MAX + 1)).unwrap_err();
    assert!(matches!(past, BuildError::Capacity(n) if n == CAPACITY_MAX + 1));
    open(|s| s.capacity(CAPACITY_MAX)).expect("at the bound");
    let past = open(|s| s.capacity(CAPACITY_MAX + 1)).unwrap_err();
    assert_eq!(past, SubscribeError::Capacity(CAPACITY_MAX + 1));
}

#[test]
fn the_capacity_of_a_lane() {
    let past = build(|b| b.lane_capacity(LANE_CAPACITY_MAX + 1)).unwrap_err();
    assert!(matches!(past, BuildError::LaneCapacity(n) if n == LANE_CAPACITY_MAX + 1));
}

#[test]
#[ignore = "the shared lane allocates all of its slots at once: about 700 MB"]
fn the_capacity_of_a_lane_at_the_bound() {
    build(|b| b.lane_capacity(LANE_CAPACITY_MAX)).expect("at the bound");
}

#[test]
fn the_block_timeout() {
    let past = BLOCK_TIMEOUT_MAX + Duration::from_nanos(1);
    build(|b| b.block_timeout(BLOCK_TIMEOUT_MAX)).expect("at the bound");
    let refused = build(|b| b.block_timeout(past)).unwrap_err();
    assert!(matches!(refused, BuildError::BlockTimeout(wait) if wait == past));
    open(|s| s.block_timeout(BLOCK_TIMEOUT_MAX)).expect("at the bound");
    let refused = open(|s| s.block_timeout(past)).unwrap_err();
    assert_eq!(refused, SubscribeError::BlockTimeout(past));
}

#[test]
fn the_dispatchers() {
    build(|b| b.dispatchers(DISPATCHERS_MAX)).expect("at the bound");
    let past = build(|b| b.dispatchers(DISPATCHERS_MAX + 1)).unwrap_err();
    assert!(matches!(past, BuildError::Dispatchers(n) if n == DISPATCHERS_MAX + 1));
}

#[test]
fn the_handler_threads() {
    build(|b| b.max_handler_threads(HANDLER_THREADS_MAX)).expect("at the bound");
    build(|b| b.max_handler_threads(HANDLER_THREADS_MAX + 1)).expect_err("one past the bound");
    assert_eq!(HANDLER_STALL, Duration::from_millis(10));
}

#[test]
fn the_labels() {
    let labels = |n: usize| open(|s| (0..n).fold(s, |s, n| s.label(format!("k{n}"), "")));
    labels(LABELS_MAX).expect("at the bound");
    assert_eq!(label_rule(labels(LABELS_MAX + 1)), LabelRule::TooMany);

    let key = |bytes| open(|s| s.label("k".repeat(bytes), ""));
    key(LABEL_KEY_BYTES_MAX).expect("at the bound");
    let past = LABEL_KEY_BYTES_MAX + 1;
    assert_eq!(label_rule(key(past)), LabelRule::KeyLength(past));

    let value = |bytes| open(|s| s.label("k", "v".repeat(bytes)));
    value(LABEL_VALUE_BYTES_MAX).expect("at the bound");
    let past = LABEL_VALUE_BYTES_MAX + 1;
    assert_eq!(label_rule(value(past)), LabelRule::ValueLength(past));
}

#[test]
fn the_length_of_a_topic() {
    Topic::new("t".repeat(TOPIC_BYTES_MAX)).expect("at the bound");
    let past = Topic::new("t".repeat(TOPIC_BYTES_MAX + 1)).unwrap_err();
    assert!(matches!(past, TopicError::TooLong { .. }));
}

#[test]
fn the_size_of_a_pattern() {
    let rule = |text: &str| Pattern::parse(text).map_err(|error| error.rule()).err();
    assert_eq!(rule(&"p".repeat(PATTERN_BYTES_MAX)), None);
    let past = "p".repeat(PATTERN_BYTES_MAX + 1);
    assert_eq!(rule(&past), Some(PatternRule::TooLong));

    let braces = |n: usize| format!("{{{}}}", vec!["x"; n].join(","));
    assert_eq!(rule(&braces(BRACE_EXPANSIONS_MAX)), None);
    let past = braces(BRACE_EXPANSIONS_MAX + 1);
    assert_eq!(rule(&past), Some(PatternRule::TooManyExpansions));

    let filter = |levels| Pattern::parse_as(&vec!["a"; levels].join("/"), Syntax::Mqtt);
    filter(MQTT_LEVELS_MAX).expect("at the bound");
    let past = filter(MQTT_LEVELS_MAX + 1).unwrap_err();
    assert_eq!(past.rule(), PatternRule::TooManyLevels);
}

/// The number of steps is not visible from outside, so the test has a comparison with few steps and
/// one with too many: finding whether a text has two equal letters at a distance of n takes 2^n
/// sets of positions.
#[test]
fn the_steps_of_a_comparison() {
    let covers = |distance: usize| {
        let between = "?".repeat(distance - 1);
        let repeats = Pattern::parse(&format!("{{*a{between}a*,*b{between}b*}}"));
        let text = Pattern::parse(&"[ab]".repeat(2 * distance));
        repeats.expect("valid").covers(&text.expect("valid"))
    };
    assert_eq!(covers(2), Ok(false));
    assert!(matches!(covers(20), Err(TooComplex::Steps { .. })));
    assert_eq!(SET_STEPS_MAX, 1 << 17);
}
