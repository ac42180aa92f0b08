//! The log: reports that no call can return. Only this file uses the crate `tracing`, apart from
//! the code that traces loom models. Without the feature of that name nothing is logged.

use std::fmt;

/// Logs a fault: something has panicked or could not be started.
#[cold]
pub(crate) fn error(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "fanout", "{message}");
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}

/// Logs an error, a panic, a loss or a stall of a handler.
#[cold]
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "fanout", "{message}");
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}
