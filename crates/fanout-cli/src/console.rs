//! What is said on standard error: messages, bad lines, and progress on a terminal.
//!
//! Nothing here can fail: who has closed standard error does not want to hear, and a run must not
//! die of it.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use super::line::BadLine;

/// Bad lines that are printed; further ones are only counted.
const BAD_LINES_SHOWN_MAX: u64 = 20;

/// How often progress is drawn at most. A draw costs a system call, a line must not.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Prints a message of the program's own.
pub(crate) fn complain(message: fmt::Arguments<'_>) {
    // One write, so that messages of several threads do not mix; a failure has no one to tell.
    let _ = io::stderr()
        .lock()
        .write_all(format!("fanout: {message}\n").as_bytes());
}

/// Counts bad lines and prints the first of them.
#[derive(Debug, Default)]
pub(crate) struct BadLines {
    pub(crate) count: u64,
}

impl BadLines {
    pub(crate) fn add(&mut self, input: &str, number: u64, bad: &BadLine) {
        self.count += 1;
        let mut text = String::new();
        if self.count <= BAD_LINES_SHOWN_MAX {
            let _ = writeln!(text, "{input}:{number}: {bad}");
        } else if self.count == BAD_LINES_SHOWN_MAX + 1 {
            let _ = writeln!(
                text,
                "{input}:{number}: bad, too; from here on they are only counted"
            );
        }
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// How far a run has come. Hidden, it does nothing; its handles share one bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// When it was drawn last; hidden progress has no such moment and never draws.
    drawn_at: Option<Instant>,
}

impl Progress {
    /// Progress through an input of this size, if it has one. Shown on a terminal only.
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

    /// Says how far the run is now, if it is time to draw again.
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

    /// Prints something else on the terminal, out of the bar's way.
    pub(crate) fn interrupt<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
