//! What networks of about the published accuracies say of images.

use quartet_history::ExperimentRecord;
use quartet_report::findings::Picture;
use quartet_report::{Findings, Observer};
use quartet_shared::dataset::{EMOTIONS, ImageShape, Split};
use quartet_shared::report::{
    EVALUATED, EvaluationReport, Member, Prediction, SplitReport, ensemble,
};

use super::noise;

/// Images of a split; FER2013 has 3589.
const IMAGES: usize = 1200;
const SIDE: usize = 48;

/// Classes that are taken for each other more often than others.
const ALIKE: [(usize, usize); 4] = [(0, 4), (2, 5), (4, 6), (0, 1)];

pub(crate) fn of(record: &ExperimentRecord) -> (EvaluationReport, Vec<Findings>) {
    let classes = EMOTIONS.map(str::to_owned).to_vec();
    let weight = 1.0 / record.runs.len() as f64;
    let members: Vec<Member> = record
        .runs
        .iter()
        .map(|run| Member {
            run: run.spec.name.clone(),
            backbone: run.spec.backbone,
            best_epoch: run.outcome.unwrap().best_epoch,
            weight,
        })
        .collect();
    let mut splits = Vec::new();
    let mut findings = Vec::new();
    for split in EVALUATED {
        let labels: Vec<u8> = (0..IMAGES).map(|image| label(split, image)).collect();
        let said: Vec<Vec<f32>> = members
            .iter()
            .map(|member| {
                let seed = record
                    .runs
                    .iter()
                    .find(|run| run.spec.name == member.run)
                    .unwrap()
                    .spec
                    .seed;
                labels
                    .iter()
                    .enumerate()
                    .flat_map(|(image, &label)| probabilities(split, seed, image, label))
                    .collect()
            })
            .collect();
        let members = members.iter().zip(&said);
        let members: Vec<Prediction<'_>> = members
            .map(|(member, said)| Prediction {
                run: member.run.clone(),
                weight,
                probabilities: said,
            })
            .collect();
        splits.push(SplitReport::compute(split, &classes, &labels, &members).unwrap());
        let mut observer = Observer::new(split);
        let said = ensemble(&members);
        for (&label, row) in labels.iter().zip(said.chunks_exact(classes.len())) {
            observer.see(label, row);
        }
        let mut found = observer.finish();
        for mistake in &mut found.worst {
            mistake.picture = Some(Picture {
                shape: ImageShape::gray([SIDE; 2]),
                pixels: face(mistake.image as usize, labels[mistake.image as usize]),
            });
        }
        findings.push(found);
    }
    let experiment = record.spec.experiment.name.clone();
    (
        EvaluationReport {
            experiment,
            classes,
            members,
            splits,
            partial: None,
            revision: quartet_shared::ids::Revision::FIRST,
        },
        findings,
    )
}

fn label(split: Split, image: usize) -> u8 {
    let of_100 = (noise(split as u64 + 7, image as u32) + 1.0) * 50.0;
    [13.0, 15.0, 29.0, 54.0, 71.0, 83.0]
        .iter()
        .filter(|&&below| of_100 >= below)
        .count() as u8
}

fn probabilities(split: Split, seed: u64, image: usize, label: u8) -> [f32; 7] {
    let number = (image as u32 + 1) * 64 + split as u32 * 16;
    // How hard an image is, all members agree on; the rest is theirs alone.
    let shared = |class: u32| noise(3, number + class) * 2.0;
    let mut scores = [0.0; 7];
    for (class, score) in (0..).zip(&mut scores) {
        *score = shared(class) + noise(seed + 11, number + class) * 1.1;
    }
    let label = usize::from(label);
    scores[label] += 2.4;
    for (a, b) in ALIKE {
        if a == label {
            scores[b] += 0.9
        }
        if b == label {
            scores[a] += 0.9
        }
    }
    let scores = scores.map(|score: f64| (score * 1.6).exp());
    let sum: f64 = scores.iter().sum();
    scores.map(|score| (score / sum) as f32)
}

/// A face of a kind: an ellipse with two eyes and a mouth that is bent as the class has it.
fn face(image: usize, label: u8) -> Vec<u8> {
    let bend = [-3.0, -1.5, -4.0, 5.0, -5.0, 0.5, 0.0][usize::from(label)] + noise(5, image as u32);
    let skin = 150.0 + noise(6, image as u32) * 50.0;
    let pixel = |index: usize| {
        let (x, y) = ((index % SIDE) as f64 - 23.5, (index / SIDE) as f64 - 23.5);
        let grain = noise(8, (image * SIDE * SIDE + index) as u32) * 8.0;
        let inside = (x / 17.0).powi(2) + (y / 21.0).powi(2) < 1.0;
        let eye = (x.abs() - 7.0).powi(2) + (y + 6.0).powi(2) < 5.0;
        let mouth = x.abs() < 8.0 && (y - 10.0 + bend * ((x / 8.0).powi(2) - 0.5)).abs() < 1.3;
        let value = match (inside, eye || mouth) {
            (true, false) => skin - y.abs(),
            (true, true) => 40.0,
            (false, _) => 70.0 + y,
        };
        (value + grain).clamp(0.0, 255.0) as u8
    };
    (0..SIDE * SIDE).map(pixel).collect()
}
