//! Guides: pages for people who use a bus. There is no code in here.
//!
//! | page | for |
//! | --- | --- |
//! | [`policies`] | choosing what happens to a subscriber whose ring is full |
//! | [`in_async_code`] | tasks: what blocks, what does not, and shapes that borrow well |
//! | [`from_tokio_broadcast`] | readers who know `tokio::sync::broadcast` |
//! | [`from_go_channels`] | readers who know Go channels |
//! | [`from_laravel_broadcasting`] | readers who know Laravel's broadcasting |
//! | [`memory`] | what a bus takes, and what a subscriber that stopped reading keeps alive |
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
