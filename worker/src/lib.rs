//! Quartet's worker.
//!
//! - [`agent`]: the side that talks to the coordinator
//! - [`device`]: backends and devices, chosen at run time
//! - [`models`]: the four backbones and the head
//! - [`checkpoint`]: checkpoint files
//! - [`input`]: from packed pixels to batches on the device
//! - [`train`]: the training loop, Adam, checkpoints
//! - [`weights`]: published weights
//! - [`evaluate`]: the ensemble
//! - [`predict`]: a trained experiment on images
//! - [`cli`]: the `worker` program

pub mod agent;
pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod evaluate;
pub mod input;
pub mod models;
pub mod predict;
pub mod train;
pub mod weights;
