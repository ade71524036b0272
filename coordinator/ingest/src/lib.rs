//! What a coordinator takes in before it trains.
//!
//! - [`data`]: CSV files, folders of images and synthetic faces, packed
//! - [`weights`]: the runs' initial weights, from files and the Hugging Face hub

pub mod data;
pub mod weights;
