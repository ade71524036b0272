//! The bytes of a file, as they are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};

use crate::blocking;

/// Bytes that are read at once, and sent in one message: what a link that breaks costs, and what counts as
/// progress.
pub const CHUNK_SIZE: usize = 64 << 10;

/// All bytes from where the file stands, in chunks, read on a thread that may block.
pub fn of_file(file: File) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(Arc::new(file), |file| async {
        let reads = Arc::clone(&file);
        let read = blocking::run(move || {
            let mut chunk = Vec::with_capacity(CHUNK_SIZE);
            (&*reads).take(CHUNK_SIZE as u64).read_to_end(&mut chunk)?;
            Ok::<_, io::Error>(chunk)
        });
        let chunk = read.await.map_err(io::Error::other).flatten()?;
        Ok((!chunk.is_empty()).then(|| (chunk.into(), file)))
    })
}
