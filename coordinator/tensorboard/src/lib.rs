//! TensorBoard's event files of an experiment, so that `tensorboard --logdir STORE/EXPERIMENT/tensorboard`
//! shows its runs while they are trained and afterwards.
//!
//! A store's objects never change, so that nothing can be appended to an event file. Each committed epoch has
//! files of its own, which follow from its manifest: whoever finds one missing can create it.
//!
//! - [`files`]: which files an experiment has, and what they say
//! - [`mod@write`]: creates files in a store, or what is missing there
//! - `hyperparameters`: what TensorBoard's HParams page shows of a run
//! - `event_file`: events and summaries, as TensorFlow writes them
//! - `record`: the framing of events in a file
//! - `proto`: TensorBoard's messages

mod event_file;
pub mod files;
mod hyperparameters;
mod proto;
mod record;
#[cfg(test)]
mod tests;
pub mod write;

pub use files::{EventFiles, File};
pub use write::{write, write_missing};
