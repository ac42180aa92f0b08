//! One run of a system, with a limit on its duration, and with a message that names the run if a
//! check fails.

use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Outcome, System, Work};

/// The maximum duration of a run. The watchdog ends the program after it.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// The pause between two looks of the watchdog.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(1);

/// The exit status after a failed check, and after a run that did not end in time.
const FAILED: i32 = 1;

/// The start time and the description of the current run, for the watchdog and the panic hook.
static RUNNING: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Runs the work on a system.
pub fn run(system: &dyn System, work: &Work) -> Outcome {
    let description = format!(
        "{}, publishers {}, subscribers {}, events {}",
        system.name(),
        work.publishers,
        work.subscribers,
        work.events
    );
    watched(description, || system.run(work))
}

/// Calls `body` while the watchdog limits its duration. The description names it in error messages.
pub fn watched<T>(description: String, body: impl FnOnce() -> T) -> T {
    let set = |run| *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = run;
    set(Some((Instant::now(), description)));
    let result = body();
    set(None);
    result
}

/// Starts the watchdog, and makes the messages of panics name the run.
pub fn supervise() {
    install_panic_hook();
    thread::spawn(watchdog);
}

/// Adds the description of the current run to the message of a panic. The panic of a failed check
/// ends the program, because the package is built with `panic = "abort"`.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let run = running
            .as_ref()
            .map_or("no run", |(_, description)| description);
        let thread = thread::current();
        let name = thread.name().unwrap_or("a thread without a name");
        eprintln!("FAILED: {run}: {name}: {info}");
    }));
}

/// Ends the program if a run takes longer than [`RUN_TIMEOUT`], and prints the run.
fn watchdog() {
    loop {
        thread::sleep(WATCHDOG_PERIOD);
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((start, run)) = &*running
            && start.elapsed() > RUN_TIMEOUT
        {
            eprintln!(
                "FAILED: {run}: the run did not end within {} s",
                RUN_TIMEOUT.as_secs()
            );
            process::exit(FAILED);
        }
    }
}
