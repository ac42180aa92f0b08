//! The report of closing a broadcaster.

/// The report of [`close`](super::Broadcaster::close).
///
/// Drivers build one with [`new`](Self::new) and the methods that start with `with_`. Fields may be
/// added in later versions. The report of a bus is another type, [`fanout::CloseReport`].
///
/// [`fanout::CloseReport`]: crate::CloseReport
///
/// ```
/// use fanout::broadcast::{Broadcaster, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let report = Memory::new().close()?;
/// assert!(report.in_time);
/// assert_eq!((report.unhandled, report.given_up), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the report says whether every event was handled"]
pub struct BroadcastCloseReport {
    /// Whether every accepted event was handled before the timeout, or was dropped and counted in
    /// [`dropped`](super::Broadcaster::dropped).
    pub in_time: bool,
    /// Calls of handlers that had not ended at the timeout. They continue while the process runs.
    pub unhandled: u64,
    /// Accepted events that were discarded at the timeout. They reach no handler.
    pub given_up: u64,
}

impl BroadcastCloseReport {
    /// Creates a report without unhandled calls and discarded events.
    ///
    /// ```
    /// use fanout::broadcast::BroadcastCloseReport;
    ///
    /// let report = BroadcastCloseReport::new(false).with_unhandled(3).with_given_up(1);
    /// assert_eq!((report.in_time, report.unhandled, report.given_up), (false, 3, 1));
    /// ```
    pub fn new(in_time: bool) -> Self {
        Self {
            in_time,
            unhandled: 0,
            given_up: 0,
        }
    }

    /// Sets the number of calls that had not ended at the timeout.
    ///
    /// ```
    /// let report = fanout::broadcast::BroadcastCloseReport::new(false).with_unhandled(3);
    /// assert_eq!(report.unhandled, 3);
    /// ```
    pub fn with_unhandled(mut self, calls: u64) -> Self {
        self.unhandled = calls;
        self
    }

    /// Sets the number of events that were discarded at the timeout.
    ///
    /// ```
    /// let report = fanout::broadcast::BroadcastCloseReport::new(false).with_given_up(1);
    /// assert_eq!(report.given_up, 1);
    /// ```
    pub fn with_given_up(mut self, events: u64) -> Self {
        self.given_up = events;
        self
    }
}
