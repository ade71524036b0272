//! Data on their way into a store: packed, with their pixels in a temporary file.

use std::io;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use quartet_shared::blob::{Blob, BlobHasher, BlobRef, Checksum};
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::dataset::Dataset;
use quartet_shared::{blocking, human};
use quartet_store::{Store, layout};
use tokio::sync::mpsc;

use crate::data::{self, Options, Source};
use crate::fingerprint;

/// What failed where images cannot be read again.
const CANNOT_READ: &str = "cannot read the temporary file of the images";

/// Chunks that are read before they are asked for.
const CHUNKS_AHEAD: usize = 16;

/// Data to be packed, whose pixels are in a temporary file.
#[derive(Debug)]
pub struct Packed {
    dataset: Dataset,
    /// Their size and checksum when packed.
    pub blob: Blob,
    /// What they are, for people.
    pub summary: String,
    /// What the source looked like before it was read.
    pub fingerprint: Option<Checksum>,
}

/// Reads the data and finds out what they are when packed, off the asynchronous threads.
///
/// # Errors
/// The data cannot be read ([`data::DataError`]), or there is no room for them.
pub async fn pack(source: Source, options: Options) -> anyhow::Result<Packed> {
    let packed = blocking::run(move || read(&source, options));
    packed.await.context("reading the data panicked")?
}

fn read(source: &Source, options: Options) -> anyhow::Result<Packed> {
    let started = std::time::Instant::now();
    // Before they are read: what changes meanwhile is a change.
    let fingerprint = fingerprint(source, &options).ok();
    let options = Options {
        spool: true,
        ..options
    };
    let loaded = data::load(source, &options)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let dataset = loaded.dataset;
    let [train, valid, test] = dataset.splits.each_ref().map(|images| images.labels.len());
    let mut hasher = BlobHasher::default();
    for piece in dataset.pieces()? {
        hasher.update(&piece.context(CANNOT_READ)?);
    }
    let blob = hasher.finish();
    tracing::info!(
        source = %source,
        train,
        valid,
        test,
        skipped = loaded.skipped,
        images = %dataset.shape(),
        size = %human::size(blob.size),
        took = %human::duration(started.elapsed()),
        "packed the data"
    );
    let shape = dataset.shape();
    let mut summary = format!(
        "{source}{options}: {train} training, {valid} validation, {test} test images of {shape}"
    );
    if loaded.skipped > 0 {
        summary.push_str(&format!(", {} skipped", loaded.skipped));
    }
    Ok(Packed {
        dataset,
        blob,
        summary,
        fingerprint,
    })
}

impl Packed {
    /// The packed bytes, in chunks.
    pub fn into_chunks(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            let pieces = match self.dataset.pieces() {
                Ok(pieces) => pieces,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            for piece in pieces {
                let mut piece = match piece {
                    Ok(piece) => Bytes::from(piece),
                    Err(error) => return drop(sender.blocking_send(Err(error))),
                };
                while !piece.is_empty() {
                    let chunk = piece.split_to(piece.len().min(CHUNK_SIZE));
                    if sender.blocking_send(Ok(chunk)).is_err() {
                        return;
                    }
                }
            }
        });
        let next = |mut receiver: mpsc::Receiver<_>| async move {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        };
        stream::unfold(receiver, next).boxed()
    }

    /// Puts the data into the store, unless it has them.
    ///
    /// # Errors
    /// The images cannot be read again, or the store fails.
    pub async fn put(self, store: &Store) -> anyhow::Result<BlobRef> {
        let Self { dataset, blob, .. } = self;
        let key = layout::dataset(blob.sha256);
        if !store.exists(&key).await? {
            let mut upload = store.upload(&key);
            for piece in dataset.pieces()? {
                upload.write(piece.context(CANNOT_READ)?.into()).await?;
            }
            if let Err(found) = upload.finish(blob).await? {
                bail!("the packed data changed while it was written: {found} instead of {blob}");
            }
        }
        Ok(BlobRef { key, blob })
    }
}
