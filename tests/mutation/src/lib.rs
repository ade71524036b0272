//! Damages valid input by the thousand and sees that its reader survives all of it: it gives a value or an
//! error, but does not panic, hang, or take memory without bound.
//!
//! - [`Mutator`]: a numbered, reproducible sequence of damaged copies of valid inputs
//! - [`survives`]: gives them to a reader, in a process of its own with limited memory
//!
//! A test calls [`survives`] with valid inputs and the reader. It reads for two seconds, or
//! `QUARTET_MUTATION_SECONDS`. A case that fails is named `format:number`;
//! `QUARTET_MUTATION_SEED=format:number` plays it alone again and keeps its bytes.

mod harness;
mod mutator;
mod numbers;
mod process;

pub use harness::{Format, survives};
pub use mutator::{Kind, Mutator};
