//! The rivals: a file each, used as their own documentation recommends.

mod async_broadcast;
mod bus;
mod crossbeam;
mod disruptor;
mod flume;
mod kanal;
mod tokio;

use crate::race::System;

/// All of them, in the order of the tables.
pub const ALL: [&dyn System; 9] = [
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
