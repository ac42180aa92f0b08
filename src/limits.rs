//! The bounds of all settings and arguments.
//!
//! A value beyond a bound is refused with an error that names the bound. It is never reduced to the
//! bound.
//!
//! | constant | unit | what has this bound |
//! | --- | --- | --- |
//! | [`CAPACITY_MAX`] | events | the ring of a subscription |
//! | [`LANE_CAPACITY_MAX`] | events | a lane, from a publisher to the sequencer |
//! | [`DROPPED_LANES_MAX`] | lanes | the lanes of dropped publishers that still have events |
//! | [`BLOCK_TIMEOUT_MAX`] | time | how long the bus waits for a [`Block`] subscriber |
//! | [`DISPATCHERS_MAX`] | threads | the dispatcher pool |
//! | [`HANDLER_THREADS_MAX`] | threads | the handler pool, spare threads included |
//! | [`HANDLER_STALL`] | time | a handler's call, before its thread is replaced |
//! | [`LABELS_MAX`] | labels | the labels of a subscription |
//! | [`LABEL_KEY_BYTES_MAX`], [`LABEL_VALUE_BYTES_MAX`] | bytes | a label's two texts |
//! | [`TOPIC_BYTES_MAX`], [`PATTERN_BYTES_MAX`] | bytes | the text of a topic or of a pattern |
//! | [`BRACE_EXPANSIONS_MAX`] | expansions | the braces of a pattern |
//! | [`MQTT_LEVELS_MAX`] | levels | an MQTT topic filter |
//! | [`SET_STEPS_MAX`] | steps | comparing two patterns as sets of topics |
//!
//! The bounds of the cache in front of an index are in [`index`](crate::index), and the time that
//! dropping a broadcaster takes at most is in [`broadcast`](crate::broadcast), because they do not
//! limit settings or arguments.
//!
//! [`Block`]: crate::Overflow::Block

use std::time::Duration;

pub use crate::pattern::{
    BRACE_EXPANSIONS_MAX, MQTT_LEVELS_MAX, PATTERN_BYTES_MAX, SET_STEPS_MAX, TOPIC_BYTES_MAX,
};

/// The largest capacity of a subscription's ring, in events: 2^24. The smallest is 1.
///
/// ```
/// use fanout::limits::CAPACITY_MAX;
///
/// let bus = fanout::Bus::<u32>::new();
/// assert!(bus.subscription("a").capacity(CAPACITY_MAX).open().is_ok());
/// assert!(bus.subscription("a").capacity(CAPACITY_MAX + 1).open().is_err());
/// ```
pub const CAPACITY_MAX: usize = 1 << 24;

/// The largest capacity of a lane, in events: 2^24. The smallest is 1.
///
/// The shared lane allocates all of its slots when the bus is built.
///
/// ```
/// use fanout::limits::LANE_CAPACITY_MAX;
///
/// let lane_of = |events| fanout::Bus::<u32>::builder().lane_capacity(events).build();
/// assert!(lane_of(1).is_ok());
/// assert!(lane_of(LANE_CAPACITY_MAX + 1).is_err());
/// ```
pub const LANE_CAPACITY_MAX: usize = 1 << 24;

/// The number of lanes of dropped [`Publisher`](crate::Publisher)s with events at which the lanes
/// of new publishers count as full: 1,024.
///
/// A dropped publisher's lane remains until the bus has taken its events. While there are 1,024 of
/// these lanes or more, or while they have as many events as one lane can hold
/// ([`lane_capacity`](crate::BusBuilder::lane_capacity)), the lane of a publisher that has not
/// published yet counts as full. (Publishers that have published before they are dropped are not
/// delayed, so there may be more of these lanes: one for each publisher that was open at one time.)
///
/// ```
/// use fanout::{Bus, Dispatch, TryPublishError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).lane_capacity(2).build()?;
/// bus.publisher().try_publish("n", 1)?;
/// bus.publisher().try_publish("n", 2)?;
/// let full = bus.publisher().try_publish("n", 3).unwrap_err();
/// assert!(matches!(full, TryPublishError::Full(3)));
/// bus.drive();
/// bus.publisher().try_publish("n", 3)?;
/// assert_eq!(fanout::limits::DROPPED_LANES_MAX, 1024);
/// # Ok(())
/// # }
/// ```
pub const DROPPED_LANES_MAX: usize = 1024;

/// The longest block timeout of an [`Overflow::Block`](crate::Overflow::Block) subscriber: 30 days.
/// The shortest is zero. Without a [block timeout](crate::SubscriptionBuilder::block_timeout) the
/// bus waits without a limit.
///
/// ```
/// use fanout::{Bus, limits::BLOCK_TIMEOUT_MAX};
/// use std::time::Duration;
///
/// let bus = Bus::<u32>::new();
/// let open = |timeout| bus.subscription("a").block_timeout(timeout).open();
/// assert!(open(BLOCK_TIMEOUT_MAX).is_ok());
/// assert!(open(BLOCK_TIMEOUT_MAX + Duration::from_nanos(1)).is_err());
/// ```
pub const BLOCK_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The largest number of threads of a dispatcher pool: 64, because one 64-bit word says which of
/// them sleep. The smallest is 1.
///
/// ```
/// use fanout::{Bus, Dispatch, limits::DISPATCHERS_MAX};
///
/// // Without threads: under manual dispatch this is the number of shards alone.
/// let bus_of = |n| Bus::<u32>::builder().dispatch(Dispatch::Manual).dispatchers(n).build();
/// assert!(bus_of(DISPATCHERS_MAX).is_ok());
/// assert!(bus_of(DISPATCHERS_MAX + 1).is_err());
/// ```
pub const DISPATCHERS_MAX: usize = 64;

/// The largest number of threads of a handler pool, spare threads included: 64. The smallest is 1.
///
/// ```
/// use fanout::limits::HANDLER_THREADS_MAX;
///
/// let bus_of = |n| fanout::Bus::<u32>::builder().max_handler_threads(n).build();
/// assert!(bus_of(HANDLER_THREADS_MAX).is_ok());
/// assert!(bus_of(HANDLER_THREADS_MAX + 1).is_err());
/// ```
pub const HANDLER_THREADS_MAX: usize = 64;

/// The time that a handler may spend on one event before a spare thread replaces its thread: 10
/// milliseconds. See [`BusBuilder::max_handler_threads`](crate::BusBuilder::max_handler_threads).
///
/// ```
/// assert_eq!(fanout::limits::HANDLER_STALL.as_millis(), 10);
/// ```
pub const HANDLER_STALL: Duration = Duration::from_millis(10);

/// The largest number of labels of one subscription: 16. The smallest is 0.
///
/// ```
/// use fanout::{Bus, limits::LABELS_MAX};
///
/// let bus = Bus::<u32>::new();
/// let open = |labels: usize| {
///     let builder = bus.subscription("a");
///     (0..labels).fold(builder, |builder, n| builder.label(format!("k{n}"), "v")).open()
/// };
/// assert!(open(LABELS_MAX).is_ok());
/// assert!(open(LABELS_MAX + 1).is_err());
/// ```
pub const LABELS_MAX: usize = 16;

/// The largest length of a label's key, in bytes: 64. The smallest is 1.
///
/// ```
/// use fanout::{Bus, limits::LABEL_KEY_BYTES_MAX};
///
/// let bus = Bus::<u32>::new();
/// let open = |bytes| bus.subscription("a").label("k".repeat(bytes), "v").open();
/// assert!(open(LABEL_KEY_BYTES_MAX).is_ok());
/// assert!(open(LABEL_KEY_BYTES_MAX + 1).is_err());
/// ```
pub const LABEL_KEY_BYTES_MAX: usize = 64;

/// The largest length of a label's value, in bytes: 256. The smallest is 0.
///
/// ```
/// use fanout::{Bus, limits::LABEL_VALUE_BYTES_MAX};
///
/// let bus = Bus::<u32>::new();
/// let open = |bytes| bus.subscription("a").label("k", "v".repeat(bytes)).open();
/// assert!(open(LABEL_VALUE_BYTES_MAX).is_ok());
/// assert!(open(LABEL_VALUE_BYTES_MAX + 1).is_err());
/// ```
pub const LABEL_VALUE_BYTES_MAX: usize = 256;
