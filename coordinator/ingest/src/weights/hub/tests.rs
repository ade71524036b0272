mod trouble;

use std::fs;
use std::io;
use std::time::Duration;

use quartet_shared::blob::Checksum;

use super::*;
use crate::weights::tests::server::{COMMIT, FakeHub, Fault, weights};
use quartet_shared::terminal::Mode;

const REPOSITORY: &str = "timm/vgg16.tv_in1k";
const FILE: &str = "model.safetensors";
const PART: usize = 16_000;
/// Six parts, and a short one.
const SIZE: usize = 6 * PART + 1000;

/// A hub with one file, an empty cache, and somebody who wants the file.
struct Harness {
    hub: FakeHub,
    dir: tempfile::TempDir,
    config: HubConfig,
    bytes: Vec<u8>,
}

fn file(revision: Option<&str>) -> HubFile {
    HubFile {
        repository: REPOSITORY.to_owned(),
        revision: revision.map(str::to_owned),
        file: None,
    }
}

impl Harness {
    async fn new() -> Self {
        let hub = FakeHub::start().await;
        let bytes = weights(SIZE);
        hub.publish(REPOSITORY, "main", FILE, &bytes);
        let dir = tempfile::tempdir().unwrap();
        let config = HubConfig {
            cache: Some(dir.path().to_owned()),
            endpoint: hub.endpoint.clone(),
            token: None,
            offline: false,
            pace: Pace {
                part: PART,
                attempts: 3,
                pause: Duration::from_millis(1),
                ..Pace::default()
            },
        };
        Self {
            hub,
            dir,
            config,
            bytes,
        }
    }

    async fn resolve(&self, file: &HubFile) -> Result<(PathBuf, Blob), HubProblem> {
        let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
        resolve(file, &self.config, &mut progress).await
    }

    /// Resolves the file, whose bytes must be right.
    async fn succeed(&self) -> PathBuf {
        let (path, blob) = self.resolve(&file(None)).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), self.bytes);
        assert_eq!(blob.sha256, Checksum::of(&self.bytes));
        path
    }

    async fn fail(&self) -> HubProblem {
        self.resolve(&file(None)).await.unwrap_err()
    }

    fn model(&self) -> PathBuf {
        self.dir.path().join("models--timm--vgg16.tv_in1k")
    }

    fn blob(&self) -> PathBuf {
        let name = Checksum::of(&self.bytes).to_string();
        self.model().join("blobs").join(name)
    }
}

#[tokio::test]
async fn a_download_lies_in_the_cache_as_the_hub_s_tools_have_it() {
    let harness = Harness::new().await;
    let path = harness.succeed().await;
    let model = harness.model();
    assert_eq!(path, model.join("snapshots").join(COMMIT).join(FILE));
    assert_eq!(
        path.canonicalize().unwrap(),
        harness.blob().canonicalize().unwrap()
    );
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    let starts: Vec<usize> = (0..7).map(|i| i * PART).collect();
    assert_eq!(harness.hub.parts(), starts);
}

#[tokio::test]
async fn what_is_in_the_cache_is_used_without_the_network() {
    let mut harness = Harness::new().await;
    harness.succeed().await;
    let requests = harness.hub.seen().len();
    harness.succeed().await;
    harness.config.offline = true;
    harness.succeed().await;
    // Python's tools keep no reference for a commit.
    fs::remove_dir_all(harness.model().join("refs")).unwrap();
    harness.resolve(&file(Some(COMMIT))).await.unwrap();
    assert_eq!(harness.hub.seen().len(), requests);
    assert!(matches!(harness.fail().await, HubProblem::Offline));
}

#[tokio::test]
async fn a_file_that_another_revision_has_is_not_downloaded_again() {
    let harness = Harness::new().await;
    harness.succeed().await;
    let model = harness.model();
    fs::rename(
        model.join("snapshots").join(COMMIT),
        model.join("snapshots/older"),
    )
    .unwrap();
    fs::write(model.join("refs/main"), "gone").unwrap();
    let parts = harness.hub.parts();
    harness.succeed().await;
    assert_eq!(harness.hub.parts(), parts);
}

/// The parts that were asked for after the last interruption: one after the other to the end.
fn last_attempt(parts: &[usize]) -> Vec<usize> {
    let first = parts.windows(2).rposition(|pair| pair[1] <= pair[0]);
    let parts = parts[first.map_or(0, |i| i + 1)..].to_vec();
    let expected: Vec<usize> = (parts[0]..SIZE).step_by(PART).collect();
    assert_eq!(parts, expected);
    parts
}

#[tokio::test]
async fn a_connection_that_is_cut_is_resumed() {
    let harness = Harness::new().await;
    harness.hub.cut([2 * PART]);
    harness.succeed().await;
    assert_eq!(last_attempt(&harness.hub.parts())[0], 2 * PART);
}

#[tokio::test]
async fn a_download_goes_on_as_long_as_it_gets_further() {
    let harness = Harness::new().await;
    harness.hub.cut((0..SIZE).step_by(PART));
    harness.succeed().await;
    harness.hub.fail([Fault::Cut(0); 100]);
    fs::remove_dir_all(harness.model()).unwrap();
    assert!(matches!(harness.fail().await, HubProblem::Unreachable(_)));
}

#[tokio::test]
async fn the_download_of_a_killed_process_is_resumed() {
    let harness = Harness::new().await;
    let committed = 3 * PART;
    let mut partial = harness.bytes[..committed].to_vec();
    partial.resize(SIZE, 0);
    partial.extend((committed as u64).to_le_bytes());
    let blob = harness.blob();
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(blob.with_extension("sync.part"), partial).unwrap();
    harness.succeed().await;
    assert_eq!(harness.hub.parts(), [3, 4, 5, 6].map(|i| i * PART));
}
