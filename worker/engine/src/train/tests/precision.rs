//! Mixed precision.

use quartet_shared::spec::Precision;

use super::*;
use crate::evaluate::evaluate;
use quartet_agent::executor::EvaluateTask;

fn mixed() -> TrainTask {
    let mut task = task(16, 0.05, 1);
    task.experiment.precision = Precision::Bf16;
    task
}

#[test]
fn flex_refuses_to_train_and_to_evaluate_in_mixed_precision() {
    let folder = tempfile::tempdir().unwrap();
    let task = mixed();
    let mut keep = Keep::new(folder.path());
    let error = train(&task, &mut keep).unwrap_err().to_string();
    assert!(error.contains("precision = \"bf16\""), "{error}");
    assert!(error.contains("--backend tch"), "{error}");
    let task = EvaluateTask {
        experiment: task.experiment,
        members: Vec::new(),
        dataset: task.dataset,
    };
    let error = evaluate(&task, &Device::flex(), &mut keep).unwrap_err();
    assert!(
        error.to_string().contains("precision = \"bf16\""),
        "{error}"
    );
}

#[cfg(feature = "tch")]
mod torch {
    use burn::module::Module;
    use burn::tensor::{DType, Tensor};
    use quartet_shared::dataset::Split;

    use super::*;
    use crate::checkpoint::save_network;
    use crate::input::Input;
    use crate::models::Network;
    use crate::models::parameters::parameters;

    /// Networks of several kinds, without dropout.
    fn tasks() -> [TrainTask; 3] {
        [Backbone::Vgg16, Backbone::Resnet50, Backbone::InceptionV3].map(|backbone| {
            let mut task = mixed();
            task.run.backbone = backbone;
            task.run.dropout = 0.0;
            if backbone == Backbone::InceptionV3 {
                task.run.image_size = 75;
            }
            task
        })
    }

    fn device() -> Device {
        let mut native = cpus().into_iter().filter(quartet_kernels::is_native);
        native.next().unwrap()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data_as::<f64>().try_to_vec().unwrap()
    }

    /// Largest difference relative to the largest value.
    fn difference(a: &[f64], b: &[f64]) -> f64 {
        let largest = a.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let pairs = a.iter().zip(b);
        pairs.fold(0.0_f64, |m, (a, b)| m.max((a - b).abs())) / largest
    }

    #[test]
    fn outputs_are_near_those_in_f32_and_not_the_same() {
        for task in tasks() {
            let device = device();
            let (state, _) = prepare(&task, &device).unwrap();
            let mixed: Network = state.network.valid();
            let single = mixed.clone().with_precision(Precision::F32);
            let input = Input::new(&task.dataset, task.run.image_size, &device);
            let images = input
                .evaluation_batch(task.dataset.split(Split::Train), 0..8)
                .unwrap()
                .images;
            let features = mixed.features(images.clone());
            assert_eq!(features.dtype(), DType::F32);
            let found = difference(&values(single.features(images)), &values(features));
            // bfloat16 has 8 bits: one rounding alone is up to 2e-3.
            assert!(
                (1e-4..5e-2).contains(&found),
                "{}: {found}",
                task.run.backbone
            );
        }
    }

    #[test]
    fn weights_statistics_and_moments_stay_in_f32() {
        for task in tasks() {
            let device = device();
            let folder = tempfile::tempdir().unwrap();
            let (mut state, _) = prepare(&task, &device).unwrap();
            let input = Input::new(&task.dataset, task.run.image_size, &device);
            for step in 0..3 {
                let batch = input
                    .evaluation_batch(task.dataset.split(Split::Train), 0..8)
                    .unwrap();
                let (next, statistics) = state.step(batch, Epoch(1), step);
                assert_eq!(statistics.dtype(), DType::F32);
                state = next;
            }
            for (name, parameter) in parameters(&state.network) {
                assert_eq!(parameter.values.dtype(), DType::F32, "{name}");
                // Had a value gone through bfloat16, its lower half would be 0.
                let values = parameter.values.into_data().try_to_vec::<f32>().unwrap();
                let constant =
                    name.ends_with("gamma") && task.run.backbone == Backbone::InceptionV3;
                let full = values.iter().any(|value| value.to_bits() & 0xffff != 0);
                assert!(full || constant, "{name} of {}", task.run.backbone);
            }
            for (name, moments) in &state.adam.moments {
                assert_eq!(
                    [moments.m.dtype(), moments.v.dtype()],
                    [DType::F32; 2],
                    "{name}"
                );
            }
            save_network(&state.network.valid(), &folder.path().join("weights")).unwrap();
        }
    }

    /// VGG16 only: batch normalisation over the few values of these small maps amplifies rounding.
    #[test]
    fn a_step_has_the_loss_and_the_gradients_of_f32_but_for_rounding() {
        let [task, ..] = tasks();
        let [mixed, single] = [Precision::Bf16, Precision::F32].map(|precision| {
            let mut task = task.clone();
            task.experiment.precision = precision;
            let device = device();
            let (state, _) = prepare(&task, &device).unwrap();
            let input = Input::new(&task.dataset, task.run.image_size, &device);
            let batch = input
                .evaluation_batch(task.dataset.split(Split::Train), 0..8)
                .unwrap();
            let (state, statistics) = state.step(batch, Epoch(1), 0);
            let moments = state.adam.moments.into_values();
            // The first moment is a tenth of the gradient.
            let gradients: Vec<f64> = moments.flat_map(|moments| values(moments.m)).collect();
            (values(statistics)[0], gradients)
        });
        let (loss, expected) = (mixed.0, single.0);
        assert!((loss / expected - 1.0).abs() < 2e-2, "{loss} {expected}");
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (a, b) = (&mixed.1, &single.1);
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        assert!(cosine > 0.9, "{cosine}");
    }
}
