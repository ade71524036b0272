//! Quartet's worker: joins the agent, which talks to the coordinator, and the engine, which computes.
//!
//! - [`device`]: backends and devices, chosen at run time
//! - [`threads`]: CPU threads, beside a GPU or without one
//! - [`gpu_monitor`]: what the driver says of a GPU
//! - [`on_device`]: the agent's executor: the engine on a device
//! - [`provenance`]: this program and this machine, for the record
//! - [`trained`]: a trained experiment in its store
//! - [`cli`]: the `worker` program

pub mod cli;
pub mod device;
pub mod gpu_monitor;
pub mod on_device;
pub mod provenance;
pub mod threads;
pub mod trained;
