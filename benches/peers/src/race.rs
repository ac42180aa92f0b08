//! One run: threads, closures or tasks, the start, the clock, and the checks.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;

use crate::tick::{Checker, Pace, Tick, Ticks, latencies};

/// Room for events per subscriber, in every system but the one that says otherwise.
pub const CAPACITY: usize = 1024;

/// Worker threads of the runtime, where subscribers are tasks.
pub const WORKERS: usize = 2;

/// Long enough for receivers to fall asleep before the clock starts: at least, and for each of
/// them.
const SETTLE: Duration = Duration::from_millis(2);
const SETTLE_EACH: Duration = Duration::from_micros(20);

/// What subscribers are: each race has systems, sizes and a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Race {
    /// A thread each.
    Threads,
    /// Closures.
    Handlers,
    /// Tasks on a runtime.
    Async,
}

impl Race {
    /// In the order of the tables.
    pub const ALL: [Self; 3] = [Self::Threads, Self::Handlers, Self::Async];

    /// The name for `--race`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Handlers => "handlers",
            Self::Async => "async",
        }
    }

    /// What it is about, for a headline.
    pub fn about(self) -> &'static str {
        match self {
            Self::Threads => "every subscriber a thread",
            Self::Handlers => "every subscriber a closure; of a peer without callbacks, a thread",
            Self::Async => {
                "every subscriber a task on a tokio runtime with 2 workers; of a peer without \
                 async, a thread"
            }
        }
    }

    /// The numbers of subscribers in its table.
    pub fn subscribers(self) -> &'static [usize] {
        match self {
            Self::Threads => &[1, 4, 16, 64, 256],
            Self::Handlers => &[1, 16, 64, 256, 1024],
            Self::Async => &[4, 64, 1024],
        }
    }
}

/// What one run shall do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Publishing threads.
    pub publishers: u32,
    /// Subscribers, each of which receives everything.
    pub subscribers: usize,
    /// Events in all, a multiple of the publishers.
    pub events: u64,
    /// The pause before each event where latency is measured; `None` for full speed.
    pub every: Option<Duration>,
}

impl Work {
    /// Threads, where each publisher and each subscriber is one.
    pub fn threads(&self) -> usize {
        self.publishers as usize + self.subscribers
    }
}

/// What one run did. All checks passed, else there would be none.
pub struct Outcome {
    /// From the opening of the start barrier until the last subscriber had everything.
    pub elapsed: Duration,
    /// Events times subscribers.
    pub deliveries: u64,
    /// Publish to receive, in nanoseconds, of all subscribers; empty at full speed.
    pub latencies: Histogram<u64>,
}

impl Outcome {
    /// Deliveries per second.
    pub fn rate(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64()
    }
}

/// More threads than this make a run of some systems take minutes.
const MANY: usize = 256;

/// Refuses more threads than a system can be measured with.
pub fn too_many_threads(work: &Work) -> Option<&'static str> {
    (work.subscribers > MANY).then_some("takes up to minutes for a run with so many threads")
}

/// Something that carries events from publishers to subscribers.
pub trait System: Sync {
    /// The name in tables and for `--only`.
    fn name(&self) -> &'static str;

    /// How it is used here, and what is not equal about it.
    fn about(&self) -> &'static str;

    /// The package whose version is reported, if it is one.
    fn package(&self) -> Option<&'static str>;

    /// Is it fanout itself, not a peer of it?
    fn is_fanout(&self) -> bool {
        false
    }

    /// Is it no peer, but what could be reached at most, if nothing were asked for but the calls?
    fn is_bound(&self) -> bool {
        false
    }

    /// Does it have topics and patterns?
    fn topics(&self) -> bool {
        false
    }

    /// Do its threads hold a core while they wait?
    fn spins(&self) -> bool {
        false
    }

    /// Why it takes no part in this work, where it does not.
    fn refuses(&self, _work: &Work) -> Option<&'static str> {
        None
    }

    /// The longest run that it can make, in events.
    fn most_events(&self) -> u64 {
        u64::MAX
    }

    /// Does the work and checks it. Panics where anything is not as it should be.
    fn run(&self, work: &Work) -> Outcome;
}

/// Runs publishers and subscribers on a thread each.
///
/// A publisher gets the events that it has to publish; returning, it drops its sending side. A
/// subscriber hands each event to the checker until its stream ends, which is also how an event too
/// much would be seen. Threads are started, and receivers are waiting, before the clock starts;
/// the end of the stream and the clearing up are outside of the measured time.
pub fn race<P, S>(work: &Work, publishers: Vec<P>, subscribers: Vec<S>) -> Outcome
where
    P: FnOnce(Ticks) + Send,
    S: FnOnce(&mut Checker) + Send,
{
    let course = Course::new(work);
    let ready = AtomicUsize::new(0);
    thread::scope(|scope| {
        let receiving: Vec<_> = subscribers
            .into_iter()
            .enumerate()
            .map(|(number, subscriber)| {
                let (course, ready) = (&course, &ready);
                spawn(scope, format!("subscriber {number}"), move || {
                    let mut check = course.checker();
                    ready.fetch_add(1, Ordering::Release);
                    subscriber(&mut check);
                    check
                })
            })
            .collect();
        course.line_up(scope, publishers);
        course.settle(&ready);
        let start = course.start();
        let checks = receiving
            .into_iter()
            .map(|thread| thread.join().expect("a subscriber failed"))
            .collect();
        course.outcome(start, checks)
    })
}

/// Runs publishers on a thread each, and subscribers that are closures wherever `wire` has them
/// called.
///
/// The stream of a subscriber ends when its closure is dropped: whoever has it drops it when the
/// last publisher has returned and everything was handled. All else is as in [`race`].
pub fn race_handlers<P>(work: &Work, wire: impl FnOnce(Vec<Handler>) -> Vec<P>) -> Outcome
where
    P: FnOnce(Ticks) + Send,
{
    let course = Course::new(work);
    let (home, ended) = mpsc::channel();
    let handlers = (0..work.subscribers)
        .map(|_| Handler {
            check: course.checker(),
            home: home.clone(),
        })
        .collect();
    drop(home);
    let publishers = wire(handlers);
    thread::scope(|scope| {
        course.line_up(scope, publishers);
        course.fall_asleep();
        let start = course.start();
        // Ends when all handlers have been dropped.
        let checks = ended.iter().collect();
        course.outcome(start, checks)
    })
}

/// A subscriber that is called: give it to a closure, and drop it at the end of the stream.
///
/// It has cache lines of its own, as the checker of a thread has: handlers are made one after the
/// other, and would else slow each other down when they are called by several threads.
#[repr(align(128))]
pub struct Handler {
    check: Checker,
    home: mpsc::Sender<Checker>,
}

impl Handler {
    /// Takes one event.
    #[inline]
    pub fn call(&mut self, tick: &Tick) {
        self.check.accept(tick);
    }

    /// As a closure on the heap, of a type that whoever calls it does not know.
    pub fn boxed(mut self) -> Box<dyn FnMut(&Tick) + Send> {
        Box::new(move |tick| self.call(tick))
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let check = mem::replace(&mut self.check, Checker::new(1, 0, None));
        // Nobody is there any more: then the run has failed already.
        let _ = self.home.send(check);
    }
}

/// Runs publishers on a thread each, and subscribers as tasks on a runtime with [`WORKERS`]
/// threads.
///
/// A subscriber is made into a future that hands each event to the checker until its stream ends,
/// and then gives the checker back. All else is as in [`race`].
pub fn race_tasks<P, S, F>(work: &Work, publishers: Vec<P>, subscribers: Vec<S>) -> Outcome
where
    P: FnOnce(Ticks) + Send,
    S: FnOnce(Checker) -> F,
    F: Future<Output = Checker> + Send + 'static,
{
    let course = Course::new(work);
    let runtime = runtime();
    let receiving = spawn_tasks(&course, &runtime, subscribers);
    thread::scope(|scope| {
        course.line_up(scope, publishers);
        let start = course.start();
        let checks = join_tasks(&runtime, receiving);
        course.outcome(start, checks)
    })
}

/// The same, with publishers that are tasks on that runtime, too. They are started by the clock: a
/// task must not wait at a barrier.
pub fn race_tasks_alone<P, Q, S, F>(work: &Work, publishers: Vec<P>, subscribers: Vec<S>) -> Outcome
where
    P: FnOnce(Ticks) -> Q,
    Q: Future<Output = ()> + Send + 'static,
    S: FnOnce(Checker) -> F,
    F: Future<Output = Checker> + Send + 'static,
{
    let course = Course::new(work);
    assert_eq!(publishers.len(), work.publishers as usize);
    let runtime = runtime();
    let receiving = spawn_tasks(&course, &runtime, subscribers);
    let publishing: Vec<Q> = (0..)
        .zip(publishers)
        .map(|(number, publisher)| publisher(course.ticks(number)))
        .collect();
    let start = Instant::now();
    for publisher in publishing {
        runtime.spawn(publisher);
    }
    let checks = join_tasks(&runtime, receiving);
    course.outcome(start, checks)
}

fn runtime() -> Runtime {
    runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .build()
        .expect("threads can be started")
}

/// Starts a task per subscriber, and waits until all of them wait.
fn spawn_tasks<S, F>(
    course: &Course,
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
            let receiving = subscriber(course.checker());
            let ready = Arc::clone(&ready);
            runtime.spawn(async move {
                ready.fetch_add(1, Ordering::Release);
                receiving.await
            })
        })
        .collect();
    course.settle(&ready);
    receiving
}

fn join_tasks(runtime: &Runtime, tasks: Vec<JoinHandle<Checker>>) -> Vec<Checker> {
    runtime.block_on(async {
        let mut checks = Vec::new();
        for task in tasks {
            checks.push(task.await.expect("a subscriber failed"));
        }
        checks
    })
}

/// What is the same in all races: who publishes what, the start, and the result.
struct Course<'a> {
    work: &'a Work,
    pace: Option<Pace>,
    gate: Barrier,
}

impl<'a> Course<'a> {
    fn new(work: &'a Work) -> Self {
        assert_eq!(work.events % u64::from(work.publishers), 0);
        Self {
            work,
            pace: work.every.map(|every| Pace {
                every,
                epoch: Instant::now(),
            }),
            gate: Barrier::new(work.publishers as usize + 1),
        }
    }

    /// What a publisher has to publish.
    fn ticks(&self, publisher: u32) -> Ticks {
        let each = self.work.events / u64::from(self.work.publishers);
        Ticks::new(publisher, each, self.pace)
    }

    /// For a subscriber.
    fn checker(&self) -> Checker {
        Checker::new(self.work.publishers, self.work.events, self.pace)
    }

    /// Has the publishers' threads wait for the start.
    fn line_up<'scope, P>(
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
                self.gate.wait();
                publisher(ticks);
            });
        }
    }

    /// Waits until all subscribers are ready, and then until they sleep.
    fn settle(&self, ready: &AtomicUsize) {
        while ready.load(Ordering::Acquire) < self.work.subscribers {
            thread::sleep(Duration::from_micros(100));
        }
        self.fall_asleep();
    }

    /// Waits until whoever has nothing to do sleeps.
    fn fall_asleep(&self) {
        thread::sleep(SETTLE.max(SETTLE_EACH * self.work.subscribers as u32));
    }

    /// Lets the publishers go.
    fn start(&self) -> Instant {
        let start = Instant::now();
        self.gate.wait();
        start
    }

    /// Judges what the subscribers got.
    fn outcome(&self, start: Instant, checks: Vec<Checker>) -> Outcome {
        assert_eq!(
            checks.len(),
            self.work.subscribers,
            "subscribers that ended"
        );
        let mut last = start;
        let mut all = latencies();
        for check in checks {
            let (finished, histogram) = check.finish();
            last = last.max(finished);
            if let Some(histogram) = histogram {
                all.add(histogram).expect("all histograms have one range");
            }
        }
        Outcome {
            elapsed: last - start,
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
            every: None,
        }
    }

    /// Calls both handlers with so many of the events.
    fn call(events: usize) -> Outcome {
        race_handlers(&work(), |handlers| {
            let mut closures: Vec<_> = handlers.into_iter().map(Handler::boxed).collect();
            vec![move |ticks: Ticks| {
                for tick in ticks.take(events) {
                    for closure in &mut closures {
                        closure(&tick);
                    }
                }
            }]
        })
    }

    /// Sends all events to one task, and so many of them to another.
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
                |mut check: Checker| async move {
                    while let Some(tick) = receiver.recv().await {
                        check.accept(&tick);
                    }
                    check
                }
            })
            .collect();
        race_tasks(&work(), vec![publisher], subscribers)
    }

    #[test]
    fn all_that_was_delivered_is_counted() {
        assert_eq!(call(4).deliveries, 8);
        assert_eq!(send(4).deliveries, 8);
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn handlers_that_missed_an_event_are_seen() {
        call(3);
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn a_task_that_missed_an_event_is_seen() {
        send(3);
    }
}
