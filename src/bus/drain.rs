//! Flushing and closing: what a thread or a task waits for.
//!
//! Both wait first for the dispatch and then for the handlers.
//!
//! | | the dispatch is done when | the handlers are done when |
//! | --- | --- | --- |
//! | flush | all events that were accepted before are in rings | they have handled the events that were in their rings at that time |
//! | close | every role has finished | every handler has ended |
//!
//! A thread waits with a deadline. A task has no deadline: it drops the future instead, and can do
//! so at any time, because the futures own nothing but the step that they have reached. A future
//! without a deadline needs no timer, and so no thread. There is one exception. Under manual
//! dispatch no other thread may be left that runs the shard when a block timeout ends. Then a
//! [`WakeTimer`] wakes the task.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::Core;
use super::record::Record;
use super::stats::{CloseReport, CloseSums};
use super::wake_timer::WakeTimer;
use crate::dispatch::Dispatch;
use crate::dispatch::engine::{Engine, FlushTicket};
use crate::park::{Registration, wake_registered};
use crate::sync::{Arc, Ordering};
use crate::time_limit::TimeLimit;

/// A handler, and the position in its ring up to which a flush waits for it.
type Awaited = (Arc<Record>, u64);

impl Core {
    pub(super) fn close(&self) {
        // The lock is held here, so that no subscription opens after the close.
        self.registry.lock().close();
        self.engine.begin_close();
        // Wakers are user code, so the lock is not held when they are called.
        let awaited = self.registry.lock().awaited();
        awaited
            .iter()
            .for_each(|record| record.feed.end_state().wake_waiters());
        if self.engine.dispatch() == Dispatch::Manual && !self.engine.is_finished() {
            // From now on the subscribers drive the bus. Those that sleep must be woken, so that
            // they notice it.
            let records = self.registry.lock().records();
            records.iter().for_each(|record| record.feed.wake_reader());
        }
        wake_registered(&self.slow_waker);
        if let Some(pool) = self.handlers.pool() {
            pool.close();
            if self.engine.dispatch() == Dispatch::Manual {
                // Dispatching and handling alternate: a handler with the policy `Block` makes the
                // room that the dispatch waits for.
                self.drive();
            }
        }
        self.handlers.release_observer();
    }

    /// Dropping payloads and calling wakers counts against the limit: see [`time_limit`].
    ///
    /// [`time_limit`]: crate::time_limit
    pub(super) fn close_within(&self, limit: Duration) -> CloseReport {
        let limit = TimeLimit::enter(limit);
        let deadline = limit.deadline();
        let lost_before = self.lost_at_close();
        self.close();
        let in_rings = self
            .engine
            .finish_close(deadline, &|| self.drive_handlers());
        self.drive_handlers();
        let pool = self.handlers.pool();
        let handled = pool.is_none_or(|pool| pool.wait_finished(deadline));
        self.close_report(in_rings && handled, lost_before)
    }

    fn lost_at_close(&self) -> u64 {
        self.registry.lock().close_sums().lost
    }

    fn close_report(&self, in_time: bool, lost_before: u64) -> CloseReport {
        let CloseSums { unread, lost } = self.registry.lock().close_sums();
        CloseReport {
            // A broken bus gives up what it has accepted and not delivered.
            in_time: in_time && !self.engine.is_broken(),
            unread,
            // Saturating: the sum no longer includes the losses of a subscription that was
            // cancelled meanwhile.
            lost: lost.saturating_sub(lost_before),
            // Relaxed: a statistic. It may still grow if a thread that sequences is in user code.
            unsequenced: self.engine.shared.unsequenced.load(Ordering::Relaxed),
        }
    }

    /// Dropping payloads and calling wakers counts against the limit, as in `close_within`.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let limit = TimeLimit::enter(limit);
        let deadline = limit.deadline();
        if !self.engine.flush(deadline, &|| self.drive_handlers()) {
            return false;
        }
        self.drive_handlers();
        let handled = self
            .awaited_handlers()
            .iter()
            .all(|(record, pushed)| record.wait_until_handled(*pushed, deadline));
        // When the bus breaks, its handlers end before they have handled all events.
        handled && !self.engine.is_broken()
    }

    /// A future no longer waits for the dispatch and for the handlers.
    fn forget_waits(&self, wait: &mut DispatchWait, turn_ends: &mut Registration) {
        self.engine.forget_progress(&mut wait.registration);
        if let Some(pool) = self.handlers.pool() {
            pool.forget(turn_ends);
        }
    }

    /// The handlers, each with the number of events that were pushed into its ring so far. A flush
    /// does not wait for later events.
    fn awaited_handlers(&self) -> Vec<Awaited> {
        let handlers = self.registry.lock().handlers();
        handlers
            .into_iter()
            .map(|record| {
                let pushed = record.feed.pushed_events();
                (record, pushed)
            })
            .collect()
    }
}

/// A task's wait for the dispatch.
#[derive(Default)]
struct DispatchWait {
    timer: Option<WakeTimer>,
    registration: Registration,
}

impl DispatchWait {
    /// Calls `look`. If that returns `None`, `waker` is woken when another look may find a value.
    fn poll<R>(
        &mut self,
        core: &Core,
        waker: &Waker,
        mut look: impl FnMut(&Engine) -> Option<R>,
    ) -> Poll<R> {
        let engine = &core.engine;
        let manual = engine.dispatch() == Dispatch::Manual;
        if manual {
            core.drive();
        }
        if let Some(value) = look(engine) {
            return Poll::Ready(value);
        }
        // The task registers before its last look: progress that the look does not see wakes the
        // task.
        engine.register_for_progress(&mut self.registration, waker);
        let recheck_at = if manual {
            core.drive_and_next_deadline()
        } else {
            None
        };
        if let Some(value) = look(engine) {
            return Poll::Ready(value);
        }
        if let Some(at) = recheck_at {
            WakeTimer::set(&mut self.timer, at, waker);
        }
        Poll::Pending
    }
}

/// The future of a flush. It returns `false` if the bus is broken.
pub(super) struct FlushFuture {
    core: Arc<Core>,
    step: FlushStep,
    wait: DispatchWait,
    /// In the handler pool.
    turn_ends: Registration,
}

enum FlushStep {
    Start,
    Dispatch(FlushTicket),
    /// The handlers that are not done. The future waits for the last one.
    Handlers(Vec<Awaited>),
}

impl FlushFuture {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            step: FlushStep::Start,
            wait: DispatchWait::default(),
            turn_ends: Registration::default(),
        }
    }
}

impl Future for FlushFuture {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let this = self.get_mut();
        let (core, waker) = (&*this.core, context.waker());
        loop {
            match &mut this.step {
                FlushStep::Start => {
                    this.step = FlushStep::Dispatch(core.engine.request_flush());
                    core.engine.run_one_pass();
                }
                FlushStep::Dispatch(ticket) => {
                    let look = |engine: &Engine| engine.check_flush(ticket);
                    if !ready!(this.wait.poll(core, waker, look)) {
                        return Poll::Ready(false);
                    }
                    this.step = FlushStep::Handlers(core.awaited_handlers());
                }
                FlushStep::Handlers(awaited) => {
                    core.drive_handlers();
                    while let Some((record, pushed)) = awaited.last() {
                        let mut is_done = || record.feed.has_passed(*pushed);
                        let turn_ends = &mut this.turn_ends;
                        if let Some(handler) = record.handler.as_deref()
                            && !handler.poll_for(turn_ends, waker, &mut is_done)
                        {
                            return Poll::Pending;
                        }
                        awaited.pop();
                    }
                    return Poll::Ready(!core.engine.is_broken());
                }
            }
        }
    }
}

impl Drop for FlushFuture {
    fn drop(&mut self) {
        self.core.forget_waits(&mut self.wait, &mut self.turn_ends);
    }
}

/// The future of a close.
pub(super) struct CloseFuture {
    core: Arc<Core>,
    /// The number of events that were lost to earlier closes with a time limit. `None` before the
    /// first poll.
    lost_before: Option<u64>,
    wait: DispatchWait,
    /// In the handler pool.
    turn_ends: Registration,
}

impl CloseFuture {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            lost_before: None,
            wait: DispatchWait::default(),
            turn_ends: Registration::default(),
        }
    }
}

impl Future for CloseFuture {
    type Output = CloseReport;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CloseReport> {
        let this = self.get_mut();
        let (core, waker) = (&*this.core, context.waker());
        let lost_before = *this.lost_before.get_or_insert_with(|| {
            let lost = core.lost_at_close();
            core.close();
            lost
        });
        let look = |engine: &Engine| engine.is_finished().then_some(());
        ready!(this.wait.poll(core, waker, look));
        core.drive_handlers();
        let pool = core.handlers.pool();
        let turn_ends = &mut this.turn_ends;
        if pool.is_some_and(|pool| !pool.poll_finished(turn_ends, waker)) {
            return Poll::Pending;
        }
        Poll::Ready(core.close_report(true, lost_before))
    }
}

impl Drop for CloseFuture {
    fn drop(&mut self) {
        self.core.forget_waits(&mut self.wait, &mut self.turn_ends);
    }
}
