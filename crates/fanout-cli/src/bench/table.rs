//! Tables for people: the first column begins at the left, the others end at the right.

use std::time::Duration;

/// The space between two columns.
const GAP: &str = "  ";

/// A table with `COLUMNS` columns. The last one has remarks, which need no alignment.
pub(crate) struct Table<const COLUMNS: usize> {
    /// The first one is the head.
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(head: [&str; COLUMNS]) -> Self {
        Table {
            rows: vec![head.map(str::to_owned)],
        }
    }

    pub(crate) fn row(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// Returns `None` if there is no row below the head.
    pub(crate) fn text(&self) -> Option<String> {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
        };
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
        let line = |row: &[String; COLUMNS]| {
            let mut cells = row.iter().zip(widths).enumerate();
            let cells = cells.by_ref().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ if column + 1 == COLUMNS => cell.clone(),
                _ => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join(GAP);
            line.trim_end().to_owned() + "\n"
        };
        (self.rows.len() > 1).then(|| self.rows.iter().map(line).collect())
    }
}

/// A number of percent without decimals.
pub(crate) fn percent(percent: f64) -> String {
    format!("{percent:.0}%")
}

/// A time in nanoseconds.
pub(crate) fn time(ns: f64) -> String {
    format!("{:.1?}", Duration::from_nanos(ns as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "n", ""]);
        assert_eq!(table.text(), None);
        table.row(["a", "1.5µs", "!"].map(str::to_owned));
        table.row(["longer", "12", ""].map(str::to_owned));
        let text = table.text().expect("there are rows");
        assert_eq!(text, "name        n\na       1.5µs  !\nlonger     12\n");
    }

    #[test]
    fn times_have_their_unit() {
        assert_eq!(
            [999.0, 1500.0, 2.5e6].map(time),
            ["999.0ns", "1.5µs", "2.5ms"]
        );
    }
}
