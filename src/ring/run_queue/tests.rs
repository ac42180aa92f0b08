use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::ring::support::STRESS_ITEMS;
use crate::sync::{AtomicU64, thread};

/// A job with the amount of work to do as shared data, and the amount done as its state.
type TestJob = Job<AtomicU64, u64>;
type TestQueue = RunQueue<AtomicU64, u64>;

fn job() -> Arc<TestJob> {
    Arc::new(Job::new(AtomicU64::new(0), 0))
}

/// Adds something to do, and pushes the job if it was idle.
fn add(queue: &TestQueue, job: &Arc<TestJob>) {
    job.shared.fetch_add(1, Ordering::Relaxed);
    if let Some(scheduled) = schedule(job.clone()) {
        queue.push(scheduled);
    }
}

/// Takes a turn, if there is one to take.
fn work(queue: &TestQueue, worker: &mut Worker) -> bool {
    let Some(mut taken) = queue.take(worker) else {
        return false;
    };
    let (to_do, _, done) = taken.turn.parts();
    *done = to_do.load(Ordering::Relaxed);
    if let Some(job) = taken.turn.finish().again {
        queue.push(job);
    }
    true
}

/// How much was done by an idle job.
fn done(job: &Arc<TestJob>) -> u64 {
    let (queue, mut workers) = RunQueue::new(1);
    queue.push(schedule(job.clone()).expect("the job is idle"));
    let taken = queue.take(&mut workers[0]).expect("it was pushed");
    *taken.turn
}

/// A second turn would be a second `&mut` to the state.
#[test]
fn a_turn_does_not_begin_unless_the_job_waits_for_one() {
    let job = job();
    let refused = || catch_unwind(AssertUnwindSafe(|| drop(begin(job.clone())))).is_err();
    assert!(refused(), "the job is idle");
    let scheduled = schedule(job.clone()).expect("the job was idle");
    assert!(schedule(job.clone()).is_none(), "there is one `Scheduled`");
    let turn = begin(scheduled.0);
    assert!(refused(), "a turn is in progress");
    assert!(
        schedule(job.clone()).is_none(),
        "the end of the turn returns it"
    );
    assert!(refused(), "the turn is still in progress");
    assert!(job.is_running() && *turn == 0);
    let scheduled = turn.finish().again.expect("scheduled during the turn");
    drop(begin(scheduled.0));
    assert!(!job.is_running());
}

#[test]
fn a_job_is_in_a_queue_or_dedicated() {
    let (queue, _workers) = RunQueue::new(1);
    let queued = job();
    add(&queue, &queued);
    let dedicated = job();
    dedicated.dedicate();
    assert!(try_begin(&dedicated).is_none(), "nothing to do");
    let scheduled = schedule(dedicated.clone()).expect("the job was idle");
    for refused in [
        catch_unwind(AssertUnwindSafe(|| drop(try_begin(&queued)))).err(),
        catch_unwind(AssertUnwindSafe(|| queued.dedicate())).err(),
        catch_unwind(AssertUnwindSafe(|| queue.push(scheduled))).err(),
    ] {
        assert!(refused.is_some());
    }
    let turn = try_begin(&dedicated).expect("it was scheduled");
    assert!(try_begin(&dedicated).is_none(), "a turn is in progress");
    turn.schedule_again();
    assert!(turn.finish().again.is_some());
    assert!(try_begin(&dedicated).is_some());
}

#[test]
fn a_disabled_job_gets_turns_that_see_it() {
    let (queue, mut workers) = RunQueue::new(1);
    let job = job();
    add(&queue, &job);
    assert!(!job.disable(), "no turn is in progress");
    let mut turn = queue.take(&mut workers[0]).expect("pushed").turn;
    let (_, disabled, _) = turn.parts();
    assert!(disabled.is_set());
    assert!(job.request_finish_notice());
    assert!(turn.finish().awaited);
}

/// Jobs in the slots, in the overflow list and in the inbox are found, and those that no worker
/// takes are dropped with the queue.
#[test]
fn jobs_are_found_in_every_place_or_dropped_with_the_queue() {
    for taken_by_the_second in [0, 1, 100] {
        let (queue, mut workers) = RunQueue::new(2);
        let jobs: Vec<_> = (0..40).map(|_| job()).collect();
        jobs.iter().for_each(|job| add(&queue, job));
        assert!(work(&queue, &mut workers[0]) && queue.has_work());
        // It was the first, so it is idle again.
        add(&queue, &jobs[0]);
        let mut turns = 1;
        while turns <= taken_by_the_second && work(&queue, &mut workers[1]) {
            turns += 1;
        }
        let all = taken_by_the_second > jobs.len();
        assert_eq!(queue.has_work(), !all);
        assert_eq!(jobs.iter().all(|job| schedule(job.clone()).is_some()), all);
        drop(queue);
        assert!(jobs.iter().all(|job| Arc::strong_count(job) == 1));
    }
}

/// A job whose turn panics: no thread waits for its end any more.
#[test]
fn a_turn_that_unwinds_clears_what_its_end_clears() {
    let job = job();
    let turn = begin(schedule(job.clone()).expect("the job was idle").0);
    assert!(job.request_finish_notice(), "a turn is in progress");
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _turn = turn;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(unwound.is_err() && !job.is_running());
    assert_eq!(job.word.load(Ordering::Relaxed), 0);
}

/// The payload of each job is its number.
fn numbered(jobs: u64) -> Vec<Arc<TestJob>> {
    let numbered = |number| Arc::new(Job::new(AtomicU64::new(0), number));
    (0..jobs).map(numbered).collect()
}

/// Takes the next job, leaves it idle, and returns its number.
fn next(queue: &TestQueue, worker: &mut Worker) -> Option<u64> {
    let taken = queue.take(worker)?;
    let number = *taken.turn;
    assert!(taken.turn.finish().again.is_none());
    Some(number)
}

#[test]
fn jobs_are_taken_in_the_order_in_which_they_were_pushed() {
    for single_steps in [false, true] {
        let (queue, mut workers) = RunQueue::new(2);
        queue.set_single_steps(single_steps);
        let jobs = numbered(100);
        let (first, rest) = jobs.split_at(60);
        first.iter().for_each(|job| add(&queue, job));
        let mut taken: Vec<_> = (0..20)
            .map_while(|_| next(&queue, &mut workers[0]))
            .collect();
        rest.iter().for_each(|job| add(&queue, job));
        taken.extend(std::iter::from_fn(|| next(&queue, &mut workers[0])));
        assert!(taken.into_iter().eq(0..100), "one worker");

        // In single steps, also several workers share one order.
        jobs.iter().for_each(|job| add(&queue, job));
        let taken: Vec<_> = (0..)
            .map_while(|turn| next(&queue, &mut workers[turn % 2]))
            .collect();
        assert_eq!(taken.len(), 100);
        assert!(!single_steps || taken.into_iter().eq(0..100), "two workers");
    }
}

/// A worker makes no progress: its jobs come first, in their order, and before newer ones.
#[test]
fn jobs_of_a_worker_that_makes_no_progress_are_taken_by_others() {
    let (queue, mut workers) = RunQueue::new(3);
    let jobs = numbered(50);
    let (first, rest) = jobs.split_at(40);
    first.iter().for_each(|job| add(&queue, job));
    assert_eq!(next(&queue, &mut workers[0]), Some(0));
    // 16 are in the slots of that worker, 23 in its overflow list.
    rest.iter().for_each(|job| add(&queue, job));
    assert!(queue.release_local(0));
    assert!(!queue.release_local(0), "nothing is left");
    let taken: Vec<_> = std::iter::from_fn(|| next(&queue, &mut workers[1])).collect();
    assert!(taken.into_iter().eq(1..50));

    // Two of them: the lists are joined.
    first.iter().for_each(|job| add(&queue, job));
    assert_eq!(next(&queue, &mut workers[0]), Some(0));
    assert_eq!(next(&queue, &mut workers[1]), Some(17));
    assert!(queue.release_local(0) && queue.release_local(1));
    let mut taken: Vec<_> = std::iter::from_fn(|| next(&queue, &mut workers[2])).collect();
    taken.sort_unstable();
    assert!(taken.into_iter().eq((1..40).filter(|&job| job != 17)));
}

#[test]
fn a_job_knows_for_how_many_ticks_it_has_waited() {
    let (queue, mut workers) = RunQueue::new(1);
    let jobs = numbered(3);
    for job in &jobs {
        add(&queue, job);
        queue.advance_tick();
    }
    for waited in [3, 2, 1] {
        let taken = queue.take(&mut workers[0]).expect("three were pushed");
        assert_eq!(taken.waited_ticks, waited);
        drop(taken);
    }
}

/// Every job does what it was scheduled for, whichever worker takes it, and nothing is forgotten.
#[test]
fn stress_run_queue() {
    const WORKERS: usize = 3;
    const JOBS: usize = 40;
    let (queue, workers) = RunQueue::new(WORKERS);
    let jobs: Vec<_> = (0..JOBS).map(|_| job()).collect();
    let rounds = STRESS_ITEMS / JOBS as u64;
    let ended = AtomicU64::new(0);
    thread::scope(|scope| {
        for mut worker in workers {
            let (queue, ended) = (&queue, &ended);
            scope.spawn(move || {
                let mut turns = 0_u64;
                while ended.load(Ordering::Acquire) == 0 || queue.has_work() {
                    if !work(queue, &mut worker) {
                        thread::yield_now();
                        continue;
                    }
                    turns += 1;
                    if turns.is_multiple_of(50) {
                        queue.clear(&mut worker);
                    }
                    if turns.is_multiple_of(77) {
                        queue.release_local((worker.index() + 1) % WORKERS);
                    }
                    if turns.is_multiple_of(1000) {
                        queue.set_single_steps(turns.is_multiple_of(3_000));
                    }
                }
            });
        }
        for _ in 0..rounds {
            jobs.iter().for_each(|job| add(&queue, job));
            thread::yield_now();
        }
        ended.store(1, Ordering::Release);
    });
    assert!(!queue.has_work());
    for job in &jobs {
        assert_eq!(done(job), rounds);
    }
}
