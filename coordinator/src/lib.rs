//! Quartet's coordinator and its status client.
//!
//! - [`scheduler`]: who trains what; pure, without clock or network
//! - [`server`]: the shell around it, and the gRPC services
//! - [`experiment`]: an experiment as the store has it
//! - [`data`]: CSV files, folders of images and synthetic faces, packed
//! - [`weights`]: the runs' initial weights, from files and the Hugging Face hub
//! - [`local`]: worker processes on this machine
//! - [`status`]: what people watch
//! - [`cli`]: the `coordinator` program

pub mod cli;
pub mod data;
pub mod experiment;
pub mod local;
pub mod scheduler;
pub mod server;
pub mod status;
pub mod weights;
pub use quartet_shared::store;
