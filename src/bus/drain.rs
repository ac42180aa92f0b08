//! Flushing and closing: what they wait for, as a thread and as a task.
//!
//! Both wait for the dispatch first and for the handlers after that.
//!
//! | | the dispatch is done when | the handlers are done when |
//! | --- | --- | --- |
//! | flush | everything that was accepted before is in rings | they have handled what was in their rings then |
//! | close | every role has finished | every handler has ended |
//!
//! A thread waits with a deadline. A task has none: it drops the future instead, and can do so at
//! any time, because the futures hold nothing but the step that they have reached. A future without
//! a deadline needs no timer and so no thread of its own. There is one exception: under manual
//! dispatch nobody else may be left to look when the longest wait for a `Block` subscriber is over,
//! and a [`WakeTimer`] wakes the task then.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use super::Core;
use super::record::Record;
use super::stats::{CloseReport, CloseSums};
use super::wake_timer::WakeTimer;
use crate::dispatch::Dispatch;
use crate::dispatch::engine::{Engine, FlushTicket};
use crate::park::wake_registered;
use crate::sync::{Arc, Ordering};

/// A handler, and the position in its ring up to which a flush waits for it.
type Awaited = (Arc<Record>, u64);

impl Core {
    pub(super) fn close(&self) {
        // Under the lock, so that no subscription opens after the close.
        self.registry.lock().close();
        self.engine.begin_close();
        // Wakers are user code: they are called without the lock.
        let awaited = self.registry.lock().awaited();
        awaited
            .iter()
            .for_each(|record| record.feed.wake_end_waiters());
        if self.engine.dispatch() == Dispatch::Manual && !self.engine.is_finished() {
            // From now on the readers drive the bus, and those that sleep do not know that yet.
            let records = self.registry.lock().records();
            records.iter().for_each(|record| record.feed.wake_reader());
        }
        wake_registered(&self.slow_waker);
        if let Some(pool) = self.handlers.pool() {
            pool.close();
            if self.engine.dispatch() == Dispatch::Manual {
                // Dispatch and handlers take turns: a `Block` handler makes the room that the
                // dispatch waits for.
                self.drive();
            }
        }
    }

    pub(super) fn close_within(&self, deadline: Option<Instant>) -> CloseReport {
        let lost_before = self.lost_at_close();
        self.close();
        let in_rings = self.engine.finish_close(deadline);
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
            in_time,
            unread,
            // The losses of a subscription that was cancelled meanwhile are not in the sum any
            // more.
            lost: lost.saturating_sub(lost_before),
            // Relaxed: a statistic, final by now.
            unsequenced: self.engine.shared.unsequenced.load(Ordering::Relaxed),
        }
    }

    pub(super) fn flush(&self, deadline: Option<Instant>) -> bool {
        self.drive();
        if !self.engine.flush(deadline) {
            return false;
        }
        self.drive_handlers();
        let handled = self
            .awaited_handlers()
            .iter()
            .all(|(record, pushed)| record.wait_until_handled(*pushed, deadline));
        // When the bus breaks, its handlers end without having handled everything.
        handled && !self.engine.is_broken()
    }

    /// The handlers with what is in their rings now. What comes later is not waited for.
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

/// Waits, as a task, for what the dispatch has to do.
#[derive(Default)]
struct DispatchWait {
    timer: Option<WakeTimer>,
}

impl DispatchWait {
    /// Looks; if it is too early, has `waker` woken when another look may find more.
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
        // Before the last look: whatever that one does not see wakes the task.
        engine.register_for_progress(waker.clone());
        let recheck_at = if manual {
            engine.drive_and_next_deadline()
        } else {
            None
        };
        if let Some(value) = look(engine) {
            return Poll::Ready(value);
        }
        if let Some(at) = recheck_at {
            self.set_timer(at, waker);
        }
        Poll::Pending
    }

    fn set_timer(&mut self, at: Instant, waker: &Waker) {
        let timer = self.timer.as_ref();
        if timer.is_some_and(|timer| timer.is_for(at, waker)) {
            return;
        }
        self.timer = WakeTimer::start(at, waker).ok();
        if self.timer.is_none() {
            waker.wake_by_ref(); // the system started no thread: the task has to look until then
        }
    }
}

/// Flushes, as a task. `false`: the bus is broken.
pub(super) struct FlushFuture {
    core: Arc<Core>,
    step: FlushStep,
    wait: DispatchWait,
}

enum FlushStep {
    Start,
    Dispatch(FlushTicket),
    /// Those that are not done. The last one is waited for.
    Handlers(Vec<Awaited>),
}

impl FlushFuture {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            step: FlushStep::Start,
            wait: DispatchWait::default(),
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
                        let handler = record.handler.as_deref();
                        if handler.is_some_and(|handler| !handler.poll_for(waker, &mut is_done)) {
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

/// Closes, as a task.
pub(super) struct CloseFuture {
    core: Arc<Core>,
    /// What was lost to an earlier close that was cut short. `None` before the first poll.
    lost_before: Option<u64>,
    wait: DispatchWait,
}

impl CloseFuture {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            lost_before: None,
            wait: DispatchWait::default(),
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
        if pool.is_some_and(|pool| !pool.poll_finished(waker)) {
            return Poll::Pending;
        }
        Poll::Ready(core.close_report(true, lost_before))
    }
}
