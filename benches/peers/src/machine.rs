//! The machine, the date, and the versions of the packages, for the report.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A description of the machine in one line.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| std::env::consts::OS.to_owned(),
        |release| format!("Linux {}", release.trim()),
    );
    let cores = match cores() {
        1 => "1 core".to_owned(),
        number => format!("{number} cores"),
    };
    format!("{cpu}, {cores}, {system}")
}

/// The number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The memory of this process that is in use, in bytes, where the system reports it (Linux).
pub fn resident_bytes() -> Option<u64> {
    const BYTES_PER_KIB: u64 = 1024;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * BYTES_PER_KIB)
}

/// The processor time of all threads of this process so far, where it can be measured (Linux).
#[cfg(target_os = "linux")]
pub fn processor_time() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}

/// It is measured only on Linux.
#[cfg(not(target_os = "linux"))]
pub fn processor_time() -> Option<Duration> {
    None
}

/// The version of a package in the lock file with which this program was built.
pub fn version(package: &str) -> &'static str {
    let wanted = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    lines
        .by_ref()
        .find(|line| *line == wanted)
        .and_then(|_| lines.next())
        .and_then(|line| line.strip_prefix("version = \""))
        .and_then(|line| line.strip_suffix('"'))
        .unwrap_or("unknown")
}

/// The date of today in UTC, as in `2026-01-31`.
pub fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The date `days` days after 1970-01-01. The computation counts eras of 400 years from
/// 0000-03-01.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_088), "2024-12-31");
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(version("no-such-package"), "unknown");
        for system in crate::harness::Scenario::ALL
            .into_iter()
            .flat_map(crate::systems::of)
        {
            if let Some(package) = system.package() {
                assert_ne!(version(package), "unknown", "{}", system.name());
            }
        }
    }
}
