//! The arguments of `worker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use quartet_identity::KeyChoice;
use quartet_shared::address::Address;
use quartet_shared::dataset::Channels;
use quartet_shared::ids::{RunName, WorkerId};
use quartet_shared::label::InvalidLabel;
use quartet_shared::spec::Backbone;

use crate::device::BackendChoice;

const EXAMPLES: &str = "\
Examples:
  worker --coordinator host:50051                 train on this machine's CPU
  worker --coordinator host:50051 --gpu 0         train on the first GPU
  worker --coordinator host:50051 --gpu 0,1       two workers, one for each of two GPUs
  worker --coordinator host:50051 --threads 8     train with 8 CPU threads
  worker --coordinator host:50051 --stay          train one experiment after the other
  worker predict --experiment runs/fer2013 face.png

The worker joins, trains what it is given, and exits when the coordinator needs it no longer,
or, with --stay, when no other coordinator has come for --give-up-after.
Ctrl-C or SIGTERM hands its task back first; a second signal ends it at once.";

/// Trains and evaluates for a Quartet coordinator.
#[derive(Debug, Parser)]
#[command(name = "worker", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    #[command(flatten)]
    pub(super) serve: ServeArgs,
}

/// What to compute with.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// Compute on this GPU, counted from 0; without it on the CPU. A worker takes several, separated by
    /// commas: it starts a worker for each.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub(super) gpu: Vec<usize>,
    /// What computes: flex is pure Rust, tch is LibTorch, cuda is CubeCL.
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    pub(super) backend: BackendChoice,
    /// CPU threads to compute with [default: all; 2 beside a GPU].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: Option<u16>,
}

impl DeviceArgs {
    /// The GPU to compute on, if it is to be one.
    pub(super) fn single_gpu(&self) -> anyhow::Result<Option<usize>> {
        match self.gpu[..] {
            [] => Ok(None),
            [gpu] => Ok(Some(gpu)),
            _ => anyhow::bail!("--gpu: only a worker of a fleet takes several GPUs; name one"),
        }
    }

    /// The GPUs to compute on, each of which must be named once.
    pub(super) fn distinct_gpus(&self) -> anyhow::Result<&[usize]> {
        for (index, gpu) in self.gpu.iter().enumerate() {
            anyhow::ensure!(
                !self.gpu[..index].contains(gpu),
                "--gpu: {gpu} is named twice"
            );
        }
        Ok(&self.gpu)
    }
}

/// What a worker of a fleet needs.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Address of the coordinator, or several that it may have, separated by commas; the port is 50051 unless
    /// given.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "QUARTET_COORDINATOR",
        value_delimiter = ',',
        default_value = "127.0.0.1:50051"
    )]
    pub(super) coordinator: Vec<Address>,
    /// Folder for data sets and for checkpoints on their way [default: $XDG_CACHE_HOME/quartet or
    /// ~/.cache/quartet].
    #[arg(long, value_name = "DIR", env = "QUARTET_CACHE_DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// Name of this worker for people [default: the device and the host's name].
    #[arg(long, value_parser = label)]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) keys: KeyChoice,
    /// When the experiment has ended or its coordinator is stopped, look for the next coordinator instead of
    /// exiting. A signal to this worker, or `status drain`, still ends it.
    #[arg(long)]
    pub(super) stay: bool,
    /// Exit when no coordinator answers for this long.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(super) give_up_after: Duration,
    /// How long the run at hand may take to commit its state when this worker is told to stop.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) drain_grace: Duration,
    /// Record a GPU's training steps as CUDA graphs and replay them; off tells it each operation. Results may
    /// differ in their last digits.
    #[arg(
        long,
        value_name = "on|off",
        env = "QUARTET_CUDA_GRAPHS",
        default_value = "on",
        action = clap::ArgAction::Set,
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub(super) cuda_graphs: bool,
    /// Most bytes of pixels that a GPU keeps, such as 512MiB; larger data sets are sent to it batch by batch.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    pub(super) device_data_limit: u64,
    /// Exit when standard input ends: for a parent process that must not leave workers behind.
    #[arg(long, hide = true)]
    pub(super) exit_with_parent: bool,
    /// The worker's id: for a parent process that tells the coordinator of its end.
    #[arg(long, hide = true)]
    pub(super) id: Option<WorkerId>,
    /// Print a completion script for this shell and exit.
    #[arg(long, value_name = "SHELL")]
    pub(super) completions: Option<clap_complete::Shell>,
}

/// What else the program does, without a coordinator.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the pooled features of a backbone for images, one JSON object a line.
    ///
    /// Images become gray (luma, Rec. 709), three equal channels, unless --channels is rgb, are resized to
    /// the size with nearest neighbour, and scaled to 0..1; no mean is subtracted. The features are the means
    /// over height and width of the backbone's last feature map.
    Embed(EmbedArgs),
    /// Print the class probabilities of a trained experiment's ensemble, or of one run, for images; or score
    /// its predictions for a folder of labelled images.
    ///
    /// Images get the size of the data set's images and, like these, become gray or keep their colours; crop
    /// faces before.
    Predict(PredictArgs),
    /// Write what was trained for other programs: the backbone of a checkpoint for timm, or whole networks
    /// with their heads for PyTorch, Keras or as ONNX.
    Export(ExportArgs),
    /// Print the GPUs that this program computes on, one a line: its number and what sees it.
    Gpus,
}

/// Arguments of `embed`.
#[derive(Debug, clap::Args)]
pub(super) struct EmbedArgs {
    /// inception_resnet_v2, vgg16, resnet50, resnet50_v1_5 or inception_v3.
    #[arg(long, value_name = "NAME")]
    pub(super) backbone: Backbone,
    /// Weights: Keras' .h5, .weights.h5 or .keras, timm's or torchvision's .safetensors or .pth, or a
    /// checkpoint of ours.
    #[arg(long, value_name = "FILE")]
    pub(super) weights: PathBuf,
    /// Height and width in pixels of the network's input.
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    pub(super) size: u32,
    /// Whether images become gray or keep their colours: gray or rgb.
    #[arg(long, default_value_t = Channels::Gray)]
    pub(super) channels: Channels,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Image files: PNG, JPEG, WebP, BMP or GIF.
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<PathBuf>,
}

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// The experiment's folder, such as runs/fer2013 or s3://bucket/prefix/fer2013 (credentials from AWS_*
    /// variables).
    #[arg(long, value_name = "DIR|URL")]
    pub(super) experiment: String,
    /// Ask this run alone instead of the ensemble.
    #[arg(long, value_name = "NAME")]
    pub(super) run: Option<RunName>,
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    pub(super) json: bool,
    /// Score the predictions for a folder of labelled images, which has a folder of image files for
    /// each class, named as the class. Other files are passed over.
    #[arg(long)]
    pub(super) labels: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Image files: PNG, JPEG, WebP, BMP or GIF; with --labels one folder.
    #[arg(value_name = "IMAGE|DIR", required = true)]
    pub(super) images: Vec<PathBuf>,
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// A checkpoint of ours, such as runs/fer2013/runs/vgg16/checkpoints/0007-001.weights.safetensors.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "experiment",
        conflicts_with_all = ["experiment", "run"]
    )]
    pub(super) weights: Option<PathBuf>,
    /// The experiment's folder, such as runs/fer2013 or s3://bucket/prefix/fer2013 (credentials from AWS_*
    /// variables).
    #[arg(long, value_name = "DIR|URL")]
    pub(super) experiment: Option<String>,
    /// The run of the experiment whose best checkpoint is written; onnx without it writes the ensemble.
    #[arg(long, value_name = "NAME", requires = "experiment")]
    pub(super) run: Option<RunName>,
    /// What for.
    #[arg(long, value_enum, default_value_t = ExportFormat::Timm)]
    pub(super) format: ExportFormat,
    /// The file to write, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// What an export is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ExportFormat {
    /// The backbone as safetensors, for timm's model of the same name, to be loaded with `strict=False`.
    Timm,
    /// The whole network as safetensors, for the module in docs/torch_network.py.
    Torch,
    /// The whole network as .weights.h5, for load_weights of the same model in Keras 3.
    Keras,
    /// The whole network, or ensemble, from gray pixels to probabilities; it needs --experiment.
    Onnx,
}

fn label(text: &str) -> Result<String, InvalidLabel> {
    quartet_shared::label::check(text).map(|()| text.to_owned())
}

/// Bytes: a number with B, KiB, MiB or GiB, or without a unit.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    let found = UNITS.iter().find_map(|(unit, bytes)| {
        let number = text.strip_suffix(unit)?;
        Some((number, *bytes))
    });
    let (number, unit) = found.unwrap_or((text, 1));
    let bytes = number
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit));
    bytes.ok_or_else(|| "a whole number of bytes, KiB, MiB or GiB, such as 512MiB".to_owned())
}

pub(super) fn print_completions(shell: clap_complete::Shell) {
    clap_complete::generate(
        shell,
        &mut Args::command(),
        "worker",
        &mut std::io::stdout(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
        assert!(BackendChoice::value_variants().len() >= 4);
    }

    #[test]
    fn sizes_have_units() {
        let sizes = [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("512MiB", 512 << 20),
            ("2 GiB", 2 << 30),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "2GB", "20000000000GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cuda_graphs_can_be_turned_off() {
        let graphs = |args: &[&str]| {
            let args = Args::try_parse_from([&["worker"], args].concat());
            args.map(|args| args.serve.cuda_graphs)
        };
        assert!(graphs(&[]).unwrap());
        assert!(!graphs(&["--cuda-graphs", "off"]).unwrap());
        assert!(!graphs(&["--cuda-graphs=0"]).unwrap());
        assert!(graphs(&["--cuda-graphs", "maybe"]).is_err());
    }

    #[test]
    fn a_worker_needs_no_subcommand() {
        let args = Args::try_parse_from(["worker", "--coordinator", "a:1", "--threads", "2"]);
        let args = args.unwrap();
        assert!(args.command.is_none());
        assert_eq!(
            (
                args.serve.coordinator[0].to_string().as_str(),
                args.device.threads
            ),
            ("a:1", Some(2))
        );
        let gpus = |text: &str| {
            Args::try_parse_from(["worker", "--gpu", text])
                .unwrap()
                .device
        };
        assert_eq!(gpus("3").single_gpu().unwrap(), Some(3));
        let error = gpus("0,3").single_gpu().unwrap_err().to_string();
        assert!(
            error.contains("--gpu") && error.contains("name one"),
            "{error}"
        );
        assert_eq!(gpus("0,3").distinct_gpus().unwrap(), [0, 3]);
        let predict = ["worker", "predict", "--experiment", "a", "--labels"];
        assert!(Args::try_parse_from(predict).is_err(), "no folder");
        let export = ["worker", "export", "--out", "x"];
        for wrong in [
            &[][..],
            &["--run", "a"],
            &["--weights", "x", "--experiment", "y"],
            &["--weights", "x", "--run", "a"],
        ] {
            assert!(
                Args::try_parse_from([&export[..], wrong].concat()).is_err(),
                "{wrong:?}"
            );
        }
        let embed = ["worker", "embed", "--backbone", "vgg16", "--weights", "x"];
        assert!(Args::try_parse_from(embed).is_err(), "no image");
        let args = Args::try_parse_from([&embed[..], &["a.png"]].concat()).unwrap();
        assert!(matches!(args.command, Some(Command::Embed(args)) if args.size == 200));
    }
}
