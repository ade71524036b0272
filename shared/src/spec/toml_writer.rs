//! An experiment as commented TOML, ready to be edited.

use std::fmt::{self, Write as _};

use super::{ExperimentSpec, RunSpec, derived_seed};

/// The whole experiment as TOML, every key explained. [`super::from_toml`] gives the same experiment back.
///
/// A run's `image_size` and `seed` are comments where they are the experiment's, so that editing the
/// experiment's changes the runs'.
#[must_use]
pub fn to_toml(spec: &ExperimentSpec) -> String {
    let mut text = String::new();
    write(&mut text, spec).expect("a String takes all");
    text
}

fn write(out: &mut String, spec: &ExperimentSpec) -> fmt::Result {
    let image_size = spec.runs.first().map_or(200, |run| run.image_size);
    let augmentation = &spec.augmentation;
    let precision = spec.precision.as_str();
    write!(
        out,
        r#"# An experiment of Quartet. What is left out comes from the preset fer2013.

# Name of the experiment: its folder in the store.
name = "{name}"
# The runs' seeds are derived from this one and their names. Whole number, 0 to 2^63 - 1.
seed = {seed}
# Height and width of the networks' input, in pixels; a run can have its own.
# At least 75 for the Inceptions, 32 for VGG16 and ResNet50.
image_size = {image_size}
# Images per training step, at least 2.
batch_size = {batch_size}
# Epochs that a run is trained at most, 1 to 9999.
epochs = {epochs}
# A run stops after this many epochs in a row without a better validation accuracy.
patience = {patience}
# Batch normalisation: running = momentum * running + (1 - momentum) * batch. At least 0, less than 1.
batch_norm_momentum = {momentum:?}
# Arithmetic: "f32" (32-bit floats), or "bf16": convolutions and activations of the backbone in bfloat16, all else in 32-bit
# floats. "bf16" needs workers that are built with LibTorch (feature tch).
precision = "{precision}"

# Random changes to training images.
[augmentation]
# Vertical shift, at most, as a fraction of the height.
height_shift = {height_shift:?}
# Horizontal shift, at most, as a fraction of the width.
width_shift = {width_shift:?}
# Zoom of each axis: from 1 - zoom to 1 + zoom, as a factor.
zoom = {zoom:?}
# Whether half of the images are mirrored.
horizontal_flip = {horizontal_flip}
"#,
        name = spec.name,
        seed = spec.seed,
        batch_size = spec.batch_size,
        epochs = spec.epochs,
        patience = spec.patience,
        momentum = spec.batch_norm_momentum,
        height_shift = augmentation.height_shift,
        width_shift = augmentation.width_shift,
        zoom = augmentation.zoom,
        horizontal_flip = augmentation.horizontal_flip,
    )?;
    for run in &spec.runs {
        let inherits_size = run.image_size == image_size;
        let inherits_seed = run.seed == derived_seed(spec.seed, &run.name);
        write_run(out, run, inherits_size, inherits_seed)?;
    }
    Ok(())
}

fn write_run(
    out: &mut String,
    run: &RunSpec,
    inherits_size: bool,
    inherits_seed: bool,
) -> fmt::Result {
    let comment = |inherits| if inherits { "# " } else { "" };
    let weights = toml::Value::from(run.weights.to_string());
    write!(
        out,
        r#"
# A run: the training of one backbone.
[[run]]
# Its name; if left out, its backbone's.
name = "{name}"
# inception_resnet_v2, vgg16, resnet50 (Keras' layout), resnet50_v1_5 (torchvision's) or inception_v3.
backbone = "{backbone}"
# Adam's learning rate before decay, per update.
learning_rate = {learning_rate:?}
# Update k (from 0) has the rate learning_rate / (1 + decay * k).
decay = {decay:?}
# Dropout in the head: the fraction of activations that are dropped. At least 0, less than 1.
dropout = {dropout:?}
# Factor of all numbers of channels: 1.0 is the published network. Greater than 0, at most 4.
width = {width:?}
# Pixels; if left out, the experiment's.
{image_size_comment}image_size = {image_size}
# If left out, derived from the experiment's seed and the run's name.
{seed_comment}seed = {seed}
# Weights to begin with: "none" (random), "imagenet", "hub:OWNER/NAME[@REVISION][/FILE]" (Hugging Face), or a file: Keras'
# .h5, timm's and torchvision's .safetensors and .pth, or a checkpoint of ours. Paths are relative to this file.
weights = {weights}
# Weight in the ensemble, relative to the other runs'.
ensemble_weight = {ensemble_weight:?}
"#,
        name = run.name,
        backbone = run.backbone,
        learning_rate = run.learning_rate,
        decay = run.decay,
        dropout = run.dropout,
        width = run.width,
        image_size_comment = comment(inherits_size),
        image_size = run.image_size,
        seed_comment = comment(inherits_seed),
        seed = run.seed,
        ensemble_weight = run.ensemble_weight,
    )
}
