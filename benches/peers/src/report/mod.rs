//! The report: sections with text, tables, plots and goals. Each output format has a file.
//!
//! A section is plain data, so that a process can hand it to the process that writes the report.

pub mod html;
pub mod json;
pub mod markdown;
pub mod plots;
pub mod text;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The results of a program run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The date in UTC, as in `2026-01-31`.
    pub date: String,
    /// The processor, the number of cores, and the operating system.
    pub machine: String,
    /// The arguments of the program.
    pub command: String,
    /// The packages that were compared, with their versions.
    pub versions: Vec<(String, String)>,
    /// What applies to all sections.
    pub notes: Vec<String>,
    pub sections: Vec<Section>,
}

/// The results of one kind of work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Section {
    /// The name for `--section`.
    pub name: String,
    pub title: String,
    /// Paragraphs that say what was measured.
    pub about: Vec<String>,
    /// The systems, with a description of each.
    pub systems: Vec<(String, String)>,
    pub tables: Vec<Table>,
    pub goals: Vec<Goal>,
    pub plots: Vec<Plot>,
    /// All numbers, also those of each round.
    pub numbers: Value,
}

/// A table. The first column holds the names of the rows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// What the project wants to reach. A goal that is missed stays in the report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Goal {
    /// What is measured, with its unit.
    pub what: String,
    pub limit: Limit,
    /// `None` if it was not measured.
    pub measured: Option<f64>,
}

/// The limit of a goal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    /// Whether the goal was reached. `None` if it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(match self.limit {
            Limit::AtLeast(limit) => measured >= limit,
            Limit::AtMost(limit) => measured <= limit,
        })
    }
}

/// A plot of curves.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x: Scale,
    pub y: Scale,
    pub series: Vec<Series>,
}

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scale {
    Linear,
    Log,
    /// For percentiles: the position is the number of nines, so that 90%, 99% and 99.9% have the
    /// same distance.
    Nines,
}

/// One curve.
#[derive(Debug, Serialize, Deserialize)]
pub struct Series {
    pub name: String,
    /// Whether the curve is one of fanout. It is drawn with a thicker line.
    pub is_fanout: bool,
    pub points: Vec<(f64, f64)>,
}

/// The digits behind the dot of what was measured for a goal. With fewer digits, a goal that is
/// missed by little would look as if it was reached.
const GOAL_DECIMALS: usize = 3;

/// The table of the goals of a section, if it has any.
fn goals_table(section: &Section) -> Option<Table> {
    let rows: Vec<Vec<String>> = section
        .goals
        .iter()
        .map(|goal| {
            vec![
                goal.what.clone(),
                match goal.limit {
                    Limit::AtLeast(limit) => format!("at least {limit}"),
                    Limit::AtMost(limit) => format!("at most {limit}"),
                },
                number(goal.measured, GOAL_DECIMALS),
                match goal.is_met() {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "not measured",
                }
                .to_owned(),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| Table {
        title: "Goals".to_owned(),
        header: ["goal", "limit", "measured", "reached"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}

/// All tables of a section, with that of the goals at the end.
fn all_tables(section: &Section) -> impl Iterator<Item = TableRef<'_>> {
    section
        .tables
        .iter()
        .map(TableRef::Borrowed)
        .chain(goals_table(section).map(TableRef::Owned))
}

enum TableRef<'a> {
    Borrowed(&'a Table),
    Owned(Table),
}

impl std::ops::Deref for TableRef<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        match self {
            Self::Borrowed(table) => table,
            Self::Owned(table) => table,
        }
    }
}

/// A number in a table, or `-` if there is none.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Formats the rows of a table with columns of equal width. The first row is the header.
fn aligned(table: &Table) -> Vec<Vec<String>> {
    let rows = || std::iter::once(&table.header).chain(&table.rows);
    let widths: Vec<usize> = (0..table.header.len())
        .map(|column| {
            rows()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows()
        .map(|row| {
            row.iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect()
        })
        .collect()
}

/// The lines above the sections: the date, the machine, the versions and the notes.
fn preamble(report: &Report) -> Vec<String> {
    let versions: Vec<String> = report
        .versions
        .iter()
        .map(|(package, version)| format!("{package} {version}"))
        .collect();
    let mut lines = vec![
        format!("{}; {}.", report.date, report.machine),
        format!("Command: {}.", report.command),
        format!("Versions: {}.", versions.join(", ")),
    ];
    lines.extend(report.notes.iter().cloned());
    lines
}

/// A small report for the tests of the formats.
#[cfg(test)]
fn example() -> Report {
    Report {
        date: "2026-01-31".to_owned(),
        machine: "a processor, 2 cores".to_owned(),
        command: "peers --quick".to_owned(),
        versions: vec![("bus".to_owned(), "2.4.1".to_owned())],
        notes: vec!["A note with <angle brackets> & more.".to_owned()],
        sections: vec![Section {
            name: "one-core".to_owned(),
            title: "One core".to_owned(),
            about: vec!["What was measured.".to_owned()],
            systems: vec![("fanout".to_owned(), "as in the README".to_owned())],
            tables: vec![Table {
                title: "Rates".to_owned(),
                header: vec!["work".to_owned(), "fanout".to_owned()],
                rows: vec![vec!["threads|1".to_owned(), "2.5".to_owned()]],
            }],
            goals: vec![
                Goal {
                    what: "the ratio".to_owned(),
                    limit: Limit::AtLeast(1.2),
                    measured: Some(1.1),
                },
                Goal {
                    what: "p90 in us".to_owned(),
                    limit: Limit::AtMost(10.0),
                    measured: None,
                },
            ],
            plots: vec![Plot {
                title: "Curves & more".to_owned(),
                x_label: "subscribers".to_owned(),
                y_label: "rate".to_owned(),
                x: Scale::Log,
                y: Scale::Linear,
                series: vec![Series {
                    name: "fanout".to_owned(),
                    is_fanout: true,
                    points: vec![(1.0, 2.0), (64.0, 3.0)],
                }],
            }],
            numbers: serde_json::json!({ "rates": [2.5] }),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_limit() {
        let goal = |limit, measured| Goal {
            what: String::new(),
            limit,
            measured,
        };
        assert_eq!(goal(Limit::AtLeast(1.0), Some(1.0)).is_met(), Some(true));
        assert_eq!(goal(Limit::AtLeast(1.0), Some(0.9)).is_met(), Some(false));
        assert_eq!(goal(Limit::AtMost(1.0), Some(1.1)).is_met(), Some(false));
        assert_eq!(goal(Limit::AtMost(1.0), None).is_met(), None);
    }

    #[test]
    fn a_goal_that_is_missed_stays_in_the_report() {
        let report = example();
        let table = goals_table(&report.sections[0]).unwrap();
        assert_eq!(table.rows[0], ["the ratio", "at least 1.2", "1.100", "no"]);
        assert_eq!(
            table.rows[1],
            ["p90 in us", "at most 10", "-", "not measured"]
        );
    }

    #[test]
    fn a_section_survives_the_way_from_process_to_process() {
        let report = example();
        let text = serde_json::to_string(&report.sections[0]).unwrap();
        let section: Section = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{section:?}"), format!("{:?}", report.sections[0]));
    }
}
