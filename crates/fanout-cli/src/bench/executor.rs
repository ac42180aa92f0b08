//! Runs the async tasks of a measurement on one thread.
//!
//! A runtime would be a large dependency, and what it does is not measured here. So this does the
//! least that an executor must do: it polls the tasks that were woken, and parks the thread if
//! there is none. A measurement starts one such thread for each processor, with its share of the
//! tasks.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Runs all futures to their ends on this thread, and returns their outputs.
pub(crate) fn run_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let ready = Arc::new(Ready {
        indexes: Mutex::new((0..futures.len()).collect()),
        thread: thread::current(),
    });
    let mut tasks: Vec<_> = futures.into_iter().map(Box::pin).map(Some).collect();
    let mut outputs: Vec<Option<F::Output>> = tasks.iter().map(|_| None).collect();
    let handles: Vec<_> = (0..tasks.len())
        .map(|index| Handle::new(index, &ready))
        .collect();
    let wakers: Vec<_> = handles.iter().cloned().map(Waker::from).collect();

    let mut left = tasks.len();
    let mut woken = Vec::new();
    while left > 0 {
        std::mem::swap(&mut woken, &mut ready.indexes());
        if woken.is_empty() {
            // A wake-up since the look at the list makes this return at once.
            thread::park();
        }
        for index in woken.drain(..) {
            handles[index].begin();
            let task: &mut Option<Pin<Box<F>>> = &mut tasks[index];
            let context = &mut Context::from_waker(&wakers[index]);
            if let Some(future) = task
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *task = None;
                outputs[index] = Some(output);
                left -= 1;
            }
        }
    }
    outputs.into_iter().flatten().collect()
}

/// The tasks that were woken and are to be polled.
struct Ready {
    indexes: Mutex<Vec<usize>>,
    /// The thread that polls them.
    thread: Thread,
}

impl Ready {
    fn indexes(&self) -> MutexGuard<'_, Vec<usize>> {
        // No code that may panic runs under this lock.
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of a task.
struct Handle {
    index: usize,
    /// Whether the task is in the list.
    is_ready: AtomicBool,
    ready: Arc<Ready>,
}

impl Handle {
    /// The waker of a task that is in the list.
    fn new(index: usize, ready: &Arc<Ready>) -> Arc<Handle> {
        Arc::new(Handle {
            index,
            is_ready: AtomicBool::new(true),
            ready: Arc::clone(ready),
        })
    }

    /// Called before the task is polled: from here on, a wake-up puts it into the list again.
    fn begin(&self) {
        // Acquire: with the Release of a wake-up that found the task in the list, so that this poll
        // sees what the wake-up reports.
        self.is_ready.swap(false, Ordering::AcqRel);
    }
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: with the Acquire in `begin`.
        if self.is_ready.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut indexes = self.ready.indexes();
        indexes.push(self.index);
        let is_first = indexes.len() == 1;
        drop(indexes);
        if is_first {
            self.ready.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc;

    /// A future that wakes itself this many times, and returns the number of its polls.
    async fn polled(times: usize) -> usize {
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            if polls > times {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        polls
    }

    #[test]
    fn all_outputs_come_in_the_order_of_the_futures() {
        assert_eq!(run_all(Vec::<std::future::Ready<()>>::new()), []);
        let futures = (0..100).map(polled).collect();
        assert_eq!(run_all(futures), (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn other_threads_can_wake_tasks() {
        let (sender, wakers) = mpsc::channel::<Waker>();
        let waking = thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        let futures = (0..64).map(|_| {
            let sender = sender.clone();
            let mut left = 50;
            poll_fn(move |context| {
                left -= 1;
                if left == 0 {
                    return Poll::Ready(());
                }
                sender.send(context.waker().clone()).expect("it receives");
                Poll::Pending
            })
        });
        assert_eq!(run_all(futures.collect()).len(), 64);
        drop(sender);
        waking.join().expect("no panic");
    }
}
