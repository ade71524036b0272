//! Compiles the .proto files with protox, so that no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=quartet");
    let files = protox::compile(["quartet/v1/fleet.proto", "quartet/v1/status.proto"], ["."])?;
    tonic_prost_build::configure()
        // Bytes of objects are handed on, not copied.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
