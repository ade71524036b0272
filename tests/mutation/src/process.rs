//! The process that reads: its limit of memory, and what it leaves behind when it is killed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of a case before the first one.
pub(crate) const PREPARING: u64 = u64::MAX;

/// Characters of a reason that are kept: it may repeat the input.
const LONGEST_REASON: usize = 600;

/// Where a process says which case it is at, and what it has found.
#[derive(Debug)]
pub(crate) struct Journal {
    case: File,
    findings: File,
}

impl Journal {
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let journal = Self {
            case: File::create(folder.join("case"))?,
            findings: File::create(folder.join("findings"))?,
        };
        journal.begin(PREPARING)?;
        Ok(journal)
    }

    /// To be called before a case, which may end the process.
    pub(crate) fn begin(&self, case: u64) -> io::Result<()> {
        self.case.write_all_at(&case.to_le_bytes(), 0)
    }

    pub(crate) fn failed(&mut self, case: u64, reason: &str) -> io::Result<()> {
        let reason: String = reason
            .replace('\n', " ")
            .chars()
            .take(LONGEST_REASON)
            .collect();
        writeln!(self.findings, "failed {case} {reason}")
    }

    pub(crate) fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        writeln!(self.findings, "finished {}", summary.line())
    }
}

/// The case that a process is at or was at.
pub(crate) fn current_case(folder: &Path) -> u64 {
    let bytes = fs::read(folder.join("case")).unwrap_or_default();
    bytes
        .first_chunk()
        .copied()
        .map_or(PREPARING, u64::from_le_bytes)
}

/// What a process has left: cases that failed, with the reasons, and the summary if it came to its end.
pub(crate) fn findings(folder: &Path) -> (Vec<(u64, String)>, Option<Summary>) {
    let (mut failed, mut summary) = (Vec::new(), None);
    for line in fs::read_to_string(folder.join("findings"))
        .unwrap_or_default()
        .lines()
    {
        match line.split_once(' ') {
            Some(("failed", rest)) => {
                let (case, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                failed.push((case.parse().unwrap_or(PREPARING), reason.to_owned()));
            }
            Some(("finished", rest)) => summary = rest.parse().ok(),
            _ => {}
        }
    }
    (failed, summary)
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) cases: u64,
    /// Cases of which the reader made a value.
    pub(crate) accepted: u64,
    pub(crate) elapsed: Duration,
    /// The case that took longest.
    pub(crate) slowest: u64,
    pub(crate) longest: Duration,
}

impl Summary {
    fn line(&self) -> String {
        let [elapsed, longest] = [self.elapsed, self.longest].map(|time| time.as_micros());
        format!(
            "{} {} {elapsed} {} {longest}",
            self.cases, self.accepted, self.slowest
        )
    }
}

impl FromStr for Summary {
    type Err = std::num::ParseIntError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        Ok(Self {
            cases: next()?,
            accepted: next()?,
            elapsed: Duration::from_micros(next()?),
            slowest: next()?,
            longest: Duration::from_micros(next()?),
        })
    }
}

/// Limits this process to so many bytes more than it has now: what would take more fails, which ends it.
/// Addresses are counted, not pages, so that memory counts which is asked for and not touched.
pub(crate) fn limit_memory(more: u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let Some(kibibytes) = size else {
        return; // Not Linux: the time alone is limited.
    };
    let now = kibibytes * 1024;
    let maximum = getrlimit(Resource::As).maximum;
    let current = maximum.unwrap_or(u64::MAX).min(now + more);
    let limit = Rlimit {
        current: Some(current),
        maximum,
    };
    setrlimit(Resource::As, limit).expect("a limit can be made lower");
}
