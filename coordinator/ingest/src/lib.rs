//! What a coordinator takes in before it trains.
//!
//! - [`args`]: the command-line arguments that say what that is
//! - [`data`]: CSV files, folders of images and synthetic faces, packed
//! - [`fingerprint`]: whether those are as they were
//! - [`packed`]: those on their way into a store
//! - [`weights`]: the runs' initial weights, from files, the Hugging Face hub and other runs

pub mod args;
pub mod data;
mod fingerprint;
pub mod packed;
pub mod weights;

pub use fingerprint::fingerprint;
