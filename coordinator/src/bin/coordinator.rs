//! `coordinator`: trains an experiment on a fleet of workers.

use std::process::ExitCode;

use clap::Parser;
use quartet_coordinator::cli::{self, Args};

/// glibc keeps what many connections and messages took, for each thread; jemalloc gives it back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run(Args::parse())
}
