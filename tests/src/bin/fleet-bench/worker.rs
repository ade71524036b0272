//! A worker whose training is made of hashes and of sleep. It says each step on its standard output.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use quartet_agent::executor::{
    EvaluateTask, Evaluated, Executor, ExecutorError, TrainTask, Trained, UnsupportedPrecision,
};
use quartet_agent::{Link, Settings};
use quartet_identity::{KeyChoice, Role};
use quartet_shared::address::Address;
use quartet_shared::secret::Secret;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::spec::Precision;
use quartet_tests::simulation::executor::HashingExecutor;

/// What a worker is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(long)]
    coordinator: Address,
    #[arg(long)]
    cache_dir: PathBuf,
    /// Milliseconds of a step; an epoch has four.
    #[arg(long)]
    step_ms: u64,
    /// Bytes of the weights.
    #[arg(long)]
    bytes: usize,
    #[command(flatten)]
    keys: KeyChoice,
}

/// Says when it begins a task.
#[derive(Debug)]
struct Outspoken(HashingExecutor);

impl Executor for Outspoken {
    fn description(&self) -> String {
        self.0.description()
    }

    fn check_precision(&self, precision: Precision) -> Result<(), UnsupportedPrecision> {
        self.0.check_precision(precision)
    }

    fn train(&self, task: TrainTask, link: Link) -> BoxFuture<'_, Result<Trained, ExecutorError>> {
        let _ = writeln!(io::stdout(), "{}", task.run.name);
        self.0.train(task, link)
    }

    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ExecutorError>> {
        self.0.evaluate(task, link)
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let seed = rand::random();
    let settings = Settings {
        log: None,
        secret: Secret::new(rand::random()),
        coordinators: vec![args.coordinator],
        name: format!("bench-{}", std::process::id()),
        cache_dir: args.cache_dir,
        give_up_after: Duration::from_secs(60),
        stay: false,
        drain_grace: Duration::from_secs(30),
        connector: args.keys.connector(&[Role::Worker], "a worker")?,
        id: None,
        seed,
    };
    let executor = Outspoken(HashingExecutor::new(
        Duration::from_millis(args.step_ms),
        args.bytes,
        seed,
    ));
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        quartet_agent::run(settings, Arc::new(executor), shutdown).await
    })?;
    Ok(())
}
