//! `coordinator`: trains an experiment on a fleet of workers.

use std::process::ExitCode;

use clap::Parser;
use quartet_coordinator::cli::{self, Args};

fn main() -> ExitCode {
    cli::run(Args::parse())
}
