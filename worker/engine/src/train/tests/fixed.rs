//! With fixed addresses, as on a GPU, a training does what it does without, to the last bit.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use quartet_kernels::{Addresses, MemoryFormat};
use quartet_shared::spec::Precision;

use super::*;

/// 20 steps in two epochs, the last of each with fewer images.
fn tasks() -> Vec<TrainTask> {
    let mut tasks = Vec::new();
    for backbone in Backbone::ALL {
        for precision in [Precision::Tf32, Precision::Bf16] {
            let mut task = task(38, 0.05, 2);
            task.experiment.batch_size = 4;
            task.experiment.precision = precision;
            task.run.backbone = backbone;
            task.run.image_size = backbone.minimum_image_size();
            tasks.push(task);
        }
    }
    tasks
}

/// Without dropout; with frozen layers; with soft labels; each of them with a backbone that is small.
fn variants() -> Vec<TrainTask> {
    let with = |change: fn(&mut TrainTask)| {
        let mut task = tasks().remove(0);
        task.run.backbone = Backbone::Resnet50;
        task.run.image_size = 32;
        change(&mut task);
        task
    };
    vec![
        with(|task| task.run.dropout = 0.0),
        with(|task| task.run.freeze = "conv4_block2".parse().unwrap()),
        with(|task| {
            let mut dataset = Dataset::clone(&task.dataset);
            for images in &mut dataset.splits {
                let votes = images.labels.iter().map(|&label| match label {
                    0 => [7, 2, 1],
                    1 => [0, 9, 3],
                    _ => [1, 1, 8],
                });
                images.votes = votes.flatten().collect();
            }
            task.dataset = Arc::new(dataset);
        }),
    ]
}

/// Whose parameters have a multiple of 16 elements each, so that their order in memory changes no rounding.
fn wide() -> Vec<TrainTask> {
    let of = |backbone: Backbone, precision, freeze: &str| {
        let mut task = task(38, 0.25, 2);
        task.experiment.batch_size = 4;
        task.experiment.precision = precision;
        task.run.backbone = backbone;
        task.run.image_size = 32;
        task.run.freeze = freeze.parse().unwrap();
        task
    };
    vec![
        of(Backbone::Resnet50, Precision::Tf32, "none"),
        of(Backbone::Resnet50, Precision::Bf16, "conv3_block2"),
        of(Backbone::Vgg16, Precision::Tf32, "none"),
        of(Backbone::Vgg16, Precision::Bf16, "none"),
    ]
}

fn train_to(compute: &Compute, task: &TrainTask, keep: &mut Keep<'_>) -> Trained {
    super::super::train(task, compute.clone(), keep).unwrap()
}

#[test]
fn twenty_steps_at_fixed_addresses_are_those_at_others() {
    for device in cpus().into_iter().filter(quartet_kernels::is_native) {
        let (free, fixed) = (Compute::from(&device), Compute::rehearsed(&device));
        let sent = fixed.clone().with_device_data_limit(0);
        let ordered = fixed.clone().with_weights(MemoryFormat::ChannelsLast);
        assert_eq!(fixed.addresses(), Addresses::Fixed);
        assert_eq!(free.addresses(), Addresses::Free);
        // The device keeps the pixels, but for some.
        let kept = tasks().into_iter().map(|task| (&fixed, task));
        let others = variants()
            .into_iter()
            .flat_map(|task| [(&fixed, task.clone()), (&sent, task)]);
        let wide = wide().into_iter().map(|task| (&ordered, task));
        for (fixed, task) in kept.chain(others).chain(wide) {
            let folders = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
            let [expected, first, second] = folders.each_ref().map(|folder| folder.path());
            let mut undisturbed = Keep::new(expected);
            train_to(&free, &task, &mut undisturbed);

            // Stopped within the second epoch, with the state that the next one resumes from.
            let mut begun = Keep::answering(first, 17, Stop::Drain);
            assert!(matches!(
                train_to(fixed, &task, &mut begun),
                Trained::Stopped
            ));
            let resumed = TrainTask {
                resume: begun.resume(None),
                ..task.clone()
            };
            let at = resumed.resume.as_ref().unwrap().position;
            assert!(at.epoch == Epoch(1) && at.step > 0, "{at}");
            let mut rest = Keep::new(second);
            train_to(fixed, &resumed, &mut rest);

            let done: Vec<Done> = begun.done.into_iter().chain(rest.done).collect();
            assert_same_epochs(&undisturbed.done, &done);
        }
    }
}

#[test]
fn a_snapshot_keeps_its_values_while_training_goes_on() {
    for device in cpus().into_iter().filter(quartet_kernels::is_native) {
        let task = TrainTask {
            checkpoint_interval: Some(Duration::ZERO),
            ..task(16, 0.05, 1)
        };
        // Written only after the training has ended.
        let mut late = Late::default();
        super::super::train(&task, Compute::rehearsed(&device), &mut late).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut keep = Keep::new(folder.path());
        super::super::train(&task, Compute::from(&device), &mut keep).unwrap();
        let states = keep.states.iter().map(|(_, files)| files);
        let expected: Vec<_> = states
            .chain(keep.done.iter().map(|done| &done.files))
            .collect();
        assert_eq!(late.0.len(), expected.len());
        for (number, (checkpoint, expected)) in late.0.into_iter().zip(expected).enumerate() {
            let stem = format!("late-{number}");
            let files = checkpoint.snapshot.write(folder.path(), &stem).unwrap();
            assert_eq!(files.weights.blob, expected.weights.blob, "{number}");
            let [found, expected] = [&files, expected].map(moments);
            assert!(found == expected && !found.is_empty(), "{number}");
        }
    }
}

/// How many weights lie in memory in the order in which convolutions read them, where that is not the
/// ordinary one.
#[derive(Default)]
struct ChannelsInnermost(usize);

impl ModuleVisitor for ChannelsInnermost {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let [a, b, c, d] = match value.dims()[..] {
            [a, b, c, d] => [a, b, c, d],
            _ => return,
        };
        let ordinary = value.clone().reshape([-1]).into_data();
        let innermost = value.clone().reshape([a, b, c, d]).permute([0, 2, 3, 1]);
        let in_memory = quartet_kernels::flat(value).into_data();
        assert_eq!(in_memory, innermost.reshape([-1]).into_data());
        self.0 += usize::from(in_memory != ordinary);
    }
}

/// Operations that make the host wait for a GPU, or that read its memory.
const WAITING: [&str; 9] = [
    "aten::item",
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::repeat_interleave",
];

#[test]
fn a_step_waits_for_nothing_and_does_the_same_each_time() {
    for device in cpus().into_iter().filter(quartet_kernels::is_native) {
        let compute = Compute::rehearsed(&device).with_weights(MemoryFormat::ChannelsLast);
        for task in tasks() {
            let images = task.dataset.split(Split::Train);
            let (state, _) = prepare(&task, &device).unwrap();
            let mut state = state.placed(&compute);
            let mut innermost = ChannelsInnermost::default();
            state.network.visit(&mut innermost);
            assert!(innermost.0 > 5, "{}", task.run.backbone);
            let size = task.run.image_size;
            let input = compute.input(&task.dataset, &[Split::Train], size).unwrap();
            assert!(input.keeps() && compute.addresses() == Addresses::Fixed);
            let host = |state: &state::TrainState, step: u64| {
                let indices = [0, 1, 2, 3].map(|i| i + step as usize);
                let augmentation = &task.experiment.augmentation;
                let batch = input.host_training(images, &indices, augmentation, 1, Epoch(1));
                state.host_step(batch.unwrap(), Epoch(1), step)
            };
            let first = host(&state, 0);
            let mut inputs = state::TrainState::upload(first, &input);
            let mut before = None;
            for step in 0..3 {
                if step > 0 {
                    let next = host(&state, step);
                    crate::repeat::Inputs::write(&mut inputs, next);
                }
                // That nothing moves is checked there.
                let (_, operations) =
                    quartet_kernels::observed(|| state.step_in_place(&inputs, &input));
                state.adam.count_update();
                assert!(operations["aten::_fused_adam_"] == 1, "{operations:?}");
                // On a CPU Adam reads its rate, and of each parameter a number of the update; a GPU's reads
                // neither.
                let reads = operations.get("aten::item").copied().unwrap_or(0);
                let of_adam = 1 + state.adam.moments.len() as u64;
                let waiting = WAITING
                    .iter()
                    .skip(2)
                    .find(|name| operations.contains_key(**name));
                assert_eq!((reads, waiting), (of_adam, None), "{}", task.run.backbone);
                let same = before.replace(operations.clone());
                assert!(same.is_none_or(|same| same == operations), "{step}");
            }
        }
        // What waits is seen.
        let one = Tensor::<1>::ones([1], &device);
        let (_, operations) = quartet_kernels::observed(|| one.into_scalar::<f32>());
        assert!(!operations.is_empty(), "{operations:?}");
    }
}

/// The optimizer's tensors.
fn moments(files: &CheckpointFiles) -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(&files.training_state.path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let tensors = tensors.map(|(name, tensor)| (name, tensor.data().to_vec()));
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort();
    tensors
}

/// Keeps the snapshots themselves.
#[derive(Default)]
struct Late(Vec<Checkpoint>);

impl Callbacks for Late {
    fn on_progress(&mut self, _: Progress) {}

    fn stop(&self) -> Option<Stop> {
        None
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        true
    }

    fn on_predictions(&mut self, _: &RunName, _: &Predictions) {}

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        self.0.push(checkpoint);
        None
    }
}
