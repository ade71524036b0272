//! Quartet's coordinator.
//!
//! - [`scheduler`]: who trains what; pure, without clock or network
//! - [`server`]: the shell around it, and the gRPC services
//! - [`experiment`]: an experiment as the store has it
//! - [`local`]: worker processes on this machine
//! - [`cli`]: the `coordinator` program

pub mod cli;
pub mod experiment;
pub mod local;
pub mod scheduler;
pub mod server;
