//! Compiles `shim/shim.cpp` against the headers of the LibTorch that torch-sys found.

fn main() {
    #[cfg(feature = "tch")]
    shim();
}

#[cfg(feature = "tch")]
fn shim() {
    println!("cargo:rerun-if-changed=shim/shim.cpp");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    // Set by torch-sys, which has `links = "tch"`.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where LibTorch is");
    let include = std::path::Path::new(&lib)
        .parent()
        .expect("LibTorch has a folder")
        .join("include");
    // torch-sys' default; PyTorch has had no other since 2.7.
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        // Those of LibTorch's headers are many.
        .warnings(false)
        .include(include)
        .file("shim/shim.cpp")
        .compile("quartet_shim");
    // For the programs and tests of other crates, and for this crate's tests.
    println!("cargo:libtorch_lib={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
}
