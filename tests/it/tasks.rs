//! Code that the tests of tasks share: a waker that counts, single polls, and executors.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

/// Counts the wake-ups.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    /// Returns the counter and a waker. Each owns one of two references.
    pub(crate) fn new() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (wakes.clone(), Waker::from(wakes))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once with that waker.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls once and drops the future. Returns `None` if it was not ready.
pub(crate) fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    let polled = std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A minimal executor: it polls, and parks its thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Runtime {
    /// All tasks run on the calling thread.
    TokioCurrentThread,
    TokioMultiThread,
    Smol,
    /// Each task runs on its own thread.
    Bare,
}

pub(crate) const RUNTIMES: [Runtime; 4] = [
    Runtime::TokioCurrentThread,
    Runtime::TokioMultiThread,
    Runtime::Smol,
    Runtime::Bare,
];

pub(crate) type Task<R> = Pin<Box<dyn Future<Output = R> + Send>>;

impl Runtime {
    /// Runs the tasks concurrently until all of them have ended.
    pub(crate) fn run<R: Send + 'static>(self, tasks: Vec<Task<R>>) -> Vec<R> {
        match self {
            Runtime::TokioCurrentThread => {
                run_on_tokio(&mut tokio::runtime::Builder::new_current_thread(), tasks)
            }
            Runtime::TokioMultiThread => run_on_tokio(
                tokio::runtime::Builder::new_multi_thread().worker_threads(2),
                tasks,
            ),
            Runtime::Smol => smol::block_on(async {
                let tasks: Vec<_> = tasks.into_iter().map(smol::spawn).collect();
                let mut results = Vec::new();
                for task in tasks {
                    results.push(task.await);
                }
                results
            }),
            Runtime::Bare => {
                let threads: Vec<_> = tasks
                    .into_iter()
                    .map(|task| thread::spawn(|| block_on(task)))
                    .collect();
                let join = |thread: thread::JoinHandle<R>| thread.join().expect("no panic");
                threads.into_iter().map(join).collect()
            }
        }
    }
}

fn run_on_tokio<R: Send + 'static>(
    runtime: &mut tokio::runtime::Builder,
    tasks: Vec<Task<R>>,
) -> Vec<R> {
    let runtime = runtime.enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.expect("no panic"));
        }
        results
    })
}
