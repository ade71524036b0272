//! Lets programs and tests find the LibTorch that they were linked with. `quartet-worker` and
//! `quartet-tests` use this file, too.

pub(crate) fn main() {
    // Set where feature `tch` is on. (This file's own path would be another one in each crate.)
    println!("cargo:rerun-if-env-changed=DEP_QUARTET_SHIM_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_QUARTET_SHIM_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
