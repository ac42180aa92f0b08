//! Models of jobs and their queue. How to run and read them: [`crate::sync::explore`].

use super::{Job, RunQueue, Turn, schedule};
use crate::sync::explore::{Steps, explore};
use crate::sync::{Arc, AtomicUsize, Ordering, thread};

/// Shared data: what there is to do. State: what was done. The shared data is written and read by
/// relaxed accesses, so that only the job's word orders them. loom checks that one thread at a time
/// has the state.
type TestJob = Job<[AtomicUsize; 2], [usize; 2]>;
type TestQueue = RunQueue<[AtomicUsize; 2], [usize; 2]>;

fn job() -> Arc<TestJob> {
    let to_do = [AtomicUsize::new(0), AtomicUsize::new(0)];
    Arc::new(Job::new(to_do, [0; 2]))
}

/// Adds something to do, and pushes the job if it was idle.
fn add(queue: &TestQueue, job: &Arc<TestJob>, index: usize) {
    // Relaxed: `schedule` publishes it.
    job.shared[index].store(1, Ordering::Relaxed);
    if let Some(scheduled) = schedule(job.clone()) {
        queue.push(scheduled);
    }
}

/// Does what there is to do, and finishes the turn.
fn work(queue: &TestQueue, mut turn: Turn<[AtomicUsize; 2], [usize; 2]>) -> bool {
    let (to_do, _, done) = turn.parts();
    for (to_do, done) in to_do.iter().zip(done) {
        *done |= to_do.load(Ordering::Relaxed);
    }
    let finished = turn.finish();
    if let Some(job) = finished.again {
        queue.push(job);
    }
    finished.awaited
}

/// How much was done by a job that is idle.
fn done(job: &Arc<TestJob>) -> usize {
    let (queue, mut workers) = RunQueue::new(1);
    queue.push(schedule(job.clone()).expect("the job is idle"));
    let taken = queue.take(&mut workers[0]).expect("it was pushed");
    taken.turn.iter().sum()
}

/// One thread schedules a job twice, while two workers take turns: there is one turn at a time, and
/// nothing is forgotten.
#[test]
fn loom_run_queue_schedule_against_finish() {
    explore("run queue: schedule against finish", || {
        let (queue, mut workers) = RunQueue::new(2);
        let queue = Arc::new(queue);
        let job = job();
        let steps = Steps::new();
        let adding = {
            let (queue, job, steps) = (queue.clone(), job.clone(), steps.clone());
            thread::spawn(move || {
                for index in 0..2 {
                    steps.step();
                    add(&queue, &job, index);
                }
            })
        };
        let mut mine = workers.pop().expect("a queue for two");
        let working = {
            let (queue, steps) = (queue.clone(), steps.clone());
            thread::spawn(move || {
                steps.step();
                if let Some(taken) = queue.take(&mut mine) {
                    steps.step();
                    work(&queue, taken.turn);
                }
            })
        };
        let mut worker = workers.pop().expect("a queue for two");
        steps.step();
        if let Some(taken) = queue.take(&mut worker) {
            work(&queue, taken.turn);
        }
        adding.join().unwrap();
        working.join().unwrap();
        while let Some(taken) = queue.take(&mut worker) {
            work(&queue, taken.turn);
        }
        assert_eq!(done(&job), 2);
    });
}

/// Two workers, and more jobs than the slots of one of them hold: each job is done, by one of the
/// two.
#[test]
fn loom_run_queue_sharing_and_stealing() {
    explore("run queue: sharing and stealing", || {
        let (queue, mut workers) = RunQueue::new(2);
        let queue = Arc::new(queue);
        let jobs: Vec<_> = (0..5).map(|_| job()).collect();
        let steps = Steps::new();
        // Four are in the inbox, one will be pushed.
        jobs[1..].iter().for_each(|job| add(&queue, job, 0));
        let mut mine = workers.pop().expect("a queue for two");
        let helping = {
            let (queue, steps, late) = (queue.clone(), steps.clone(), jobs[0].clone());
            thread::spawn(move || {
                steps.step();
                add(&queue, &late, 0);
                for _ in 0..2 {
                    steps.step();
                    if let Some(taken) = queue.take(&mut mine) {
                        work(&queue, taken.turn);
                    }
                }
                queue.clear(&mut mine);
            })
        };
        let mut worker = workers.pop().expect("a queue for two");
        for _ in 0..2 {
            steps.step();
            if let Some(taken) = queue.take(&mut worker) {
                work(&queue, taken.turn);
            }
        }
        helping.join().unwrap();
        while let Some(taken) = queue.take(&mut worker) {
            work(&queue, taken.turn);
        }
        assert!(!queue.has_work());
        for job in &jobs {
            assert_eq!(done(job), 1);
        }
    });
}

/// Jobs that no worker has taken are dropped with the queue.
#[test]
fn loom_run_queue_drop() {
    explore("run queue: dropped with jobs in every place", || {
        let (queue, mut workers) = RunQueue::new(1);
        let jobs: Vec<_> = (0..5).map(|_| job()).collect();
        jobs[1..].iter().for_each(|job| add(&queue, job, 0));
        let mut worker = workers.pop().expect("a queue for one");
        let taken = queue.take(&mut worker).expect("four are in the inbox");
        assert!(taken.more);
        work(&queue, taken.turn);
        add(&queue, &jobs[0], 0);
        // Two are in the slots, one in the overflow list, one in the inbox. loom reports what is
        // leaked.
        drop(queue);
    });
}

/// The jobs in the slots of a worker are moved to the front list by two threads, while two workers
/// take jobs in single steps: each job is done.
#[test]
fn loom_run_queue_release_local_against_take() {
    explore("run queue: release_local against take", || {
        let (queue, mut workers) = RunQueue::new(2);
        let queue = Arc::new(queue);
        let jobs: Vec<_> = (0..4).map(|_| job()).collect();
        let steps = Steps::new();
        jobs.iter().for_each(|job| add(&queue, job, 0));
        let mut suspended = workers.pop().expect("a queue for two");
        let taken = queue.take(&mut suspended).expect("four are in the inbox");
        work(&queue, taken.turn);
        // Two are in the slots, one in the overflow list.
        queue.set_single_steps(true);
        let releasing = {
            let (queue, steps) = (queue.clone(), steps.clone());
            thread::spawn(move || {
                steps.step();
                queue.release_local(suspended.index());
                steps.step();
                if let Some(taken) = queue.take(&mut suspended) {
                    work(&queue, taken.turn);
                }
                queue.clear(&mut suspended);
            })
        };
        let mut worker = workers.pop().expect("a queue for two");
        for _ in 0..2 {
            steps.step();
            if let Some(taken) = queue.take(&mut worker) {
                work(&queue, taken.turn);
            }
        }
        releasing.join().unwrap();
        while let Some(taken) = queue.take(&mut worker) {
            work(&queue, taken.turn);
        }
        assert!(!queue.has_work());
        for job in &jobs {
            assert_eq!(done(job), 1);
        }
    });
}

/// A thread that is about to sleep looks for work in order, and another thread pushes a job: either
/// the first finds the job, or the other one sees that the first is about to sleep.
#[test]
fn loom_run_queue_work_in_order_against_push() {
    explore("run queue: has_work_in_order against push", || {
        let (queue, _workers) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let is_asleep = Arc::new(AtomicUsize::new(0));
        let pushing = {
            let (queue, is_asleep) = (queue.clone(), is_asleep.clone());
            thread::spawn(move || {
                let scheduled = schedule(job()).expect("the job is idle");
                assert!(queue.push(scheduled));
                is_asleep.load(Ordering::Relaxed) == 1
            })
        };
        is_asleep.store(1, Ordering::Relaxed);
        let has_work = queue.has_work_in_order();
        let sees_sleeper = pushing.join().unwrap();
        assert!(has_work || sees_sleeper);
    });
}

/// If `disable` finds no turn in progress, every later turn sees the flag. Otherwise the caller
/// sees the end of the turn.
#[test]
fn loom_job_disable_against_a_turn() {
    explore("job: disable against a turn", || {
        let (queue, mut workers) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let job = job();
        let disabled_before = Arc::new(AtomicUsize::new(0));
        add(&queue, &job, 0);
        let mut worker = workers.pop().expect("a queue for one");
        let working = {
            let (queue, disabled_before) = (queue.clone(), disabled_before.clone());
            thread::spawn(move || {
                let mut turn = queue.take(&mut worker).expect("it was pushed").turn;
                let (_, disabled, read) = turn.parts();
                if !disabled.is_set() {
                    assert_eq!(
                        disabled_before.load(Ordering::Relaxed),
                        0,
                        "a turn that began later does not see the flag"
                    );
                    read[0] = 1;
                }
                turn.finish();
            })
        };
        if !job.disable() {
            disabled_before.store(1, Ordering::Relaxed);
        } else if !job.is_running() {
            // The turn has ended, so all that it did is visible.
            disabled_before.store(1, Ordering::Relaxed);
        }
        working.join().unwrap();
    });
}

/// A thread that requests a notice gets it from the end of the turn, or finds that the turn has
/// ended, and sees what it did.
#[test]
fn loom_job_request_finish_notice_against_finish() {
    explore("job: request_finish_notice against finish", || {
        let (queue, mut workers) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let job = job();
        let effect = Arc::new(AtomicUsize::new(0));
        add(&queue, &job, 0);
        let mut worker = workers.pop().expect("a queue for one");
        let working = {
            let (queue, effect) = (queue.clone(), effect.clone());
            thread::spawn(move || {
                let turn = queue.take(&mut worker).expect("it was pushed").turn;
                effect.store(1, Ordering::Relaxed);
                work(&queue, turn)
            })
        };
        let is_notified = job.request_finish_notice();
        if !is_notified {
            assert_eq!(effect.load(Ordering::Relaxed), 1);
        }
        assert_eq!(working.join().unwrap(), is_notified);
    });
}
