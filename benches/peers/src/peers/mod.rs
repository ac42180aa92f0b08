//! The peers and the bounds, a file for each package. Each peer is used as its own documentation
//! recommends.

mod async_broadcast;
mod async_channel;
mod bus;
mod crossbeam;
mod direct;
mod disruptor;
mod flume;
mod kanal;
mod postage;
mod tokio;
mod tokio_mpsc;

use crate::harness::{Scenario, System};

/// The peers and the bounds of a scenario, in the order of its table.
pub fn systems(scenario: Scenario) -> Vec<&'static dyn System> {
    match scenario {
        Scenario::Threads => THREADS.to_vec(),
        Scenario::Handlers => [HANDLERS, FASTEST_THREADS].concat(),
        Scenario::Async => [TASKS, FASTEST_THREADS].concat(),
    }
}

/// The peers with subscribers that are threads.
const THREADS: &[&dyn System] = &[
    &crossbeam::Crossbeam,
    &flume::Flume,
    &kanal::Kanal,
    &bus::Bus::Mutex,
    &bus::Bus::Feed,
    &async_broadcast::AsyncBroadcast,
    &tokio::Tokio::Credits,
    &tokio::Tokio::RoomForAll,
    &disruptor::Disruptor,
];

/// The peers that are also measured with a thread per subscriber in the scenarios `handlers` and
/// `async`. The two that are slower than the best peer at every size are left out.
const FASTEST_THREADS: &[&dyn System] = &[
    &crossbeam::Crossbeam,
    &flume::Flume,
    &kanal::Kanal,
    &bus::Bus::Mutex,
    &bus::Bus::Feed,
    &tokio::Tokio::RoomForAll,
    &disruptor::Disruptor,
];

/// The peers and the bounds with subscribers that are handlers.
const HANDLERS: &[&dyn System] = &[&direct::Direct, &crossbeam::PerWorker, &disruptor::Handlers];

/// The peers with subscribers that are tasks.
const TASKS: &[&dyn System] = &[
    &tokio_mpsc::TokioMpsc::Threads,
    &tokio_mpsc::TokioMpsc::Batches,
    &tokio_mpsc::TokioMpsc::Tasks,
    &tokio::Tasks(tokio::Tokio::Credits),
    &tokio::Tasks(tokio::Tokio::RoomForAll),
    &async_channel::AsyncChannel,
    &flume::Tasks,
    &kanal::Tasks,
    &async_broadcast::Tasks,
    &postage::Postage,
];
