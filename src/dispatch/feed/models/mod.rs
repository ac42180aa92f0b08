//! Loom models of feeds: losses, the latest event of each topic, and how a feed ends. How to run
//! and read them: [`crate::sync::explore`].

mod conflated;
mod end;
mod end_waiters;
mod losses;
