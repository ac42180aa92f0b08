//! The report as plain text.

use std::fmt::Write as _;

use super::{Report, Table, aligned, all_tables, preamble};

/// The number of spaces between two columns.
const GAP: &str = "   ";

/// Renders the report as plain text.
pub fn render(report: &Report) -> String {
    let mut text = preamble(report).join("\n");
    text.push('\n');
    for section in &report.sections {
        let _ = write!(
            text,
            "\n{}\n{}\n",
            section.title,
            "=".repeat(section.title.len())
        );
        for paragraph in &section.about {
            let _ = write!(text, "\n{paragraph}\n");
        }
        for table in all_tables(section) {
            let _ = write!(text, "\n{}\n\n{}", table.title, rows(&table));
        }
    }
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
