//! One attempt at a download, with hf-hub.
//!
//! hf-hub requests a file in parts, each by a task of its own that outlives a failed or dropped download and
//! goes on downloading, and it knows no timeouts. So an attempt has a runtime of its own, which takes the
//! tasks with it, and is watched.

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::api::tokio::{Api, ApiBuilder, Metadata, Progress};
use hf_hub::{Repo, RepoType};
use quartet_shared::spec::HubFile;
use tokio::sync::{oneshot, watch};

use super::cache;
use super::failure::{Failure, Place};
use super::{HubConfig, Token};
use crate::weights::download_progress::Amount;

/// How long the end of an attempt waits for a name lookup or a write that is under way.
const LINGER: Duration = Duration::from_secs(1);

/// Downloads a file into the cache at `folder`. What an attempt leaves unfinished, the next one goes on with.
/// Dropped, it ends.
pub(super) async fn download(
    file: HubFile,
    folder: PathBuf,
    config: HubConfig,
    seen: watch::Sender<Amount>,
) -> Result<(), Failure> {
    let (_alive, dropped) = oneshot::channel::<()>();
    let attempt = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::cache)?;
        let result = runtime.block_on(async {
            tokio::select! {
                result = run(&file, folder, &config, seen) => result,
                _ = dropped => Err(Failure::stopped()),
            }
        });
        runtime.shutdown_timeout(LINGER);
        result
    });
    attempt.await.unwrap_or_else(|_| Err(Failure::stopped()))
}

async fn run(
    file: &HubFile,
    folder: PathBuf,
    config: &HubConfig,
    seen: watch::Sender<Amount>,
) -> Result<(), Failure> {
    let cache = hf_hub::Cache::new(folder);
    let repo = Repo::with_revision(
        file.repository.clone(),
        RepoType::Model,
        file.revision().to_owned(),
    );
    // hf-hub sends the token to the hub's storage as well, which is another party: only where it does not go
    // without.
    let mut token = None;
    let mut opened = open(file, &repo, &cache, config, token).await;
    if opened.as_ref().is_err_and(|failure| failure.is_refusal) && config.token.is_some() {
        token = config.token.as_ref();
        opened = open(file, &repo, &cache, config, token).await;
    }
    let (api, metadata) = opened?;

    let cache = cache.repo(repo.clone());
    let path = cache.pointer_path(metadata.commit_hash()).join(file.file());
    cache::unlink_dangling(&path).map_err(Failure::cache)?;
    // hf-hub would download it again: another revision has the same file.
    if cache.blob_path(metadata.etag()).is_file() {
        let depth = 1 + file.file().split('/').count();
        return cache::link(&path, depth, metadata.etag())
            .and_then(|()| cache.create_ref(metadata.commit_hash()))
            .map_err(Failure::cache);
    }
    let place = Place::new(config, token.is_some());
    let mut amounts = seen.subscribe();
    let remote = api.repo(repo);
    let progress = Seen {
        amounts: seen.clone(),
        has_begun: false,
    };
    let download = remote.download_with_progress(file.file(), progress);
    tokio::pin!(download);
    loop {
        tokio::select! {
            result = &mut download => return result.map(drop).map_err(|error| place.failure(error)),
            moved = tokio::time::timeout(config.pace.stall, amounts.changed()) => {
                if moved.is_err() {
                    return Err(place.silent(config.pace.stall));
                }
            }
        }
    }
}

/// Asks the hub for a file's commit, etag and size.
async fn open(
    file: &HubFile,
    repo: &Repo,
    cache: &hf_hub::Cache,
    config: &HubConfig,
    token: Option<&Token>,
) -> Result<(Api, Metadata), Failure> {
    let place = Place::new(config, token.is_some());
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(config.endpoint.clone())
        .with_token(token.map(|token| token.0.clone()))
        .with_user_agent("quartet", env!("CARGO_PKG_VERSION"))
        .with_chunk_size(Some(config.pace.part))
        .with_progress(false)
        .build()
        .map_err(|error| place.failure(error))?;
    let url = api.repo(repo.clone()).url(file.file());
    let answer = tokio::time::timeout(config.pace.answer, api.metadata(&url)).await;
    match answer.map_err(|_| place.silent(config.pace.answer))? {
        Ok(metadata) => Ok((api, metadata)),
        Err(error) => {
            let mut failure = place.failure(error);
            if failure.is_refusal {
                failure.refine(&error_code(&api, &url, config.pace.answer).await);
            }
            Err(failure)
        }
    }
}

/// The hub's word for why it refused, from a header that hf-hub does not pass on.
async fn error_code(api: &Api, url: &str, limit: Duration) -> String {
    let answer = tokio::time::timeout(limit, api.client().head(url).send()).await;
    let code = |header: &[u8]| String::from_utf8_lossy(header).into_owned();
    match answer {
        Ok(Ok(answer)) => answer
            .headers()
            .get("x-error-code")
            .map_or_else(String::new, |header| code(header.as_bytes())),
        _ => String::new(),
    }
}

/// Passes on how far hf-hub is. Its first update is what an earlier attempt left.
#[derive(Clone)]
struct Seen {
    amounts: watch::Sender<Amount>,
    has_begun: bool,
}

impl Progress for Seen {
    async fn init(&mut self, size: usize, _file: &str) {
        self.amounts.send_replace(Amount {
            total: size as u64,
            ..Amount::default()
        });
    }

    async fn update(&mut self, size: usize) {
        let size = size as u64;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        self.amounts.send_modify(|amount| {
            amount.done += size;
            if is_first {
                amount.kept = size;
            }
        });
    }

    async fn finish(&mut self) {}
}
