//! How GPUs do.

use serde::{Deserialize, Serialize};

/// How a GPU does, as its driver says. Other programs that use it count, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuUse {
    /// Percent of the time in which it computed something, lately, where that is known.
    pub busy_percent: Option<u32>,
    /// Bytes of its memory that are taken.
    pub memory_used: u64,
    /// Bytes of its memory.
    pub memory_total: u64,
    /// In degrees Celsius, where it has a thermometer.
    pub temperature: Option<u32>,
}
