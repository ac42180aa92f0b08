//! How much of their time publishers spend on dispatching under [`Dispatch::Adaptive`].
//!
//! A publisher that finds the pool asleep dispatches its event itself: the event then reaches the
//! subscriber without another thread between the two. Dispatching events one at a time costs more
//! than dispatching them in blocks, so this must not go on in a stream of events. The budget
//! decides.
//!
//! The budget is a leaky bucket, whose credit is a time. A publisher dispatches only while there is
//! credit. So all publishers together spend at most half of the time on dispatching:
//!
//! * The credit rises by the time between two looks at the budget, up to [`CREDIT_MAX`].
//!   When a burst of events begins after a pause, its publisher dispatches for about that long.
//! * The credit falls by the time that a publisher spends on dispatching. A pass in which user code
//!   took a second is followed by a second in which the pool dispatches.
//! * It also falls by [`EVENT_COST`] for each event that the pool has sequenced meanwhile, as if
//!   publishers had dispatched that event. So a fast stream is left to the pool for as long as it
//!   lasts, although the publishers then spend nothing. This lowers the credit to [`DEBT_MAX`]
//!   below zero at most: publishers dispatch again when the stream has ended for that long.
//!
//! All publishers of a bus share the budget. It is an estimate: two threads that use it at the same
//! time may overwrite each other's changes, which costs a few passes too many or too few, and
//! nothing else.
//!
//! [`Dispatch::Adaptive`]: super::Dispatch::Adaptive

use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::sync::Ordering;
use crate::sync::now;
use crate::sync::unmodelled::AtomicU64 as Estimate;

/// The most time that publishers spend on dispatching without a pause, 200 microseconds.
const CREDIT_MAX: Duration = Duration::from_micros(200);

/// How long a stream must have ended before publishers dispatch again, 1 millisecond.
const DEBT_MAX: Duration = Duration::from_millis(1);

/// About what it costs a publisher to dispatch an event to a subscriber that is awake, 500
/// nanoseconds. Streams of more than 2 million events per second are therefore always left to the
/// pool.
const EVENT_COST: Duration = Duration::from_nanos(500);

/// The budget of one bus.
pub(super) struct InlineBudget {
    /// The times below count from here.
    epoch: Instant,
    state: CachePadded<State>,
}

/// All of these are estimates, which are read and written with Relaxed ordering.
struct State {
    /// An `i64`, as its bits: the time that publishers may spend, or the time that they have spent
    /// too much.
    credit_ns: Estimate,
    /// When the credit was computed.
    updated_ns: Estimate,
    /// The id of the event sequenced last, when the credit was computed.
    last_id: Estimate,
}

/// A publisher dispatches.
pub(super) struct InlineTurn {
    began_ns: u64,
}

const CREDIT_MAX_NS: i64 = CREDIT_MAX.as_nanos() as i64;
const DEBT_MAX_NS: i64 = DEBT_MAX.as_nanos() as i64;
const EVENT_COST_NS: u64 = EVENT_COST.as_nanos() as u64;

impl InlineBudget {
    pub(super) fn new() -> Self {
        Self {
            epoch: now(),
            state: CachePadded::new(State {
                credit_ns: Estimate::new(CREDIT_MAX_NS as u64),
                updated_ns: Estimate::new(0),
                last_id: Estimate::new(0),
            }),
        }
    }

    /// Whether the calling thread may dispatch. If so, it must call [`end`](Self::end) afterwards.
    /// `last_id`: the id of the event sequenced last.
    pub(super) fn begin(&self, last_id: u64) -> Option<InlineTurn> {
        self.begin_at(self.now_ns(), last_id)
    }

    /// The calling thread has dispatched.
    pub(super) fn end(&self, turn: InlineTurn, last_id: u64) {
        self.end_at(turn, self.now_ns(), last_id);
    }

    fn now_ns(&self) -> u64 {
        now().saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn begin_at(&self, now_ns: u64, last_id: u64) -> Option<InlineTurn> {
        let state = &*self.state;
        let quiet_ns = now_ns.saturating_sub(state.updated_ns.load(Ordering::Relaxed));
        let others = last_id.saturating_sub(state.last_id.load(Ordering::Relaxed));
        let others_ns = others.saturating_mul(EVENT_COST_NS);
        let credit_ns = self
            .credit_ns()
            .saturating_add_unsigned(quiet_ns)
            .min(CREDIT_MAX_NS);
        let credit_ns = credit_ns
            .saturating_sub_unsigned(others_ns)
            .max(credit_ns.min(-DEBT_MAX_NS));
        self.update(credit_ns, now_ns, last_id);
        (credit_ns > 0).then_some(InlineTurn { began_ns: now_ns })
    }

    fn end_at(&self, turn: InlineTurn, now_ns: u64, last_id: u64) {
        let pass_ns = now_ns.saturating_sub(turn.began_ns);
        let credit_ns = self.credit_ns().saturating_sub_unsigned(pass_ns);
        self.update(credit_ns, now_ns, last_id);
    }

    fn credit_ns(&self) -> i64 {
        self.state.credit_ns.load(Ordering::Relaxed) as i64
    }

    fn update(&self, credit_ns: i64, now_ns: u64, last_id: u64) {
        let state = &*self.state;
        state.credit_ns.store(credit_ns as u64, Ordering::Relaxed);
        state.updated_ns.store(now_ns, Ordering::Relaxed);
        state.last_id.store(last_id, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A publisher, and the pool, in a time of their own.
    struct Simulation {
        budget: InlineBudget,
        now_ns: u64,
        last_id: u64,
        /// How long a pass of the publisher takes.
        pass_ns: u64,
    }

    impl Simulation {
        fn new(pass_ns: u64) -> Self {
            Self {
                budget: InlineBudget::new(),
                now_ns: 0,
                last_id: 0,
                pass_ns,
            }
        }

        /// The publisher publishes, while the pool sleeps. `true`: the publisher dispatches.
        fn publish(&mut self) -> bool {
            let turn = self.budget.begin_at(self.now_ns, self.last_id);
            self.last_id += 1;
            let inline = turn.is_some();
            if let Some(turn) = turn {
                self.now_ns += self.pass_ns;
                self.budget.end_at(turn, self.now_ns, self.last_id);
            }
            inline
        }

        /// Publishes every `period_ns`. Returns the number of events that the publisher dispatches.
        fn publish_every(&mut self, period_ns: u64, events: usize) -> usize {
            (0..events)
                .filter(|_| {
                    let next_ns = self.now_ns + period_ns;
                    let inline = self.publish();
                    self.now_ns = self.now_ns.max(next_ns);
                    inline
                })
                .count()
        }
    }

    #[test]
    fn lone_events_are_dispatched_by_their_publisher() {
        let mut publisher = Simulation::new(500);
        // 500,000 events per second, and then 1,000.
        assert_eq!(publisher.publish_every(2_000, 10_000), 10_000);
        assert_eq!(publisher.publish_every(1_000_000, 1_000), 1_000);
    }

    #[test]
    fn a_publisher_spends_half_of_its_time_at_most() {
        let mut publisher = Simulation::new(500);
        // A pass takes most of the time between two events.
        let began_ns = publisher.now_ns;
        let inline = publisher.publish_every(600, 100_000) as u64;
        let spent_ns = inline * publisher.pass_ns;
        let total_ns = publisher.now_ns - began_ns;
        assert!(
            inline > 0 && spent_ns <= total_ns / 2 + CREDIT_MAX_NS as u64,
            "{inline}"
        );
    }

    #[test]
    fn a_stream_is_left_to_the_pool_until_it_ends() {
        let mut publisher = Simulation::new(500);
        let burst = publisher.publish_every(0, 100_000) as u64;
        let bound = CREDIT_MAX_NS as u64 / 500;
        assert!((bound..=bound + 1).contains(&burst), "{burst} events");
        // The pool dispatches 20 million events per second, and sleeps from time to time.
        for _ in 0..100 {
            publisher.now_ns += 1_000_000;
            publisher.last_id += 20_000;
            assert!(!publisher.publish());
        }
        publisher.now_ns += DEBT_MAX_NS as u64;
        assert!(!publisher.publish(), "at the bound");
        publisher.now_ns += 3 * EVENT_COST_NS; // for two events of the pool, and more
        assert!(publisher.publish(), "past the bound");
    }

    #[test]
    fn a_slow_pass_is_followed_by_as_long_a_time_without_one() {
        const SECOND_NS: u64 = 1_000_000_000;
        let mut publisher = Simulation::new(SECOND_NS);
        assert!(publisher.publish());
        publisher.now_ns += SECOND_NS - CREDIT_MAX_NS as u64;
        assert!(!publisher.publish(), "at the bound");
        publisher.now_ns += SECOND_NS;
        assert!(publisher.publish());
    }
}
