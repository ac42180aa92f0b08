//! `--compare`: an earlier report.
//!
//! The file is read and checked before anything is measured, so that a run does not fail at its
//! end. It must have each case of the run, with the same settings.

use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::case::Case;
use super::comparison::{self, Comparison, compared_metrics};
use super::limits::COMPARE_BYTES_MAX;
use super::machine::Machine;
use super::measurement::Measurement;
use super::report::{FORMAT, FORMAT_VERSION, Report};
use crate::status::StartError;

/// An earlier report that has every case of this run.
#[derive(Debug)]
pub(crate) struct Earlier {
    file: String,
    report: Report,
}

/// The part of a report that says how to read the rest.
#[derive(Debug, Deserialize)]
struct Header {
    format: String,
    format_version: u64,
}

impl Earlier {
    /// Reads the file, and checks that it has these cases.
    pub(crate) fn read(path: &Path, cases: &[Case]) -> Result<Earlier, StartError> {
        let file = path.display().to_string();
        let bytes = read_bounded(path)
            .map_err(|error| StartError::Failed(format!("--compare {file}: {error}")))?;
        let report = checked(&bytes, cases)
            .map_err(|rule| StartError::Refused(format!("--compare {file}{rule}")))?;
        Ok(Earlier { file, report })
    }

    /// Compares measurements with those of the earlier report.
    pub(crate) fn compare(&self, measurements: &[Measurement]) -> Comparison {
        let pairs = measurements
            .iter()
            .filter_map(|now| Some((find(&self.report, &now.case)?, now)));
        let rows = pairs.flat_map(|(before, now)| comparison::rows(before, now));
        Comparison {
            file: self.file.clone(),
            fanout: self.report.fanout.clone(),
            measured_at: self.report.measured_at.clone(),
            machine: self.report.machine.clone(),
            rows: rows.collect(),
        }
    }

    /// Returns the machine of the earlier report, if it is not this one.
    pub(crate) fn other_machine(&self, here: &Machine) -> Option<&Machine> {
        let machine = &self.report.machine;
        let is_same =
            (&machine.processor, machine.processors) == (&here.processor, here.processors);
        (!is_same).then_some(machine)
    }
}

/// Reads a file of at most `COMPARE_BYTES_MAX` bytes. One byte more is read, so that a longer file
/// is noticed.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(COMPARE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a report that has these cases. The error is the place and the rule, to be written behind
/// the name of the file.
fn checked(bytes: &[u8], cases: &[Case]) -> Result<Report, String> {
    if bytes.len() as u64 > COMPARE_BYTES_MAX {
        return Err(format!(
            ": the file is longer than {COMPARE_BYTES_MAX} bytes, and is no report of fanout bench"
        ));
    }
    let Header {
        format,
        format_version,
    } = serde_json::from_slice(bytes).map_err(|error| unread(&error))?;
    if format != FORMAT {
        return Err(format!(": format: {format:?} is not {FORMAT:?}"));
    }
    if format_version != FORMAT_VERSION {
        return Err(format!(
            ": format_version: {format_version} is not {FORMAT_VERSION}, the version of this \
             program: measure again with this program"
        ));
    }
    let mut report: Report = serde_json::from_slice(bytes).map_err(|error| unread(&error))?;
    for (index, measurement) in report.measurements.iter_mut().enumerate() {
        let place = format!(": measurements[{index}]");
        *measurement = Measurement::new(measurement.case, std::mem::take(&mut measurement.rounds));
        for &metric in compared_metrics(measurement.case.scenario) {
            let summary = measurement.summary(metric);
            if !summary.is_some_and(|summary| summary.min > 0.0) {
                return Err(format!(
                    "{place}.rounds: no round may be without a time and a count above 0"
                ));
            }
        }
    }
    for case in cases {
        if find(&report, case).is_none() {
            return Err(format!(
                ": measurements: the case is missing: {case}; every case of this run must be in \
                 the file"
            ));
        }
    }
    Ok(report)
}

fn unread(error: &serde_json::Error) -> String {
    format!(
        ":{}:{}: not a report of fanout bench --json: {error}",
        error.line(),
        error.column()
    )
}

fn find<'a>(report: &'a Report, case: &Case) -> Option<&'a Measurement> {
    report.measurements.iter().find(|each| each.case == *case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_largest_size() {
        let largest = vec![b' '; COMPARE_BYTES_MAX as usize];
        let error = checked(&largest, &[]).expect_err("only blanks");
        assert!(error.contains("EOF while parsing"), "{error}");
        let error = checked(&[largest, vec![b' ']].concat(), &[]).expect_err("too long");
        assert!(error.contains("longer than 16777216 bytes"), "{error}");
    }
}
