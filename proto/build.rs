//! Compiles the .proto files with protox, so that no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=quartet");
    let services = ["fleet", "queue", "status"].map(|name| format!("quartet/v1/{name}.proto"));
    let files = protox::compile(services, ["."])?;
    tonic_prost_build::configure()
        // Bytes of objects are handed on, not copied.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
