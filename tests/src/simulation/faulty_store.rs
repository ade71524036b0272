//! An object store in memory that is slow, fails, and lies about what it has done.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use quartet_store::Store;

use super::dice::Dice;

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It works, within a few milliseconds.
    Well,
    /// It takes a second for everything.
    Slow,
    /// One call in three fails, after or before it had an effect.
    Flaky,
    /// Every call fails.
    Down,
    /// It works, but that nothing can be deleted.
    Undeletable,
    /// It works, but that one creation in two loses against a writer who does not write either, as S3 may
    /// have it (409).
    Contested,
}

/// The store. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct FaultyStore {
    inner: Arc<InMemory>,
    mood: Arc<AtomicU64>,
    dice: Arc<Dice>,
    failures: Arc<AtomicU64>,
    conflicts: Arc<AtomicU64>,
    damaged: Arc<Mutex<Vec<String>>>,
}

const MOODS: [Mood; 6] = [
    Mood::Well,
    Mood::Slow,
    Mood::Flaky,
    Mood::Down,
    Mood::Undeletable,
    Mood::Contested,
];

impl FaultyStore {
    /// The same objects in a store that works.
    pub(super) fn healthy(&self) -> Store {
        Store::from_objects("simulated", self.inner.clone())
    }

    /// An empty store that works.
    #[must_use]
    pub(super) fn new(dice: Arc<Dice>) -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            mood: Arc::default(),
            dice,
            failures: Arc::default(),
            conflicts: Arc::default(),
            damaged: Arc::default(),
        }
    }

    /// Changes how it behaves.
    pub(super) fn set(&self, mood: Mood) {
        let index = MOODS.iter().position(|known| *known == mood);
        self.mood
            .store(index.unwrap_or(0) as u64, Ordering::Relaxed);
    }

    /// Calls that failed so far.
    #[must_use]
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Creations so far that lost against nobody.
    #[must_use]
    pub(super) fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Changes a byte of an object; whether there was one to change.
    pub(super) async fn damage(&self, key: &str) -> bool {
        let path = Path::from(key);
        let Ok(object) = self.inner.get(&path).await else {
            return false;
        };
        let Ok(bytes) = object.bytes().await else {
            return false;
        };
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        let Some(byte) = bytes.get_mut(middle) else {
            return false;
        };
        *byte ^= 1;
        let damaged = self.inner.put(&path, bytes.into()).await.is_ok();
        if damaged {
            self.lock_damaged().push(key.to_owned());
        }
        damaged
    }

    /// Whether a byte of this object was changed.
    pub(super) fn is_damaged(&self, key: &str) -> bool {
        self.lock_damaged().iter().any(|damaged| damaged == key)
    }

    fn lock_damaged(&self) -> MutexGuard<'_, Vec<String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object's bytes, whatever the mood.
    pub(super) async fn bytes(&self, key: &str) -> Option<Bytes> {
        let object = self.inner.get(&Path::from(key)).await.ok()?;
        object.bytes().await.ok()
    }

    /// The keys of a folder, whatever the mood.
    pub(super) async fn keys(&self, folder: &str) -> Vec<String> {
        let objects = self.inner.list(Some(&Path::from(folder)));
        let mut keys: Vec<_> = objects
            .filter_map(|object| async { Some(object.ok()?.location.to_string()) })
            .collect()
            .await;
        keys.sort_unstable();
        keys
    }

    fn mood(&self) -> Mood {
        MOODS[self.mood.load(Ordering::Relaxed) as usize]
    }

    fn error(&self) -> object_store::Error {
        self.failures.fetch_add(1, Ordering::Relaxed);
        object_store::Error::Generic {
            store: "simulated",
            source: "it does not answer".into(),
        }
    }

    /// Waits; whether the call fails before it has an effect, and after it.
    async fn weather(&self) -> (bool, bool) {
        let mood = self.mood();
        let wait = match mood {
            Mood::Well | Mood::Flaky | Mood::Undeletable | Mood::Contested => {
                self.dice.within(1..20)
            }
            Mood::Slow => 1000,
            Mood::Down => 500,
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        match mood {
            Mood::Well | Mood::Slow | Mood::Undeletable | Mood::Contested => (false, false),
            Mood::Flaky => (self.dice.chance(0.17), self.dice.chance(0.17)),
            Mood::Down => (true, true),
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let (before, after) = self.weather().await;
        if before {
            return Err(self.error());
        }
        let done = call.await;
        if after { Err(self.error()) } else { done }
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[tonic::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let creates = options.mode == PutMode::Create;
        if creates && self.mood() == Mood::Contested && self.dice.chance(0.5) {
            self.conflicts.fetch_add(1, Ordering::Relaxed);
            return Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: "conflict".into(),
            });
        }
        self.call(self.inner.put_opts(location, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call(self.inner.put_multipart_opts(location, options))
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = locations.then(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                if this.mood() == Mood::Undeletable {
                    return Err(this.error());
                }
                this.call(this.inner.delete(&location)).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            match this.weather().await {
                (false, false) => this.inner.list(prefix.as_ref()),
                _ => futures::stream::iter([Err(this.error())]).boxed(),
            }
        };
        futures::stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(self.inner.copy_opts(from, to, options)).await
    }
}
