//! Quartet's worker.
//!
//! - [`agent`]: the side that talks to the coordinator
//! - [`device`]: backends and devices, chosen at run time
//! - [`models`]: the four backbones and the head
//! - [`checkpoint`]: checkpoint files
//! - [`input`]: from packed pixels to batches on the device
//! - [`train`]: the training loop, Adam, checkpoints
//! - [`evaluate`]: the ensemble

pub mod agent;
pub mod checkpoint;
pub mod device;
pub mod evaluate;
pub mod input;
pub mod models;
pub mod train;
