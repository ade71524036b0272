//! Wrong input: a clear message on stderr, nothing on stdout, and the right exit status.

use std::fs;

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
