//! The words that Quartet's coordinator and its workers share. No server, no store, no tensors.
//!
//! - [`ids`]: names and numbers of experiments, runs, workers, attempts
//! - [`spec`]: what an experiment trains, its TOML form and its presets
//! - [`task`], [`assignment`]: tasks and leases, and what a worker gets with a lease
//! - [`position`], [`progress`], [`gpu`], [`outcome`], [`report`]: how far a task is, and what comes of it
//! - [`event`]: what happens to an experiment, as its history keeps it
//! - [`state`]: the states of experiments, tasks and workers
//! - [`early_stopping`]: which epoch is best and when to stop
//! - [`blob`], [`chunks`], [`blocking`]: checksums, files in chunks, and work that must not hold up
//!   asynchronous threads
//! - [`dataset`], [`picture`], [`expression`]: the packed data set, image files on their way to it, and the
//!   names of expressions
//! - [`predictions`]: what a member of the ensemble says of the evaluated images
//! - [`weights_format`]: formats of files with weights
//! - [`wire`]: conversions from and to the messages of `quartet-proto`
//! - [`provenance`]: which programs and machines results come from
//! - [`address`]: where coordinators are
//! - [`label`]: names and reasons that people see, and how long they may be
//! - [`csv`]: tables for other programs
//! - [`human`], [`host`], [`clock`], [`terminal`], [`telemetry`], [`shutdown`]: durations and sizes for
//!   people, names, times, screens, logs, signals

pub mod address;
pub mod assignment;
pub mod blob;
pub mod blocking;
pub mod chunks;
pub mod clock;
pub mod csv;
pub mod dataset;
pub mod early_stopping;
pub mod event;
pub mod expression;
pub mod gpu;
pub mod host;
pub mod human;
pub mod ids;
pub mod label;
pub mod outcome;
pub mod picture;
pub mod position;
pub mod predictions;
pub mod progress;
pub mod provenance;
pub mod report;
pub mod secret;
pub mod shutdown;
pub mod spec;
pub mod state;
pub mod task;
pub mod telemetry;
pub mod terminal;
pub mod weights_format;
pub mod wire;
