//! What a coordinator takes in before it trains.
//!
//! - [`args`]: the command-line arguments that say what that is
//! - [`data`]: CSV files, folders of images and synthetic faces, packed
//! - [`weights`]: the runs' initial weights, from files and the Hugging Face hub

pub mod args;
pub mod data;
pub mod weights;
