//! What a worker computes with burn.
//!
//! - [`models`]: the four backbones and the head
//! - [`weights`]: published weights
//! - [`input`]: from packed pixels to batches on the device
//! - [`train`]: the training loop and Adam
//! - [`checkpoint`]: checkpoint files
//! - [`evaluate`]: the ensemble
//! - [`devices`]: the CPU on every compiled backend, for tests
//! - [`predict`]: trained networks on images

pub mod checkpoint;
pub mod devices;
pub mod evaluate;
pub mod input;
pub mod models;
pub mod predict;
pub mod train;
pub mod weights;
