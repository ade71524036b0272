//! `bench step`: time and memory of real training steps, one backbone per process.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use quartet_shared::spec::{Backbone, Preset};
use quartet_worker::device::{self, BackendChoice};
use quartet_worker::train::bench::{StepCost, measure};
use serde::{Deserialize, Serialize};

/// Measures what training costs on this machine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Runs training steps (input, forward, backward, Adam) of each backbone in a process of its own.
    Step(Step),
    /// Measures how many training images a second the input pipeline makes.
    Input(Input),
    /// Measures one backbone in this process and prints JSON.
    #[command(hide = true)]
    Child(Step),
}

#[derive(Args, Clone)]
struct Compute {
    /// Backend.
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// GPU, from 0; without it the CPU computes.
    #[arg(long)]
    gpu: Option<usize>,
    /// CPU threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Args, Clone)]
struct Step {
    /// Experiment that the settings come from.
    #[arg(long, default_value_t = Preset::Fer2013)]
    preset: Preset,
    /// Only these backbones.
    #[arg(long, num_args = 1..)]
    backbone: Vec<Backbone>,
    /// Images per step instead of the preset's.
    #[arg(long)]
    batch: Option<u32>,
    /// Image size in pixels instead of the preset's.
    #[arg(long)]
    size: Option<u32>,
    /// Channel multiplier instead of the preset's.
    #[arg(long)]
    width: Option<f64>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 1)]
    steps: u32,
    /// Steps before those, which are not timed.
    #[arg(long, default_value_t = 0)]
    warm_up: u32,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Args, Clone)]
struct Input {
    /// Image sizes in pixels.
    #[arg(long, num_args = 1.., default_values_t = [75, 200])]
    size: Vec<u32>,
    /// Images per batch.
    #[arg(long, default_value_t = 32)]
    batch: u32,
    /// Batches that are timed.
    #[arg(long, default_value_t = 20)]
    batches: u32,
    #[command(flatten)]
    compute: Compute,
}

/// What a child prints.
#[derive(Serialize, Deserialize)]
struct Row {
    size: u32,
    batch: u32,
    seconds_per_step: f64,
    loss: f64,
    /// `None` where `/proc` does not tell.
    peak_bytes: Option<u64>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Cmd::Step(step) => table(&step),
        Cmd::Input(input) => input_speed(&input),
        Cmd::Child(step) => {
            println!("{}", serde_json::to_string(&child(&step)?)?);
            Ok(())
        }
    }
}

/// One child per backbone, so that each has its own peak of memory; a child that is killed for memory is a row too.
fn table(step: &Step) -> Result<()> {
    let all: Vec<Backbone> = step
        .preset
        .spec()
        .runs
        .iter()
        .map(|run| run.backbone)
        .collect();
    let backbones = if step.backbone.is_empty() {
        all
    } else {
        step.backbone.clone()
    };
    println!(
        "{:<20} {:>5} {:>6} {:>10} {:>9} {:>12} {:>8}",
        "backbone", "size", "batch", "s/step", "images/s", "peak memory", "loss"
    );
    // The rest of the arguments is passed on as it was given.
    let given: Vec<String> = std::env::args().skip(2).collect();
    let mut failed = 0;
    for backbone in backbones {
        let mut arguments = vec!["child".to_owned()];
        arguments.extend(without_backbones(&given));
        arguments.extend(["--backbone".to_owned(), backbone.to_string()]);
        let output = Command::new(std::env::current_exe()?)
            .args(&arguments)
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start a process for the backbone")?;
        if !output.status.success() {
            println!("{backbone:<20} failed: {}", output.status);
            failed += 1;
            continue;
        }
        let row: Row =
            serde_json::from_slice(&output.stdout).context("the child's output is not a result")?;
        let memory = row.peak_bytes.map_or("?".to_owned(), |b| {
            format!("{:.2} GiB", b as f64 / f64::from(1 << 30))
        });
        println!(
            "{:<20} {:>5} {:>6} {:>10.3} {:>9.2} {:>12} {:>8.4}",
            backbone,
            row.size,
            row.batch,
            row.seconds_per_step,
            f64::from(row.batch) / row.seconds_per_step,
            memory,
            row.loss
        );
    }
    if failed > 0 {
        bail!("{failed} backbones could not be measured")
    } else {
        Ok(())
    }
}

/// The arguments but for `--backbone` and its values.
fn without_backbones(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut skipping = false;
    for argument in arguments {
        if argument.starts_with("--") {
            skipping = argument == "--backbone" || argument.starts_with("--backbone=");
        }
        if !skipping {
            kept.push(argument.clone());
        }
    }
    kept
}

fn child(step: &Step) -> Result<Row> {
    let mut experiment = step.preset.spec();
    let backbone = *step.backbone.first().context("no backbone")?;
    let found = experiment
        .runs
        .iter()
        .position(|run| run.backbone == backbone)
        .unwrap_or(0);
    let mut run = experiment.runs.swap_remove(found);
    run.backbone = backbone;
    run.image_size = step.size.unwrap_or(run.image_size);
    run.width = step.width.unwrap_or(run.width);
    experiment.batch_size = step.batch.unwrap_or(experiment.batch_size);
    let Compute {
        backend,
        gpu,
        threads,
    } = step.compute.clone();
    let device = device::select(backend, gpu, threads)?.device;
    let (size, batch) = (run.image_size, experiment.batch_size);
    let StepCost {
        seconds_per_step,
        loss,
    } = measure(experiment, run, device, step.warm_up, step.steps.max(1))?;
    Ok(Row {
        size,
        batch,
        seconds_per_step,
        loss,
        peak_bytes: peak_bytes(),
    })
}

fn input_speed(input: &Input) -> Result<()> {
    let Compute {
        backend,
        gpu,
        threads,
    } = input.compute.clone();
    let device = device::select(backend, gpu, threads)?;
    println!("{}", device.description);
    println!("{:>5} {:>6} {:>9}", "size", "batch", "images/s");
    for &size in &input.size {
        let speed = quartet_worker::train::bench::input_speed(
            size,
            input.batch,
            input.batches,
            &device.device,
        );
        println!("{size:>5} {:>6} {speed:>9.0}", input.batch);
    }
    Ok(())
}

/// The most memory that this process has ever had (`VmHWM`).
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
