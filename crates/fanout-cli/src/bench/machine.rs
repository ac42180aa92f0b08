//! The machine on which a run measures.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::thread;

/// A machine, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The name of the processor, or its architecture.
    pub(crate) processor: String,
    /// The number of processors that the program may use.
    pub(crate) processors: usize,
    /// The operating system.
    pub(crate) system: String,
}

impl Machine {
    /// The machine on which the program runs. Only Linux has these files.
    pub(crate) fn here() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| Some(line.split_once(':')?.1.trim()));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let system = format!("{} {}", std::env::consts::OS, release.trim());
        Machine {
            processor: model.unwrap_or(std::env::consts::ARCH).to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            system: system.trim_end().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (processor, processors, system) = (&self.processor, self.processors, &self.system);
        let plural = if processors == 1 { "" } else { "s" };
        write!(f, "{processor}, {processors} processor{plural}, {system}")
    }
}
