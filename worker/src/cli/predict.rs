//! `worker predict`.
//!
//! - `labelled`: folders of images whose classes are known
//! - `scores`: what is printed of the predictions for them

mod labelled;
mod scores;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use burn::tensor::Device;
use quartet_engine::checkpoint::load_network;
use quartet_engine::predict::predict;
use quartet_shared::dataset::{ImageShape, Images, Index, Split};
use quartet_shared::human;
use quartet_shared::label::one_line;
use quartet_shared::report::{Prediction, SplitReport, argmax};
use serde::{Serialize, Serializer};
use tempfile::TempDir;

use self::labelled::class_folders;
use super::args::PredictArgs;
use super::{picture, print, select, shown};
use crate::trained::{TrainedExperiment, TrainedRun};

/// A line of the JSON output.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    image: String,
    class: &'a str,
    probabilities: Probabilities<'a>,
}

/// Of each class, in the order of the classes.
#[derive(Debug)]
struct Probabilities<'a>(&'a [String], &'a [f64]);

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

/// What answers: the networks of an experiment's ensemble, or that of one run.
struct Ensemble {
    runs: Vec<TrainedRun>,
    /// The file of each run's weights, in the folder.
    weights: Vec<PathBuf>,
    _folder: TempDir,
    /// Whether one run was asked for. Alone it counts, whatever its weight.
    alone: bool,
    dataset: Index,
    device: Device,
}

impl Ensemble {
    /// Finds the best checkpoints, and says on standard error which they are.
    fn open(args: &PredictArgs) -> anyhow::Result<Self> {
        let device = select(&args.device)?.device;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let (runs, weights, dataset) = runtime.block_on(async {
            let experiment = TrainedExperiment::open(&args.experiment).await?;
            let runs = experiment.runs(args.run.as_ref()).await?;
            // At once: a training that goes on deletes what is no longer its best.
            let mut weights = Vec::new();
            for run in &runs {
                weights.push(experiment.fetch(run, folder.path()).await?);
            }
            anyhow::Ok((runs, weights, experiment.dataset().await?))
        })?;
        for TrainedRun { run, best } in &runs {
            let accuracy = human::percentage(best.metrics.valid_accuracy);
            let (name, epoch) = (&run.name, best.epoch);
            note(&format!(
                "{name}: epoch {epoch}, validation accuracy {accuracy}"
            ));
        }
        Ok(Self {
            runs,
            weights,
            _folder: folder,
            alone: args.run.is_some(),
            dataset,
            device,
        })
    }

    fn classes(&self) -> &[String] {
        &self.dataset.classes
    }

    /// The shape of the data set's images.
    fn shape(&self) -> ImageShape {
        self.dataset.shape()
    }

    /// Softmax outputs of each run. One network is in memory at a time.
    fn outputs(&self, images: &Images) -> anyhow::Result<Vec<Vec<f32>>> {
        let outputs = self.runs.iter().zip(&self.weights).map(|(run, weights)| {
            let network = load_network(weights, &self.device)?;
            ensure!(
                network.config().classes == self.classes(),
                "the network of run {} has other classes than the data set",
                run.run.name
            );
            Ok(predict(&network, images, self.shape(), &self.device)?)
        });
        outputs.collect()
    }

    /// What each run says, from its outputs.
    fn predictions<'a>(&self, outputs: &'a [Vec<f32>]) -> Vec<Prediction<'a>> {
        let predictions = self.runs.iter().zip(outputs);
        predictions
            .map(|(TrainedRun { run, .. }, probabilities)| Prediction {
                run: run.name.clone(),
                weight: if self.alone { 1.0 } else { run.ensemble_weight },
                probabilities,
            })
            .collect()
    }
}

pub(super) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    print(&if args.labels {
        score(args)?
    } else {
        answer(args)?
    });
    Ok(())
}

/// The probabilities for images.
fn answer(args: &PredictArgs) -> anyhow::Result<String> {
    // Quick, so that a wrong name is told before anything is fetched.
    for path in &args.images {
        File::open(path).with_context(|| format!("cannot read {}", shown(path)))?;
    }
    let ensemble = Ensemble::open(args)?;
    let shape = ensemble.shape();
    let mut images = Images::default();
    for path in &args.images {
        let picture = picture(path, shape.channels)?.resized(shape.height, shape.width);
        images.labels.push(0);
        images.pixels.extend_from_slice(picture.pixels());
    }
    let outputs = ensemble.outputs(&images)?;
    let mean = quartet_shared::report::ensemble(&ensemble.predictions(&outputs));
    let classes = ensemble.classes();
    let rows: Vec<&[f64]> = mean.chunks_exact(classes.len()).collect();
    if args.json {
        json(&args.images, classes, &rows)
    } else {
        Ok(table(&args.images, classes, &rows))
    }
}

/// The scores of the predictions for a folder of labelled images.
fn score(args: &PredictArgs) -> anyhow::Result<String> {
    let [folder] = &args.images[..] else {
        bail!(
            "--labels takes one folder, not {} paths; name the folder that has the class folders",
            args.images.len()
        );
    };
    let folders = class_folders(folder)?;
    let ensemble = Ensemble::open(args)?;
    let classes = ensemble.classes();
    let found = folders.read(classes, ensemble.shape())?;
    if let Some(first) = found.passed_over.first() {
        let files = match found.passed_over.len() {
            1 => "1 file".to_owned(),
            several => format!("{several} files"),
        };
        note(&format!(
            "passed over what is no image of a class: {files}, such as {}",
            shown(first)
        ));
    }
    let has_none = |class: &usize| {
        !found
            .images
            .labels
            .iter()
            .any(|&l| usize::from(l) == *class)
    };
    let absent: Vec<_> = (0..classes.len())
        .filter(has_none)
        .map(|c| one_line(&classes[c]))
        .collect();
    if !absent.is_empty() {
        note(&format!("no images of {}", absent.join(", ")));
    }
    let outputs = ensemble.outputs(&found.images)?;
    // A report is of a split, which the output does not name.
    let report = SplitReport::compute(
        Split::Test,
        classes,
        &found.images.labels,
        &ensemble.predictions(&outputs),
    )?;
    if args.json {
        scores::json(classes, &report)
    } else {
        Ok(scores::table(folder, classes, &report))
    }
}

/// A line on standard error.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn json(images: &[PathBuf], classes: &[String], rows: &[&[f64]]) -> anyhow::Result<String> {
    let mut out = String::new();
    for (path, row) in images.iter().zip(rows) {
        let answer = Answer {
            image: path.display().to_string(),
            class: &classes[argmax(row)],
            probabilities: Probabilities(classes, row),
        };
        out.push_str(&serde_json::to_string(&answer)?);
        out.push('\n');
    }
    Ok(out)
}

fn table(images: &[PathBuf], classes: &[String], rows: &[&[f64]]) -> String {
    let classes: Vec<_> = classes.iter().map(|class| one_line(class)).collect();
    let mut head = vec!["image", "class"];
    head.extend(classes.iter().map(|class| &**class));
    let rows = images.iter().zip(rows).map(|(path, row)| {
        let mut cells = vec![shown(path), classes[argmax(row)].to_string()];
        cells.extend(row.iter().map(|p| format!("{p:.3}")));
        cells
    });
    let mut out = String::new();
    human::align(&mut out, 2, &head, rows);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_by_their_highest_class() {
        let images = [PathBuf::from("a.png"), PathBuf::from("longer name.png")];
        let classes = ["sad", "happy"].map(str::to_owned);
        let rows: [&[f64]; 2] = [&[0.25, 0.75], &[0.5, 0.5]];
        assert_eq!(
            table(&images, &classes, &rows),
            "  image            class    sad  happy\n\
             \x20 a.png            happy  0.250  0.750\n\
             \x20 longer name.png  sad    0.500  0.500\n"
        );
        let lines = json(&images, &classes, &rows).unwrap();
        assert_eq!(
            lines.lines().next().unwrap(),
            r#"{"image":"a.png","class":"happy","probabilities":{"sad":0.25,"happy":0.75}}"#
        );
    }
}
