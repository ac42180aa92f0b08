//! The rivals: a file each, used as their own documentation recommends.

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

use crate::race::{Race, System};

/// Those of a race, in the order of its table.
pub fn of(race: Race) -> Vec<&'static dyn System> {
    match race {
        Race::Threads => THREADS.to_vec(),
        Race::Handlers => [HANDLERS, BEST_WITH_THREADS].concat(),
        Race::Async => [TASKS, BEST_WITH_THREADS].concat(),
    }
}

/// For subscribers that are threads.
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

/// Those that also run, with a thread per subscriber, where others call closures or wake tasks: all
/// but the two that are slower than the best of them at every size.
const BEST_WITH_THREADS: &[&dyn System] = &[
    &crossbeam::Crossbeam,
    &flume::Flume,
    &kanal::Kanal,
    &bus::Bus::Mutex,
    &bus::Bus::Feed,
    &tokio::Tokio::RoomForAll,
    &disruptor::Disruptor,
];

/// For subscribers that are closures.
const HANDLERS: &[&dyn System] = &[&direct::Direct, &crossbeam::PerWorker, &disruptor::Called];

/// For subscribers that are tasks.
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
