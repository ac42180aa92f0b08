//! Handlers: closures that a pool of threads calls with the events of a subscription.
//!
//! The subscription of a handler has a ring like any other. When the dispatcher has pushed
//! something into it, the handler's [`Job`](crate::ring::run_queue::Job) is scheduled. A worker
//! thread takes the job, calls the closure with the events in the ring, up to a limit, and releases
//! the job. So the events of one handler are handled in order and one at a time, whichever thread
//! it is, and tens of thousands of handlers share a few threads. A job is in the run queue at most
//! once, and the jobs themselves are the links of the queue: neither scheduling a handler nor
//! running it allocates.
//!
//! | file | content |
//! | --- | --- |
//! | [`notice`] | what the program is notified of |
//! | [`worker`] | what a worker thread is doing, for others to see |
//! | [`task`] | a closure, its ring, and one turn; errors and panics of the closure |
//! | [`stall_monitor`] | finds calls that take too long |
//! | [`pool`] | the worker threads: which one runs the next turn, sleeps, ends or is replaced |
//!
//! Each file imports only from files above it in this table.
//!
//! # Failure modes
//!
//! * **A handler returns an error or panics**: it is counted and reported to the observer. The next
//!   event is handled as usual.
//! * **It falls behind**: the overflow policy of its ring applies, as for every subscription. The
//!   gap is reported to the observer.
//! * **A call takes long**: beyond [`HANDLER_STALL`](crate::limits::HANDLER_STALL) a spare thread
//!   replaces the worker, up to a limit.
//! * **It is cancelled**: no call begins after the cancel has returned. A call that is running may
//!   finish.
//! * **The bus closes**: what was accepted is handled, then the closure is dropped.
//! * **The bus breaks**: what had reached the ring is handled, then the closure is dropped.

pub(crate) mod notice;
pub(crate) mod pool;
mod stall_monitor;
pub(crate) mod task;
mod worker;
