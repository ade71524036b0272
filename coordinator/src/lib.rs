//! Quartet's coordinator.
//!
//! - [`scheduler`]: who trains what; pure, without clock or network
//! - [`server`]: the shell around it, and the gRPC services
//! - [`experiment`]: an experiment as the store has it
//! - [`listener`]: the connections that it takes
//! - [`local`]: worker processes on this machine
//! - [`cli`]: the `coordinator` program

pub mod cli;
pub mod experiment;
pub mod listener;
pub mod local;
pub mod scheduler;
pub mod server;
