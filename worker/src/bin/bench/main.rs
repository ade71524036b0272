//! `bench step`: time and memory of real training steps, one combination of settings per process.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

mod row;

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use quartet_engine::compute::Compute as Placement;
use quartet_engine::train::bench::{StepCost, Work, measure, measure_inference};
use quartet_shared::spec::{Backbone, Precision, Preset, RunSpec};
use quartet_worker::device::{self, BackendChoice};
use quartet_worker::{gpu_monitor, threads};
use serde::{Deserialize, Serialize};

use self::row::{Row, peak_bytes};

/// Measures what training costs on this machine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Runs training steps (input, forward, backward, Adam) with every combination of the settings, each in a
    /// process of its own.
    Step(Step),
    /// Measures how many training images a second the input pipeline makes.
    Input(Input),
}

#[derive(Args, Clone)]
struct Step {
    /// Experiment that the settings come from.
    #[arg(long, default_value_t = Preset::Fer2013)]
    preset: Preset,
    /// Only these backbones.
    #[arg(long, num_args = 1..)]
    backbone: Vec<Backbone>,
    /// Image sizes in pixels instead of the preset's.
    #[arg(long, num_args = 1..)]
    size: Vec<u32>,
    /// Images per step instead of the preset's.
    #[arg(long, num_args = 1..)]
    batch: Vec<u32>,
    /// Precisions instead of the preset's: f32, tf32, bf16.
    #[arg(long, num_args = 1..)]
    precision: Vec<Precision>,
    /// Backends.
    #[arg(long, value_enum, num_args = 1.., default_values_t = [BackendChoice::Auto])]
    backend: Vec<BackendChoice>,
    /// Channel multiplier instead of the preset's.
    #[arg(long)]
    width: Option<f64>,
    /// Steps that are timed, ten at a time, after which the host waits for the device; the table has the
    /// median.
    #[arg(long, default_value_t = 1)]
    steps: u32,
    /// Steps before those, which are not timed.
    #[arg(long, default_value_t = 0)]
    warm_up: u32,
    /// Whether a GPU records its steps as CUDA graphs and replays them, or is told each operation: both to
    /// compare.
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',', default_values_t = [Graphs::On])]
    graphs: Vec<Graphs>,
    /// Times the parts of a step, too: the host waits for the device after each.
    #[arg(long)]
    parts: bool,
    /// Classifies, as a validation does, instead of training.
    #[arg(long)]
    inference: bool,
    /// Prints one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Measures in this process: for a single combination.
    #[arg(long, hide = true)]
    here: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Whether steps are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Graphs {
    /// Where that can be had.
    On,
    /// Never.
    Off,
}

#[derive(Args, Clone)]
struct Compute {
    /// GPU, from 0; without it the CPU computes.
    #[arg(long)]
    gpu: Option<usize>,
    /// CPU threads; all cores by default, 2 beside a GPU.
    #[arg(long)]
    threads: Option<usize>,
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
    /// Backend.
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    #[command(flatten)]
    compute: Compute,
}

/// What is measured in one process.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Setting {
    backbone: Backbone,
    size: u32,
    batch: u32,
    precision: Precision,
    /// Matters on GPUs alone.
    graphs: Graphs,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    quartet_shared::telemetry::init("warn")?;
    match cli.command {
        Cmd::Step(step) if step.here => {
            let setting = step.settings().remove(0);
            println!("{}", serde_json::to_string(&step.measure(setting)?)?);
            Ok(())
        }
        Cmd::Step(step) => step.table(),
        Cmd::Input(input) => input_speed(&input),
    }
}

impl Step {
    /// All combinations but for the backends.
    fn settings(&self) -> Vec<Setting> {
        let experiment = self.preset.spec();
        let or = |given: &[u32], otherwise: u32| match given {
            [] => vec![otherwise],
            given => given.to_vec(),
        };
        let batches = or(&self.batch, experiment.batch_size);
        let precisions = match &self.precision[..] {
            [] => vec![experiment.precision],
            given => given.to_vec(),
        };
        let backbones = match &self.backbone[..] {
            [] => experiment.runs.iter().map(|run| run.backbone).collect(),
            given => given.to_vec(),
        };
        let mut settings = Vec::new();
        for backbone in backbones {
            for size in or(&self.size, self.run(backbone).image_size) {
                for &batch in &batches {
                    for &precision in &precisions {
                        settings.extend(self.graphs.iter().map(|&graphs| Setting {
                            backbone,
                            size,
                            batch,
                            precision,
                            graphs,
                        }));
                    }
                }
            }
        }
        settings
    }

    /// The preset's run of this backbone, or its first with this backbone instead.
    fn run(&self, backbone: Backbone) -> RunSpec {
        let mut runs = self.preset.spec().runs;
        let found = runs.iter().position(|run| run.backbone == backbone);
        let run = runs.swap_remove(found.unwrap_or(0));
        RunSpec { backbone, ..run }
    }

    /// One process for each combination, so that each has its own peak of memory; one that is killed for
    /// memory is a row, too.
    fn table(&self) -> Result<()> {
        if !self.json {
            println!("{}", Row::header());
        }
        let mut failed = 0;
        for setting in self.settings() {
            for backend in &self.backend {
                match self.child(setting, *backend)? {
                    Ok(row) if self.json => println!("{}", serde_json::to_string(&row)?),
                    Ok(row) => println!("{}", row.line()),
                    Err(reason) => {
                        failed += 1;
                        println!("{} failed: {reason}", setting.backbone);
                    }
                }
            }
        }
        if failed > 0 {
            bail!("{failed} combinations could not be measured")
        }
        Ok(())
    }

    fn child(&self, setting: Setting, backend: BackendChoice) -> Result<Result<Row, String>> {
        let backend = backend.to_possible_value().context("no such backend")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["step", "--here", "--backend", backend.get_name()]);
        let mut option = |name: &str, value: String| {
            command.arg(name).arg(value);
        };
        option("--preset", self.preset.to_string());
        option("--backbone", setting.backbone.to_string());
        option("--size", setting.size.to_string());
        option("--batch", setting.batch.to_string());
        option("--precision", setting.precision.as_str().to_owned());
        option("--steps", self.steps.to_string());
        option("--warm-up", self.warm_up.to_string());
        option("--graphs", setting.graphs.to_string());
        let optional = [
            ("--width", self.width.map(|width| width.to_string())),
            ("--gpu", self.compute.gpu.map(|gpu| gpu.to_string())),
            ("--threads", self.compute.threads.map(|n| n.to_string())),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                option(name, value);
            }
        }
        for (name, wanted) in [("--inference", self.inference), ("--parts", self.parts)] {
            if wanted {
                command.arg(name);
            }
        }
        let output = command
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start a process for the measurement")?;
        if !output.status.success() {
            return Ok(Err(output.status.to_string()));
        }
        let row = serde_json::from_slice(&output.stdout);
        Ok(Ok(row.context("the process's output is not a result")?))
    }

    fn measure(&self, setting: Setting) -> Result<Row> {
        let mut experiment = self.preset.spec();
        let mut run = self.run(setting.backbone);
        run.image_size = setting.size;
        run.width = self.width.unwrap_or(run.width);
        experiment.batch_size = setting.batch;
        experiment.precision = setting.precision;
        let gpu_bytes = || gpu_monitor::memory_used(self.compute.gpu?);
        let device = select(self.backend[0], &self.compute)?;
        let before = gpu_bytes();
        let work = Work {
            experiment,
            run,
            warm_up: self.warm_up,
            steps: self.steps.max(1),
            parts: self.parts,
        };
        let graphs = setting.graphs == Graphs::On;
        let placement = Placement::from(&device.device).with_graphs(graphs);
        let cost = match self.inference {
            true => measure_inference(work, &placement)?,
            false => measure(work, &placement)?,
        };
        let StepCost {
            total,
            parts,
            loss,
            gpu_bytes: gpu_peak_bytes,
            recorded,
        } = cost;
        Ok(Row {
            setting,
            device: device.description,
            seconds_per_step: total,
            images_per_second: f64::from(setting.batch) / total,
            parts,
            loss,
            gpu_peak_bytes,
            recorded,
            peak_bytes: peak_bytes(),
            // What a training took stays with the process.
            gpu_bytes: gpu_bytes()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before)),
        })
    }
}

impl std::fmt::Display for Graphs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

fn select(backend: BackendChoice, compute: &Compute) -> Result<device::TrainingDevice> {
    let Compute { gpu, threads: n } = *compute;
    threads::set(backend, gpu, n)?;
    Ok(device::select(backend, gpu, n)?)
}

fn input_speed(input: &Input) -> Result<()> {
    let device = select(input.backend, &input.compute)?;
    println!("{}", device.description);
    println!("{:>5} {:>6} {:>9}", "size", "batch", "images/s");
    for &size in &input.size {
        let speed = quartet_engine::train::bench::input_speed(
            size,
            input.batch,
            input.batches,
            &device.device,
        );
        println!("{size:>5} {:>6} {speed:>9.0}", input.batch);
    }
    Ok(())
}
