//! Handlers: closures that a pool of threads calls with the events of a subscription.
//!
//! The subscription of a handler has a ring like any other. When the dispatcher pushes events into
//! the ring, it schedules the handler's [`Job`](crate::ring::run_queue::Job). A worker thread takes
//! the job, calls the closure with the events in the ring, up to a limit, and releases the job. So
//! the events of one handler are handled in order and one at a time, on whichever thread, and tens
//! of thousands of handlers share a few threads. A job is in the run queue at most once, and the
//! jobs themselves are the links of the queue: neither scheduling a handler nor running it
//! allocates.
//!
//! | file | content |
//! | --- | --- |
//! | [`notice`] | the notices that the observer gets |
//! | [`worker`] | the state of a worker thread that other threads can read |
//! | [`task`] | a closure, its ring, and one turn; errors and panics of the closure |
//! | [`reporter`] | reports what the monitor has found, on a separate thread |
//! | [`stall_monitor`] | finds calls that take too long, jobs that wait too long, and suspended workers |
//! | [`pool`] | the worker threads: which one runs the next turn, sleeps, ends or is replaced |
//!
//! Each file imports only from files above it in this table.
//!
//! # Failure modes
//!
//! * **A handler returns an error or panics**: it is counted and reported to the observer. The next
//!   event is handled as usual.
//! * **A handler falls behind**: the overflow policy of its ring applies, as for every
//!   subscription. The gap is reported to the observer.
//! * **A call takes long**: after [`HANDLER_STALL`](crate::limits::HANDLER_STALL) a spare thread
//!   replaces the worker. The number of threads is limited.
//! * **Many handlers have calls that take some milliseconds**: they take turns, one call each. If a
//!   handler would wait too long, spare threads help: see [`pool`].
//! * **A handler is cancelled**: no call begins after the cancel has returned. A call that is
//!   running may finish. If the handler had been disconnected before, the events that wait in its
//!   ring are not handled; the observer still gets the notice.
//! * **The bus closes**: the accepted events are handled, then the closure is dropped.
//! * **The bus breaks**: the events in the ring are handled, then the closure is dropped.

pub(crate) mod notice;
pub(crate) mod pool;
mod reporter;
mod stall_monitor;
pub(crate) mod task;
#[cfg(test)]
mod tests;
mod worker;
