//! Printing: messages and progress on standard error, answers on standard output.
//!
//! Printing on standard error ignores errors: if it is closed or full, the program cannot report
//! that, and the run continues.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The shortest time between two updates of the progress bar. An update takes a system call, which
/// would be too slow for each line.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Prints a message of the program.
pub(crate) fn print_message(message: fmt::Arguments<'_>) {
    print_line(format_args!("fanout: {message}"));
}

/// Prints a line.
pub(crate) fn print_line(line: fmt::Arguments<'_>) {
    // A single write, so that the lines of several threads do not mix.
    let _ = io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

/// Prints an answer on standard output.
pub(crate) fn print(answer: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(answer.as_bytes())?;
    stdout.flush()
}

/// The progress bar of a run. All clones share one bar. A hidden bar does nothing.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// The time of the last update; `None` if the bar is hidden.
    drawn_at: Option<Instant>,
}

impl Progress {
    /// Progress through an input, with its size if that is known. Shown on a terminal only.
    pub(crate) fn new(size_bytes: Option<u64>, wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Progress {
                bar: ProgressBar::hidden(),
                drawn_at: None,
            };
        }
        let (bar, style) = match size_bytes {
            Some(size) => (
                ProgressBar::new(size),
                "{wide_bar} {percent}% of {total_bytes}, {msg}, {eta} to go",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {bytes}, {msg}, {elapsed}",
            ),
        };
        let style =
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress {
            bar: bar.with_style(style),
            drawn_at: Some(Instant::now()),
        }
    }

    /// Updates the bar, if the last update was long enough ago.
    pub(crate) fn advance(&mut self, now: Instant, position_bytes: u64, events: u64) {
        let Some(drawn_at) = self.drawn_at else {
            return;
        };
        if now.saturating_duration_since(drawn_at) < PROGRESS_EVERY {
            return;
        }
        self.drawn_at = Some(now);
        self.bar
            .set_message(format!("{} events", HumanCount(events)));
        self.bar.set_position(position_bytes);
    }

    /// Calls `print` while the bar is removed from the terminal.
    pub(crate) fn interrupt<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// The progress bar of a command that does a known number of steps. A hidden bar does nothing.
pub(crate) struct Steps(ProgressBar);

impl Steps {
    /// Progress through a number of steps. Shown on a terminal only.
    pub(crate) fn new(steps: usize, wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Steps(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} to go\n{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Steps(ProgressBar::new(steps as u64).with_style(style))
    }

    /// Shows what is done now.
    pub(crate) fn show(&self, step: fmt::Arguments<'_>) {
        if !self.0.is_hidden() {
            self.0.set_message(step.to_string());
        }
    }

    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.0.finish_and_clear();
    }
}
