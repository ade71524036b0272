//! Damaged checkpoints that a training is to go on from.

use std::fs;

use burn::tensor::Tensor;
use quartet_agent::executor::Snapshot as _;
use quartet_mutation::{Format, Kind, survives};
use quartet_shared::early_stopping::EarlyStopping;

use super::*;
use crate::metrics::MetricTotals;

/// Damages one of a checkpoint's two files.
fn damage(name: &str, damaged: fn(&mut Resume) -> &mut std::path::PathBuf) {
    let format = Format {
        name,
        test: &format!("train::tests::mutated::{name}"),
        kind: Kind::Binary,
        cases: 1000,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(12, 0.01, 5);
    let (state, _) = prepare(&task, &Device::flex()).unwrap();
    let totals = MetricTotals {
        images: 8,
        ..MetricTotals::default()
    };
    let position = Position::within(Epoch(2), 1);
    let snapshot = Box::new(state.snapshot(position, Some(totals)));
    let files = snapshot.write(folder.path(), "whole").unwrap();
    let mut resume = Resume {
        position,
        early_stopping: Some(EarlyStopping::observe(None, Epoch(1), 0.5)),
        weights: files.weights.path,
        training_state: files.training_state.path,
    };
    let path = damaged(&mut resume);
    let whole = fs::read(&*path).unwrap();
    *path = folder.path().join("damaged");
    let path = path.clone();
    task.resume = Some(resume);
    survives(
        &format,
        || vec![whole],
        |bytes| {
            fs::write(&path, bytes).unwrap();
            forget_graphs();
            prepare(&task, &Device::flex()).map(drop).map_err(|error| {
                let error = format!("{:#}", anyhow::Error::from(error));
                assert!(error.contains("damaged") && error.len() < 8192, "{error}");
                error
            })
        },
    );
}

/// Autodiff keeps an entry for every parameter that was made, until there is a backward pass of any graph. A
/// training has one soon; here networks are made by the thousand.
fn forget_graphs() {
    let one = Tensor::<1>::ones([1], &Device::flex().autodiff()).require_grad();
    let _ = (one.clone() * one).backward();
}

#[test]
fn weights() {
    damage("weights", |resume| &mut resume.weights);
}

#[test]
fn training_states() {
    damage("training_states", |resume| &mut resume.training_state);
}
