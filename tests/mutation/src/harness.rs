//! Reads damaged inputs in a process of its own, which may be ended by one of them.

use std::any::Any;
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::process::{Journal, PREPARING, Summary, current_case, findings, limit_memory};
use crate::{Kind, Mutator};

/// How long a test reads, in seconds.
const SECONDS: &str = "QUARTET_MUTATION_SECONDS";
/// The one case to play, as `format:number`.
const REPLAY: &str = "QUARTET_MUTATION_SEED";
/// For the process that reads: the format, the first case, and the folder of its journal.
const READER: [&str; 3] = [
    "QUARTET_MUTATION_FORMAT",
    "QUARTET_MUTATION_FIRST",
    "QUARTET_MUTATION_FOLDER",
];

/// How long valid inputs may take to be made.
const PREPARATION: Duration = Duration::from_secs(300);
/// How often a reader that was ended is started again with the next case.
const DEATHS: usize = 5;
/// After so many failures of different kinds a process reads no more.
const FAILURES: usize = 10;

/// A format whose reader is tested.
#[derive(Clone, Copy, Debug)]
pub struct Format<'a> {
    /// Its name, which a replay gives.
    pub name: &'a str,
    /// The test that calls [`survives`], as `--exact` takes it: its modules and its name.
    pub test: &'a str,
    /// What its inputs consist of.
    pub kind: Kind,
    /// How many cases are read at least, however long that takes.
    pub cases: u64,
}

/// What a case may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) memory: u64,
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    memory: 1 << 30,
};

/// Gives damaged copies of the `valid` inputs to `read`, which says whether it has made a value of one, and
/// panics where an error is not as it should be.
///
/// # Panics
/// A valid input is refused. Or a damaged one makes the reader panic, takes it more than 10 s or 1 GiB, or
/// ends its process.
pub fn survives(
    format: &Format<'_>,
    valid: impl FnOnce() -> Vec<Vec<u8>>,
    read: impl FnMut(&[u8]) -> Result<(), String>,
) {
    if let Err(failures) = survives_within(LIMITS, format, valid, read) {
        panic!("{failures}");
    }
}

/// [`survives`] with the failures, one a line.
pub(crate) fn survives_within(
    limits: Limits,
    format: &Format<'_>,
    valid: impl FnOnce() -> Vec<Vec<u8>>,
    read: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let [reader, first, folder] = READER.map(|name| env::var(name).ok());
    let replay = env::var(REPLAY).ok();
    let replay = replay.as_deref().map(|case| {
        let (name, number) = case.split_once(':').expect("a case is format:number");
        (name, number.parse::<u64>().expect("a case has a number"))
    });
    match (reader, replay) {
        (Some(name), _) if name == format.name => {
            let first = first.map_or(0, |first| first.parse().expect("a case has a number"));
            let folder = PathBuf::from(folder.expect("a reader is given a folder"));
            let mutator = Mutator::new(format.kind, valid());
            let mut reader = Reader::new(limits, &folder, mutator, read);
            reader.run(first, format.cases, replay.is_some());
            Ok(())
        }
        (Some(_), _) => Ok(()),
        (None, Some((name, _))) if name != format.name => Ok(()),
        (None, replay) => watch(limits, format, replay.map(|(_, number)| number)),
    }
}

fn budget() -> Duration {
    let seconds = env::var(SECONDS).map_or(2, |text| text.parse().expect("seconds are a number"));
    Duration::from_secs(seconds)
}

/// Starts readers until one comes to its end.
fn watch(limits: Limits, format: &Format<'_>, replay: Option<u64>) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let (mut failures, mut deaths) = (String::new(), 0);
    let mut first = replay.unwrap_or(0);
    loop {
        let mut child = start(format, first, folder.path(), replay.is_some());
        let death = wait(&mut child, limits, folder.path());
        let (failed, summary) = findings(folder.path());
        for (case, reason) in failed {
            let _ = writeln!(failures, "{}: {reason}", name(format, case));
        }
        if let Some(summary) = summary {
            report(format, &summary);
            break;
        }
        let case = current_case(folder.path());
        let death = death.unwrap_or_else(|| "it ended without a summary".to_owned());
        let _ = writeln!(failures, "{}: {death}", name(format, case));
        deaths += 1;
        if case == PREPARING || replay.is_some() || deaths == DEATHS {
            break;
        }
        first = case + 1;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures),
    }
}

fn name(format: &Format<'_>, case: u64) -> String {
    match case {
        PREPARING => format!("{} before the first case", format.name),
        case => format!("{REPLAY}={}:{case}", format.name),
    }
}

fn start(format: &Format<'_>, first: u64, folder: &Path, replay: bool) -> Child {
    let _ = fs::remove_file(folder.join("case"));
    let _ = fs::remove_file(folder.join("findings"));
    let errors = match replay {
        true => Stdio::inherit(),
        false => File::create(folder.join("errors"))
            .expect("a temporary folder can be written")
            .into(),
    };
    let values = [
        format.name,
        &first.to_string(),
        folder.to_str().expect("temporary names are UTF-8"),
    ];
    let mut command = Command::new(env::current_exe().expect("a test knows its program"));
    command
        .args([format.test, "--exact", "--nocapture"])
        .envs(READER.into_iter().zip(values))
        // Every thread and every arena of the allocator reserves addresses, which are limited.
        .envs([("RAYON_NUM_THREADS", "1"), ("MALLOC_ARENA_MAX", "1")])
        // An allocation that fails would allocate for its backtrace.
        .env("RUST_BACKTRACE", if replay { "1" } else { "0" })
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors);
    command.spawn().expect("a test can be started again")
}

/// Waits for a reader, and ends it if it hangs. Returns how it died, if it did.
fn wait(child: &mut Child, limits: Limits, folder: &Path) -> Option<String> {
    let (mut case, mut since) = (PREPARING, Instant::now());
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            let errors = fs::read_to_string(folder.join("errors")).unwrap_or_default();
            let errors: Vec<&str> = errors.trim().lines().take(3).collect();
            let errors = errors.join(" ");
            return (!status.success()).then(|| format!("the process ended, {status}: {errors}"));
        }
        let now = current_case(folder);
        if now != case {
            (case, since) = (now, Instant::now());
        }
        let limit = match case {
            PREPARING => PREPARATION,
            _ => limits.time,
        };
        if since.elapsed() > limit {
            child.kill().expect("a child can be ended");
            child.wait().expect("a child can be waited for");
            return Some(format!("it hangs: not done after {limit:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says what was read. Past the test runner, which shows nothing of a test that passes.
fn report(format: &Format<'_>, summary: &Summary) {
    let Summary {
        cases,
        accepted,
        elapsed,
        slowest,
        longest,
    } = *summary;
    let each = cases as f64 / elapsed.as_secs_f64().max(1e-6);
    let _ = writeln!(
        io::stderr(),
        "mutated {}: {cases} cases in {elapsed:.1?} ({each:.0}/s), {accepted} accepted, \
         longest {longest:.1?} (case {slowest})",
        format.name
    );
}

/// Where the last panic was, and its message.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// The process that reads.
struct Reader<R> {
    limits: Limits,
    folder: PathBuf,
    journal: Journal,
    mutator: Mutator,
    read: R,
    /// Failures without their numbers.
    kinds: BTreeSet<String>,
    summary: Summary,
}

impl<R: FnMut(&[u8]) -> Result<(), String>> Reader<R> {
    fn new(limits: Limits, folder: &Path, mutator: Mutator, read: R) -> Self {
        Self {
            limits,
            folder: folder.to_owned(),
            journal: Journal::create(folder).expect("the folder can be written"),
            mutator,
            read,
            kinds: BTreeSet::new(),
            summary: Summary::default(),
        }
    }

    fn run(&mut self, first: u64, cases: u64, replay: bool) {
        for (index, valid) in self.mutator.valid().iter().enumerate() {
            if let Err(reason) = (self.read)(valid) {
                let reason = format!("valid input {index} is refused: {reason}");
                self.journal
                    .failed(PREPARING, &reason)
                    .expect("the journal can be written");
            }
        }
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            *PANIC.lock().unwrap_or_else(|e| e.into_inner()) = panic.to_string();
            if replay {
                shown(panic);
            }
        }));
        // Here all that lasts is allocated.
        limit_memory(self.limits.memory);
        let (started, budget) = (Instant::now(), budget());
        let mut case = first;
        loop {
            self.case(case, replay);
            case += 1;
            self.summary.elapsed = started.elapsed();
            let enough = case >= cases && self.summary.elapsed >= budget;
            if enough || replay || self.kinds.len() == FAILURES {
                break;
            }
        }
        let _ = std::panic::take_hook();
        self.journal
            .finish(&self.summary)
            .expect("the journal can be written");
    }

    fn case(&mut self, number: u64, replay: bool) {
        self.journal
            .begin(number)
            .expect("the journal can be written");
        let bytes = self.mutator.case(number);
        if replay {
            let kept = env::temp_dir().join(format!("mutated-{number}"));
            fs::write(&kept, &bytes).expect("temporary files can be written");
            let _ = writeln!(io::stderr(), "its bytes are in {}", kept.display());
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(&bytes)));
        let taken = started.elapsed();
        self.summary.cases += 1;
        if taken > self.summary.longest {
            (self.summary.longest, self.summary.slowest) = (taken, number);
        }
        let failure = match outcome {
            Ok(result) => {
                self.summary.accepted += u64::from(result.is_ok());
                (taken > self.limits.time).then(|| "it is too slow".to_owned())
            }
            Err(panic) => Some(self.panicked(panic.as_ref())),
        };
        let Some(failure) = failure else {
            return;
        };
        // Panics of one place are of one kind.
        let first_line = failure.lines().next().unwrap_or_default();
        let kind: String = match first_line.starts_with("panicked at ") {
            true => first_line.to_owned(),
            false => failure.chars().filter(|c| !c.is_ascii_digit()).collect(),
        };
        if self.kinds.insert(kind) {
            self.journal
                .failed(number, &failure)
                .expect("the journal can be written");
        }
    }

    fn panicked(&self, _: &dyn Any) -> String {
        let message = PANIC.lock().unwrap_or_else(|e| e.into_inner()).clone();
        // Names of temporary files are others each time.
        message.replace(&self.folder.display().to_string(), "FOLDER")
    }
}

#[cfg(test)]
mod tests;
