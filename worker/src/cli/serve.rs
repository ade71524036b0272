//! `worker` without a subcommand: a worker of a fleet.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quartet_agent::executor::UnsupportedPrecision;
use quartet_agent::{Departure, Refused, Settings};
use quartet_engine::compute::Compute;
use quartet_identity::{KeyError, Role};
use quartet_shared::human;
use quartet_shared::label;
use quartet_shared::secret::Secret;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::telemetry::LogTap;

use super::args::{DeviceArgs, ServeArgs};
use super::{USAGE, fail, select, several};
use crate::device::TrainingDevice;
use crate::on_device::OnDevice;

/// How long a worker whose parent is gone may take to hand its task back: there is hardly anyone left to take
/// it.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

pub(super) fn run(args: ServeArgs, device: &DeviceArgs, log: LogTap) -> ExitCode {
    if let [_, _, ..] = device.gpu[..] {
        return match device.distinct_gpus() {
            Ok(gpus) => several::run(gpus, args.name.as_deref(), args.exit_with_parent),
            Err(error) => fail(&error, USAGE),
        };
    }
    let gpu = device.gpu.first().copied();
    let device = match select(device) {
        Ok(device) => device,
        Err(error) => return fail(&error, USAGE),
    };
    match work(args, gpu, device, log) {
        Ok(Departure::Dismissed(reason)) => {
            tracing::info!(%reason, "dismissed by the coordinator");
            ExitCode::SUCCESS
        }
        Ok(Departure::Drained) => ExitCode::SUCCESS,
        Ok(Departure::NoneCame(within)) => {
            tracing::info!(
                "no other experiment came within {}",
                human::duration(within)
            );
            ExitCode::SUCCESS
        }
        // Starting it again would not help.
        Err(error)
            if error.is::<UnsupportedPrecision>()
                || error.is::<KeyError>()
                || error.is::<Refused>() =>
        {
            fail(&error, USAGE)
        }
        Err(error) => fail(&error, 1),
    }
}

fn work(
    args: ServeArgs,
    gpu: Option<usize>,
    device: TrainingDevice,
    log: LogTap,
) -> anyhow::Result<Departure> {
    let compute = Compute::from(&device.device)
        .with_graphs(args.cuda_graphs)
        .with_device_data_limit(args.device_data_limit);
    let settings = Settings {
        coordinators: args.coordinator,
        name: args.name.unwrap_or_else(|| label::of(&default_name(gpu))),
        cache_dir: args.cache_dir.map_or_else(default_cache_dir, Ok)?,
        give_up_after: args.give_up_after,
        stay: args.stay,
        drain_grace: args.drain_grace,
        connector: args.keys.connector(&[Role::Worker], "a worker")?,
        id: args.id,
        seed: rand::random(),
        secret: Secret::new(rand::random()),
        log: Some(log),
    };
    // The network needs little; the cores are for training.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        if args.exit_with_parent {
            exit_with_parent(shutdown.clone());
        }
        let executor = Arc::new(OnDevice::new(device, gpu, compute));
        quartet_agent::run(settings, executor, shutdown).await
    });
    // A step that is still computing must not hold the exit up.
    runtime.shutdown_background();
    ended
}

/// Shuts down as soon as the parent closes its end of our standard input, which it also does by dying.
pub(super) fn exit_with_parent(shutdown: Shutdown) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        shutdown.trigger();
        std::thread::sleep(ORPHAN_GRACE);
        tracing::warn!("the task could not be handed back in time");
        std::process::exit(1);
    });
}

fn default_name(gpu: Option<usize>) -> String {
    let host = quartet_shared::host::name();
    match gpu {
        Some(gpu) => format!("gpu-{gpu}@{host}"),
        None => format!("cpu@{host}"),
    }
}

fn default_cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .ok_or_else(|| {
            anyhow::anyhow!("no home directory is known; name a folder with --cache-dir")
        })?;
    Ok(base.join("quartet"))
}
