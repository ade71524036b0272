//! Compiles `shim/` against the headers of the LibTorch that torch-sys found.

#[cfg(feature = "tch")]
use std::path::{Path, PathBuf};

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
    let include = Path::new(&lib)
        .parent()
        .expect("LibTorch has a folder")
        .join("include");
    if let Some(version) = version(&include) {
        println!("cargo:rustc-env=QUARTET_LIBTORCH_VERSION={version}");
    }
    // torch-sys' default; PyTorch has had no other since 2.7.
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to"));
    as_text(&["rows", "norm", "sum"], &out.join("kernels_source.h"));
    as_text(&["images"], &out.join("images_source.h"));
    let mut build = cc::Build::new();
    build.include(out);
    if let Some(headers) = cuda_headers(Path::new(&lib)) {
        build.define("QUARTET_CUDA", None).include(headers);
        println!("cargo:rustc-link-search=native={lib}");
        println!("cargo:rustc-link-lib=dylib=c10_cuda");
    }
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
        .include(include);
    // Each operation rounds, as on GPUs.
    let images = build
        .clone()
        .flag_if_supported("-ffp-contract=off")
        .file("shim/images.cpp")
        .compile_intermediates();
    build
        .files(
            [
                "shim", "copies", "fused", "graph", "nvrtc", "observe", "winograd",
            ]
            .map(|name| format!("shim/{name}.cpp")),
        )
        .objects(images)
        .compile("quartet_shim");
    // For the programs and tests of other crates, and for this crate's tests.
    println!("cargo:libtorch_lib={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
}

/// Writes a string of C++ with the CUDA files that NVRTC compiles when the program runs.
#[cfg(feature = "tch")]
fn as_text(names: &[&str], to: &Path) {
    let read = |name: &&str| std::fs::read_to_string(format!("shim/{name}.cu"));
    let source: String = names
        .iter()
        .map(|name| read(name).expect("the kernels can be read"))
        .collect();
    std::fs::write(to, format!("R\"cuda({source})cuda\"\n"))
        .expect("the build's folder can be written to");
}

/// CUDA's headers, which LibTorch's CUDA graphs need, for a LibTorch with CUDA: a toolkit's or those of
/// NVIDIA's wheels, which PyTorch brings in part and `deploy/libtorch.sh --pytorch` completes.
#[cfg(feature = "tch")]
fn cuda_headers(lib: &Path) -> Option<PathBuf> {
    const VARIABLES: [&str; 3] = ["QUARTET_CUDA_INCLUDE", "CUDA_HOME", "CUDA_PATH"];
    for variable in VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if !lib.join("libc10_cuda.so").exists() {
        return None;
    }
    let [given, toolkits @ ..] = VARIABLES.map(|name| std::env::var_os(name).map(PathBuf::from));
    let toolkits = toolkits
        .into_iter()
        .flatten()
        .map(|path| path.join("include"));
    // Beside PyTorch's own folder.
    let packages = lib.parent()?.parent()?.join("nvidia");
    let wheels = ["cu13/include", "cuda_runtime/include"].map(|path| packages.join(path));
    let usual = PathBuf::from("/usr/local/cuda/include");
    let mut places = given
        .into_iter()
        .chain(toolkits)
        .chain(wheels)
        .chain([usual]);
    let found = places.find(|path| {
        let has = |name: &str| path.join(name).exists();
        has("cuda_runtime_api.h") && has("crt/host_config.h")
    });
    if found.is_none() {
        println!(
            "cargo:warning=without CUDA's headers there are no CUDA graphs and no kernels of our own: \
             deploy/libtorch.sh --pytorch brings them"
        );
    }
    found
}

/// The version that LibTorch's headers name, as in 2.9.0.
#[cfg(feature = "tch")]
fn version(include: &Path) -> Option<String> {
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
