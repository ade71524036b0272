//! The keys of an experiment's TOML. Reader, writer, suggestions and validation follow from these tables.
//!
//! A new key is a field of its struct, a row here, and a value in the preset. A key that runs can override
//! has a row in [`EXPERIMENT`], and a row in [`RUN`] that is [`Omitted::Inherited`].

use super::key::{Field, Key, Kind, Omitted, Range, Table, Text};
use super::{Augmentation, Backbone, ExperimentSpec, Freeze, RunSpec, Weights, derived_seed};
use crate::ids::ExperimentName;

/// Largest input of a network in pixels.
pub const MAX_IMAGE_SIZE: u32 = 1024;
/// The store writes epochs with four digits, so that a listing is in order.
const MAX_EPOCHS: u32 = 9999;

/// Getter and setter of a struct's field.
macro_rules! field {
    ($name:ident) => {
        Field {
            get: |all| all.$name,
            set: |all, value| all.$name = value,
        }
    };
}

/// The same for a field whose type has a text form.
macro_rules! text {
    ($name:ident) => {
        Kind::Text(Text {
            get: |all| all.$name.to_string(),
            set: |all, text| {
                all.$name = text.parse().map_err(to_string)?;
                Ok(())
            },
        })
    };
}

/// The top of the file.
pub(super) const EXPERIMENT: Table<ExperimentSpec> = Table {
    name: "",
    help: "An experiment of Quartet. What is left out comes from the preset fer2013.",
    keys: &[
        Key::<ExperimentSpec>::new(
            "name",
            "Name of the experiment: its folder in the store.",
            text!(name),
        )
        .check(|experiment| {
            let name = &experiment.name;
            ExperimentName::RESERVED
                .contains(&name.as_str())
                .then(|| format!("must not be \"{name}\": the store has a folder of that name"))
        }),
        Key::new(
            "seed",
            "The runs' seeds are derived from this one and their names. Whole number, 0 to 2^63 - 1.",
            Kind::Seed(field!(seed)),
        ),
        Key::new(
            "image_size",
            "Height and width of the networks' input, in pixels; a run can have its own.\n\
             At least 75 for the Inceptions, 32 for VGG16 and ResNet50.",
            // Not a field of the experiment: it is set in the preset's runs. The rows of the runs check it.
            Kind::Whole(
                0..=u32::MAX,
                Field {
                    get: image_size,
                    set: |all, pixels| all.runs.iter_mut().for_each(|run| run.image_size = pixels),
                },
            ),
        ),
        Key::new(
            "freeze",
            "First layers of the backbones that are not trained: \"none\", or \"backbone\", so that only \
             the heads are;\n\
             a run can have its own.",
            // As the image size: the runs have it.
            Kind::Text(Text {
                get: |all| freeze(all).to_string(),
                set: |all, text| {
                    let freeze = Freeze::from(text.to_owned());
                    all.runs
                        .iter_mut()
                        .for_each(|run| run.freeze = freeze.clone());
                    Ok(())
                },
            }),
        ),
        Key::new(
            "batch_size",
            "Images per training step, at least 2.",
            // Batch normalisation has no variance over one image.
            Kind::Whole(2..=u32::MAX, field!(batch_size)),
        ),
        Key::new(
            "epochs",
            "Epochs that a run is trained at most, 1 to 9999.",
            Kind::Whole(1..=MAX_EPOCHS, field!(epochs)),
        ),
        Key::new(
            "patience",
            "A run stops after this many epochs in a row without a better validation accuracy.",
            Kind::Whole(1..=u32::MAX, field!(patience)),
        ),
        Key::new(
            "batch_norm_momentum",
            "Batch normalisation: running = momentum * running + (1 - momentum) * batch. \
             At least 0, less than 1.",
            Kind::Number(Range::FRACTION, field!(batch_norm_momentum)),
        ),
        Key::new(
            "precision",
            "Arithmetic: \"f32\" (32-bit floats); \"tf32\", the same, but that GPUs multiply in \
             TensorFloat-32; or \"bf16\":\n\
             convolutions and activations of the backbone in bfloat16, all else as in \"tf32\". \
             \"bf16\" needs workers\n\
             that are built with LibTorch (feature tch).",
            text!(precision),
        ),
        Key::new(
            "deterministic",
            "Whether GPUs compute only in ways that give the same bytes each time, so that a run that was \
             resumed ends\n\
             as one that was not, on the same kind of GPU. It may cost speed there. CPUs always do.",
            Kind::Flag(field!(deterministic)),
        ),
        Key::new(
            "ensemble",
            "Which runs the ensemble needs: \"finished\", without those that fail for good; or \"all\": \
             when one fails, nothing\n\
             is evaluated. The exit status is 1 either way.",
            text!(ensemble),
        ),
    ],
};

/// `[augmentation]`.
pub(super) const AUGMENTATION: Table<Augmentation> = Table {
    name: "augmentation",
    help: "Random changes to training images.",
    keys: &[
        Key::new(
            "height_shift",
            "Vertical shift, at most, as a fraction of the height.",
            Kind::Number(Range::FRACTION, field!(height_shift)),
        ),
        Key::new(
            "width_shift",
            "Horizontal shift, at most, as a fraction of the width.",
            Kind::Number(Range::FRACTION, field!(width_shift)),
        ),
        Key::new(
            "zoom",
            "Zoom of each axis: from 1 - zoom to 1 + zoom, as a factor.",
            Kind::Number(Range::FRACTION, field!(zoom)),
        ),
        Key::new(
            "horizontal_flip",
            "Whether half of the images are mirrored.",
            Kind::Flag(field!(horizontal_flip)),
        ),
    ],
};

/// The one key that a run must have. The reader takes it first: it decides which of the preset's runs gives
/// the values that are left out.
pub(super) const BACKBONE: Key<RunSpec> = Key::new(
    "backbone",
    "inception_resnet_v2, vgg16, resnet50 (Keras' layout), resnet50_v1_5 (torchvision's) or inception_v3.",
    text!(backbone),
);

/// `[[run]]`.
pub(super) const RUN: Table<RunSpec> = Table {
    name: "run",
    help: "A run: the training of one backbone.",
    keys: &[
        Key::<RunSpec>::new(
            "name",
            "Its name; if left out, its backbone's.",
            text!(name),
        )
        .check(|run| {
            let reserved = run.name.as_str().eq_ignore_ascii_case("evaluation");
            reserved.then(|| "is reserved for the evaluation of the ensemble".to_owned())
        })
        .omitted(Omitted::Derived(|_, run| {
            run.name = run.backbone.run_name();
        })),
        BACKBONE,
        Key::new(
            "learning_rate",
            "Adam's learning rate before decay, per update.",
            Kind::Number(Range::POSITIVE, field!(learning_rate)),
        ),
        Key::new(
            "decay",
            "Update k (from 0) has the rate learning_rate / (1 + decay * k).",
            Kind::Number(Range::NOT_NEGATIVE, field!(decay)),
        ),
        Key::new(
            "dropout",
            "Dropout in the head: the fraction of activations that are dropped. At least 0, less than 1.",
            Kind::Number(Range::FRACTION, field!(dropout)),
        ),
        Key::new(
            "width",
            "Factor of all numbers of channels: 1.0 is the published network. Greater than 0, at most 4.",
            Kind::Number(
                Range {
                    contains: |width| width > 0.0 && width <= 4.0,
                    words: "greater than 0 and at most 4",
                },
                field!(width),
            ),
        ),
        Key::<RunSpec>::new(
            "image_size",
            "Pixels; if left out, the experiment's.",
            Kind::Whole(0..=MAX_IMAGE_SIZE, field!(image_size)),
        )
        .check(|run| {
            let (least, found) = (run.backbone.minimum_image_size(), run.image_size);
            let backbone = run.backbone;
            (found < least).then(|| format!("must be at least {least} for {backbone}, not {found}"))
        })
        .omitted(Omitted::Inherited(|experiment, run| {
            run.image_size = image_size(experiment);
        })),
        Key::<RunSpec>::new(
            "seed",
            "If left out, derived from the experiment's seed and the run's name.",
            Kind::Seed(field!(seed)),
        )
        .omitted(Omitted::Inherited(|experiment, run| {
            run.seed = derived_seed(experiment.seed, &run.name);
        })),
        Key::<RunSpec>::new(
            "weights",
            "Weights to begin with: \"none\" (random), \"imagenet\", \
             \"hub:OWNER/NAME[@REVISION][/FILE]\" (Hugging Face),\n\
             \"run:[STORE/]NAME/RUN\" (the best checkpoint of another run, of this store or another), or a \
             file:\n\
             Keras' .h5, .weights.h5 and .keras, timm's and torchvision's .safetensors and .pth, or a \
             checkpoint of ours.\n\
             Paths are relative to this file.",
            text!(weights),
        )
        .check(|run| {
            let published = matches!(run.weights, Weights::Imagenet | Weights::Hub(_));
            let (width, weights) = (run.width, &run.weights);
            (published && width != 1.0).then(|| {
                format!(
                    "must be \"none\" or a file for width {width}: {weights} are those of the full network"
                )
            })
        })
        .omitted(Omitted::Derived(|preset, run| {
            // Published weights are those of the full network.
            if run.width != run_of_preset(preset, run.backbone).width {
                run.weights = Weights::None;
            }
        })),
        Key::<RunSpec>::new(
            "freeze",
            "Layers up to and with this block are not trained, by its name in Keras, such as \"block3\" \
             (VGG16),\n\
             \"conv3\" or \"conv3_block4\" (ResNet50), \"mixed5\" (InceptionV3), \"block35\" or \
             \"mixed_6a\" (InceptionResNetV2);\n\
             \"backbone\" for all; \"none\". If left out, the experiment's.",
            text!(freeze),
        )
        .check(|run| run.freeze.problem(run.backbone))
        .omitted(Omitted::Inherited(|experiment, run| {
            run.freeze = freeze(experiment);
        })),
        Key::new(
            "ensemble_weight",
            "Weight in the ensemble, relative to the other runs'.",
            Kind::Number(Range::NOT_NEGATIVE, field!(ensemble_weight)),
        ),
    ],
};

/// The experiment's image size: that of its first run.
fn image_size(experiment: &ExperimentSpec) -> u32 {
    experiment.runs.first().map_or(200, |run| run.image_size)
}

/// What the experiment's runs freeze, if that is the same in all.
fn freeze(experiment: &ExperimentSpec) -> Freeze {
    let mut all = experiment.runs.iter().map(|run| &run.freeze);
    let first = all.next().cloned().unwrap_or_default();
    match all.all(|other| *other == first) {
        true => first,
        false => Freeze::None,
    }
}

/// The run of the preset that gives a run of this backbone what its table leaves out.
pub(super) fn run_of_preset(preset: &ExperimentSpec, backbone: Backbone) -> &RunSpec {
    let run = preset.runs.iter().find(|run| run.backbone == backbone);
    run.or(preset.runs.last()).expect("a preset has runs")
}

fn to_string(error: impl std::error::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::spec::{Ensemble, Preset};

    fn fields(of: &impl serde::Serialize) -> BTreeSet<String> {
        let json = serde_json::to_value(of).unwrap();
        json.as_object().unwrap().keys().cloned().collect()
    }

    fn rows<T>(table: &Table<T>) -> BTreeSet<String> {
        table.keys.iter().map(|key| key.name.to_owned()).collect()
    }

    #[test]
    fn every_field_has_a_row_and_every_row_a_field() {
        let mut spec = Preset::Fer2013.spec();
        // They are left out where they are as always.
        spec.deterministic = true;
        spec.ensemble = Ensemble::All;
        spec.runs[0].freeze = Freeze::Backbone;
        assert_eq!(rows(&RUN), fields(&spec.runs[0]));
        assert_eq!(rows(&AUGMENTATION), fields(&spec.augmentation));

        let mut expected = fields(&spec);
        assert!(expected.remove("augmentation") && expected.remove("runs"));
        // They are fields of the runs alone.
        let only_in_toml: Vec<_> = rows(&EXPERIMENT).difference(&expected).cloned().collect();
        assert_eq!(only_in_toml, ["freeze", "image_size"]);
        assert!(rows(&EXPERIMENT).is_superset(&expected));
    }

    /// A run inherits every key that both tables have, except for the name.
    #[test]
    fn keys_of_experiment_and_run_are_inherited() {
        for key in RUN.keys.iter().filter(|key| key.name != "name") {
            let inherited = matches!(key.omitted, Omitted::Inherited(_));
            assert_eq!(
                rows(&EXPERIMENT).contains(key.name),
                inherited,
                "{}",
                key.name
            );
        }
    }

    /// The comments name all backbones and all smallest image sizes.
    #[test]
    fn comments_follow_the_table_of_backbones() {
        let size = EXPERIMENT.keys.iter().find(|key| key.name == "image_size");
        let size = size.unwrap().help;
        for backbone in Backbone::ALL {
            assert!(BACKBONE.help.contains(backbone.as_str()), "{backbone}");
            let least = backbone.minimum_image_size().to_string();
            assert!(size.contains(&least), "{backbone}");
        }
    }
}
