//! Views of the JSON that `status` writes.

use serde_json::Value;

/// A snapshot of an experiment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a>(pub &'a Value);

/// A run in a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct RunView<'a>(&'a Value);

impl<'a> Snapshot<'a> {
    /// All runs.
    pub fn runs(self) -> impl Iterator<Item = RunView<'a>> {
        self.0["runs"].as_array().into_iter().flatten().map(RunView)
    }

    /// The run of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn run(self, name: &str) -> RunView<'a> {
        let run = self.runs().find(|run| run.name() == name);
        run.expect("the experiment has this run")
    }

    /// The run that the worker of this name trains.
    #[must_use]
    pub fn run_of(self, worker: &str) -> Option<RunView<'a>> {
        self.runs().find(|run| run.worker() == Some(worker))
    }

    /// The worker that evaluates.
    #[must_use]
    pub fn evaluator(self) -> Option<&'a str> {
        self.0["evaluation"]["worker"].as_str()
    }

    /// The attempt at the evaluation, 0 before the first.
    #[must_use]
    pub fn evaluation_attempt(self) -> u64 {
        self.0["evaluation"]["attempt"].as_u64().unwrap_or_default()
    }

    /// The coordinator's term.
    #[must_use]
    pub fn term(self) -> Option<u64> {
        self.0["term"].as_u64()
    }

    /// Seconds for which the coordinator has run.
    #[must_use]
    pub fn uptime(self) -> f64 {
        self.0["uptime_seconds"].as_f64().unwrap_or_default()
    }

    /// How the store fails, while it does.
    #[must_use]
    pub fn store_trouble(self) -> Option<&'a str> {
        self.0["store_trouble"]["reason"].as_str()
    }

    fn workers(self) -> impl Iterator<Item = &'a Value> {
        self.0["workers"].as_array().into_iter().flatten()
    }

    /// Whether the worker of this name could be given work.
    #[must_use]
    pub fn is_idle(self, worker: &str) -> bool {
        self.workers()
            .any(|known| known["name"] == worker && known["state"] == "idle")
    }

    /// Seconds since the last heartbeat of the worker that has been silent for the longest time.
    #[must_use]
    pub fn longest_silence(self) -> f64 {
        let silences = self
            .workers()
            .map(|worker| &worker["since_heartbeat_seconds"]);
        silences.filter_map(Value::as_f64).fold(0.0, f64::max)
    }

    /// "finished" or "failed", once it is.
    #[must_use]
    pub fn ended(self) -> Option<&'a str> {
        let state = self.0["state"].as_str()?;
        matches!(state, "finished" | "failed").then_some(state)
    }

    /// Why runs and the evaluation failed.
    #[must_use]
    pub fn failures(self) -> Vec<String> {
        let tasks = self.runs().map(|run| run.0);
        let reasons = tasks.chain([&self.0["evaluation"]]).filter_map(|task| {
            let reason = task["reason"].as_str()?;
            Some(format!("{}: {reason}", task["name"]))
        });
        reasons.collect()
    }
}

impl<'a> RunView<'a> {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.0["name"].as_str().unwrap_or_default()
    }

    /// The worker that trains it.
    #[must_use]
    pub fn worker(self) -> Option<&'a str> {
        self.0["worker"].as_str()
    }

    /// The attempt, 0 before the first.
    #[must_use]
    pub fn attempt(self) -> u64 {
        self.0["attempt"].as_u64().unwrap_or_default()
    }

    /// Epochs committed.
    #[must_use]
    pub fn committed(self) -> u64 {
        self.0["epochs_committed"].as_u64().unwrap_or_default()
    }

    /// Whether it is trained.
    #[must_use]
    pub fn is_finished(self) -> bool {
        self.0["state"] == "finished"
    }

    /// Steps committed of the epoch after them.
    #[must_use]
    pub fn steps_committed(self) -> u64 {
        self.0["steps_committed"].as_u64().unwrap_or_default()
    }

    /// Phase, epoch and step of the worker that trains it.
    #[must_use]
    pub fn place(self) -> Option<(&'a str, u64, u64)> {
        let progress = &self.0["progress"];
        let number = |field: &str| progress[field].as_u64();
        Some((
            progress["phase"].as_str()?,
            number("epoch")?,
            number("step")?,
        ))
    }
}
