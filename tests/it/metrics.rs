//! The metrics have the values of the statistics, and names that do not change.

#[cfg(feature = "latency")]
use fanout::Dispatch;
use fanout::{Bus, Overflow};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "latency")]
use crate::support::bus;
use crate::support::{manual, panics_quietly, publish_each};

/// The values of a recorder, by name and labels.
fn recorded(record: impl FnOnce()) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, record);
    let snapshot = snapshotter.snapshot().into_vec();
    let metrics = snapshot.into_iter().map(|(key, unit, description, value)| {
        let key = key.key();
        let mut labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        labels.sort();
        assert!(
            unit.is_some() && description.is_some(),
            "{} is not described",
            key.name()
        );
        let value = match value {
            DebugValue::Counter(count) => {
                assert!(key.name().ends_with("_total"), "{}", key.name());
                count as f64
            }
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("{} is not a metric of the bus", key.name()),
        };
        (format!("{}{{{}}}", key.name(), labels.join(",")), value)
    });
    metrics.collect()
}

fn busy() -> Bus<u64> {
    let bus = manual::<u64>();
    let mut sub = bus
        .subscription("a")
        .capacity(3)
        .label("team", "x")
        .open()
        .expect("open");
    publish_each(&bus, 0..5);
    bus.drive();
    sub.try_recv().expect("unread");
    std::mem::forget(sub); // stays open
    bus
}

#[test]
fn metrics_have_the_values_of_the_statistics() {
    let bus = busy();
    let _lane = bus.publisher();
    let recorded = recorded(|| bus.record_metrics());
    for (name, value) in [
        ("fanout_events_published_total{}", 5.0),
        ("fanout_events_sequenced_total{}", 5.0),
        ("fanout_events_unsequenced_total{}", 0.0),
        ("fanout_events_queued{}", 0.0),
        ("fanout_blocks_total{}", 1.0),
        ("fanout_deliveries_matched_total{}", 5.0),
        ("fanout_deliveries_received_total{}", 1.0),
        ("fanout_deliveries_lost_total{reason=overflow}", 2.0),
        ("fanout_deliveries_lost_total{reason=closed}", 0.0),
        ("fanout_deliveries_lost_total{reason=block_timeout}", 0.0),
        ("fanout_deliveries_superseded_total{}", 0.0),
        ("fanout_deliveries_unread{}", 2.0),
        ("fanout_depth{}", 0.0),
        ("fanout_pinned_bytes{}", 0.0),
        ("fanout_lag_events_max{}", 4.0),
        ("fanout_lag_seconds_max{}", 0.0),
        ("fanout_publishers{}", 1.0),
        ("fanout_subscriptions{}", 1.0),
        ("fanout_subscriptions_opened_total{}", 1.0),
        (
            "fanout_subscription_matched_total{subscription=1,team=x}",
            5.0,
        ),
        (
            "fanout_subscription_received_total{subscription=1,team=x}",
            1.0,
        ),
        (
            "fanout_subscription_lost_total{reason=overflow,subscription=1,team=x}",
            2.0,
        ),
        (
            "fanout_subscription_lost_total{reason=closed,subscription=1,team=x}",
            0.0,
        ),
        (
            "fanout_subscription_lost_total{reason=block_timeout,subscription=1,team=x}",
            0.0,
        ),
        (
            "fanout_subscription_superseded_total{subscription=1,team=x}",
            0.0,
        ),
        (
            "fanout_subscription_errors_total{subscription=1,team=x}",
            0.0,
        ),
        ("fanout_handler_panics_total{}", 0.0),
        ("fanout_subscription_unread{subscription=1,team=x}", 2.0),
        ("fanout_subscription_depth{subscription=1,team=x}", 0.0),
        ("fanout_subscription_high_water{subscription=1,team=x}", 3.0),
        ("fanout_subscription_capacity{subscription=1,team=x}", 3.0),
        ("fanout_subscription_lag_events{subscription=1,team=x}", 4.0),
        (
            "fanout_subscription_lag_seconds{subscription=1,team=x}",
            0.0,
        ),
        (
            "fanout_subscription_pinned_bytes{subscription=1,team=x}",
            0.0,
        ),
    ] {
        assert_eq!(recorded.get(name), Some(&value), "{name} in {recorded:#?}");
    }
    assert_eq!(recorded.len(), 38, "{recorded:#?}");
}

/// A recorder that panics in its call with this number, with a value that panics when it is
/// dropped.
struct PanicsAt(AtomicUsize);

impl PanicsAt {
    fn count(&self) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 0 {
            panics_quietly();
        }
    }
}

impl Recorder for PanicsAt {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.count();
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.count();
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.count();
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.count();
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.count();
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.count();
        Histogram::noop()
    }
}

/// The recorder runs on the thread that records the metrics: its panic is that thread's, and no
/// lock of the bus is held, or left behind in a bad state.
#[test]
fn a_recorder_that_panics_harms_only_its_call() {
    let bus = busy();
    let expected = recorded(|| bus.record_metrics());
    let mut panics = 0;
    for call in 0.. {
        let recorder = PanicsAt(AtomicUsize::new(call));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            metrics::with_local_recorder(&recorder, || bus.record_metrics());
        }));
        match outcome {
            Err(value) => std::mem::forget(value),
            Ok(()) => break,
        }
        panics += 1;
        let opened = bus.subscribe("b").expect("open");
        bus.publish("b", 1).expect("open");
        bus.drive();
        assert_eq!(bus.stats().subscriptions, 2);
        drop(opened);
    }
    assert!(panics > expected.len(), "each metric was refused: {panics}");
    let after = recorded(|| bus.record_metrics());
    for (name, value) in expected
        .iter()
        .filter(|(name, _)| name.contains("{subscription=1"))
    {
        assert!(name.contains("lag") || after[name] == *value, "{name}");
    }
}

#[test]
fn superseded_events_are_recorded() {
    let bus = manual::<u64>();
    let conflating = bus.subscription("**").overflow(Overflow::Conflate);
    let _sub = conflating.open().expect("open");
    for topic in ["a", "b", "a", "a"] {
        bus.publish(topic, 1).expect("open");
    }
    bus.drive();
    let recorded = recorded(|| bus.record_metrics());
    for (name, value) in [
        ("fanout_deliveries_superseded_total{}", 2.0),
        ("fanout_subscription_superseded_total{subscription=1}", 2.0),
        ("fanout_subscription_unread{subscription=1}", 2.0),
        ("fanout_subscription_depth{subscription=1}", 2.0),
        ("fanout_subscription_lag_events{subscription=1}", 2.0),
    ] {
        assert_eq!(recorded.get(name), Some(&value), "{name} in {recorded:#?}");
    }
}

#[test]
fn several_buses_have_different_labels() {
    let buses = [busy(), busy()];
    let recorded = recorded(|| {
        buses[0].record_metrics_as("left");
        buses[1].record_metrics_as("right");
    });
    assert_eq!(recorded.len(), 76);
    assert_eq!(recorded["fanout_subscriptions{bus=left}"], 1.0);
    assert_eq!(
        recorded["fanout_subscription_depth{bus=right,subscription=1,team=x}"],
        0.0
    );
}

#[cfg(feature = "latency")]
#[test]
fn latencies_by_quantile() {
    let bus = bus::<u64>(|b| b.dispatch(Dispatch::Manual).sample_latency(1));
    let mut sub = bus.subscribe("a").expect("open");
    bus.publish("a", 1).expect("open");
    bus.drive();
    sub.try_recv().expect("unread");
    let recorded = recorded(|| bus.record_metrics());
    let latency = bus.latency();
    let max = recorded["fanout_latency_seconds{quantile=1}"];
    assert_eq!(max, latency.max.as_secs_f64());
    assert_eq!(recorded["fanout_latency_samples_total{}"], 1.0);
    assert_eq!(recorded["fanout_latency_missed_total{}"], 0.0);
    let quantiles = recorded
        .keys()
        .filter(|key| key.contains("quantile"))
        .count();
    assert_eq!(quantiles, 6);
}
