//! What the arguments are taken for.

use quartet_shared::spec::Preset;

use super::*;

fn request(args: &[&str]) -> anyhow::Result<Request> {
    Args::try_parse_from([&["coordinator"], args].concat())?.request()
}

#[test]
fn the_arguments_are_consistent() {
    Args::command().debug_assert();
}

#[test]
fn the_preset_follows_the_data() {
    assert_eq!(request(&[]).unwrap().spec, Preset::Demo.spec());
    assert_eq!(
        request(&["--data", "synthetic"]).unwrap().spec,
        Preset::Demo.spec()
    );
    assert_eq!(
        request(&["--data", "x.csv"]).unwrap().spec,
        Preset::Fer2013.spec()
    );
    let demo = request(&["--data", "x.csv", "--experiment", "demo", "--name", "mine"]).unwrap();
    assert_eq!(demo.spec.name.as_str(), "mine");
    assert_eq!(demo.spec.runs, Preset::Demo.spec().runs);
}

#[test]
fn settings_take_the_place_of_the_experiment_s() {
    let set = request(&["--set", "epochs=2", "--set", "vgg16.dropout=0.2"]).unwrap();
    assert!(!set.spec_is_explicit);
    let spec = set.new_spec().unwrap();
    assert_eq!(spec.epochs, 2);
    assert_eq!(spec.run(&"vgg16".parse().unwrap()).unwrap().dropout, 0.2);
    let wrong = request(&["--set", "epoch=2"]).unwrap();
    let error = wrong.new_spec().unwrap_err().to_string();
    assert!(error.starts_with("--set epoch=2: unknown key"), "{error}");
}

#[test]
fn paths_are_relative_to_the_experiment_s_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.toml");
    std::fs::write(&file, "").unwrap();
    let my = request(&["--experiment", file.to_str().unwrap()]).unwrap();
    assert_eq!(my.weights.folder, dir.path());
    for preset in [&[][..], &["--experiment", "demo"]] {
        assert_eq!(
            request(preset).unwrap().weights.folder,
            std::path::Path::new("")
        );
    }
}

#[test]
fn notes_and_tags_are_short_lines() {
    let noted = request(&["--note", " a line ", "--tag", "x", "--tag", "y z"]).unwrap();
    assert_eq!(noted.note.as_deref(), Some("a line"));
    assert_eq!(noted.tags, ["x", "y z"]);
    for bad in [
        &["--note", ""][..],
        &["--note", "two\nlines"],
        &["--note", &"x".repeat(1001)],
        &["--tag", "a,b"],
        &["--tag", ""],
    ] {
        assert!(request(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn timers_that_do_not_fit_each_other_are_refused() {
    let timing = |args: &[&str]| {
        Args::try_parse_from([&["coordinator"], args].concat())?
            .timing
            .timing()
    };
    let default = timing(&[]).unwrap();
    assert_eq!(format!("{default:?}"), format!("{:?}", Timing::default()));
    assert!(
        timing(&["--checkpoint-interval", "0"])
            .unwrap()
            .checkpoint_interval
            .is_zero()
    );
    for (args, named) in [
        (["--lease", "1s"], "--lease 1s"),
        (["--heartbeat-interval", "0s"], "--heartbeat-interval"),
        (["--progress-timeout", "10s"], "--progress-timeout 10s"),
        (["--lease", "100d"], "49 days"),
        (["--lease", "soon"], "--lease"),
    ] {
        let error = format!("{:#}", timing(&args).unwrap_err());
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn an_address_to_listen_on_needs_no_port() {
    for (text, address) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0", "0.0.0.0:50051"),
        ("[::1]", "[::1]:50051"),
        ("::1", "[::1]:50051"),
        ("[::1]:7", "[::1]:7"),
    ] {
        assert_eq!(listen_address(text), Ok(address.parse().unwrap()));
    }
    let local = listen_address("localhost:7").unwrap();
    assert!(local.ip().is_loopback() && local.port() == 7);
    for text in [
        "",
        "127.0.0.1:",
        "127.0.0.1:99999",
        "no host",
        ":50051",
        "50052",
    ] {
        let error = listen_address(text).unwrap_err();
        assert!(error.starts_with("use HOST:PORT"), "{text}: {error}");
    }
    let error = listen_address("nowhere.invalid").unwrap_err();
    let message = "no address is known of the host nowhere.invalid; use HOST:PORT";
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn an_unknown_preset_is_named() {
    let error = format!("{:#}", request(&["--experiment", "fer2031"]).unwrap_err());
    assert!(
        error.contains("fer2031") && error.contains("demo"),
        "{error}"
    );
}
