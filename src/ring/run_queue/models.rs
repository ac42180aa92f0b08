//! Jobs and their queue under every schedule. How to run and read them: [`crate::sync::explore`].

use super::{Job, RunQueue, Turn, try_begin};
use crate::sync::explore::{Steps, explore};
use crate::sync::{Arc, AtomicUsize, Ordering, thread};

/// Letters, and those that were read. Read and written by plain stores and loads, so that only the job's own word
/// orders them; and loom sees to it that one thread at a time has the state.
type TestJob = Job<[AtomicUsize; 2], [usize; 2]>;
type TestQueue = RunQueue<[AtomicUsize; 2], [usize; 2]>;

fn job() -> Arc<TestJob> {
    let letters = [AtomicUsize::new(0), AtomicUsize::new(0)];
    Arc::new(Job::new(letters, [0; 2]))
}

/// Brings a letter, and pushes the job if that is up to us.
fn bring(queue: &TestQueue, job: &Arc<TestJob>, letter: usize) {
    // Relaxed: what is brought goes with the asking.
    job.shared[letter].store(1, Ordering::Relaxed);
    if job.schedule() {
        queue.push(job.clone());
    }
}

/// Reads what there is, and lets go.
fn work(queue: &TestQueue, mut turn: Turn<[AtomicUsize; 2], [usize; 2]>) -> bool {
    let (letters, _, read) = turn.parts();
    for (letter, read) in letters.iter().zip(read) {
        *read |= letter.load(Ordering::Relaxed);
    }
    let rested = turn.finish();
    if let Some(job) = rested.again {
        queue.push(job);
    }
    rested.awaited
}

/// How many letters were read.
fn read(job: &Arc<TestJob>) -> usize {
    // The queue is empty, so a turn is ours for the asking.
    assert!(job.schedule(), "it rests");
    let turn = try_begin(job).expect("asked");
    turn.iter().sum()
}

/// Two bring something while two work: nothing is done twice at once, and nothing is forgotten.
#[test]
fn loom_run_queue_asking_against_resting() {
    explore("run queue: asking against resting", || {
        let (queue, mut workers) = RunQueue::new(2);
        let queue = Arc::new(queue);
        let job = job();
        let steps = Steps::new();
        let bringing = {
            let (queue, job, steps) = (queue.clone(), job.clone(), steps.clone());
            thread::spawn(move || {
                for letter in 0..2 {
                    steps.step();
                    bring(&queue, &job, letter);
                }
            })
        };
        let mut mine = workers.pop().expect("two");
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
        let mut worker = workers.pop().expect("two");
        steps.step();
        if let Some(taken) = queue.take(&mut worker) {
            work(&queue, taken.turn);
        }
        bringing.join().unwrap();
        working.join().unwrap();
        while let Some(taken) = queue.take(&mut worker) {
            work(&queue, taken.turn);
        }
        assert_eq!(read(&job), 2);
    });
}

/// Two workers and more jobs than one slots holds: each job is done once, by whomever.
#[test]
fn loom_run_queue_sharing_and_stealing() {
    explore("run queue: sharing and stealing", || {
        let (queue, mut workers) = RunQueue::new(2);
        let queue = Arc::new(queue);
        let jobs: Vec<_> = (0..5).map(|_| job()).collect();
        let steps = Steps::new();
        // Four in the inbox, one on the way.
        jobs[1..].iter().for_each(|job| bring(&queue, job, 0));
        let mut mine = workers.pop().expect("two");
        let helping = {
            let (queue, steps, late) = (queue.clone(), steps.clone(), jobs[0].clone());
            thread::spawn(move || {
                steps.step();
                bring(&queue, &late, 0);
                for _ in 0..2 {
                    steps.step();
                    if let Some(taken) = queue.take(&mut mine) {
                        work(&queue, taken.turn);
                    }
                }
                queue.clear(&mut mine);
            })
        };
        let mut worker = workers.pop().expect("two");
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
            assert_eq!(read(job), 1);
        }
    });
}

/// Jobs that nobody took go with the queue.
#[test]
fn loom_run_queue_drop() {
    explore("run queue: dropped with jobs in every place", || {
        let (queue, mut workers) = RunQueue::new(1);
        let jobs: Vec<_> = (0..5).map(|_| job()).collect();
        jobs[1..].iter().for_each(|job| bring(&queue, job, 0));
        let mut worker = workers.pop().expect("one");
        let taken = queue.take(&mut worker).expect("four");
        assert!(taken.more);
        work(&queue, taken.turn);
        bring(&queue, &jobs[0], 0);
        // Two on the slots, one on the overflow, one in the inbox. loom complains of what is leaked.
        drop(queue);
    });
}

/// When barring found nobody at it, no turn that begins later does anything; else the end of the turn is seen.
#[test]
fn loom_job_barred_against_a_turn() {
    explore("job: barred against a turn", || {
        let (queue, mut workers) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let job = job();
        let barred = Arc::new(AtomicUsize::new(0));
        bring(&queue, &job, 0);
        let mut worker = workers.pop().expect("one");
        let working = {
            let (queue, barred) = (queue.clone(), barred.clone());
            thread::spawn(move || {
                let mut turn = queue.take(&mut worker).expect("brought").turn;
                let (_, disabled, read) = turn.parts();
                if !disabled.is_set() {
                    assert_eq!(
                        barred.load(Ordering::Relaxed),
                        0,
                        "began after it was barred"
                    );
                    read[0] = 1;
                }
                turn.finish();
            })
        };
        if !job.disable() {
            barred.store(1, Ordering::Relaxed);
        } else if !job.is_running() {
            // It has ended, so all that it did is seen.
            barred.store(1, Ordering::Relaxed);
        }
        working.join().unwrap();
    });
}

/// Who asks for the end of a turn is told, or finds that it has ended and what it did.
#[test]
fn loom_job_awaited_against_its_end() {
    explore("job: awaited against its end", || {
        let (queue, mut workers) = RunQueue::new(1);
        let queue = Arc::new(queue);
        let job = job();
        let effect = Arc::new(AtomicUsize::new(0));
        bring(&queue, &job, 0);
        let mut worker = workers.pop().expect("one");
        let working = {
            let (queue, effect) = (queue.clone(), effect.clone());
            thread::spawn(move || {
                let turn = queue.take(&mut worker).expect("brought").turn;
                effect.store(1, Ordering::Relaxed);
                work(&queue, turn)
            })
        };
        let must_be_told = job.request_finish_notice();
        if !must_be_told {
            assert_eq!(effect.load(Ordering::Relaxed), 1);
        }
        assert_eq!(working.join().unwrap(), must_be_told);
    });
}
