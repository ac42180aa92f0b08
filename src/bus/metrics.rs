//! The statistics of a bus through the `metrics` facade, for the recorder that the program has
//! installed.

use ::metrics::{Label as MetricLabel, Unit, counter, describe_counter, describe_gauge, gauge};

use super::label::Label;
use super::record::Record;
use super::stats::{BusStats, SubscriptionStats};
use super::{Bus, Core};
use crate::dispatch::loss::GapReason;
use crate::sync::Arc;

/// Name, kind, unit and meaning of everything that is recorded: the table in the documentation of
/// `record_metrics`.
const DESCRIPTIONS: [(&str, Kind, Unit, &str); 37] = [
    (
        "fanout_events_published_total",
        Kind::Counter,
        Unit::Count,
        "Events accepted",
    ),
    (
        "fanout_events_sequenced_total",
        Kind::Counter,
        Unit::Count,
        "Events that have an id",
    ),
    (
        "fanout_events_unsequenced_total",
        Kind::Counter,
        Unit::Count,
        "Events dropped before they had an id",
    ),
    (
        "fanout_events_queued",
        Kind::Gauge,
        Unit::Count,
        "Events that wait in lanes",
    ),
    (
        "fanout_blocks_total",
        Kind::Counter,
        Unit::Count,
        "Blocks that events were stored in",
    ),
    (
        "fanout_deliveries_matched_total",
        Kind::Counter,
        Unit::Count,
        "Deliveries due",
    ),
    (
        "fanout_deliveries_received_total",
        Kind::Counter,
        Unit::Count,
        "Deliveries received",
    ),
    (
        "fanout_deliveries_lost_total",
        Kind::Counter,
        Unit::Count,
        "Deliveries lost, by reason",
    ),
    (
        "fanout_deliveries_superseded_total",
        Kind::Counter,
        Unit::Count,
        "Deliveries replaced by newer events",
    ),
    (
        "fanout_deliveries_unread",
        Kind::Gauge,
        Unit::Count,
        "Deliveries that wait, or waited when the subscription was cancelled or its subscriber dropped",
    ),
    (
        "fanout_depth",
        Kind::Gauge,
        Unit::Count,
        "Deliveries that wait in rings",
    ),
    (
        "fanout_pinned_bytes",
        Kind::Gauge,
        Unit::Bytes,
        "Bytes that rings pin",
    ),
    (
        "fanout_lag_events_max",
        Kind::Gauge,
        Unit::Count,
        "Largest lag of an open subscription",
    ),
    (
        "fanout_lag_seconds_max",
        Kind::Gauge,
        Unit::Seconds,
        "Largest lag of an open subscription, in time",
    ),
    (
        "fanout_publishers",
        Kind::Gauge,
        Unit::Count,
        "Open publishers",
    ),
    (
        "fanout_subscriptions",
        Kind::Gauge,
        Unit::Count,
        "Open subscriptions",
    ),
    (
        "fanout_subscriptions_opened_total",
        Kind::Counter,
        Unit::Count,
        "Subscriptions opened",
    ),
    (
        "fanout_handler_errors_total",
        Kind::Counter,
        Unit::Count,
        "Calls of handlers that returned an error",
    ),
    (
        "fanout_handler_panics_total",
        Kind::Counter,
        Unit::Count,
        "Calls of handlers that panicked",
    ),
    (
        "fanout_handler_stalls_total",
        Kind::Counter,
        Unit::Count,
        "Calls of handlers that took too long",
    ),
    (
        "fanout_subscription_matched_total",
        Kind::Counter,
        Unit::Count,
        "Events that matched",
    ),
    (
        "fanout_subscription_received_total",
        Kind::Counter,
        Unit::Count,
        "Events received",
    ),
    (
        "fanout_subscription_lost_total",
        Kind::Counter,
        Unit::Count,
        "Events lost, by reason",
    ),
    (
        "fanout_subscription_errors_total",
        Kind::Counter,
        Unit::Count,
        "Calls of its handler that returned an error",
    ),
    (
        "fanout_subscription_panics_total",
        Kind::Counter,
        Unit::Count,
        "Calls of its handler that panicked",
    ),
    (
        "fanout_subscription_stalls_total",
        Kind::Counter,
        Unit::Count,
        "Calls of its handler that took too long",
    ),
    (
        "fanout_subscription_superseded_total",
        Kind::Counter,
        Unit::Count,
        "Events replaced by newer ones",
    ),
    (
        "fanout_subscription_unread",
        Kind::Gauge,
        Unit::Count,
        "Events that wait",
    ),
    (
        "fanout_subscription_depth",
        Kind::Gauge,
        Unit::Count,
        "Events that wait in the ring",
    ),
    (
        "fanout_subscription_high_water",
        Kind::Gauge,
        Unit::Count,
        "Largest depth so far",
    ),
    (
        "fanout_subscription_capacity",
        Kind::Gauge,
        Unit::Count,
        "Events that may wait in the ring",
    ),
    (
        "fanout_subscription_lag_events",
        Kind::Gauge,
        Unit::Count,
        "Events that were neither received nor reported as lost",
    ),
    (
        "fanout_subscription_lag_seconds",
        Kind::Gauge,
        Unit::Seconds,
        "Time from the last block read to the newest block that matched",
    ),
    (
        "fanout_subscription_pinned_bytes",
        Kind::Gauge,
        Unit::Bytes,
        "Bytes that its waiting events pin",
    ),
    (
        "fanout_latency_seconds",
        Kind::Gauge,
        Unit::Seconds,
        "From publishing to receiving, by quantile",
    ),
    (
        "fanout_latency_samples_total",
        Kind::Counter,
        Unit::Count,
        "Latencies sampled",
    ),
    (
        "fanout_latency_missed_total",
        Kind::Counter,
        Unit::Count,
        "Samples that were dropped while a snapshot was taken",
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// Records the statistics of the bus and of its subscriptions with the recorder that the
    /// program has installed for the [`metrics`](https://docs.rs/metrics) facade. Call it in your
    /// scrape or reporting loop. Nothing is recorded outside of this call, so it costs publishers,
    /// dispatchers and subscribers nothing.
    ///
    /// A subscription is recorded while it is open, and after that as long as its subscriber has
    /// events to receive. If a process has several buses, give each a name with
    /// [`record_metrics_as`](Self::record_metrics_as).
    ///
    /// | name | kind | value |
    /// | --- | --- | --- |
    /// | `fanout_events_published_total` | counter | [`BusStats::published`] |
    /// | `fanout_events_sequenced_total` | counter | [`BusStats::sequenced`] |
    /// | `fanout_events_unsequenced_total` | counter | [`BusStats::unsequenced`] |
    /// | `fanout_events_queued` | gauge | [`BusStats::queued`] |
    /// | `fanout_blocks_total` | counter | [`BusStats::blocks`] |
    /// | `fanout_deliveries_matched_total` | counter | [`BusStats::matched`] |
    /// | `fanout_deliveries_received_total` | counter | [`BusStats::received`] |
    /// | `fanout_deliveries_lost_total{reason}` | counter | [`BusStats::lost_by`] |
    /// | `fanout_deliveries_superseded_total` | counter | [`BusStats::superseded`] |
    /// | `fanout_deliveries_unread` | gauge | [`BusStats::unread`] |
    /// | `fanout_depth` | gauge | [`BusStats::depth`] |
    /// | `fanout_pinned_bytes` | gauge | [`BusStats::pinned_bytes`] |
    /// | `fanout_lag_events_max` | gauge | [`BusStats::lag_max`] |
    /// | `fanout_lag_seconds_max` | gauge | [`BusStats::lag_time_max`] |
    /// | `fanout_publishers` | gauge | [`BusStats::publishers`] |
    /// | `fanout_subscriptions` | gauge | [`BusStats::subscriptions`] |
    /// | `fanout_subscriptions_opened_total` | counter | [`BusStats::subscriptions_opened`] |
    /// | `fanout_handler_errors_total` | counter | [`BusStats::errors`] |
    /// | `fanout_handler_panics_total` | counter | [`BusStats::panics`] |
    /// | `fanout_handler_stalls_total` | counter | [`BusStats::stalls`] |
    /// | `fanout_subscription_matched_total` | counter | [`SubscriptionStats::matched`] |
    /// | `fanout_subscription_received_total` | counter | [`SubscriptionStats::received`] |
    /// | `fanout_subscription_lost_total{reason}` | counter | [`SubscriptionStats::lost_by`] |
    /// | `fanout_subscription_errors_total` | counter | [`SubscriptionStats::errors`] |
    /// | `fanout_subscription_panics_total` | counter | [`SubscriptionStats::panics`] |
    /// | `fanout_subscription_stalls_total` | counter | [`SubscriptionStats::stalls`] |
    /// | `fanout_subscription_superseded_total` | counter | [`SubscriptionStats::superseded`] |
    /// | `fanout_subscription_unread` | gauge | [`SubscriptionStats::unread`] |
    /// | `fanout_subscription_depth` | gauge | [`SubscriptionStats::depth`] |
    /// | `fanout_subscription_high_water` | gauge | [`SubscriptionStats::high_water`] |
    /// | `fanout_subscription_capacity` | gauge | [`SubscriptionStats::capacity`] |
    /// | `fanout_subscription_lag_events` | gauge | [`SubscriptionStats::lag`] |
    /// | `fanout_subscription_lag_seconds` | gauge | [`SubscriptionStats::lag_time`] |
    /// | `fanout_subscription_pinned_bytes` | gauge | [`SubscriptionStats::pinned_bytes`] |
    /// | `fanout_latency_seconds{quantile}` | gauge | `Bus::latency`: quantiles 0, 0.5, 0.9, 0.99, 0.999 and 1; with the feature `latency`, and only if there is a sample |
    /// | `fanout_latency_samples_total` | counter | its count |
    /// | `fanout_latency_missed_total` | counter | its missed samples |
    ///
    /// The reasons are `overflow`, `closed` and `block_timeout`. The metrics of a subscription have
    /// the label `subscription`, with its [number](super::SubscriptionHandle::number), and [its own
    /// labels](super::SubscriptionBuilder::label). The facade cannot remove metrics: those of a
    /// subscription that is no longer listed keep their last values until the recorder drops idle
    /// metrics. A program that subscribes for each request should configure its recorder to do so.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let _sub = bus.subscription("a").label("team", "billing").open()?;
    /// bus.record_metrics(); // without a recorder, this does nothing
    /// # Ok(())
    /// # }
    /// ```
    pub fn record_metrics(&self) {
        record(&self.open.core, &self.stats(), &[]);
    }

    /// Like [`record_metrics`](Self::record_metrics), with the label `bus` on every metric.
    ///
    /// ```
    /// let bus = fanout::Bus::<u32>::new();
    /// bus.record_metrics_as("orders"); // without a recorder, this does nothing
    /// ```
    pub fn record_metrics_as(&self, name: &str) {
        let labels = [MetricLabel::new("bus", name.to_owned())];
        record(&self.open.core, &self.stats(), &labels);
    }
}

fn record(core: &Core, stats: &BusStats, labels: &[MetricLabel]) {
    describe();
    record_bus(stats, labels);
    #[cfg(feature = "latency")]
    record_latency(&core.latency(), labels);
    // The lock is not held here, because a recorder is user code.
    let records: Vec<Arc<Record>> = core.registry.lock().records();
    for record in records {
        let mut labels = labels.to_vec();
        labels.push(MetricLabel::new("subscription", record.number.to_string()));
        let own = record.info.labels.iter().flat_map(|labels| labels.iter());
        labels.extend(own.map(|label: &Label| {
            MetricLabel::new(label.key().to_owned(), label.value().to_owned())
        }));
        record_subscription(&record.stats(), &labels);
    }
}

/// Describes the metrics. This runs at each call, because the recorder may be a new one; describing
/// a metric again has no effect.
fn describe() {
    for (name, kind, unit, meaning) in DESCRIPTIONS {
        match kind {
            Kind::Counter => describe_counter!(name, unit, meaning),
            Kind::Gauge => describe_gauge!(name, unit, meaning),
        }
    }
}

fn record_bus(stats: &BusStats, labels: &[MetricLabel]) {
    let total = |name, value| counter!(name, labels.iter()).absolute(value);
    let now = |name, value: f64| gauge!(name, labels.iter()).set(value);
    total("fanout_events_published_total", stats.published);
    total("fanout_events_sequenced_total", stats.sequenced);
    total("fanout_events_unsequenced_total", stats.unsequenced);
    now("fanout_events_queued", stats.queued as f64);
    total("fanout_blocks_total", stats.blocks);
    total("fanout_deliveries_matched_total", stats.matched);
    total("fanout_deliveries_received_total", stats.received);
    record_lost(
        "fanout_deliveries_lost_total",
        |reason| stats.lost_by(reason),
        labels,
    );
    total("fanout_deliveries_superseded_total", stats.superseded);
    now("fanout_deliveries_unread", stats.unread as f64);
    now("fanout_depth", stats.depth as f64);
    now("fanout_pinned_bytes", stats.pinned_bytes as f64);
    now("fanout_lag_events_max", stats.lag_max as f64);
    now("fanout_lag_seconds_max", stats.lag_time_max.as_secs_f64());
    now("fanout_publishers", stats.publishers as f64);
    now("fanout_subscriptions", stats.subscriptions as f64);
    total(
        "fanout_subscriptions_opened_total",
        stats.subscriptions_opened,
    );
    total("fanout_handler_errors_total", stats.errors);
    total("fanout_handler_panics_total", stats.panics);
    total("fanout_handler_stalls_total", stats.stalls);
}

fn record_subscription(stats: &SubscriptionStats, labels: &[MetricLabel]) {
    let total = |name, value| counter!(name, labels.iter()).absolute(value);
    let now = |name, value: f64| gauge!(name, labels.iter()).set(value);
    total("fanout_subscription_matched_total", stats.matched);
    total("fanout_subscription_received_total", stats.received);
    record_lost(
        "fanout_subscription_lost_total",
        |reason| stats.lost_by(reason),
        labels,
    );
    total("fanout_subscription_errors_total", stats.errors);
    total("fanout_subscription_panics_total", stats.panics);
    total("fanout_subscription_stalls_total", stats.stalls);
    total("fanout_subscription_superseded_total", stats.superseded);
    now("fanout_subscription_unread", stats.unread as f64);
    now("fanout_subscription_depth", stats.depth as f64);
    now("fanout_subscription_high_water", stats.high_water as f64);
    now("fanout_subscription_capacity", stats.capacity as f64);
    now("fanout_subscription_lag_events", stats.lag as f64);
    now(
        "fanout_subscription_lag_seconds",
        stats.lag_time.as_secs_f64(),
    );
    now(
        "fanout_subscription_pinned_bytes",
        stats.pinned_bytes as f64,
    );
}

fn record_lost(name: &'static str, lost: impl Fn(GapReason) -> u64, labels: &[MetricLabel]) {
    for reason in GapReason::ALL {
        let mut labels = labels.to_vec();
        labels.push(MetricLabel::from_static_parts("reason", reason.name()));
        counter!(name, labels.iter()).absolute(lost(reason));
    }
}

#[cfg(feature = "latency")]
fn record_latency(stats: &crate::dispatch::latency::LatencyStats, labels: &[MetricLabel]) {
    if stats.count == 0 {
        return;
    }
    for (quantile, latency) in [
        ("0", stats.min),
        ("0.5", stats.p50),
        ("0.9", stats.p90),
        ("0.99", stats.p99),
        ("0.999", stats.p99_9),
        ("1", stats.max),
    ] {
        let mut labels = labels.to_vec();
        labels.push(MetricLabel::from_static_parts("quantile", quantile));
        gauge!("fanout_latency_seconds", labels.iter()).set(latency.as_secs_f64());
    }
    counter!("fanout_latency_samples_total", labels.iter()).absolute(stats.count);
    counter!("fanout_latency_missed_total", labels.iter()).absolute(stats.missed);
}
