//! Quartet's coordinator.
//!
//! - [`scheduler`]: who trains what; pure, without clock or network
//! - [`server`]: the shell around it, and the gRPC services
//! - [`experiment`]: an experiment as the store has it
//! - [`queue`]: the experiments that are to be trained one after the other, as the store has them
//! - [`leadership`]: which coordinator leads an experiment, or the queue
//! - [`listener`]: the connections that it takes
//! - [`local`]: worker processes on this machine
//! - [`cli`]: the `coordinator` program

pub mod cli;
pub mod experiment;
pub mod leadership;
pub mod listener;
pub mod local;
pub mod queue;
pub mod scheduler;
pub mod server;
