//! `worker predict`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::ensure;
use quartet_engine::predict::predict;
use quartet_shared::human;
use quartet_shared::report::{Prediction, argmax, ensemble};
use serde::{Serialize, Serializer};

use super::args::PredictArgs;
use super::{pictures, print, select};
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

pub(super) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    let pictures = pictures(&args.images)?;
    let device = select(&args.device)?.device;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (runs, size) = runtime.block_on(async {
        let experiment = TrainedExperiment::open(&args.experiment).await?;
        let runs = experiment.load(args.run.as_ref(), &device).await?;
        anyhow::Ok((runs, experiment.image_size().await?))
    })?;
    for TrainedRun {
        run,
        epoch,
        valid_accuracy,
        ..
    } in &runs
    {
        let accuracy = human::percentage(*valid_accuracy);
        let _ = writeln!(
            std::io::stderr(),
            "{}: epoch {epoch}, validation accuracy {accuracy}",
            run.name
        );
    }
    let classes = &runs[0].network.config().classes;
    ensure!(
        runs.iter()
            .all(|run| run.network.config().classes == *classes),
        "the runs have different classes"
    );
    let networks: Vec<_> = runs.iter().map(|run| &run.network).collect();
    let outputs = predict(&networks, &pictures, size, &device);
    let predictions: Vec<Prediction<'_>> = runs
        .iter()
        .zip(&outputs)
        .map(|(TrainedRun { run, .. }, probabilities)| Prediction {
            run: run.name.clone(),
            // A run that is asked for alone counts, whatever its weight.
            weight: args.run.as_ref().map_or(run.ensemble_weight, |_| 1.0),
            probabilities,
        })
        .collect();
    let mean = ensemble(&predictions);
    let rows: Vec<&[f64]> = mean.chunks_exact(classes.len()).collect();
    print(&if args.json {
        json(&args.images, classes, &rows)?
    } else {
        table(&args.images, classes, &rows)
    });
    Ok(())
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
    let mut head = vec!["image", "class"];
    head.extend(classes.iter().map(String::as_str));
    let rows = images.iter().zip(rows).map(|(path, row)| {
        let mut cells = vec![path.display().to_string(), classes[argmax(row)].clone()];
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
