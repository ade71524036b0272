//! Checkpoint files: safetensors, as Python's `safetensors` reads them too.
//!
//! - Weights: one f32 tensor per parameter and running statistic, named by its path in the network
//!   (`head.hidden1.dense.weight`), in burn's layouts (a dense kernel is `[in, out]`, a convolution's
//!   `[out, in, h, w]`). The metadata entry [`METADATA`] says what network it is.
//! - Training state: `adam.m.<name>` and `adam.v.<name>` of each trainable parameter, and the metadata entry
//!   with counters, within an epoch also the totals that its metrics will be made of. With the weights and
//!   the spec it is all that a resume needs: random numbers are functions of (seed, epoch, step).
//!
//! The same state makes the same bytes.

mod error;
mod file;
mod network;
mod state;

pub use error::CheckpointError;
pub(crate) use error::mismatch;
pub use file::METADATA;
pub use network::{load_network, save_network};
pub(crate) use network::{load_run, network_of};
pub use state::TrainingSnapshot;
pub(crate) use state::load_training_state;
