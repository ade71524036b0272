//! Lets the programs find LibTorch, and tells them which commit they are built from.

use std::process::Command;

#[path = "engine/build.rs"]
mod libtorch;

/// Names the commit where there is no Git.
const COMMIT: &str = "QUARTET_COMMIT";

fn main() {
    libtorch::main();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=engine/build.rs");
    println!("cargo:rerun-if-env-changed={COMMIT}");
    if std::env::var_os(COMMIT).is_some() {
        return;
    }
    // Sources that lie in another project's repository are not of its commit.
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("worker/") {
        return;
    }
    // Written at every change of what is checked out.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo:rustc-env={COMMIT}={commit}");
    }
}

/// What Git answers in this package's folder, if it can.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
