//! What a worker computes with burn.
//!
//! - [`models`]: the four backbones and the head
//! - [`input`]: from packed pixels to batches on the device; `batches`: those of an evaluation
//! - [`adam`]: the optimizer
//! - `metrics`: loss and accuracy; `progress`: what training and evaluation report
//! - [`checkpoint`]: checkpoint files
//! - [`weights`]: published weights; [`onnx`]: whole networks for other programs
//! - [`train`]: the training loop
//! - [`evaluate`]: the ensemble
//! - [`compute`]: where a task is computed; `repeat`: what a GPU records and replays
//! - [`devices`]: the CPU on every compiled backend, for tests
//! - [`predict`]: trained networks on images

pub mod adam;
mod batches;
pub mod checkpoint;
pub mod compute;
pub mod devices;
pub mod evaluate;
pub mod input;
pub mod memory;
mod metrics;
pub mod models;
pub mod onnx;
pub mod predict;
mod progress;
mod repeat;
pub mod train;
pub mod weights;
