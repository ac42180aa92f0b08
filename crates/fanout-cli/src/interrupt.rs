//! Interrupts, which end a run before its input ends: a signal, or the end of the last
//! subscription.
//!
//! The thread that reads the input waits for the input and for an interrupt at the same time. So a
//! run whose input pauses ends at once, and everything that it has received is written. Another
//! thread waits for signals only: if the run does not end soon after one, it prints the reason.

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(unix))]
pub(crate) use elsewhere::{Interrupt, Signal};
#[cfg(unix)]
pub(crate) use unix::{Interrupt, Signal};

/// Whether the program itself has asked the reading thread to stop.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl Asked {
    fn set(&self) {
        // Relaxed: the flag guards no other memory.
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(unix)]
mod unix {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::{flag, low_level};
    use std::io::{self, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::Asked;

    /// The signals that end a run in an orderly way.
    const SIGNALS: [(i32, &str); 3] =
        [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

    /// A signal that ended the run.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Signal {
        /// An index into `SIGNALS`.
        index: usize,
    }

    impl Signal {
        pub(crate) fn name(self) -> &'static str {
            SIGNALS[self.index].1
        }

        /// The exit code with which a shell reports a process that a signal has ended: 128 plus the
        /// number of the signal.
        pub(crate) fn exit_code(self) -> u8 {
            128 + SIGNALS[self.index].0 as u8
        }
    }

    /// The state of interrupts, shared with the thread that reads the input.
    #[derive(Debug)]
    pub(crate) struct Interrupt {
        asked: Asked,
        /// The latest signal: its index in `SIGNALS`, counted from 1; 0 if there was none.
        signal: Arc<AtomicUsize>,
        /// Readable after an interrupt; does not block.
        woken: UnixStream,
        /// A byte that is written here makes `woken` readable.
        waker: UnixStream,
        /// Has a byte for each signal, and `OVER` after the run.
        notices: UnixStream,
        /// A byte that is written here comes out of `notices`.
        notifier: UnixStream,
    }

    /// The notice that the run is over. The notice of a signal is another byte.
    const OVER: u8 = b'.';

    impl Interrupt {
        /// Catches the signals from now on. After the first one, each further one has its usual
        /// effect: it ends the process at once.
        ///
        /// SIGHUP is not caught if it is ignored: `nohup` requires that.
        pub(crate) fn install() -> io::Result<Interrupt> {
            let (woken, waker) = UnixStream::pair()?;
            woken.set_nonblocking(true)?;
            waker.set_nonblocking(true)?;
            let (notices, notifier) = UnixStream::pair()?;
            notifier.set_nonblocking(true)?;
            let latest = Arc::new(AtomicUsize::new(0));
            let is_ending = Arc::new(AtomicBool::new(false));
            for (index, (signal, _)) in SIGNALS.into_iter().enumerate() {
                if signal == SIGHUP && is_ignored(signal) {
                    continue;
                }
                // The actions of a signal run in this order. So the number is set before the
                // reading thread is woken, and the flag is not set yet when the first signal comes.
                // A signal that comes between these lines runs the actions above it: the number is
                // the first, so no signal is lost.
                flag::register_usize(signal, Arc::clone(&latest), index + 1)?;
                low_level::pipe::register(signal, waker.try_clone()?)?;
                low_level::pipe::register(signal, notifier.try_clone()?)?;
                flag::register_conditional_default(signal, Arc::clone(&is_ending))?;
                flag::register(signal, Arc::clone(&is_ending))?;
            }
            Ok(Interrupt {
                asked: Asked::default(),
                signal: latest,
                woken,
                waker,
                notices,
                notifier,
            })
        }

        /// Asks the thread that reads to stop, and wakes it.
        pub(crate) fn stop(&self) {
            self.asked.set();
            // If the socket buffer is full, the reading thread has a wake-up already.
            let _ = (&self.waker).write(&[0]);
        }

        /// Returns the last signal, if there was one.
        pub(crate) fn signal(&self) -> Option<Signal> {
            let latest = self.signal.load(Ordering::SeqCst);
            latest.checked_sub(1).map(|index| Signal { index })
        }

        pub(crate) fn is_stopped(&self) -> bool {
            self.asked.is_set() || self.signal().is_some()
        }

        /// Waits until the run is over, or a signal has come and the run is not over after
        /// `patience`. Returns the signal in the second case. Only one thread may call this.
        pub(crate) fn wait_for_slow_end(&self, patience: Duration) -> Option<Signal> {
            self.notices.set_read_timeout(None).ok()?;
            if self.notice().ok()? == OVER {
                return None;
            }
            self.notices.set_read_timeout(Some(patience)).ok()?;
            match self.notice() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.signal(),
                _ => None, // a second signal ends the process
            }
        }

        fn notice(&self) -> io::Result<u8> {
            let mut notice = [0];
            (&self.notices).read_exact(&mut notice)?; // repeats a read that a signal interrupts
            Ok(notice[0])
        }

        /// Ends the wait for a slow end.
        pub(crate) fn run_is_over(&self) {
            // There is room, unless thousands of signals have come.
            let _ = (&self.notifier).write(&[OVER]);
        }

        /// Waits until the input can be read or there is an interrupt. Returns whether the input
        /// can be read without waiting, which includes its end and its errors.
        pub(crate) fn wait_readable(&self, input: &impl AsFd) -> io::Result<bool> {
            loop {
                // The handler sets the number before it writes to `waker`. So a signal is either
                // seen here, or makes the call of `poll` return.
                let is_stopped = self.is_stopped();
                let mut files = [
                    PollFd::new(input, PollFlags::IN),
                    PollFd::new(&self.woken, PollFlags::IN),
                ];
                let at_once = Timespec::default();
                match poll(&mut files, is_stopped.then_some(&at_once)) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
                let [input, woken] = files.map(|file| !file.revents().is_empty());
                if input || is_stopped {
                    return Ok(input);
                }
                if woken {
                    let _ = (&self.woken).read(&mut [0; 64]);
                }
            }
        }
    }

    /// Whether the process was started with this signal ignored. Only Linux has this file; on other
    /// systems this returns `false`.
    fn is_ignored(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::convert::Infallible;
    use std::io;
    use std::time::Duration;

    use super::Asked;

    /// No signal is caught on this system.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Signal(Infallible);

    impl Signal {
        pub(crate) fn name(self) -> &'static str {
            match self.0 {}
        }

        pub(crate) fn exit_code(self) -> u8 {
            match self.0 {}
        }
    }

    /// The state of interrupts, shared with the thread that reads the input.
    #[derive(Debug)]
    pub(crate) struct Interrupt {
        asked: Asked,
    }

    impl Interrupt {
        pub(crate) fn install() -> io::Result<Interrupt> {
            Ok(Interrupt {
                asked: Asked::default(),
            })
        }

        /// Asks the thread that reads to stop after the current read.
        pub(crate) fn stop(&self) {
            self.asked.set();
        }

        pub(crate) fn signal(&self) -> Option<Signal> {
            None
        }

        pub(crate) fn wait_for_slow_end(&self, _patience: Duration) -> Option<Signal> {
            None
        }

        pub(crate) fn run_is_over(&self) {}

        pub(crate) fn is_stopped(&self) -> bool {
            self.asked.is_set()
        }
    }
}
