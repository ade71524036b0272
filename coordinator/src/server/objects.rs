//! Objects of the store, as workers read them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use quartet_proto::v1;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_store::{PIECE_SIZE, PIECES_ASKED_FOR, Store, StoreError, pieces};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Status;

use super::shell::Shell;

/// Pieces of objects that are in memory for all downloads together: 32 MiB.
const PIECES_IN_MEMORY: usize = (32 << 20) / PIECE_SIZE;

/// How long a reader may leave the next message unread.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads an object that workers read, and no other: what a client asks for must not end the coordinator.
pub(super) async fn read(
    shell: Arc<Shell>,
    key: String,
    offset: u64,
) -> Result<impl Stream<Item = Result<v1::GetObjectResponse, Status>> + Send + use<>, Status> {
    let experiment = &shell.experiment;
    if !experiment.layout.is_for_workers(&key) {
        return Err(Status::permission_denied(format!(
            "{key:?} is not an object that workers read"
        )));
    }
    let begun = shell.downloads.begin(&experiment.store, &key, offset);
    let messages = match begun.await {
        Ok(messages) => messages,
        Err(error) => {
            // Nothing is there if the store itself is gone; that is no failure of the task.
            if matches!(error, StoreError::NotFound { .. }) {
                shell.verify_leadership().await?;
            }
            return Err(shell.store_failed(error));
        }
    };
    Ok(messages.map(move |message| match message {
        Ok(chunk) => Ok(v1::GetObjectResponse { chunk }),
        Err(DownloadError::Store(error)) => Err(shell.store_failed(error)),
        Err(error @ DownloadError::Unread) => Err(Status::deadline_exceeded(error.to_string())),
    }))
}

/// Why a download breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nothing was read for {} s", READ_TIMEOUT.as_secs())]
    Unread,
}

/// The memory that all downloads of a process share. They get it a piece at a time, in the order in which
/// they ask, so that slow readers keep nobody from reading.
#[derive(Clone)]
pub(super) struct Downloads {
    memory: Arc<Semaphore>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self::new(PIECES_IN_MEMORY)
    }
}

impl Downloads {
    fn new(pieces: usize) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(pieces)),
        }
    }

    /// The bytes of an object after the first `offset` of them.
    async fn begin(&self, store: &Store, key: &str, offset: u64) -> Result<Download, StoreError> {
        let size = store.size(key).await?;
        let (store, memory) = (store.clone(), Arc::clone(&self.memory));
        let key: Arc<str> = key.into();
        let pieces = stream::iter(pieces(offset..size)).map(move |piece| {
            let (store, memory, key) = (store.clone(), Arc::clone(&memory), Arc::clone(&key));
            async move {
                // The semaphore is never closed.
                let memory = memory.acquire_owned().await.ok();
                let bytes = store.read_piece(&key, piece).await?;
                Ok(Piece {
                    bytes,
                    _memory: memory,
                })
            }
        });
        Ok(Download::new(pieces.buffered(PIECES_ASKED_FOR).boxed()))
    }
}

/// A piece of an object, and the right to have it in memory.
struct Piece {
    bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

/// An object on its way to a reader. It ends, and lets go of its memory, when the reader does not read.
struct Download {
    state: Arc<Mutex<State>>,
    watchdog: AbortHandle,
}

struct State {
    /// `None` after the end.
    pieces: Option<BoxStream<'static, Result<Piece, StoreError>>>,
    /// What is being sent. It stays until the next message is asked for: until then the last one is in the
    /// connection's buffer.
    piece: Option<Piece>,
    /// When the last message was given; `None` while the reader waits for one.
    given: Option<Instant>,
    /// The end is one that the reader has not been told of.
    unread: bool,
}

impl Download {
    fn new(pieces: BoxStream<'static, Result<Piece, StoreError>>) -> Self {
        let state = Arc::new(Mutex::new(State {
            pieces: Some(pieces),
            piece: None,
            given: None,
            unread: false,
        }));
        let watchdog = tokio::spawn(watch(Arc::downgrade(&state))).abort_handle();
        Self { state, watchdog }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

impl Stream for Download {
    type Item = Result<Bytes, DownloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        lock(&self.state).poll_message(context)
    }
}

impl State {
    fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, DownloadError>>> {
        if std::mem::take(&mut self.unread) {
            return Poll::Ready(Some(Err(DownloadError::Unread)));
        }
        loop {
            if let Some(Piece { bytes, .. }) = &mut self.piece
                && !bytes.is_empty()
            {
                let message = bytes.split_to(bytes.len().min(CHUNK_SIZE));
                self.given = Some(Instant::now());
                return Poll::Ready(Some(Ok(message)));
            }
            (self.piece, self.given) = (None, None);
            let Some(pieces) = &mut self.pieces else {
                return Poll::Ready(None);
            };
            match ready!(pieces.poll_next_unpin(context)) {
                Some(Ok(piece)) => self.piece = Some(piece),
                Some(Err(error)) => {
                    self.pieces = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => self.pieces = None,
            }
        }
    }

    /// When to look again whether the reader reads; `None` if it has not, and the download has ended.
    fn check(&mut self, now: Instant) -> Option<Instant> {
        let due = self.given.unwrap_or(now) + READ_TIMEOUT;
        if due > now {
            return Some(due);
        }
        (self.pieces, self.piece, self.unread) = (None, None, true);
        None
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a download that is not read. Nobody asks it for anything, so that it cannot do that itself.
async fn watch(state: Weak<Mutex<State>>) {
    let mut due = Instant::now() + READ_TIMEOUT;
    loop {
        tokio::time::sleep_until(due).await;
        let Some(state) = state.upgrade() else { return };
        match lock(&state).check(Instant::now()) {
            Some(next) => due = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
