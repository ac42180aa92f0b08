//! Handlers: closures that are called with the events of a subscription, on a pool of threads.
//!
//! A handler's subscription has a ring like any other. When the dispatcher has put something into it, the handler's
//! [`Job`](crate::ring::run_queue::Job) is asked for a turn; some worker takes it, hands the closure what is there, up to
//! a share, and lets go. So the events of one handler are handled in order and one at a time, whatever thread it is, and
//! tens of thousands of handlers share a few threads. A job waits in the run queue at most once, and the queue is made of
//! the jobs themselves: neither waking a handler nor running it allocates.
//!
//! | file | story |
//! | --- | --- |
//! | [`task`] | a closure, its ring, and one turn at them; errors and panics |
//! | [`pool`] | the workers: who takes the next turn, who sleeps, who ends |
//! | [`stall_monitor`] | who sees that a call takes too long, and replaces its thread |
//! | [`notice`] | what the program is told of all this |
//!
//! **The bad days.** *A handler fails or panics*: it is counted and told to the observer; the next event is handled as
//! usual. *It falls behind*: its ring's policy applies, as for everybody, and the gap is told to the observer. *It takes
//! long*: past [`HANDLER_STALL`](crate::limits::HANDLER_STALL) a spare thread takes its worker's place, up to a limit. *It is
//! cancelled*: see [`cancel`](crate::HandlerHandle::cancel). *The bus closes*: what was accepted is handled, then the
//! closure is dropped. *The bus breaks*: the same, for what had reached the ring.

pub(crate) mod notice;
pub(crate) mod pool;
pub(crate) mod stall_monitor;
pub(crate) mod task;
