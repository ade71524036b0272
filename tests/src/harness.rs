//! A small experiment in which something goes wrong: real processes, a store, proxies, and what was
//! committed before.
//!
//! - `control`: starts and ends its programs
//! - `snapshot`: what `status` shows
//! - `timers`: the coordinator's, short

mod control;
mod snapshot;
mod timers;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quartet_identity::KeyFolder;
use quartet_identity::folder::DEFAULT_DAYS;
use quartet_shared::ids::{Attempt, RunName};
use quartet_store::layout::Layout;

use crate::fixtures;
use crate::host::Host;
use crate::ports;
use crate::processes::{Coordinator, Process, Watch};
use crate::proxy::Proxy;
use crate::results::{Results, attempts, manifests};
use crate::s3::{S3, SECRET_ACCESS_KEY, prepared};
use crate::small_disk::SmallDisk;
use crate::stores::StoreUnderTest;

pub use snapshot::{RunView, Snapshot};
pub use timers::Timers;

/// Epochs of each run: enough for a fault in the middle.
pub const EPOCHS: u32 = 16;
/// Small, so that an epoch has 21 steps.
const BATCH_SIZE: u32 = 4;
/// The experiment's runs, the slower one first.
pub const RUNS: [&str; 2] = ["vgg16", "residual"];

/// Kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Local,
    /// A server, with a proxy in front of it.
    S3,
}

/// An experiment with its processes. Dropped, they are killed; after a panic their logs are shown.
#[derive(Debug)]
pub struct Harness {
    /// The store.
    pub store: StoreUnderTest,
    /// The way from the coordinator to the store, if that is S3.
    pub to_store: Option<Proxy>,
    /// The way of those workers to the coordinator that are started behind it.
    pub to_coordinator: Proxy,
    folder: PathBuf,
    disk: Option<SmallDisk>,
    timers: Timers,
    address: SocketAddr,
    coordinator: Option<Coordinator>,
    workers: BTreeMap<String, Process>,
    /// Launchers of the workers that run elsewhere.
    elsewhere: BTreeMap<String, Command>,
    watch: Option<Watch>,
    committed: BTreeMap<String, Vec<u8>>,
    last_attempts: Option<Attempt>,
    keys: Option<KeyFolder>,
}

impl Harness {
    /// Prepares an experiment; nothing runs yet but the S3 server.
    #[must_use]
    pub fn new(name: &str, kind: Kind, timers: Timers) -> Self {
        let folder = empty_folder(&format!("{name}-{kind:?}").to_lowercase());
        let (store, to_store) = match kind {
            Kind::Local => (StoreUnderTest::local(&folder.join("store")), None),
            Kind::S3 => {
                let server = S3::start(&folder.join("s3.log"));
                let proxy = Proxy::start(server.address());
                let endpoint = proxy.address();
                (StoreUnderTest::S3 { server, endpoint }, Some(proxy))
            }
        };
        let mut harness = Self::with_store(folder, store, to_store, None, timers);
        // Half of the cases are played with keys, the other half without.
        if kind == Kind::S3 {
            harness.use_keys();
        }
        harness
    }

    /// Prepares an experiment on a local store that is a disk of so many bytes; says why where there can
    /// be none.
    pub fn on_small_disk(name: &str, size: u64, timers: Timers) -> Result<Self, String> {
        let folder = empty_folder(name);
        let disk = SmallDisk::mount(&folder.join("store"), size)?;
        let store = StoreUnderTest::Local {
            location: folder.join("store"),
            folder: disk.outside(),
        };
        Ok(Self::with_store(folder, store, None, Some(disk), timers))
    }

    fn with_store(
        folder: PathBuf,
        store: StoreUnderTest,
        to_store: Option<Proxy>,
        disk: Option<SmallDisk>,
        timers: Timers,
    ) -> Self {
        fixtures::csv(&folder);
        fixtures::experiment_of(&folder, EPOCHS, BATCH_SIZE);
        let address = ports::free();
        Self {
            store,
            to_store,
            to_coordinator: Proxy::start(address),
            folder,
            disk,
            timers,
            address,
            coordinator: None,
            workers: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            watch: None,
            committed: BTreeMap::new(),
            last_attempts: None,
            keys: None,
        }
    }

    /// Has the programs, of which none is started yet, use keys.
    pub fn use_keys(&mut self) {
        let keys = KeyFolder::new(self.folder.join("keys"));
        keys.create(DEFAULT_DAYS).expect("the folder is writable");
        self.keys = Some(keys);
    }

    /// The timers that the coordinator is started with.
    #[must_use]
    pub fn timers(&self) -> Timers {
        self.timers
    }

    /// Has the coordinator, which is not started yet, keep mid-epoch checkpoints.
    pub fn keep_mid_epoch_checkpoints_every(&mut self, interval: Duration) {
        self.timers.checkpoint_interval = interval;
    }

    /// Has the coordinator, which is not started yet, give a run to another worker after so long without
    /// progress.
    pub fn give_up_without_progress_for(&mut self, timeout: Duration) {
        self.timers.progress_timeout = timeout;
    }

    /// Has the coordinator, which is not started yet, listen on this address of this machine, for which it
    /// needs keys.
    pub fn listen_on(&mut self, address: Ipv4Addr) {
        self.address.set_ip(address.into());
        self.to_coordinator = Proxy::start(self.address);
        self.use_keys();
    }

    /// Has the worker of this name, which is not started yet, run on another host.
    pub fn place_worker(&mut self, name: &str, host: &Host) {
        self.elsewhere.insert(name.to_owned(), host.launcher());
    }

    /// The disk that the store is on.
    ///
    /// # Panics
    /// If the harness was not made with one.
    #[must_use]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("the harness has a small disk")
    }

    /// The keys of the experiment.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout::new("small".parse().expect("a name"))
    }

    /// The next snapshot for which `found` gives something.
    ///
    /// # Panics
    /// If the experiment ends before, or nothing is found in time.
    pub fn until<T>(&mut self, mut found: impl FnMut(Snapshot<'_>) -> Option<T>) -> T {
        let watch = self.watch.as_mut().expect("the coordinator was started");
        watch.until(|json| found(Snapshot(json)))
    }

    /// Starts the coordinator and two workers, and waits until both runs are being trained with at least two
    /// epochs committed, which must stay in the store as they are from now on.
    pub fn begin(&mut self, behind_proxy: &[&str]) {
        self.start_coordinator();
        for name in ["one", "two"] {
            match behind_proxy.contains(&name) {
                true => self.start_worker_behind_proxy(name),
                false => self.start_worker(name),
            }
        }
        self.until(|snapshot| {
            let mut runs = snapshot.runs();
            runs.all(|run| run.worker().is_some() && run.committed() >= 2)
                .then_some(())
        });
        let layout = self.layout();
        for run in RUNS.map(run_name) {
            for key in self.store.list(&layout.manifests(&run)) {
                let bytes = self.store.read(&key);
                self.committed.insert(key, bytes);
            }
        }
    }

    /// Demands that the attempts that train the runs' last epochs have this number.
    pub fn expect_attempts(&mut self, attempt: u32) {
        self.last_attempts = Some(Attempt(attempt));
    }

    /// Lifts the demand that what was committed stays as it is.
    pub fn forget_committed(&mut self) {
        self.committed.clear();
    }

    /// Waits until the experiment is finished and all programs have ended well; reads the results.
    ///
    /// # Panics
    /// If anything failed, or something that was committed is lost.
    #[must_use]
    pub fn finish(&mut self) -> Results {
        let (ended, failures) = self.until(|snapshot| {
            let ended = snapshot.ended()?;
            Some((ended.to_owned(), snapshot.failures()))
        });
        assert_eq!(ended, "finished", "{failures:?}");
        let coordinator = self.coordinator.take().expect("it was started");
        let (text, status) = coordinator.finish();
        assert!(status.success(), "{status}: {text}");
        for (name, mut worker) in std::mem::take(&mut self.workers) {
            let status = worker.wait();
            assert!(status.success(), "worker {name}: {status}");
        }
        let watch = self.watch.take().expect("the coordinator was started");
        assert!(watch.finish().success());
        for (key, bytes) in &self.committed {
            assert!(self.store.read(key) == *bytes, "{key} was changed");
        }
        self.assert_nothing_secret_is_logged();
        let (layout, runs) = (self.layout(), RUNS.map(run_name));
        for run in &runs {
            let attempts = attempts(&manifests(&self.store, &layout, run));
            let expected = self.last_attempts.or(attempts.last().copied());
            assert_eq!(attempts.last(), expected.as_ref(), "{run}: {attempts:?}");
        }
        Results::read(&self.store, &layout, &runs)
    }

    fn assert_nothing_secret_is_logged(&self) {
        let mut logs = 0;
        for entry in fs::read_dir(&self.folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).expect("a log is text");
                assert!(!text.contains(SECRET_ACCESS_KEY), "{}", path.display());
                assert!(!text.contains("PRIVATE KEY"), "{}", path.display());
                logs += 1;
            }
        }
        assert!(logs >= 2, "coordinator and workers have logs");
    }

    fn show_logs(&self) {
        let mut stderr = std::io::stderr().lock();
        let logs = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in logs.map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
                let _ = writeln!(stderr, "--- the end of {}\n{last}", path.display());
            }
        }
    }
}

/// Lines of each log that are shown after a panic.
const LINES_SHOWN: usize = 30;

impl Drop for Harness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The name of a run.
#[must_use]
pub fn run_name(name: &str) -> RunName {
    name.parse().expect("a name")
}

/// A folder that stays when its test fails.
fn empty_folder(name: &str) -> PathBuf {
    let folder: &Path = &prepared().join("harness").join(name);
    if folder.exists() {
        fs::remove_dir_all(folder).expect("it is ours");
    }
    fs::create_dir_all(folder).expect("the folder is writable");
    folder.to_owned()
}
