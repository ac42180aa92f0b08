//! The bounds and the defaults of the settings of `fanout bench`.

use std::time::Duration;

/// The largest number of subscribers of a measurement. Where they are threads, the system may allow
/// fewer.
pub(crate) const SUBSCRIBERS_MAX: usize = 4096;

/// The numbers of subscribers of a run without `--subscribers`.
pub(crate) const SUBSCRIBERS_DEFAULT: [usize; 4] = [1, 4, 16, 64];

/// The largest number of publishers of a measurement. Each is a thread.
pub(crate) const PUBLISHERS_MAX: usize = 64;

pub(crate) const PUBLISHERS_DEFAULT: usize = 1;

/// The sizes of a payload, in bytes. Each is a type of its own, so there are only a few.
pub(crate) const PAYLOADS_BYTES: [usize; 4] = [16, 64, 256, 1024];

pub(crate) const PAYLOAD_BYTES_DEFAULT: usize = 64;

/// The room of the ring of each subscription, in events. The largest one is that of the library.
pub(crate) const CAPACITY_DEFAULT: usize = 1024;

/// The largest rate of lone events, in events per second.
pub(crate) const RATE_PER_S_MAX: usize = 10_000_000;

/// The rates of a run without `--rate`, in events per second.
pub(crate) const RATES_PER_S_DEFAULT: [usize; 3] = [1_000, 10_000, 100_000];

/// The largest number of values of an argument that is a list.
pub(crate) const LIST_MAX: usize = 16;

/// The shortest and the longest time of a round.
pub(crate) const DURATION_MIN: Duration = Duration::from_millis(1);
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(60);

/// The time of a round, as an argument.
pub(crate) const DURATION_DEFAULT: &str = "300ms";

/// The largest number of rounds of a measurement.
pub(crate) const ROUNDS_MAX: usize = 1000;

pub(crate) const ROUNDS_DEFAULT: usize = 5;

/// The largest size of a file that is compared with, in bytes.
pub(crate) const COMPARE_BYTES_MAX: u64 = 16 << 20;
