//! The binaries under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The path of a program of this workspace, in the profile of the running test.
///
/// `cargo test --workspace` has built it already; a test that is run by itself builds it here, from the same units.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = FOLDER.get_or_init(build).join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>")
        .to_owned();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args(["build", "--workspace", "--all-targets", "--quiet"]);
    cargo
        .arg("--target-dir")
        .arg(folder.parent().expect("target"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells a test about its own package would have build scripts run again, and all that depends on them rebuilt.
    let of_this_package = [
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
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
    folder
}
