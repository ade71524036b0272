//! The parts of TensorBoard's messages that are written here. Names and field numbers are the originals'.

pub(crate) mod event;
pub(crate) mod hparams;
