//! Files of the Hugging Face hub, by way of the cache that the hub's own tools use.
//!
//! hf-hub makes one attempt at a download and keeps what arrived. Around it stands what it leaves out: the
//! lookup as Python's `huggingface_hub` does it, timeouts, retries, and the comparison of checksums.

mod attempt;
mod cache;
mod config;
mod failure;
mod problem;

use std::path::{Path, PathBuf};
use std::time::Instant;

use quartet_shared::blob::Blob;
use quartet_shared::human;
use quartet_shared::spec::HubFile;
use tokio::sync::watch;

use super::blob_of;
use super::download_progress::{Amount, DownloadProgress};
use cache::Cache;
use failure::{Failure, Retry};

pub use config::{HubConfig, Pace, Token};
pub use problem::{HubProblem, Missing};

/// Downloads of a file whose bytes turn out to be wrong.
const DOWNLOADS: u32 = 2;

/// The address of a file.
#[must_use]
pub fn url(file: &HubFile, endpoint: &str) -> String {
    let HubFile { repository, .. } = file;
    format!(
        "{endpoint}/{repository}/resolve/{}/{}",
        file.revision(),
        file.file()
    )
}

/// Brings a file into the cache, unless it is there, and gives back where it lies and its checksum. A file of
/// the cache is used without asking the network. Large files are published with their SHA-256; where the
/// cache's copy has another, it is deleted and downloaded again.
pub(super) async fn resolve(
    file: &HubFile,
    config: &HubConfig,
    progress: &mut DownloadProgress,
) -> Result<(PathBuf, Blob), HubProblem> {
    let folder = config.cache.as_deref().ok_or(HubProblem::NoCache)?;
    let cache = Cache::new(folder, &file.repository);
    let mut downloads = 0;
    loop {
        let path = match cache.find(file) {
            Some(path) => path,
            None if config.offline => return Err(HubProblem::Offline),
            None => {
                downloads += 1;
                download(file, folder, config, &cache, progress).await?
            }
        };
        let blob = blob_of(&path).await.map_err(HubProblem::Cache)?;
        let found = blob.sha256;
        let expected = match cache::published_checksum(&path) {
            Some(expected) if expected != found => expected,
            _ => return Ok((path, blob)),
        };
        let damaged = HubProblem::Damaged { found, expected };
        if config.offline {
            return Err(damaged);
        }
        cache::remove(&path).map_err(HubProblem::Cache)?;
        if downloads == DOWNLOADS {
            return Err(damaged);
        }
        progress.note(&format!("{damaged}; downloading it again"));
    }
}

/// Downloads a file, going on where an earlier attempt of this or another process ended. Gives up when
/// several attempts in a row began at the same place.
///
/// The crate `backon` counts all attempts alike; here an attempt that got further restores the budget, and
/// waiting for another process costs nothing.
async fn download(
    file: &HubFile,
    folder: &Path,
    config: &HubConfig,
    cache: &Cache,
    progress: &mut DownloadProgress,
) -> Result<PathBuf, HubProblem> {
    let (mut failures, mut furthest, mut is_waiting) = (0, 0, false);
    loop {
        let (seen, amounts) = watch::channel(Amount::default());
        let attempt = attempt::download(file.clone(), folder.to_owned(), config.clone(), seen);
        let (result, kept) = watched(attempt, amounts, progress).await;
        let Failure { problem, retry, .. } = match result {
            Ok(()) => {
                let missing = || HubProblem::Unexpected("another file than asked for".to_owned());
                return cache.find(file).ok_or_else(missing);
            }
            Err(failure) => failure,
        };
        match retry {
            Retry::Never => return Err(problem),
            Retry::Locked => {
                if let Some(path) = cache.find(file) {
                    return Ok(path);
                }
                if !std::mem::replace(&mut is_waiting, true) {
                    progress.note("waiting for another process that downloads it");
                }
            }
            Retry::Later => {
                failures = if kept > furthest { 1 } else { failures + 1 };
                furthest = furthest.max(kept);
                if failures >= config.pace.attempts {
                    return Err(problem);
                }
                let pause = config.pace.pause * 3_u32.pow(failures - 1);
                progress.note(&format!(
                    "{problem}; trying again in {}",
                    human::duration(pause)
                ));
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Waits for an attempt and shows how far it is; gives back with how many bytes it began, too.
async fn watched<T>(
    attempt: impl Future<Output = T>,
    mut amounts: watch::Receiver<Amount>,
    progress: &mut DownloadProgress,
) -> (T, u64) {
    tokio::pin!(attempt);
    loop {
        tokio::select! {
            result = &mut attempt => {
                let kept = amounts.borrow().kept;
                return (result, kept);
            }
            Ok(()) = amounts.changed() => {
                let amount = *amounts.borrow_and_update();
                progress.show(amount, Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests;
