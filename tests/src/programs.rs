//! The binaries under test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The path of a program of this workspace, in the profile of the running test or program.
///
/// `cargo test --workspace` has built it already; a test that is run by itself builds it here, from the same
/// units, and no other program: tests without workers need no LibTorch and no burn.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let this = std::env::current_exe().expect("the program has a path");
    let beside = this.parent().expect("a program is in a folder");
    let folder = match beside.ends_with("deps") {
        true => beside.parent().expect("target/<profile>/deps/<test>"),
        false => beside,
    };
    if folder != beside {
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if built.insert(name.to_owned()) {
            build(name, &this, folder);
        }
    }
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there; build it with `cargo build --workspace`",
        path.display()
    );
    path
}

/// Starts a program of this workspace, which finds no keys unless it is told of some.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    without_keys(&mut command);
    command
}

/// Has a program find no keys of whoever runs the tests, and make none for itself.
pub fn without_keys(command: &mut Command) {
    command
        .env("XDG_CONFIG_HOME", "/dev/null")
        .env_remove("QUARTET_TLS");
}

/// The features that this was built with: the programs have the same.
const FEATURES: &[&str] = &[
    #[cfg(feature = "chaos")]
    "quartet-tests/chaos",
    #[cfg(feature = "parity")]
    "quartet-tests/parity",
    #[cfg(feature = "tch")]
    "quartet-tests/tch",
];

fn build(name: &str, test: &Path, folder: &Path) {
    let test = test.file_stem().and_then(|stem| stem.to_str());
    let test = test.and_then(|stem| stem.rsplit_once('-'));
    let (test, _) = test.expect("a test is a file <name>-<hash>");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // With the running test, so that features of dev-dependencies are the same.
    cargo.args([
        "build",
        "--workspace",
        "--quiet",
        "--bin",
        name,
        "--test",
        test,
    ]);
    cargo.arg("--features").arg(FEATURES.join(","));
    cargo
        .arg("--target-dir")
        .arg(folder.parent().expect("target"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells a test about its own package would have build scripts run again, and all that depends
    // on them rebuilt.
    let of_this_package = [
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
        "OUT_DIR",
    ];
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy();
        if of_this_package
            .iter()
            .any(|prefix| known.starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "{name} does not build");
}
