//! `worker export`.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use futures::future::try_join_all;
use quartet_engine::checkpoint::load_network;
use quartet_engine::models::Network;
use quartet_engine::onnx::{Member, export_onnx};
use quartet_engine::weights::{Exported, export_keras, export_timm, export_torch};
use quartet_shared::dataset::Channels;
use tokio::runtime;

use super::args::{ExportArgs, ExportFormat};
use super::shown;
use crate::device::{self, BackendChoice};
use crate::trained::{TrainedExperiment, TrainedRun};

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let out = shown(&args.out);
    let folder = args
        .out
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(Path::is_dir),
        "cannot write {out}: its folder does not exist"
    );
    ensure!(
        args.out.symlink_metadata().is_err(),
        "{out} is there already: remove it, or choose another name"
    );
    let device = device::select(BackendChoice::Auto, None, None)?.device;
    match args.format {
        ExportFormat::Timm => timm(&one(args, &device)?, &args.out),
        ExportFormat::Torch => torch(&one(args, &device)?, &args.out),
        ExportFormat::Keras => keras(&one(args, &device)?, &args.out),
        ExportFormat::Onnx => onnx(args, &device),
    }
}

fn timm(network: &Network, out: &Path) -> anyhow::Result<()> {
    let exported = export_timm(network, out)?;
    let name = network.config().backbone;
    say(&format!(
        "wrote {}: the backbone of {name} for timm's forward_features; the classifier is not in it",
        shown(out)
    ));
    if exported == Exported::OtherBorders {
        say(&format!(
            "warning: timm's {name} counts the padding in its means, this network does not: \
             there its features are others, \
             the more so the smaller the image"
        ));
    }
    Ok(())
}

fn torch(network: &Network, out: &Path) -> anyhow::Result<()> {
    export_torch(network, out)?;
    let name = network.config().backbone;
    say(&format!(
        "wrote {}: the whole network on {name}, which load() of docs/torch_network.py takes",
        shown(out)
    ));
    Ok(())
}

fn keras(network: &Network, out: &Path) -> anyhow::Result<()> {
    let (file, name) = (shown(out), network.config().backbone);
    ensure!(
        file.ends_with(".weights.h5"),
        "{file}: Keras takes weights from files that are named *.weights.h5"
    );
    let exported = export_keras(network, out)?;
    say(&format!(
        "wrote {file}: the whole network on {name}, for load_weights of the same model in Keras 3"
    ));
    if exported == Exported::OtherBorders {
        say(&format!(
            "warning: this {name} counts the padding in its means, Keras' does not: there its \
             probabilities are others"
        ));
    }
    Ok(())
}

fn onnx(args: &ExportArgs, device: &Device) -> anyhow::Result<()> {
    let Some(location) = &args.experiment else {
        bail!(
            "--format onnx needs --experiment STORE/NAME, and --run for one run of it: \
             the size of its images is part of the file"
        );
    };
    let (experiment, trained) = trained(args, location)?;
    let index = block_on(async { Ok(experiment.dataset().await?) })?;
    let members = load(&experiment, &trained, device)?;
    let out = shown(&args.out);
    export_onnx(&members, index.shape(), &args.out)
        .with_context(|| format!("cannot write {out}"))?;
    let what = match &trained[..] {
        [only] => format!("run {}", only.run.name),
        all => format!("the ensemble of {} runs", all.len()),
    };
    let [height, width] = [index.height, index.width];
    let colours = match index.channels {
        Channels::Gray => "",
        Channels::Rgb => ", 3",
    };
    say(&format!(
        "wrote {out}: {what}; images, u8 [batch, {height}, {width}{colours}], to probabilities, f32 \
         [batch, {}]",
        index.classes.len()
    ));
    Ok(())
}

/// The one network to write.
fn one(args: &ExportArgs, device: &Device) -> anyhow::Result<Network> {
    match (&args.weights, &args.experiment) {
        (Some(path), _) => checkpoint(path, device),
        (None, Some(location)) => {
            ensure!(
                args.run.is_some(),
                "--experiment needs --run NAME: only onnx takes a whole ensemble"
            );
            let (experiment, trained) = trained(args, location)?;
            let members = load(&experiment, &trained, device)?;
            let member = members.into_iter().next();
            Ok(member.context("the run has no checkpoint")?.network)
        }
        (None, None) => {
            bail!("export needs --weights FILE, or --experiment STORE/NAME and --run NAME")
        }
    }
}

/// The network of a file.
fn checkpoint(path: &Path, device: &Device) -> anyhow::Result<Network> {
    load_network(path, device).map_err(|error| {
        let error = anyhow::Error::from(error);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match name.strip_suffix(STATE) {
            Some(stem) => error.context(format!(
                "{} is the training state, not the weights: take {stem}{WEIGHTS} beside it",
                shown(path)
            )),
            None => error,
        }
    })
}

/// How the files of a checkpoint end.
const STATE: &str = ".state.safetensors";
const WEIGHTS: &str = ".weights.safetensors";

fn trained(
    args: &ExportArgs,
    location: &str,
) -> anyhow::Result<(TrainedExperiment, Vec<TrainedRun>)> {
    block_on(async {
        let experiment = TrainedExperiment::open(location).await?;
        let runs = experiment.runs(args.run.as_ref()).await?;
        Ok((experiment, runs))
    })
}

/// The networks of the runs.
fn load(
    experiment: &TrainedExperiment,
    trained: &[TrainedRun],
    device: &Device,
) -> anyhow::Result<Vec<Member>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    // At once: a training that goes on deletes what is no longer its best.
    let paths = trained
        .iter()
        .map(|run| experiment.fetch(run, folder.path()));
    let paths = block_on(try_join_all(paths))?;
    let members = trained.iter().zip(paths).map(|(run, path)| {
        Ok(Member {
            name: run.run.name.to_string(),
            weight: run.run.ensemble_weight,
            network: load_network(&path, device)?,
        })
    });
    members.collect()
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(future)
}

/// A line on standard error.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
