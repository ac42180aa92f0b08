//! Lines that cannot be used: the error of a line, and the number of errors that are printed.

use std::fmt;

use crate::console;
use crate::lines::LINE_BYTES_MAX;

/// The largest number of bad lines that are printed. Further bad lines are only counted.
const BAD_LINES_SHOWN_MAX: u64 = 20;

/// The largest number of characters of an error that are printed: its beginning and its end.
const BAD_LINE_CHARS_MAX: usize = 400;

/// Why a line cannot be used.
#[derive(Debug)]
pub(crate) struct BadLine {
    /// A column, counted in bytes from 1, or the part of the line.
    place: String,
    rule: String,
}

impl BadLine {
    pub(crate) fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        BadLine {
            place: place.into(),
            rule: rule.into(),
        }
    }

    /// The line is longer than a line may be.
    pub(crate) fn too_long() -> Self {
        BadLine::new(
            format!("column {}", LINE_BYTES_MAX + 1),
            format!("the line is longer than {LINE_BYTES_MAX} bytes"),
        )
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}: {}", self.place, self.rule);
        let chars = text.chars().count();
        if chars <= BAD_LINE_CHARS_MAX {
            return f.write_str(&text);
        }
        // The place is at the beginning and the rule is often at the end: omit the middle.
        let half = BAD_LINE_CHARS_MAX / 2;
        let head: String = text.chars().take(half).collect();
        let tail: String = text.chars().skip(chars - half).collect();
        write!(f, "{head} .. {tail}")
    }
}

/// Counts bad lines and prints the first of them.
#[derive(Debug, Default)]
pub(crate) struct BadLines {
    pub(crate) count: u64,
}

impl BadLines {
    /// Adds the line with this number of the input with this name.
    pub(crate) fn add(&mut self, input: &str, number: u64, bad: &BadLine) {
        self.count += 1;
        if self.count <= BAD_LINES_SHOWN_MAX {
            console::print_line(format_args!("{input}:{number}: {bad}"));
        } else if self.count == BAD_LINES_SHOWN_MAX + 1 {
            console::print_line(format_args!(
                "{input}:{number}: this line is bad, too; bad lines after it are only counted"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_bad_line_is_bounded() {
        let bad = BadLine::new("topic", format!("{} is too long", "é".repeat(5000)));
        let text = bad.to_string();
        assert!(
            text.starts_with("topic: é") && text.ends_with("is too long"),
            "{text}"
        );
        assert!(text.chars().count() < BAD_LINE_CHARS_MAX + 10, "{text}");
    }
}
