//! The log: reports that no call can return. Only this file uses the crate `tracing`, apart from
//! the code that traces loom models. Without the feature of that name nothing is logged.
//!
//! # Failure modes
//!
//! * **The subscriber of `tracing` panics**: it is user code, so the panic is contained. That
//!   report is lost, and nothing else.

use std::fmt;

/// Logs a fault: something has panicked or could not be started.
#[cold]
pub(crate) fn error(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    contained(|| tracing::error!(target: "fanout", "{message}"));
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}

/// Logs an error, a panic, a loss or a stall of a handler.
#[cold]
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    contained(|| tracing::warn!(target: "fanout", "{message}"));
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}

/// As `contain` does, which uses this file to report panics. Nothing can report those of the log.
#[cfg(feature = "tracing")]
fn contained(log: impl FnOnce()) {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    let Err(panic) = catch_unwind(AssertUnwindSafe(log)) else {
        return;
    };
    // The drop of the value may panic, and the drop of the second value, too, and so on: the second
    // is leaked.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    std::mem::forget(dropped);
}
