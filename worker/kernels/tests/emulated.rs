//! The CUDA kernels, whose threads a CPU plays.

use std::path::Path;
use std::process::Command;

#[test]
fn kernels_compute_their_formulas() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    for bf16 in ["0", "1"] {
        let program = folder.join(format!("emulated-{bf16}"));
        let compiled = Command::new(&compiler)
            .args(["-std=c++17", "-O2", "-pthread"])
            .arg(format!("-DBF16={bf16}"))
            .arg(here.join("emulated.cpp"))
            .arg("-o")
            .arg(&program)
            .output();
        let compiled = compiled.unwrap_or_else(|error| panic!("{compiler}: {error}"));
        let errors = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{compiler}: {errors}");
        let checked = Command::new(&program).output().unwrap();
        let wrong = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "BF16={bf16}: {wrong}");
    }
}
