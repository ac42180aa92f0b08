//! The log: what the library reports and cannot return from a call. This is the only file that
//! names `tracing`; without that feature nothing is logged.

use std::fmt;

/// Logs a fault: something has panicked or could not be started.
#[cold]
pub(crate) fn error(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "fanout", "{message}");
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}

/// Logs what a handler did or suffered.
#[cold]
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "fanout", "{message}");
    #[cfg(not(feature = "tracing"))]
    let _ = message;
}
