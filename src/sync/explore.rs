//! Runs a model under every schedule.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release --lib loom_ -- --nocapture --test-threads=2
//! ```
//!
//! Schedules have at most [`PREEMPTIONS_MAX`] preemptions, or as many as `LOOM_MAX_PREEMPTIONS`
//! says. Nearly all bugs of this kind need two. A model prints the number of schedules that it has
//! run.
//!
//! **When a model fails**, it prints the number of the schedule. The same test then runs once more,
//! in another process, because loom may abort, and prints the steps of that schedule. To do this
//! manually, set `LOOM_TRACE=<schedule>`. With `LOOM_LOCATION=1` and debug information, loom
//! reports the source lines, but is slower. `LOOM_MAX_BRANCHES` raises the limit for long
//! schedules.
//!
//! **What a model does not see.** The replacements in [`sync`](crate::sync) use locks, which order
//! more than the real types do. `compare_exchange_weak` never fails spuriously. Borrowing an event
//! and reading through the reference are one step for loom, so the payloads of models are loom's
//! cells: they report a payload that is read after its block was released.

use std::cell::RefCell;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use loom::model::Builder;

/// The largest number of preemptions in one schedule.
const PREEMPTIONS_MAX: usize = 3;

/// The largest number of steps in one schedule. If there are more, loom assumes an endless loop.
const BRANCHES_MAX: usize = 10_000;

/// The variable with the number of the schedule to print.
const TRACE: &str = "LOOM_TRACE";

/// Checks the model under every schedule.
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    explore_bounded(name, PREEMPTIONS_MAX, model);
}

/// Like [`explore`], with a lower bound on preemptions, for a model with many steps.
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

/// Sets a panic hook that prints the schedule in which this thread panics. It is a hook because
/// loom may abort before the panic could be caught.
///
/// The hook is set once, before loom runs for the first time. loom unwinds its coroutines with
/// panics, which it hides with its own hook. A hook that was set later would report each of them as
/// a failure.
fn trace_on_panic(name: &str, schedule: Arc<AtomicUsize>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            earlier(panic);
            // The value is taken, because loom's clean-up causes a second panic.
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

/// A point at which loom may switch threads.
///
/// loom remembers only the last access to each atomic. If a thread loads a word directly before it
/// writes to it, loom does not see that another thread loaded the word before, and never tries the
/// schedules with the other order. So the threads of a model take a step before each operation
/// whose order matters: a relaxed read-modify-write on a separate atomic, which orders no other
/// access.
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

/// Prints the steps of one schedule, from loom's traces.
mod trace {
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;
    use std::fmt::{Debug, Write};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::Interest;
    use tracing::{Event, Metadata, Subscriber};

    thread_local! {
        /// The number of the schedule to print, from 1. 0: none.
        static WANTED: Cell<usize> = const { Cell::new(0) };
        static NOW: Cell<usize> = const { Cell::new(0) };
        /// The names of the model's threads, by the spans in which loom runs them; and the current
        /// one.
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
            // Writing to a `String` does not fail.
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
