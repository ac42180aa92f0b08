//! Runs a model under every schedule.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release --lib loom_ -- --nocapture --test-threads=2
//! ```
//!
//! Schedules have at most [`PREEMPTIONS_MAX`] preemptions, or as many as `LOOM_MAX_PREEMPTIONS`
//! says: nearly all bugs of this kind need two. A model prints how many schedules there were.
//!
//! **When a model fails**, it says in which schedule, and the same test runs once more in a process
//! of its own (loom may abort) and prints what loom did in that schedule, step by step. By hand:
//! `LOOM_TRACE=<schedule>`. With `LOOM_LOCATION=1` and debug information loom says from which line
//! its complaints come, at some cost; `LOOM_MAX_BRANCHES` is for a schedule that is too long.
//!
//! **What a model does not see.** The doubles of [`sync`](crate::sync) hand over by locks, which
//! order more than the real ones do. `compare_exchange_weak` never fails for nothing. Reading and
//! using what an event lends is one step to loom, so payloads here are loom's cells: a payload that
//! is read after its block was given back is found.

use std::cell::RefCell;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use loom::model::Builder;

/// Preemptions in one schedule, at most.
const PREEMPTIONS_MAX: usize = 3;

/// Steps of one schedule, at most: more is taken for a loop without end.
const BRANCHES_MAX: usize = 10_000;

/// The schedule to print.
const TRACE: &str = "LOOM_TRACE";

/// Checks the model under every schedule.
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    explore_bounded(name, PREEMPTIONS_MAX, model);
}

/// Like [`explore`], for a model of so many steps that its schedules need a tighter bound.
pub(crate) fn explore_bounded(
    name: &str,
    preemptions: usize,
    model: impl Fn() + Send + Sync + 'static,
) {
    let began = Instant::now();
    let schedule = Arc::new(AtomicUsize::new(0));
    let counted = {
        let schedule = schedule.clone();
        move || {
            let number = schedule.fetch_add(1, Ordering::Relaxed) + 1;
            trace::schedule_begins(number);
            model();
        }
    };
    let wanted =
        std::env::var(TRACE).map(|number| number.parse().expect("the number of a schedule"));
    match wanted {
        Ok(wanted) => trace::of_schedule(wanted, || builder(preemptions).check(counted)),
        Err(_) => {
            trace_on_panic(name, schedule.clone());
            builder(preemptions).check(counted);
            MODEL.take();
        }
    }
    let schedules = schedule.load(Ordering::Relaxed);
    println!(
        "{name}: {schedules} schedules, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

thread_local! {
    /// The model that this thread runs, and the number of its schedule.
    static MODEL: RefCell<Option<(String, Arc<AtomicUsize>)>> = const { RefCell::new(None) };
}

/// Has a panic of this thread print the schedule in which it happened. Not after the fact: loom may
/// abort.
///
/// The hook is set once, before loom first runs: loom's coroutines are torn down by panics that
/// they hide with a hook of their own, and a hook that was set over theirs would take each of them
/// for a failure.
fn trace_on_panic(name: &str, schedule: Arc<AtomicUsize>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            earlier(panic);
            // Taken: a second panic follows the first when loom cleans up.
            let model = MODEL.try_with(RefCell::take).ok().flatten();
            if let (Some((name, schedule)), Some(test)) = (model, std::thread::current().name()) {
                run_again(&name, test, schedule.load(Ordering::Relaxed));
            }
        }));
    });
    MODEL.set(Some((name.to_owned(), schedule)));
}

fn run_again(name: &str, test: &str, number: usize) {
    println!("{name}: FAILED in schedule {number}, which was ({TRACE}={number}):");
    let again = std::env::current_exe().and_then(|exe| {
        Command::new(exe)
            .args(["--exact", "--nocapture", test])
            .env(TRACE, number.to_string())
            .status()
    });
    if let Err(error) = again {
        println!("it could not be run again: {error}");
    }
}

/// A place for loom to change threads.
///
/// Of the accesses to an atomic, loom remembers the last: a thread that loads a word just before it
/// writes to it hides from loom that another had loaded it earlier, and the schedules with the
/// other order are never tried. So the threads of a model take a step before each operation whose
/// order is to be explored: a relaxed read-modify-write, which orders nothing and hides nothing.
#[derive(Clone)]
pub(crate) struct Steps(crate::sync::Arc<crate::sync::AtomicUsize>);

impl Steps {
    pub(crate) fn new() -> Self {
        Self(crate::sync::Arc::new(crate::sync::AtomicUsize::new(0)))
    }

    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn builder(preemptions: usize) -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions));
    builder.max_branches = builder.max_branches.max(BRANCHES_MAX);
    builder
}

/// Prints what loom tells of one schedule.
mod trace {
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;
    use std::fmt::{Debug, Write};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::Interest;
    use tracing::{Event, Metadata, Subscriber};

    thread_local! {
        /// The schedule to print; 0: none.
        static WANTED: Cell<usize> = const { Cell::new(0) };
        static NOW: Cell<usize> = const { Cell::new(0) };
        /// The threads of the model, by the spans in which loom runs them, and which of them runs.
        static THREADS: RefCell<(HashMap<u64, String>, String)> = RefCell::default();
    }

    pub(super) fn schedule_begins(number: usize) {
        NOW.set(number);
    }

    pub(super) fn of_schedule(number: usize, run: impl FnOnce()) {
        WANTED.set(number);
        tracing::subscriber::with_default(Printer, run);
        WANTED.set(0);
    }

    struct Printer;

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            // Writing to a text does not fail.
            let _ = match field.name() {
                "message" => write!(self.0, " {value:?}"),
                name => write!(self.0, " {name}={value:?}"),
            };
        }
    }

    impl Subscriber for Printer {
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::sometimes() // it depends on the schedule
        }

        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_span() || WANTED.get() == NOW.get()
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut text = Text(span.metadata().name().to_owned());
            span.record(&mut text);
            THREADS.with_borrow_mut(|(threads, _)| {
                let id = threads.len() as u64 + 1;
                threads.insert(id, text.0);
                Id::from_u64(id)
            })
        }

        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            THREADS.with_borrow(|(_, current)| println!("  [{current}]{}", text.0));
        }

        fn enter(&self, span: &Id) {
            THREADS.with_borrow_mut(|(threads, current)| {
                if let Some(name) = threads.get(&span.into_u64()) {
                    current.clone_from(name);
                }
            });
        }

        fn exit(&self, _span: &Id) {}

        fn record(&self, _span: &Id, _values: &Record<'_>) {}

        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    }
}
