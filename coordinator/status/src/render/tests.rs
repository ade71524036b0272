//! What people see of the sample snapshots.

mod lines;
mod screens;
mod tables;
