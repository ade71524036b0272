//! Quartet's gRPC protocol, generated from `quartet/v1/*.proto`.
//!
//! Written by hand are only what both sides must agree on and [`channel`], the one builder of client
//! channels. The domain types and their conversions live in `quartet-shared`.

pub mod channel;

/// The version of the protocol that this build speaks; checked when a worker attaches.
pub const PROTOCOL_VERSION: u32 = 7;

/// Largest HTTP/2 frame in bytes that both sides take. HTTP/2's default of 16 KiB would cut up the messages
/// in which objects come.
pub const MAX_FRAME_SIZE: u32 = 1 << 20;

/// Largest message in bytes that a coordinator takes: 1 MiB, for the report of an evaluation with many
/// classes, and what is around it.
pub const MAX_MESSAGE_SIZE: usize = (1 << 20) + (64 << 10);

/// Largest snapshot in bytes that is taken from a coordinator: one of ten thousand workers has a fifth of it.
pub const MAX_SNAPSHOT_SIZE: usize = 64 << 20;

/// Messages and services of package `quartet.v1`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("quartet.v1");
}
