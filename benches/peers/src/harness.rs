//! The harness of one run: it starts the publishers and the subscribers, takes the time, and
//! collects the results of the checks.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;

use crate::machine;
use crate::tick::{Arrivals, Checker, Tick, Ticks, latencies};

/// The capacity per subscriber, in events. A system with another capacity says so in
/// [`System::about`].
pub const CAPACITY: usize = 1024;

/// The number of worker threads of the tokio runtime if subscribers are tasks.
pub const WORKERS: usize = 2;

/// The minimum time before the start in which idle threads can park.
const PARK_TIME: Duration = Duration::from_millis(2);

/// The same time, per subscriber. It applies if it is longer in total than [`PARK_TIME`].
const PARK_TIME_EACH: Duration = Duration::from_micros(20);

/// The kind of subscriber. Each scenario has its own systems, numbers of subscribers, and table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A subscriber is a thread that receives.
    Threads,
    /// A subscriber is a handler: a closure that is called for each event.
    Handlers,
    /// A subscriber is a task on a tokio runtime.
    Async,
}

impl Scenario {
    /// All scenarios, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Threads, Self::Handlers, Self::Async];

    /// The name for `--race`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Handlers => "handlers",
            Self::Async => "async",
        }
    }

    /// A description for the line above a table.
    pub fn about(self) -> &'static str {
        match self {
            Self::Threads => "every subscriber is a thread",
            Self::Handlers => {
                "every subscriber is a handler (a thread if the peer has no handlers)"
            }
            Self::Async => {
                "every subscriber is a task on a tokio runtime with 2 workers (a thread if the \
                 peer has no async interface)"
            }
        }
    }

    /// The numbers of subscribers in the table of this scenario.
    pub fn subscribers(self) -> &'static [usize] {
        match self {
            Self::Threads => &[1, 4, 16, 64, 256],
            Self::Handlers => &[1, 16, 64, 256, 1024],
            Self::Async => &[4, 64, 1024],
        }
    }
}

/// The parameters of one run.
#[derive(Clone, Debug)]
pub struct Work {
    /// The number of publishers.
    pub publishers: u32,
    /// The number of subscribers. Each of them receives every event.
    pub subscribers: usize,
    /// The number of events of all publishers together, a multiple of the number of publishers.
    pub events: u64,
    /// The planned events of all publishers per second, if latency is measured. `None` means full
    /// speed.
    pub arrivals: Option<u32>,
}

impl Work {
    /// The number of threads if each publisher and each subscriber has a thread.
    pub fn threads(&self) -> usize {
        self.publishers as usize + self.subscribers
    }
}

/// The result of one run. It exists only if all checks passed.
pub struct Outcome {
    /// The time from the start barrier until the last subscriber received its last event.
    pub elapsed: Duration,
    /// The processor time of all threads, from the same start until all subscribers have ended.
    /// `None` if it cannot be measured.
    pub processor: Option<Duration>,
    /// The number of events times the number of subscribers.
    pub deliveries: u64,
    /// The times from the planned publishing to receiving, in nanoseconds, of all subscribers. It
    /// is empty if the run was at full speed.
    pub latencies: Histogram<u64>,
}

impl Outcome {
    /// Deliveries per second.
    pub fn rate(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64()
    }

    /// Nanoseconds of processor time per delivery.
    pub fn processor_ns(&self) -> Option<f64> {
        Some(self.processor?.as_nanos() as f64 / self.deliveries as f64)
    }
}

/// With more subscriber threads than this, a run of some systems takes minutes.
const MAX_THREADS: usize = 256;

/// The reason to exclude a system that is too slow with this number of subscriber threads.
pub fn too_many_threads(work: &Work) -> Option<&'static str> {
    (work.subscribers > MAX_THREADS).then_some("a run with so many threads can take minutes")
}

/// A system that carries events from publishers to subscribers.
pub trait System: Sync {
    /// The name in the tables and for `--only`.
    fn name(&self) -> &'static str;

    /// A description of how the system is used here, and how it differs from the others.
    fn about(&self) -> &'static str;

    /// The package whose version is reported. `None` means that no package is used.
    fn package(&self) -> Option<&'static str>;

    /// Whether the system is fanout itself.
    fn is_fanout(&self) -> bool {
        false
    }

    /// Whether the system is a bound, not a peer: it makes the calls and does nothing else, so it
    /// shows the highest rate that can be reached.
    fn is_bound(&self) -> bool {
        false
    }

    /// Whether the system is a reference, not a peer: its queue has no bound, so a publisher never
    /// waits. It does less work than the others, so it is never the best peer.
    fn is_reference(&self) -> bool {
        false
    }

    /// Whether the system has topics and patterns.
    fn has_topics(&self) -> bool {
        false
    }

    /// Whether the threads of the system use their cores fully while they wait.
    fn spins(&self) -> bool {
        false
    }

    /// The reason why the system is not measured with this work. `None` means that it is measured.
    fn exclusion(&self, _work: &Work) -> Option<&'static str> {
        None
    }

    /// The maximum number of events in a run.
    fn max_events(&self) -> u64 {
        u64::MAX
    }

    /// Does the work and checks it.
    ///
    /// # Panics
    ///
    /// Panics if a check fails.
    fn run(&self, work: &Work) -> Outcome;
}

/// Runs each publisher and each subscriber on a thread of its own.
///
/// A publisher gets the events that it has to publish. When it returns, it drops its sender. A
/// subscriber passes each event to the checker until its stream ends, so the checker also sees an
/// event that should not be there. All threads exist, and all receivers are waiting, before the
/// clock starts. The end of the stream and the cleanup are not part of the measured time.
pub fn run_threads<P, S>(work: &Work, publishers: Vec<P>, subscribers: Vec<S>) -> Outcome
where
    P: FnOnce(Ticks) + Send,
    S: FnOnce(&mut Checker) + Send,
{
    let runner = Runner::new(work);
    let ready = AtomicUsize::new(0);
    thread::scope(|scope| {
        let receiving: Vec<_> = subscribers
            .into_iter()
            .enumerate()
            .map(|(number, subscriber)| {
                let (runner, ready) = (&runner, &ready);
                spawn(scope, format!("subscriber {number}"), move || {
                    let mut checker = runner.checker();
                    // The partner is the Acquire load in `wait_for_subscribers`.
                    ready.fetch_add(1, Ordering::Release);
                    subscriber(&mut checker);
                    checker
                })
            })
            .collect();
        runner.spawn_publishers(scope, publishers);
        runner.wait_for_subscribers(&ready);
        let start = runner.start();
        let checkers = receiving
            .into_iter()
            .map(|thread| thread.join().expect("a subscriber panicked"))
            .collect();
        runner.outcome(start, checkers)
    })
}

/// Runs each publisher on a thread of its own. The subscribers are handlers, and `connect` gives
/// them to the system that calls them.
///
/// The stream of a subscriber ends when its handler is dropped. The system drops the handlers after
/// the last publisher has returned and all events were handled. Everything else is as in
/// [`run_threads`].
pub fn run_handlers<P>(work: &Work, connect: impl FnOnce(Vec<Handler>) -> Vec<P>) -> Outcome
where
    P: FnOnce(Ticks) + Send,
{
    let runner = Runner::new(work);
    let (finished, checkers) = mpsc::channel();
    let handlers = (0..work.subscribers)
        .map(|_| Handler {
            checker: runner.checker(),
            finished: finished.clone(),
        })
        .collect();
    drop(finished);
    let publishers = connect(handlers);
    thread::scope(|scope| {
        runner.spawn_publishers(scope, publishers);
        runner.wait_until_parked();
        let start = runner.start();
        // The iterator ends when all handlers have been dropped.
        let checkers = checkers.iter().collect();
        runner.outcome(start, checkers)
    })
}

/// A subscriber that is called for each event. Its drop marks the end of the stream.
///
/// A handler has cache lines of its own, as the checker on the stack of a thread has. Handlers are
/// created one after the other, so without the alignment there would be false sharing between
/// threads that call different handlers.
#[repr(align(128))]
pub struct Handler {
    checker: Checker,
    finished: mpsc::Sender<Checker>,
}

impl Handler {
    /// Checks one event.
    #[inline]
    pub fn call(&mut self, tick: &Tick) {
        self.checker.accept(tick);
    }

    /// The handler as a boxed closure. The compiler cannot inline a call through the box.
    pub fn boxed(mut self) -> Box<dyn FnMut(&Tick) + Send> {
        Box::new(move |tick| self.call(tick))
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let checker = mem::replace(&mut self.checker, Checker::new(1, 0, None));
        // If there is no receiver any more, the run has already failed.
        let _ = self.finished.send(checker);
    }
}

/// Runs each publisher on a thread of its own, and each subscriber as a task on a runtime with
/// [`WORKERS`] threads.
///
/// A subscriber is a function that makes a future. The future passes each event to the checker
/// until the stream ends, and then returns the checker. Everything else is as in [`run_threads`].
pub fn run_tasks<P, S, F>(work: &Work, publishers: Vec<P>, subscribers: Vec<S>) -> Outcome
where
    P: FnOnce(Ticks) + Send,
    S: FnOnce(Checker) -> F,
    F: Future<Output = Checker> + Send + 'static,
{
    let runner = Runner::new(work);
    let runtime = runtime();
    let receiving = spawn_tasks(&runner, &runtime, subscribers);
    thread::scope(|scope| {
        runner.spawn_publishers(scope, publishers);
        let start = runner.start();
        let checkers = join_tasks(&runtime, receiving);
        runner.outcome(start, checkers)
    })
}

/// Runs each publisher and each subscriber as a task on one runtime with [`WORKERS`] threads.
///
/// The publishers are spawned after the clock has started, because a task must not block at the
/// start barrier. Everything else is as in [`run_tasks`].
pub fn run_all_as_tasks<P, Q, S, F>(work: &Work, publishers: Vec<P>, subscribers: Vec<S>) -> Outcome
where
    P: FnOnce(Ticks) -> Q,
    Q: Future<Output = ()> + Send + 'static,
    S: FnOnce(Checker) -> F,
    F: Future<Output = Checker> + Send + 'static,
{
    let runner = Runner::new(work);
    assert_eq!(publishers.len(), work.publishers as usize);
    let runtime = runtime();
    let receiving = spawn_tasks(&runner, &runtime, subscribers);
    let publishing: Vec<Q> = (0..)
        .zip(publishers)
        .map(|(number, publisher)| publisher(runner.ticks(number)))
        .collect();
    let start = runner.begin();
    for publisher in publishing {
        runtime.spawn(publisher);
    }
    let checkers = join_tasks(&runtime, receiving);
    runner.outcome(start, checkers)
}

fn runtime() -> Runtime {
    runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .build()
        .expect("threads can be started")
}

/// Spawns a task per subscriber, and waits until all of them are waiting for an event.
fn spawn_tasks<S, F>(
    runner: &Runner,
    runtime: &Runtime,
    subscribers: Vec<S>,
) -> Vec<JoinHandle<Checker>>
where
    S: FnOnce(Checker) -> F,
    F: Future<Output = Checker> + Send + 'static,
{
    let ready = Arc::new(AtomicUsize::new(0));
    let receiving = subscribers
        .into_iter()
        .map(|subscriber| {
            let receiving = subscriber(runner.checker());
            let ready = Arc::clone(&ready);
            runtime.spawn(async move {
                // The partner is the Acquire load in `wait_for_subscribers`.
                ready.fetch_add(1, Ordering::Release);
                receiving.await
            })
        })
        .collect();
    runner.wait_for_subscribers(&ready);
    receiving
}

fn join_tasks(runtime: &Runtime, tasks: Vec<JoinHandle<Checker>>) -> Vec<Checker> {
    runtime.block_on(async {
        let mut checkers = Vec::new();
        for task in tasks {
            checkers.push(task.await.expect("a subscriber panicked"));
        }
        checkers
    })
}

/// The part of a run that is the same in all scenarios: the events of each publisher, the start,
/// and the result.
struct Runner<'a> {
    work: &'a Work,
    arrivals: Option<Arrivals>,
    barrier: Barrier,
    /// The processor time of the process at the start.
    processor: OnceLock<Duration>,
}

impl<'a> Runner<'a> {
    fn new(work: &'a Work) -> Self {
        assert_eq!(work.events % u64::from(work.publishers), 0);
        Self {
            work,
            arrivals: work
                .arrivals
                .map(|per_second| Arrivals::new(per_second, work.publishers)),
            barrier: Barrier::new(work.publishers as usize + 1),
            processor: OnceLock::new(),
        }
    }

    /// The events of one publisher.
    fn ticks(&self, publisher: u32) -> Ticks {
        let each = self.work.events / u64::from(self.work.publishers);
        Ticks::new(publisher, each, self.arrivals.clone())
    }

    /// A checker for one subscriber.
    fn checker(&self) -> Checker {
        Checker::new(
            self.work.publishers,
            self.work.events,
            self.arrivals.clone(),
        )
    }

    /// Spawns the threads of the publishers. They wait at the start barrier.
    fn spawn_publishers<'scope, P>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        publishers: Vec<P>,
    ) where
        P: FnOnce(Ticks) + Send + 'scope,
    {
        assert_eq!(publishers.len(), self.work.publishers as usize);
        for (number, publisher) in (0_u32..).zip(publishers) {
            spawn(scope, format!("publisher {number}"), move || {
                let ticks = self.ticks(number);
                self.barrier.wait();
                publisher(ticks);
            });
        }
    }

    /// Waits until all subscribers have started and had time to park.
    fn wait_for_subscribers(&self, ready: &AtomicUsize) {
        // The partner is the Release increment in each subscriber.
        while ready.load(Ordering::Acquire) < self.work.subscribers {
            thread::sleep(Duration::from_micros(100));
        }
        self.wait_until_parked();
    }

    /// Waits long enough for idle threads to park.
    fn wait_until_parked(&self) {
        thread::sleep(PARK_TIME.max(PARK_TIME_EACH * self.work.subscribers as u32));
    }

    /// Starts the clock, and releases the publishers from the barrier.
    fn start(&self) -> Instant {
        let start = self.begin();
        self.barrier.wait();
        start
    }

    /// Starts the clock, and the plan of arrivals.
    fn begin(&self) -> Instant {
        if let Some(processor) = machine::processor_time() {
            self.processor.set(processor).expect("a run starts once");
        }
        let start = Instant::now();
        if let Some(arrivals) = &self.arrivals {
            arrivals.begin(start);
        }
        start
    }

    /// Finishes the checks of all subscribers, and computes the result of the run.
    fn outcome(&self, start: Instant, checkers: Vec<Checker>) -> Outcome {
        assert_eq!(
            checkers.len(),
            self.work.subscribers,
            "subscribers that ended"
        );
        let processor = machine::processor_time();
        let mut last = start;
        let mut all = latencies();
        for checker in checkers {
            let (finished, histogram) = checker.finish();
            last = last.max(finished);
            if let Some(histogram) = histogram {
                all.add(histogram)
                    .expect("all histograms have the same range");
            }
        }
        Outcome {
            elapsed: last - start,
            processor: processor
                .zip(self.processor.get())
                .map(|(end, start)| end.saturating_sub(*start)),
            deliveries: self.work.events * self.work.subscribers as u64,
            latencies: all,
        }
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: String,
    body: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    thread::Builder::new()
        .name(name)
        .stack_size(256 * 1024)
        .spawn_scoped(scope, body)
        .expect("a thread can be started")
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;

    fn work() -> Work {
        Work {
            publishers: 1,
            subscribers: 2,
            events: 4,
            arrivals: None,
        }
    }

    /// Calls both handlers with the first `events` of the four events.
    fn call(events: usize) -> Outcome {
        run_handlers(&work(), |handlers| {
            let mut handlers: Vec<_> = handlers.into_iter().map(Handler::boxed).collect();
            vec![move |ticks: Ticks| {
                for tick in ticks.take(events) {
                    for handler in &mut handlers {
                        handler(&tick);
                    }
                }
            }]
        })
    }

    /// Sends all four events to one task, and the first `events` of them to another.
    fn send(events: usize) -> Outcome {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| channel(8)).unzip();
        let publisher = move |ticks: Ticks| {
            for (number, tick) in ticks.enumerate() {
                senders[0].blocking_send(tick).unwrap();
                if number < events {
                    senders[1].blocking_send(tick).unwrap();
                }
            }
        };
        let subscribers = receivers
            .into_iter()
            .map(|mut receiver| {
                |mut checker: Checker| async move {
                    while let Some(tick) = receiver.recv().await {
                        checker.accept(&tick);
                    }
                    checker
                }
            })
            .collect();
        run_tasks(&work(), vec![publisher], subscribers)
    }

    #[test]
    fn every_delivery_is_counted() {
        assert_eq!(call(4).deliveries, 8);
        assert_eq!(send(4).deliveries, 8);
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn a_handler_that_missed_an_event_is_detected() {
        call(3);
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn a_task_that_missed_an_event_is_detected() {
        send(3);
    }
}
