//! Pins every thread of this process to one core, as `taskset -c N` does.
//!
//! On one core, all threads of a system share the same time. So the rate is the inverse of the
//! total processor time of a delivery, and it does not depend on which threads happened to run at
//! the same time. On a busy machine, the processor time itself still repeats to about ten percent.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Pins all threads of this process to the last core that it may use, and returns the number of
/// this core. Threads that start later inherit it. (The first core serves most interrupts.)
///
/// Call this before any other code asks for the number of cores, because some libraries remember
/// it.
#[cfg(target_os = "linux")]
pub fn pin_to_one_core() -> Result<usize, String> {
    let core = last_allowed_core()?;
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|error| format!("/proc/self/task: {error}"))?;
    for thread in threads {
        let number = thread
            .ok()
            .and_then(|thread| thread.file_name().to_str()?.parse().ok())
            .and_then(Pid::from_raw)
            .ok_or("/proc/self/task: an entry is not the number of a thread")?;
        pin(Some(number), core)?;
    }
    Ok(core)
}

#[cfg(target_os = "linux")]
fn last_allowed_core() -> Result<usize, String> {
    let allowed = sched_getaffinity(None).map_err(|error| format!("sched_getaffinity: {error}"))?;
    (0..CpuSet::MAX_CPU)
        .rev()
        .find(|core| allowed.is_set(*core))
        .ok_or_else(|| "sched_getaffinity: the process may use no core".to_owned())
}

/// Pins a thread, or the calling thread, to a core.
#[cfg(target_os = "linux")]
fn pin(thread: Option<Pid>, core: usize) -> Result<(), String> {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(thread, &only).map_err(|error| format!("sched_setaffinity: {error}"))
}

/// Pinning is not implemented for this operating system.
#[cfg(not(target_os = "linux"))]
pub fn pin_to_one_core() -> Result<usize, String> {
    Err(format!(
        "pinning to one core is implemented only for Linux, and this is {}",
        std::env::consts::OS
    ))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_inherits_the_core_of_the_thread_that_starts_it() {
        let before = sched_getaffinity(None).unwrap();
        let core = last_allowed_core().unwrap();
        pin(None, core).unwrap();
        let inherited = std::thread::spawn(|| sched_getaffinity(None).unwrap())
            .join()
            .unwrap();
        assert_eq!(inherited.count(), 1);
        assert!(inherited.is_set(core));
        assert_eq!(crate::machine::cores(), 1);
        sched_setaffinity(None, &before).unwrap();
    }
}
