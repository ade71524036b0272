//! Whether a report is of this experiment: the coordinator keeps no other.

use super::validate::{close, require};
use super::{EVALUATED, EvaluationReport, InvalidReport, SplitReport, normalised};
use crate::dataset::{Split, Summary};
use crate::ids::Epoch;
use crate::spec::ExperimentSpec;

/// What is known of an evaluation before its report comes.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The experiment.
    pub experiment: &'a ExperimentSpec,
    /// The best epoch of each of its runs, in the order of the spec; nothing for those that failed.
    pub best_epochs: &'a [Option<Epoch>],
    /// Its data.
    pub dataset: &'a Summary,
}

impl EvaluationReport {
    /// Checks a report that is [valid](Self::validate) in itself against what is known. The message of an
    /// error begins with the path of the field.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check_against(&self, known: Known<'_>) -> Result<(), InvalidReport> {
        let Known {
            experiment,
            dataset,
            ..
        } = known;
        require(self.experiment == experiment.name, || {
            let (found, name) = (&self.experiment, &experiment.name);
            format!("experiment: it is {found}, not {name}")
        })?;
        require(self.classes == dataset.classes, || {
            let (found, classes) = (&self.classes, &dataset.classes);
            format!("classes: they are {found:?}, the data set's are {classes:?}")
        })?;
        self.check_members(known)?;
        let has_images = |split: &Split| dataset.split(*split).iter().any(|&images| images > 0);
        let splits = EVALUATED.into_iter().filter(has_images);
        let found = self.splits.iter().map(|report| report.split);
        require(found.eq(splits), || {
            "splits: they are not valid and test as far as the data set has them".to_owned()
        })?;
        let mut splits = self.splits.iter();
        splits.try_for_each(|report| {
            let checked = check_split(report, dataset);
            checked.map_err(|error| InvalidReport(format!("{}: {error}", report.split)))
        })
    }

    fn check_members(&self, known: Known<'_>) -> Result<(), InvalidReport> {
        let runs = known.experiment.runs.iter().zip(known.best_epochs);
        let finished: Vec<_> = runs
            .filter_map(|(run, best_epoch)| Some((run, (*best_epoch)?)))
            .collect();
        let names = self.members.iter().map(|member| &member.run);
        let expected = finished.iter().map(|(run, _)| &run.name);
        require(names.eq(expected), || {
            "members: they are not the finished runs of the experiment".to_owned()
        })?;
        let weights: Vec<f64> = finished
            .iter()
            .map(|(run, _)| run.ensemble_weight)
            .collect();
        let expected = finished.into_iter().zip(normalised(&weights));
        for (member, ((run, best_epoch), weight)) in self.members.iter().zip(expected) {
            let name = &run.name;
            let (found, backbone) = (member.backbone, run.backbone);
            require(found == backbone, || {
                format!("members: {name}: backbone is {found}, not {backbone}")
            })?;
            let found = member.best_epoch;
            require(found == best_epoch, || {
                format!("members: {name}: best_epoch is {found}, not {best_epoch}")
            })?;
            let found = member.weight;
            require(close(found, weight), || {
                format!("members: {name}: weight is {found}, not {weight}")
            })?;
        }
        Ok(())
    }
}

fn check_split(report: &SplitReport, dataset: &Summary) -> Result<(), InvalidReport> {
    let of_class = dataset.split(report.split);
    let (found, images) = (report.images, of_class.iter().sum::<u64>());
    require(found == images, || {
        format!("images: {found}, the data set has {images}")
    })?;
    let rows = report.confusion_matrix.iter().zip(of_class);
    for (class, (row, &images)) in dataset.classes.iter().zip(rows) {
        let found: u64 = row.iter().sum();
        require(found == images, || {
            format!(
                "confusion_matrix: {found} images of class {class:?}, the data set has {images}"
            )
        })?;
    }
    for run in &report.runs {
        // Of a member there is no confusion matrix.
        let (accuracy, images) = (run.scores.accuracy, images as f64);
        require(
            close((accuracy * images).round() / images, accuracy),
            || {
                let name = &run.run;
                format!("runs: {name}: accuracy {accuracy} is no fraction of {images} images")
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::tests::example;
    use crate::spec::{Backbone, Preset};

    /// What [`example`] is a report of.
    fn experiment() -> ExperimentSpec {
        let mut experiment = Preset::Demo.spec();
        experiment.name = "demo".parse().unwrap();
        let run = |name: &str, backbone, ensemble_weight| {
            let mut run = Preset::Demo.spec().runs.remove(0);
            run.name = name.parse().unwrap();
            run.backbone = backbone;
            run.ensemble_weight = ensemble_weight;
            run
        };
        experiment.runs = vec![
            run("vgg16", Backbone::Vgg16, 3.0),
            run("resnet50", Backbone::Resnet50, 1.0),
        ];
        experiment
    }

    fn dataset() -> Summary {
        Summary {
            classes: ["angry", "happy", "neutral"].map(str::to_owned).into(),
            images: [vec![9, 9, 9], vec![1, 2, 1], vec![2, 2, 0]],
        }
    }

    const BEST: [Option<Epoch>; 2] = [Some(Epoch(41)), Some(Epoch(7))];

    fn check(report: &EvaluationReport, dataset: &Summary) -> Result<(), InvalidReport> {
        report.validate()?;
        report.check_against(Known {
            experiment: &experiment(),
            best_epochs: &BEST,
            dataset,
        })
    }

    #[test]
    fn the_report_of_the_experiment_is_taken() {
        check(&example(), &dataset()).unwrap();
        // Splits without images are not evaluated.
        let mut report = example();
        report.splits.pop();
        let mut dataset = dataset();
        dataset.images[Split::Test as usize].fill(0);
        check(&report, &dataset).unwrap();
    }

    #[test]
    fn a_run_that_failed_is_not_in_the_ensemble() {
        let mut report = example();
        report.members.truncate(1);
        report.members[0].weight = 1.0;
        for split in &mut report.splits {
            split.runs.truncate(1);
        }
        let checked = |report: &EvaluationReport| {
            report.check_against(Known {
                experiment: &experiment(),
                best_epochs: &[BEST[0], None],
                dataset: &dataset(),
            })
        };
        checked(&report).unwrap();
        checked(&example()).unwrap_err();
    }

    #[test]
    fn a_consistent_report_of_something_else_is_refused() {
        type Change = fn(&mut EvaluationReport);
        let changes: [(&str, Change); 10] = [
            ("experiment: it is other, not demo", |r| {
                r.experiment = "other".parse().unwrap();
            }),
            ("classes: they are", |r| {
                r.classes[0] = "calm".to_owned();
                for split in &mut r.splits {
                    split.per_class[0].class = "calm".to_owned();
                }
            }),
            ("members: they are not the finished runs", |r| {
                r.members.truncate(1);
                r.members[0].weight = 1.0;
                for split in &mut r.splits {
                    split.runs.truncate(1);
                }
            }),
            ("members: vgg16: backbone is inception_v3, not vgg16", |r| {
                r.members[0].backbone = Backbone::InceptionV3;
            }),
            ("members: resnet50: best_epoch is 8, not 7", |r| {
                r.members[1].best_epoch = Epoch(8);
            }),
            ("members: vgg16: weight is 0.25, not 0.75", |r| {
                r.members[0].weight = 0.25;
                r.members[1].weight = 0.75;
            }),
            ("splits: they are not valid and test", |r| {
                r.splits.reverse();
            }),
            ("splits: they are not valid and test", |r| {
                r.splits.truncate(1);
            }),
            ("valid: images: 400, the data set has 4", |r| {
                let split = &mut r.splits[0];
                split.images *= 100;
                for count in split.confusion_matrix.iter_mut().flatten() {
                    *count *= 100;
                }
                for class in &mut split.per_class {
                    class.support *= 100;
                }
            }),
            ("test: runs: vgg16: accuracy 0.7 is no fraction of 4", |r| {
                r.splits[1].runs[0].scores.accuracy = 0.7;
            }),
        ];
        for (message, change) in changes {
            let mut report = example();
            change(&mut report);
            report.validate().unwrap();
            let refused = check(&report, &dataset()).unwrap_err();
            assert!(refused.0.starts_with(message), "{refused}");
        }
        let mut other = dataset();
        other.images[Split::Valid as usize] = vec![2, 1, 1];
        let refused = check(&example(), &other).unwrap_err();
        let message = "valid: confusion_matrix: 1 images of class \"angry\", the data set has 2";
        assert_eq!(refused.0, message);
    }
}
