//! Initial weights from a file, and what is done with trained ones: predictions, features, exports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use quartet_ingest::data::{self, Options, Source};
use quartet_shared::dataset::{EMOTIONS, Split};
use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::Manifest;
use quartet_store::manifest::StoredSpec;
use quartet_tests::fixtures::{self, IMAGES};
use quartet_tests::job::read_json;
use quartet_tests::processes::{Coordinator, output};
use quartet_tests::programs::command;
use serde_json::Value;

fn worker(args: &[&str]) -> (String, String, ExitStatus) {
    output(command("worker").args(args))
}

/// Runs an experiment with a worker of its own; what the coordinator printed, and how it ended.
fn train(folder: &Path, data: &Path, toml: &Path) -> (String, ExitStatus) {
    let (data, toml) = (data.to_str().unwrap(), toml.to_str().unwrap());
    let args = ["--workers", "1", "--data", data, "--experiment", toml];
    let coordinator = Coordinator::start(&folder.join("store"), &args);
    let mut worker = coordinator.worker("one", &folder.join("cache"));
    let ended = coordinator.finish();
    worker.wait();
    ended
}

/// An image file of a gray ramp.
fn picture(folder: &Path, name: &str, side: u32) -> String {
    let path = folder.join(name);
    let ramp =
        image::GrayImage::from_fn(side, side, |x, y| image::Luma([((x + 2 * y) % 256) as u8]));
    ramp.save(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn trained_weights_predict_embed_export_and_start_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let (data, toml) = (fixtures::csv(folder), fixtures::experiment(folder, 1));
    let (text, status) = train(folder, &data, &toml);
    assert!(status.success(), "{text}");
    let images = [picture(folder, "a.png", 48), picture(folder, "b.png", 100)];
    let experiment = folder.join("store/small").to_str().unwrap().to_owned();

    // The ensemble is the mean of its runs.
    let probabilities = |more: &[&str]| -> Vec<Vec<f64>> {
        let mut args = vec!["predict", "--experiment", &experiment, "--json"];
        args.extend(more);
        args.extend(images.iter().map(String::as_str));
        let (text, errors, status) = worker(&args);
        assert!(status.success(), "{errors}");
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                EMOTIONS
                    .map(|class| line["probabilities"][class].as_f64().unwrap())
                    .to_vec()
            })
            .collect()
    };
    let [both, vgg16, residual] =
        [&[][..], &["--run", "vgg16"], &["--run", "residual"]].map(probabilities);
    assert_eq!(both.len(), 2);
    for ((both, vgg16), residual) in both.iter().zip(&vgg16).zip(&residual) {
        assert!((both.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        for ((mean, a), b) in both.iter().zip(vgg16).zip(residual) {
            assert!((mean - (a + b) / 2.0).abs() < 1e-12);
        }
    }
    let (table, _, _) = worker(&["predict", "--experiment", &experiment, &images[0]]);
    assert!(
        table.contains("surprise") && table.contains("a.png"),
        "{table}"
    );
    let (_, errors, status) = worker(&[
        "predict",
        "--experiment",
        &experiment,
        "--run",
        "vgg19",
        &images[0],
    ]);
    assert_eq!(status.code(), Some(2));
    assert!(
        errors.contains("there is no run vgg19; there are vgg16, residual"),
        "{errors}"
    );
    let (_, errors, status) = worker(&["predict", "--experiment", "nowhere/small", &images[0]]);
    assert_eq!(status.code(), Some(2));
    assert!(
        errors.contains("there is no experiment nowhere/small"),
        "{errors}"
    );

    scores_labelled_images(folder, &experiment);

    // A checkpoint is a file of weights, too.
    let runs = folder.join("store/small/runs");
    let manifest: Manifest = read_json(runs.join("vgg16/epochs/0001.json"));
    let weights = folder.join("store").join(&manifest.weights.key);
    let weights = weights.to_str().unwrap();
    let embed = [
        "embed",
        "--backbone",
        "vgg16",
        "--weights",
        weights,
        "--size",
        "64",
    ];
    let (text, errors, status) = worker(&[&embed[..], &[&images[0], &images[1]]].concat());
    assert!(status.success(), "{errors}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        // 512 channels at width 0.05.
        assert_eq!(line["features"].as_array().unwrap().len(), 26);
    }
    assert_eq!(text.lines().count(), 2);
    let (_, errors, status) = worker(&[
        "embed",
        "--backbone",
        "resnet50",
        "--weights",
        weights,
        &images[0],
    ]);
    assert_eq!(status.code(), Some(2));
    assert!(
        errors.contains("vgg16"),
        "it says of what backbone the file is: {errors}"
    );
    let out = folder.join("timm.safetensors");
    let (_, errors, status) = worker(&[
        "export",
        "--weights",
        weights,
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(status.success(), "{errors}");
    assert!(
        fs::read(&out)
            .unwrap()
            .windows(17)
            .any(|name| name == b"features.0.weight")
    );

    exports_whole_networks(folder, &experiment, weights);

    // Another experiment starts where this one ended: a rate of almost 0 keeps what it began with.
    fs::copy(weights, folder.join("begin.safetensors")).unwrap();
    let toml = folder.join("again.toml");
    let text = "name = \"again\"\nbatch_size = 16\nepochs = 1\nbatch_norm_momentum = 0.9999\n\
                [[run]]\nbackbone = \"vgg16\"\nwidth = 0.05\n\
        image_size = 48\nlearning_rate = 1e-12\nweights = \"begin.safetensors\"\n";
    fs::write(&toml, text).unwrap();
    let (text, status) = train(folder, &data, &toml);
    assert!(status.success(), "{text}");
    let spec: StoredSpec = read_json(folder.join("store/again/spec.json"));
    let stored = &spec.weights[&"vgg16".parse().unwrap()];
    assert_eq!(stored.blob, manifest.weights.blob);
    assert!(folder.join("store").join(&stored.key).is_file());
    let again: Manifest = read_json(folder.join("store/again/runs/vgg16/epochs/0001.json"));
    let (before, after) = (manifest.metrics.valid_loss, again.metrics.valid_loss);
    assert!((before - after).abs() < 1e-2 * before, "{before} {after}");
}

/// `worker export` of a run and of the ensemble. What is in the files, `tests/parity` looks at.
fn exports_whole_networks(folder: &Path, experiment: &str, weights: &str) {
    let export = |more: &[&str], out: &str| {
        let out = folder.join(out).to_str().unwrap().to_owned();
        let (_, errors, status) = worker(&[&["export", "--out", &out], more].concat());
        (
            errors,
            status.code(),
            fs::metadata(&out).map_or(0, |file| file.len()),
        )
    };
    let run = ["--experiment", experiment, "--run", "vgg16", "--format"];
    let ensemble = ["--experiment", experiment, "--format", "onnx"];
    let mut sizes = Vec::new();
    for (more, out, said) in [
        (
            &[&run[..], &["timm"]].concat()[..],
            "run.safetensors",
            "the classifier is not in it",
        ),
        (
            &[&run[..], &["torch"]].concat(),
            "torch.safetensors",
            "load() of docs/torch_network.py",
        ),
        (
            &[&run[..], &["keras"]].concat(),
            "keras.weights.h5",
            "for load_weights of the same model",
        ),
        (
            &[&run[..], &["onnx"]].concat(),
            "run.onnx",
            "run vgg16; images, u8 [batch, 48, 48]",
        ),
        (&ensemble, "all.onnx", "the ensemble of 2 runs"),
        (
            &["--weights", weights, "--format", "torch"],
            "again.safetensors",
            "whole network on vgg16",
        ),
    ] {
        let (errors, code, size) = export(more, out);
        assert_eq!(code, Some(0), "{errors}");
        assert!(errors.contains(said), "{errors}");
        sizes.push(size);
    }
    let [timm, torch, _, one, both, again] = sizes[..] else {
        panic!("six files");
    };
    assert!(timm < torch && torch == again && one < both, "{sizes:?}");

    let state = weights.replace(".weights.", ".state.");
    for (more, out, said) in [
        (
            &["--weights", weights, "--format", "onnx"][..],
            "a",
            "needs --experiment STORE/NAME",
        ),
        (&["--experiment", experiment], "a", "needs --run NAME"),
        (
            &["--weights", &state],
            "a",
            "training state, not the weights: take 0001-001.weights.safetensors",
        ),
        (
            &[&run[..], &["keras"]].concat(),
            "a.h5",
            "named *.weights.h5",
        ),
        (
            &[&run[..], &["onnx"]].concat(),
            "run.onnx",
            "is there already",
        ),
    ] {
        let (errors, code, _) = export(more, out);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
}

/// `worker predict --labels` is right as often as the evaluation was, of the same images as PNG files.
fn scores_labelled_images(folder: &Path, experiment: &str) {
    let faces = folder.join("faces");
    let source = Source::Path(folder.join("faces.csv"));
    let dataset = data::load(&source, &Options::default()).unwrap().dataset;
    let side = [dataset.width, dataset.height].map(u32::from);
    for index in 0..dataset.len(Split::Test) {
        let class = dataset.label(Split::Test, index).unwrap();
        let folder = faces.join(EMOTIONS[usize::from(class)].to_uppercase());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "notes").unwrap();
        fs::write(folder.join("Thumbs.db"), "thumbs").unwrap();
        let pixels = dataset.image(Split::Test, index).unwrap().to_vec();
        let face = image::GrayImage::from_raw(side[0], side[1], pixels).unwrap();
        face.save(folder.join(format!("{index}.png"))).unwrap();
    }
    let faces = faces.to_str().unwrap();
    let labels = ["predict", "--experiment", experiment, "--labels"];
    let (text, errors, status) = worker(&[&labels[..], &["--json", faces]].concat());
    assert!(status.success(), "{errors}");
    assert!(
        errors.contains("7 files, such as ") && errors.contains("notes.txt"),
        "{errors}"
    );
    let scores: Value = serde_json::from_str(&text).unwrap();
    let evaluation: EvaluationReport = read_json(Path::new(experiment).join("evaluation.json"));
    let test = evaluation.splits.last().unwrap();
    assert_eq!(scores["images"], IMAGES[2]);
    assert_eq!(scores["accuracy"], test.ensemble.accuracy);
    let difference = scores["loss"].as_f64().unwrap() - test.ensemble.loss;
    assert!(
        difference.abs() < 1e-6,
        "the order of the images alone differs: {difference}"
    );
    assert_eq!(
        scores["confusion_matrix"],
        serde_json::to_value(&test.confusion_matrix).unwrap()
    );
    assert_eq!(scores["runs"].as_array().unwrap().len(), 2);

    let (table, errors, status) = worker(&[&labels[..], &["--run", "vgg16", faces]].concat());
    assert!(status.success(), "{errors}");
    let first = table.lines().next().unwrap();
    assert!(
        first.starts_with(faces) && first.ends_with(" of 42 images)"),
        "{table}"
    );

    fs::create_dir(Path::new(faces).join("smug")).unwrap();
    for (paths, expected) in [
        (
            &[faces][..],
            "smug is of no class of the experiment, which has angry, disgust, ",
        ),
        (&[faces, faces], "--labels takes one folder, not 2 paths"),
    ] {
        let (text, errors, status) = worker(&[&labels[..], paths].concat());
        assert_eq!((text.as_str(), status.code()), ("", Some(2)));
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn weights_that_do_not_fit_fail_their_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let data = fixtures::csv(folder);
    let weights: PathBuf = folder.join("other.safetensors");
    let header = br#"{"features.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&[0; 4]);
    fs::write(&weights, bytes).unwrap();
    let toml = folder.join("wrong.toml");
    let text = "name = \"wrong\"\nepochs = 1\n\
                [[run]]\nbackbone = \"vgg16\"\nwidth = 0.05\nimage_size = 32\n\
                weights = \"other.safetensors\"\n";
    fs::write(&toml, text).unwrap();
    let args = [
        "--workers",
        "1",
        "--data",
        data.to_str().unwrap(),
        "--experiment",
        toml.to_str().unwrap(),
    ];
    let coordinator = Coordinator::start(&folder.join("store"), &args);
    let mut watch = coordinator.watch();
    let mut worker = coordinator.worker("one", &folder.join("cache"));
    let run = watch.until(|snapshot| {
        let run = snapshot["runs"].as_array()?.first()?.clone();
        (run["state"] == "failed").then_some(run)
    });
    let reason = run["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("other.safetensors does not fit vgg16")
            && reason.contains("features.0.bias"),
        "{run}"
    );
    assert_eq!(run["attempt"], 1, "it is not tried again: {run}");
    let (_, status) = coordinator.finish();
    assert_eq!(status.code(), Some(1));
    worker.wait();
}
