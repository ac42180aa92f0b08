//! One run: threads, the start, the clock, and the checks.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::tick::{Checker, Pace, Ticks, latencies};

/// Room for events per subscriber, in every system but the one that says otherwise.
pub const CAPACITY: usize = 1024;

/// Long enough for receivers to fall asleep before the clock starts.
const SETTLE: Duration = Duration::from_millis(2);

/// What one run shall do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Publishing threads.
    pub publishers: u32,
    /// Receiving threads, each of which receives everything.
    pub subscribers: usize,
    /// Events in all, a multiple of the publishers.
    pub events: u64,
    /// The pause before each event where latency is measured; `None` for full speed.
    pub every: Option<Duration>,
}

impl Work {
    /// Publishers and subscribers together.
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

/// Something that carries events from publishers to subscribers.
pub trait System: Sync {
    /// The name in tables and for `--only`.
    fn name(&self) -> &'static str;

    /// How it is used here, and what is not equal about it.
    fn about(&self) -> &'static str;

    /// The package whose version is reported.
    fn package(&self) -> &'static str;

    /// Is it fanout itself, not a peer of it?
    fn is_fanout(&self) -> bool {
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
    assert_eq!(publishers.len(), work.publishers as usize);
    assert_eq!(subscribers.len(), work.subscribers);
    assert_eq!(work.events % u64::from(work.publishers), 0);
    let each = work.events / u64::from(work.publishers);
    let pace = work.every.map(|every| Pace {
        every,
        epoch: Instant::now(),
    });
    let ready = AtomicUsize::new(0);
    let gate = Barrier::new(publishers.len() + 1);

    thread::scope(|scope| {
        let receiving: Vec<_> = subscribers
            .into_iter()
            .enumerate()
            .map(|(number, subscriber)| {
                let ready = &ready;
                spawn(scope, format!("subscriber {number}"), move || {
                    let mut check = Checker::new(work.publishers, work.events, pace);
                    ready.fetch_add(1, Ordering::Release);
                    subscriber(&mut check);
                    check
                })
            })
            .collect();
        for (number, publisher) in (0_u32..).zip(publishers) {
            let gate = &gate;
            spawn(scope, format!("publisher {number}"), move || {
                let ticks = Ticks::new(number, each, pace);
                gate.wait();
                publisher(ticks);
            });
        }
        while ready.load(Ordering::Acquire) < work.subscribers {
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(SETTLE);

        let start = Instant::now();
        gate.wait();
        let checks: Vec<Checker> = receiving
            .into_iter()
            .map(|thread| thread.join().expect("a subscriber failed"))
            .collect();

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
            deliveries: work.events * work.subscribers as u64,
            latencies: all,
        }
    })
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
