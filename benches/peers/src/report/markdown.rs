//! The report in Markdown.

use std::fmt::Write as _;

use super::{Report, Table, aligned, all_tables, preamble};

/// Renders the report in Markdown. `page` is the name of the HTML page with the plots, if there is
/// one in the same directory.
pub fn render(report: &Report, page: Option<&str>) -> String {
    let mut text = "# fanout and its peers\n\n".to_owned();
    text.push_str(
        "The program `benches/peers` wrote this file. Do not edit it by hand; the README beside it \
         has the command.\n",
    );
    if let Some(page) = page {
        let _ = writeln!(
            text,
            "\n[{page}]({page}) has the same tables, and the plots.\n"
        );
    }
    for line in preamble(report) {
        let _ = writeln!(text, "- {}", escaped(&line));
    }
    for section in &report.sections {
        let _ = write!(text, "\n## {}\n", section.title);
        for paragraph in &section.about {
            let _ = write!(text, "\n{}\n", escaped(paragraph));
        }
        for (number, (name, about)) in section.systems.iter().enumerate() {
            let gap = if number == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}- `{name}`: {}.", escaped(about));
        }
        for table in all_tables(section) {
            let _ = write!(text, "\n{}\n\n{}", escaped(&table.title), rows(&table));
        }
    }
    text
}

fn rows(table: &Table) -> String {
    let escape_row = |row: &Vec<String>| row.iter().map(|cell| escaped(cell)).collect();
    let escaped = Table {
        title: String::new(),
        header: escape_row(&table.header),
        rows: table.rows.iter().map(escape_row).collect(),
    };
    let mut text = String::new();
    for (number, row) in aligned(&escaped).iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if number == 0 {
            let rule: Vec<&str> = (0..row.len())
                .map(|column| if column == 0 { "---" } else { "--:" })
                .collect();
            let _ = writeln!(text, "| {} |", rule.join(" | "));
        }
    }
    text
}

/// Escapes the characters that would have a meaning in Markdown. Backticks and stars are kept for
/// the texts of this program.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_markdown_tables() {
        let text = render(&super::super::example(), Some("REPORT.html"));
        let table = "| work       | fanout |\n| --- | --: |\n| threads\\|1 |    2.5 |\n";
        assert!(text.contains(table), "{text}");
        assert!(text.contains("[REPORT.html](REPORT.html)"), "{text}");
        assert!(text.contains("\\<angle"), "{text}");
        assert!(
            text.contains("\n\n- `fanout`: as in the README.\n"),
            "{text}"
        );
        assert!(!render(&super::super::example(), None).contains(".html"));
    }
}
