//! The report as plain text.

use std::fmt::Write as _;

use super::{Report, Table, aligned, all_tables, preamble};

/// The number of spaces between two columns.
const GAP: &str = "   ";

/// The width of a paragraph, in characters.
const WIDTH: usize = 100;

/// Renders the report as plain text.
pub fn render(report: &Report) -> String {
    let mut text: String = preamble(report).iter().map(|line| wrapped(line)).collect();
    for section in &report.sections {
        let _ = write!(
            text,
            "\n{}\n{}\n",
            section.title,
            "=".repeat(section.title.len())
        );
        for paragraph in &section.about {
            let _ = write!(text, "\n{}", wrapped(paragraph));
        }
        for table in all_tables(section) {
            let _ = write!(text, "\n{}\n\n{}", table.title, rows(&table));
        }
    }
    text
}

/// Breaks a paragraph into lines of at most [`WIDTH`] characters, if its words allow it.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push('\n');
    text
}

fn rows(table: &Table) -> String {
    aligned(table)
        .iter()
        .map(|row| format!("{}\n", row.join(GAP).trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped() {
        let text = wrapped(&["word"; 30].join(" "));
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(wrapped(&"x".repeat(120)), format!("{}\n", "x".repeat(120)));
    }

    #[test]
    fn columns_are_aligned() {
        let text = render(&super::super::example());
        assert!(text.contains("\nOne core\n========\n"), "{text}");
        assert!(
            text.contains("work        fanout\nthreads|1      2.5\n"),
            "{text}"
        );
        assert!(text.starts_with("2026-01-31; a processor, 2 cores.\n"));
    }
}
