//! A row of the table.

use serde::{Deserialize, Serialize};

use crate::Setting;

/// What a process prints.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) setting: Setting,
    /// What computed, for people.
    pub(crate) device: String,
    pub(crate) seconds_per_step: f64,
    pub(crate) images_per_second: f64,
    /// Seconds for input pipeline, forward, backward, optimizer, where they were timed.
    pub(crate) parts: Option<[f64; 4]>,
    pub(crate) loss: f64,
    /// Most memory of the process; `None` where `/proc` does not tell.
    pub(crate) peak_bytes: Option<u64>,
    /// By how much more of the GPU's memory is taken than before; `None` where no GPU can be asked.
    pub(crate) gpu_bytes: Option<u64>,
    /// The most that its tensors took of it.
    pub(crate) gpu_peak_bytes: Option<u64>,
    /// Whether steps were recorded and replayed.
    pub(crate) recorded: bool,
}

impl Row {
    /// The line above those of the table.
    pub(crate) fn header() -> String {
        format!(
            "{:<20} {:>5} {:>6} {:>9} {:>6} {:<18} {:>8} {:>8} {:>27} {:>11} {:>10} {:>8}",
            "backbone",
            "size",
            "batch",
            "precision",
            "graphs",
            "device",
            "s/step",
            "images/s",
            "input/forward/backward/Adam",
            "peak memory",
            "on the GPU",
            "loss"
        )
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let Setting {
            backbone,
            size,
            batch,
            precision,
            ..
        } = self.setting;
        let graphs = if self.recorded { "replay" } else { "-" };
        let gibibytes = |bytes: u64| format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30));
        let memory = self.peak_bytes.map_or("?".to_owned(), gibibytes);
        let on_gpu = self.gpu_peak_bytes.map_or("-".to_owned(), gibibytes);
        let parts = self.parts.map_or("-".to_owned(), |parts| {
            parts.map(|part| format!("{part:.3}")).join(" ")
        });
        format!(
            "{backbone:<20} {size:>5} {batch:>6} {:>9} {graphs:>6} {:<18} {:>8.3} {:>8.2} \
             {parts:>27} {memory:>11} {on_gpu:>10} {:>8.4}",
            precision.as_str(),
            self.device,
            self.seconds_per_step,
            self.images_per_second,
            self.loss
        )
    }
}

/// The most memory that this process has ever had (`VmHWM`).
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
