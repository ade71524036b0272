//! Stores that cannot be used: a clear error at once.

use quartet_tests::processes::output;
use quartet_tests::programs::command;
use quartet_tests::s3::{BUCKET, S3, environment};

/// Starts a coordinator that must refuse the store; its message.
fn refused(server: &S3, location: &str) -> String {
    let (text, errors, status) = output(
        command("coordinator")
            .args(["--listen", "127.0.0.1:0", "--store", location])
            .envs(environment(server.address())),
    );
    assert_eq!(status.code(), Some(2), "{errors}");
    assert_eq!(text, "", "nothing but the error");
    assert!(errors.contains(location), "the store is named: {errors}");
    errors
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3::start(&dir.path().join("s3.log"));
    let message = refused(&server, "s3://no-such-bucket/prefix").to_lowercase();
    assert!(message.contains("bucket does not exist"), "{message}");
}

#[test]
fn wrong_credentials_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3::start_locked(&dir.path().join("s3.log"));
    let message = refused(&server, &format!("s3://{BUCKET}/prefix")).to_lowercase();
    assert!(message.contains("access key"), "{message}");
}
