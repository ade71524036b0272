//! The binaries under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of a program of this workspace, in the profile of the running test.
///
/// `cargo test --workspace` has built it already; a test that is run by itself builds it here, from the same
/// units.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = FOLDER.get_or_init(folder).join(name);
    assert!(
        path.is_file(),
        "{} is not there; build it with `cargo build --workspace`",
        path.display()
    );
    path
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

/// Where the programs are: beside this one, or, for a test, one folder up and built there.
fn folder() -> PathBuf {
    let this = std::env::current_exe().expect("the program has a path");
    let beside = this.parent().expect("a program is in a folder");
    match beside.ends_with("deps") {
        true => build(beside.parent().expect("target/<profile>/deps/<test>")),
        false => beside.to_owned(),
    }
}

fn build(folder: &Path) -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args(["build", "--workspace", "--all-targets", "--quiet"]);
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
    assert!(status.success(), "the programs do not build");
    folder.to_owned()
}
