//! The networks: four backbones and the notebook's head, equal to Keras' in structure.
//!
//! - [`NetworkConfig`], [`Network`]: a backbone and the head
//! - [`Variant`]: whose implementation of a backbone
//! - `vgg16`, `resnet50`, `inception_v3`, `inception_resnet_v2`: the backbones, one file each
//! - [`DropoutMasks`] and the head: `head`
//! - `blocks`: layers that the Inception families share
//! - `interpreter`: the operations that forward passes are written in; `ops`: how they are computed
//! - `init`: initial weights from a seed
//! - [`parameters`]: parameters by name
//! - [`check_precision`]: which precisions a device computes in
//! - [`parameter_count`]: Keras' `count_params()`
//!
//! Images are `[batch, 3, height, width]`, in whatever range the caller trains with.

mod blocks;
mod config;
mod head;
mod inception_resnet_v2;
mod inception_v3;
mod init;
pub(crate) mod interpreter;
mod network;
mod ops;
mod parameter_count;
pub mod parameters;
pub(crate) mod precision;
mod resnet50;
mod vgg16;

#[cfg(test)]
mod tests;

pub use config::NetworkConfig;
pub use head::DropoutMasks;
pub(crate) use head::HostMasks;
pub use network::Network;
pub use parameter_count::{ParameterCount, parameter_count};
pub use precision::check_precision;
pub use quartet_shared::spec::Variant;
