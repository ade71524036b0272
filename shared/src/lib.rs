//! The words that Quartet's coordinator and its workers share. No server, no tensors.
//!
//! - [`ids`]: names and numbers of experiments, runs, workers, attempts
//! - [`spec`]: what an experiment trains, its TOML form and its presets
//! - [`task`]: tasks and leases
//! - [`state`]: the states of experiments, tasks and workers
//! - [`progress`], [`checkpoint`], [`report`]: what comes back
//! - [`early_stopping`]: which epoch is best and when to stop
//! - [`address`], [`connector`]: where coordinators are, and how they are reached
//! - [`layout`]: the keys of the object store
//! - [`store`]: the object store, for those who hold its credentials
//! - [`blocking`], [`chunks`]: work and files that must not hold up the asynchronous threads
//! - [`dataset`], [`picture`]: the packed data set, and image files on their way to it
//! - [`wire`]: conversions from and to the messages of `quartet-proto`
//! - [`human`], [`host`], [`clock`], [`telemetry`], [`shutdown`]: durations and sizes for people, names, times, logs, signals

pub mod address;
pub mod blocking;
pub mod checkpoint;
pub mod chunks;
pub mod clock;
pub mod connector;
pub mod dataset;
pub mod early_stopping;
pub mod host;
pub mod human;
pub mod ids;
pub mod layout;
pub mod picture;
pub mod progress;
pub mod report;
pub mod shutdown;
pub mod spec;
pub mod state;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod wire;
