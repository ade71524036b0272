use super::*;
use crate::spec::{Augmentation, Backbone, Precision, Weights, derived_seed, to_toml};

fn error(text: &str) -> String {
    from_toml(text, "a.toml")
        .expect_err("the text is wrong")
        .to_string()
}

#[test]
fn an_empty_file_is_the_notebook() {
    assert_eq!(from_toml("", "a.toml"), Ok(Preset::Fer2013.spec()));
}

#[test]
fn presets_survive_toml() {
    for preset in Preset::ALL {
        let spec = preset.spec();
        assert_eq!(from_toml(&to_toml(&spec), "a.toml"), Ok(spec));
    }
}

#[test]
fn odd_numbers_survive_toml() {
    let mut spec = Preset::Demo.spec();
    spec.name = "odd-1".parse().unwrap();
    spec.seed = i64::MAX as u64;
    spec.batch_norm_momentum = 0.1 + 0.2;
    spec.precision = Precision::Bf16;
    spec.augmentation = Augmentation {
        height_shift: 0.0,
        width_shift: 1e-300,
        zoom: 0.99,
        horizontal_flip: false,
    };
    let mut extra = spec.runs[1].clone();
    extra.name = "other".parse().unwrap();
    extra.backbone = Backbone::Resnet50V1_5;
    extra.learning_rate = 1e-7;
    extra.decay = 0.0;
    extra.width = 1.0 / 3.0;
    extra.image_size = 64;
    extra.seed = 7;
    extra.ensemble_weight = 1e22;
    spec.runs.push(extra);
    assert_eq!(from_toml(&to_toml(&spec), "a.toml"), Ok(spec));
}

#[test]
fn what_a_run_leaves_out_comes_from_experiment_and_preset() {
    let text = r#"
        name = "mine"
        seed = 5
        image_size = 96
        augmentation = { zoom = 0 }
        [[run]]
        backbone = "inception_resnet_v2"
        [[run]]
        name = "small"
        backbone = "vgg16"
        image_size = 0x30
        seed = 9
        width = 1
    "#;
    let spec = from_toml(text, "a.toml").unwrap();
    assert_eq!(spec.runs.len(), 2);
    let (first, second) = (&spec.runs[0], &spec.runs[1]);
    assert_eq!(first.name.as_str(), "inception_resnet_v2");
    assert_eq!((first.image_size, first.learning_rate), (96, 1e-4));
    assert_eq!(first.seed, derived_seed(5, &first.name));
    assert_eq!((second.image_size, second.learning_rate), (48, 5e-4));
    assert_eq!((second.seed, second.width), (9, 1.0));
    assert_eq!(
        (spec.augmentation.zoom, spec.augmentation.width_shift),
        (0.0, 0.1)
    );
}

#[test]
fn without_runs_the_four_take_the_experiments_size_and_seed() {
    let spec = from_toml("image_size = 100\nseed = 3", "a.toml").unwrap();
    assert_eq!(spec.runs.len(), 4);
    for run in &spec.runs {
        assert_eq!(
            (run.image_size, run.seed),
            (100, derived_seed(3, &run.name))
        );
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let text = "name = \"x\"\n\n[[run]]\nname = \"a\"\nbackbone = \"vgg16\"\nlearnig_rate = 1e-3\n";
    assert_eq!(
        error(text),
        "a.toml: unknown key \"learnig_rate\" in [[run]] \"a\" (line 6), did you mean \"learning_rate\"?"
    );
    assert_eq!(
        error("batch-size = 8"),
        "a.toml: unknown key \"batch-size\" of the experiment (line 1), did you mean \"batch_size\"?"
    );
    assert_eq!(
        error("\nqqq = 8"),
        "a.toml: unknown key \"qqq\" of the experiment (line 2)"
    );
    assert_eq!(
        error("[augmentation]\nflip = true"),
        "a.toml: unknown key \"flip\" in [augmentation] (line 2), did you mean \"horizontal_flip\"?"
    );
}

#[test]
fn a_wrong_type_is_named_with_key_and_line() {
    assert_eq!(
        error("epochs = \"ten\""),
        "a.toml: epochs of the experiment must be a whole number, not the text \"ten\" (line 1)"
    );
    assert_eq!(
        error("[[run]]\nbackbone = \"vgg16\"\ndropout = true"),
        "a.toml: dropout in [[run]] \"vgg16\" must be a number, not true (line 3)"
    );
    assert_eq!(
        error("epochs = -1"),
        "a.toml: epochs of the experiment must be from 0 to 4294967295, not -1 (line 1)"
    );
    assert_eq!(
        error("seed = -1"),
        "a.toml: seed of the experiment must be at least 0, not -1 (line 1)"
    );
    assert_eq!(
        error("[run]\nbackbone = \"vgg16\""),
        "a.toml: run of the experiment must be tables: [[run]], with two brackets on each side, \
         not a table (line 1)"
    );
}

#[test]
fn what_cannot_be_trained_is_refused() {
    assert_eq!(
        error("[[run]]\nbackbone = \"vgg16\"\nweights = \"hub:timm\""),
        "a.toml: weights in [[run]] \"vgg16\" is not valid: \"hub:timm\" is not of the form \
         hub:OWNER/NAME[@REVISION][/FILE] (line 3)"
    );
    assert_eq!(
        error("[[run]]\nname = \"a\""),
        "a.toml: backbone is missing in [[run]] \"a\" (line 1)"
    );
    assert!(
        error("[[run]]\nbackbone = \"vgg19\"")
            .contains("there is no backbone \"vgg19\"; there are")
    );
    assert!(error("name = \"a/b\"").contains("is not a valid name"));
    assert_eq!(
        error("epochs = 0"),
        "a.toml: epochs must be at least 1, not 0"
    );
    assert!(error("epochs = ").starts_with("a.toml: "));
    assert!(
        error("[[run]]\nbackbone = \"vgg16\"\nlearning_rate = nan")
            .contains("learning_rate of run \"vgg16\"")
    );
}

#[test]
fn only_full_networks_start_from_imagenet_by_default() {
    let weights = |text: &str| {
        let text = format!("[[run]]\nbackbone = \"vgg16\"\n{text}");
        from_toml(&text, "a.toml").unwrap().runs[0].weights.clone()
    };
    assert_eq!(weights(""), Weights::Imagenet);
    assert_eq!(weights("width = 0.5"), Weights::None);
    assert_eq!(
        weights("width = 0.5\nweights = \"a/b.safetensors\""),
        Weights::File("a/b.safetensors".to_owned())
    );
}

#[test]
fn more_runs_than_an_experiment_takes_are_counted() {
    let text = |count| "[[run]]\nbackbone = \"vgg16\"\n".repeat(count);
    assert_eq!(
        from_toml(&text(5000), "m.toml").unwrap_err().to_string(),
        "m.toml has 5000 [[run]] tables; an experiment takes at most 64"
    );
    assert!(error(&text(64)).contains("is there twice"));
}

#[test]
fn a_message_repeats_only_the_beginning_of_a_value() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("{long} = 1"),
        long.clone(),
        format!("precision = \"{long}\""),
        format!("[[run]]\nbackbone = \"{long}\""),
        format!("[[run]]\nname = \"{long}\"\nbackbone = \"vgg16\""),
        format!("[[run]]\nname = \"{long}\"\nbackbone = 1"),
        format!("[[run]]\nname = \"{long}\""),
        format!("[augmentation]\n{long} = 1"),
    ] {
        let error = from_toml(&text, "my.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("my.toml: ") && error.len() < 2000,
            "{}",
            error.len()
        );
    }
}

#[test]
fn runs_inherit_what_is_frozen() {
    let text = "freeze = \"backbone\"\n[[run]]\nbackbone = \"vgg16\"\nfreeze = \"block3\"\n\
                [[run]]\nbackbone = \"resnet50\"\n";
    let spec = from_toml(text, "my.toml").unwrap();
    let frozen = |spec: &ExperimentSpec| -> Vec<String> {
        let runs = spec.runs.iter();
        runs.map(|run| run.freeze.to_string()).collect()
    };
    assert_eq!(frozen(&spec), ["block3", "backbone"]);
    assert_eq!(from_toml(&to_toml(&spec), "again").unwrap(), spec);
    // What all have stands at the top.
    let all = from_toml("freeze = \"backbone\"", "my.toml").unwrap();
    assert_eq!(frozen(&all), ["backbone"; 4]);
    let written = to_toml(&all);
    assert!(written.contains("\nfreeze = \"backbone\"\n"), "{written}");
    assert_eq!(written.matches("\n# freeze = \"backbone\"\n").count(), 4);

    let other = text.replace("block3", "block6");
    let error = from_toml(&other, "my.toml").unwrap_err().to_string();
    assert_eq!(
        error,
        "my.toml: freeze of run \"vgg16\" must be \"none\", \"backbone\" or a block of vgg16: block1 to \
         block5; not \"block6\""
    );
}
