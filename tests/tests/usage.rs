//! Wrong input: a clear message on stderr, nothing on stdout, and the right exit status.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use quartet_tests::fixtures;
use quartet_tests::processes::output;
use quartet_tests::programs::command;

/// Runs a coordinator that must refuse; gives back its message.
fn refused(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (text, errors, status) = output(
        command("coordinator")
            .args(["--listen", "127.0.0.1:0", "--store"])
            .arg(dir.path())
            .args(args),
    );
    assert_eq!(status.code(), Some(2), "{args:?}: {errors}");
    assert_eq!(text, "", "{args:?}");
    errors
}

fn assert_names(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn a_wrong_flag_is_named() {
    assert_names(&refused(&["--wokers", "2"]), &["--wokers", "--workers"]);
    assert_names(&refused(&["--workers", "0"]), &["0", "--workers"]);
    assert_names(&refused(&["--name", "../x"]), &["../x", "letters"]);
}

#[test]
fn a_wrong_experiment_is_named_by_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    fs::write(&path, "[[run]]\nbackbone = \"vgg16\"\nlearnig_rate = 0.1\n").unwrap();
    let path = path.to_str().unwrap();
    assert_names(
        &refused(&["--experiment", path]),
        &["my.toml", "learnig_rate", "learning_rate"],
    );
    assert_names(&refused(&["--experiment", "fer2031"]), &["fer2031", "demo"]);
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = fixtures::csv(dir.path());
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[4] = "3,1 2 3,Training";
    fs::write(&path, lines.join("\n")).unwrap();
    let path = path.to_str().unwrap();
    assert_names(
        &refused(&["--data", path]),
        &["faces.csv", "5", "2304", "--skip-bad-rows"],
    );
    assert_names(&refused(&["--data", "/nowhere/x.csv"]), &["/nowhere/x.csv"]);
}

#[test]
fn the_printed_experiment_can_be_passed_back() {
    let dir = tempfile::tempdir().unwrap();
    let print = |experiment: &str| {
        let (text, errors, status) =
            output(command("coordinator").args(["--print-experiment", "--experiment", experiment]));
        assert!(status.success(), "{errors}");
        text
    };
    let printed = print("fer2013");
    let path = dir.path().join("fer2013.toml");
    fs::write(&path, &printed).unwrap();
    assert_eq!(print(path.to_str().unwrap()), printed);
}

#[test]
fn a_gpu_that_this_build_cannot_use_is_refused_with_the_way_out() {
    let (text, errors, status) = output(command("worker").args(["--gpu", "0"]));
    assert_eq!((text.as_str(), status.code()), ("", Some(2)), "{errors}");
    assert_names(&errors, &["--gpu", "--features"]);
}

#[test]
fn several_gpus_are_several_workers() {
    let worker = |args: &[&str]| {
        let (text, errors, status) = output(command("worker").args(args));
        assert_eq!((status.code(), &text[..]), (Some(2), ""), "{errors}");
        errors
    };
    // Both say that they cannot have their GPU.
    let errors = worker(&["--gpu", "998,999", "--insecure"]);
    assert_eq!(errors.matches("error: ").count(), 2, "{errors}");
    assert_names(&worker(&["--gpu", "1,1"]), &["--gpu", "1 is named twice"]);
    let (text, _, status) = output(command("worker").arg("gpus"));
    assert!(status.success());
    assert!(text.lines().all(|line| line.starts_with(char::is_numeric)));
}

/// What `deploy/libtorch.sh --pytorch` does where Python says this of its PyTorch; cargo only says how it is
/// called.
fn build_with(pytorch: &str) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    for (program, line) in [
        ("python3", pytorch),
        (
            "cargo",
            "echo cargo $LIBTORCH_USE_PYTORCH for $LIBTORCH_BYPASS_VERSION_CHECK: $@",
        ),
    ] {
        let path = folder.path().join(program);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/libtorch.sh");
    let mut build = Command::new("bash");
    let path = format!("{}:{}", folder.path().display(), env!("PATH"));
    build.env("PATH", path).env_remove("VIRTUAL_ENV");
    let (text, errors, status) = output(build.args([script, "--pytorch", "--bin", "bench"]));
    (text, errors, status.code())
}

#[test]
fn the_installed_pytorch_is_taken_if_it_is_one_that_works() {
    for (version, shown) in [
        ("2.9.0+cu128 with CUDA 12.8", "2.9.0+cu128 with CUDA 12.8"),
        ("2.10.1 with CUDA None", "2.10.1 for CPUs"),
        ("2.11.0+cu130 with CUDA 13.0", "2.11.0+cu130 with CUDA 13.0"),
    ] {
        let (text, errors, code) = build_with(&format!("echo {version}"));
        assert_eq!(code, Some(0), "{errors}");
        assert_names(&errors, &[shown]);
        let called = format!("cargo 1 for {version}: build --release");
        assert_names(&text, &[&called, "--features tch --bin bench"]);
    }
    for (pytorch, words) in [
        (
            "echo 2.8.0 with CUDA None",
            &["2.8.0", "2.9, 2.10 or 2.11"][..],
        ),
        (
            "echo 2.12.0 with CUDA 13.0",
            &["2.12.0", "2.9, 2.10 or 2.11"],
        ),
        ("exit 1", &["no PyTorch", "pip install"]),
    ] {
        let (text, errors, code) = build_with(pytorch);
        assert_eq!((&text[..], code), ("", Some(1)));
        assert_names(&errors, words);
    }
}

#[test]
fn programs_without_their_coordinator_say_so() {
    let (_, errors, status) = output(command("status").args(["--coordinator", "127.0.0.1:1"]));
    assert_eq!(status.code(), Some(1));
    assert_names(&errors, &["127.0.0.1:1", "coordinator"]);
    let (_, errors, status) =
        output(command("worker").args(["--coordinator", "127.0.0.1:1", "--give-up-after", "1ms"]));
    assert_eq!(status.code(), Some(1));
    assert_names(&errors, &["127.0.0.1:1"]);
}

#[test]
fn every_program_has_a_version_and_completions() {
    for name in ["coordinator", "worker", "status"] {
        let (text, _, status) = output(command(name).arg("--version"));
        assert!(status.success() && text.starts_with(name), "{text}");
        let (text, _, status) = output(command(name).args(["--completions", "bash"]));
        assert!(status.success() && text.contains("complete"), "{name}");
    }
}

/// A build without LibTorch computes in 32-bit floats only.
#[cfg(not(feature = "tch"))]
#[test]
fn local_workers_that_cannot_compute_the_experiment_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let toml = fixtures::experiment(dir.path(), 1);
    let text = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, format!("precision = \"bf16\"\n{text}")).unwrap();
    let (_, errors, status) = output(
        command("coordinator")
            .args(["--workers", "1", "--local", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(fixtures::csv(dir.path()))
            .arg("--experiment")
            .arg(&toml)
            .arg("--store")
            .arg(dir.path().join("store")),
    );
    assert_eq!(status.code(), Some(1), "{errors}");
    assert_names(
        &errors,
        &["bf16", "--backend tch", "local-0", "no local worker"],
    );
    // It was not tried again and again.
    assert_eq!(errors.matches("deploy/libtorch.sh").count(), 1, "{errors}");
}
