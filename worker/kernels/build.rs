//! Compiles `shim/` against the headers of the LibTorch that torch-sys found.

fn main() {
    #[cfg(feature = "tch")]
    shim();
}

#[cfg(feature = "tch")]
fn shim() {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    // deploy/libtorch.sh says there which PyTorch it takes.
    println!("cargo:rerun-if-env-changed=LIBTORCH_BYPASS_VERSION_CHECK");
    // Set by torch-sys, which has `links = "tch"`.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where LibTorch is");
    let include = std::path::Path::new(&lib)
        .parent()
        .expect("LibTorch has a folder")
        .join("include");
    if let Some(version) = version(&include) {
        println!("cargo:rustc-env=QUARTET_LIBTORCH_VERSION={version}");
    }
    // torch-sys' default; PyTorch has had no other since 2.7.
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut build = cc::Build::new();
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // LibTorch's threads; torch-sys links the library.
        build.flag("-fopenmp");
    }
    build
        .cpp(true)
        // Whatever the profile: a debug build, too, trains.
        .opt_level(3)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        // Those of LibTorch's headers are many.
        .warnings(false)
        .include(include)
        .files(["shim/shim.cpp", "shim/winograd.cpp"])
        .compile("quartet_shim");
    // For the programs and tests of other crates, and for this crate's tests.
    println!("cargo:libtorch_lib={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
}

/// The version that LibTorch's headers name, as in 2.9.0.
#[cfg(feature = "tch")]
fn version(include: &std::path::Path) -> Option<String> {
    // Where newer ones have it, then older ones.
    let headers = ["headeronly/version.h", "csrc/api/include/torch/version.h"];
    headers.iter().find_map(|header| {
        let text = std::fs::read_to_string(include.join("torch").join(header)).ok()?;
        let part = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| {
                let value = line.strip_prefix(&format!("#define TORCH_VERSION_{name} "))?;
                value.trim().parse::<u32>().ok()
            })
        };
        let [major, minor, patch] = ["MAJOR", "MINOR", "PATCH"].map(part);
        Some(format!("{}.{}.{}", major?, minor?, patch?))
    })
}
