//! The coordinator as a process, whose weights are out of reach.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A coordinator that is to train on downloaded weights.
fn coordinator(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    for name in [
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HTTP_PROXY",
        "http_proxy",
    ] {
        command.env_remove(name);
    }
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--experiment",
            "fer2013",
            "--store",
        ])
        .arg(home.join("store"))
        .env("HF_HOME", home)
        .env("XDG_CONFIG_HOME", "/dev/null")
        .env_remove("QUARTET_TLS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn end(child: Child) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code(), text)
}

fn has_experiment(home: &Path) -> bool {
    home.join("store/fer2013").exists()
}

#[test]
fn a_signal_ends_a_download() {
    let home = tempfile::tempdir().unwrap();
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hub.local_addr().unwrap());
    let child = coordinator(home.path())
        .env("HF_ENDPOINT", endpoint)
        .spawn()
        .unwrap();
    // It has begun, and gets no answer.
    let _connection = hub.accept().unwrap();
    let kill = Command::new("kill")
        .args(["-s", "INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let (code, text) = end(child);
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("start it again"), "{text}");
    assert!(!has_experiment(home.path()));
}

#[test]
fn without_network_and_cache_the_way_out_is_named() {
    let home = tempfile::tempdir().unwrap();
    let child = coordinator(home.path())
        .env("HF_HUB_OFFLINE", "1")
        .spawn()
        .unwrap();
    let (code, text) = end(child);
    assert_eq!(code, Some(2), "{text}");
    let cache = home.path().join("hub").display().to_string();
    for word in [
        "timm/inception_resnet_v2.tf_in1k",
        "HF_HUB_OFFLINE",
        &cache,
        "\"none\"",
    ] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(!has_experiment(home.path()));
}
