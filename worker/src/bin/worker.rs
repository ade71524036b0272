//! `worker`: trains and evaluates for a coordinator; predicts with what was trained.

use std::process::ExitCode;

use clap::Parser;
use quartet_worker::cli;

fn main() -> ExitCode {
    cli::run(cli::Args::parse())
}
