//! Pages for whoever runs a bus: what to expect of it, with formulas. No code is in here.
//!
//! * [`memory`]: what subscribers that fall behind keep alive, at most.

pub mod memory;
