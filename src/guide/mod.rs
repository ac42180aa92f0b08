//! Guides: pages for people who use a bus. This module has only documentation, no items.
//!
//! | page | what it is about |
//! | --- | --- |
//! | [`policies`] | how to choose what happens to a subscriber whose ring is full |
//! | [`in_async_code`] | tasks: what blocks, what does not, and code that passes the borrow checker |
//! | [`from_tokio_broadcast`] | fanout for readers who know `tokio::sync::broadcast` |
//! | [`from_go_channels`] | fanout for readers who know Go channels |
//! | [`from_laravel_broadcasting`] | fanout for readers who know Laravel's broadcasting |
//! | [`memory`] | how much memory a bus uses, and what a subscriber that stopped reading keeps alive |
//! | [`failure_modes`] | what can go wrong, and how it is reported |
//! | [`performance`] | where the time goes |

pub mod failure_modes;
pub mod from_go_channels;
pub mod from_laravel_broadcasting;
pub mod from_tokio_broadcast;
pub mod in_async_code;
pub mod memory;
pub mod performance;
pub mod policies;
