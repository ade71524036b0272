//! Lets programs and tests find the LibTorch that they were linked with. `quartet-engine` and `quartet-tests` use
//! this file, too.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set where feature `tch` is on.
    if let Ok(folder) = std::env::var("DEP_QUARTET_SHIM_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
