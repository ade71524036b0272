//! The bytes of an object, as they are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{GetResult, GetResultPayload};

use crate::blocking;

/// What is read of a file at once. object_store's own stream of a file takes 8 KiB.
const CHUNK_SIZE: u64 = 1 << 20;

/// All bytes of an object, in chunks.
pub(super) fn of(object: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    match object.payload {
        GetResultPayload::File(file, _) => of_file(file)
            .map_err(|source| object_store::Error::Generic {
                store: "LocalFileSystem",
                source: source.into(),
            })
            .boxed(),
        GetResultPayload::Stream(chunks) => chunks,
    }
}

/// All bytes of a file from where it stands.
fn of_file(file: File) -> impl futures::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(Arc::new(file), |file| async {
        let reads = Arc::clone(&file);
        let read = blocking::run(move || {
            let mut chunk = Vec::new();
            (&*reads).take(CHUNK_SIZE).read_to_end(&mut chunk)?;
            Ok::<_, io::Error>(chunk)
        });
        let chunk = read.await.map_err(io::Error::other).flatten()?;
        Ok((!chunk.is_empty()).then(|| (chunk.into(), file)))
    })
}
