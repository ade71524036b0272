pub(crate) mod server;

use std::fs;
use std::time::Duration;

use quartet_shared::blob::Checksum;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::spec::{ExperimentSpec, Preset};
use quartet_shared::terminal::Mode;

use super::hub::{Pace, Token};
use super::*;
use server::{FakeHub, weights};

const SIZE: usize = 3 * CHUNK_SIZE / 2;

/// A folder with an experiment's files, a store, and a hub.
struct Harness {
    hub: FakeHub,
    dir: tempfile::TempDir,
    store: Store,
}

fn progress() -> DownloadProgress {
    DownloadProgress::new(Box::new(io::sink()), Mode::Lines)
}

/// An experiment whose runs start from these weights.
fn experiment(sources: &[&str]) -> ExperimentSpec {
    let mut spec = Preset::Demo.spec();
    let run = spec.runs[0].clone();
    let numbered = sources.iter().enumerate();
    spec.runs = numbered
        .map(|(i, source)| RunSpec {
            name: format!("run{i}").parse().unwrap(),
            weights: source.parse().unwrap(),
            ..run.clone()
        })
        .collect();
    spec
}

impl Harness {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
        let hub = FakeHub::start().await;
        Self { hub, dir, store }
    }

    fn options(&self) -> Options {
        Options {
            folder: self.dir.path().to_owned(),
            hub: HubConfig {
                cache: Some(self.dir.path().join("hub")),
                endpoint: self.hub.endpoint.clone(),
                token: None,
                offline: false,
                pace: Pace {
                    pause: Duration::from_millis(1),
                    ..Pace::default()
                },
            },
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Brings the weights of all runs into the store.
    async fn take_in(
        &self,
        spec: &ExperimentSpec,
    ) -> anyhow::Result<(Vec<FoundWeights>, BTreeMap<RunName, BlobRef>)> {
        let sources = WeightSources::new(&spec.runs, Some(&self.store), self.options()).await?;
        let found = sources.resolve(&mut progress()).await?;
        let references = put(&found, &self.store).await?.objects;
        Ok((found, references))
    }

    /// The message of weights that cannot be had. Nothing may have been stored.
    async fn refused(&self, source: &str) -> String {
        let spec = experiment(&["none", source]);
        let error = self.take_in(&spec).await.unwrap_err();
        assert!(error.is::<WeightsError>(), "{error:#}");
        assert!(self.store.list("").await.unwrap().is_empty(), "{source}");
        format!("{error:#}")
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_weights_is_refused_before_anything_is_stored() {
    let harness = Harness::new().await;
    harness.write("empty.h5", b"");
    harness.write("face.png", b"\x89PNG\r\n\x1a\n");
    harness.write(
        "pointer.bin",
        b"version https://git-lfs.github.com/spec/v1\noid",
    );
    fs::create_dir(harness.dir.path().join("folder")).unwrap();
    let cases = [
        ("absent.h5", "no such file"),
        ("folder", "is a directory"),
        ("empty.h5", "is empty"),
        ("pointer.bin", "is a Git LFS pointer"),
        ("face.png", "is not a file of weights; expected safetensors"),
    ];
    for (name, problem) in cases {
        let message = harness.refused(name).await;
        let path = harness.dir.path().join(name);
        let expected = format!("weights of run run1: {}: {problem}", path.display());
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn errors_of_the_hub_say_what_to_do() {
    let harness = Harness::new().await;
    harness
        .hub
        .publish("timm/vgg16", "main", "config.json", b"{}");
    let missing = harness.refused("hub:timm/vgg61@v2").await;
    assert_eq!(
        missing,
        format!(
            "cannot download timm/vgg61/model.safetensors at revision v2 for run run1 (the hub answers \
             404: there is no such repository). Correct the run's weights, or set weights = \"none\" to \
             start from random weights; repositories are listed at {}/models",
            harness.hub.endpoint
        )
    );
    let other = harness.refused("hub:timm/vgg16/config.json").await;
    assert!(
        other.contains("config.json: is not a file of weights"),
        "{other}"
    );
    harness.hub.require_token("hf_mine");
    let denied = harness.refused("hub:timm/vgg16").await;
    assert!(
        denied.contains("401") && denied.contains("Set HF_TOKEN"),
        "{denied}"
    );
    // A token that is not the right one is not shown.
    let mut options = harness.options();
    options.hub.token = Some(Token("hf_wrong".to_owned()));
    let shown = format!("{:?}", options.hub);
    let runs = experiment(&["none", "hub:timm/vgg16"]).runs;
    let sources = WeightSources::new(&runs, Some(&harness.store), options)
        .await
        .unwrap();
    let denied = sources.resolve(&mut progress()).await.err().unwrap();
    let denied = format!("{denied:#}");
    assert!(
        denied.contains("401") && denied.contains("set HF_TOKEN"),
        "{denied}"
    );
    assert!(!denied.contains("hf_wrong") && !shown.contains("hf_wrong"));

    let name = "run1".parse().unwrap();
    let file = imagenet(Backbone::Vgg16);
    let mut config = harness.options().hub;
    config.endpoint = "https://huggingface.co".to_owned();
    config.cache = Some("/cache".into());
    assert_eq!(
        WeightsError::hub(&name, &file, &config, HubProblem::Offline).to_string(),
        "cannot download timm/vgg16.tv_in1k/model.safetensors for run run1 (it is not in the cache, \
         and HF_HUB_OFFLINE is set). Download \
         https://huggingface.co/timm/vgg16.tv_in1k/resolve/main/model.safetensors on another machine and \
         set weights = \"FILE\" in the run (coordinator --print-experiment prints a TOML to start from), \
         or fill the cache at /cache, or set weights = \"none\" to start from random weights"
    );
}

#[tokio::test]
async fn every_source_is_fetched_and_stored_once() {
    let harness = Harness::new().await;
    let ours = weights(SIZE);
    let published = weights(SIZE + 1);
    let file = harness.write("ours.safetensors", &ours);
    let repository = imagenet(experiment(&["none"]).runs[0].backbone).repository;
    harness
        .hub
        .publish(&repository, "main", "model.safetensors", &published);
    let spec = experiment(&[
        "imagenet",
        "none",
        "ours.safetensors",
        &format!("hub:{repository}@main"),
    ]);

    let (found, references) = harness.take_in(&spec).await.unwrap();
    let (sum, ours_sum) = (Checksum::of(&published), Checksum::of(&ours));
    let short = |sum: Checksum| sum.to_string()[..8].to_owned();
    let [of_hub, of_file] = [
        format!("from {repository} (98 kB, sha256 {}...)", short(sum)),
        format!(
            "from {} (98 kB, sha256 {}...)",
            file.display(),
            short(ours_sum)
        ),
    ];
    let summaries: Vec<String> = found.iter().map(FoundWeights::summary).collect();
    assert_eq!(
        summaries,
        [
            format!("run0 {of_hub}"),
            format!("run3 {of_hub}"),
            format!("run2 {of_file}")
        ]
    );
    assert_eq!(harness.hub.parts().len(), 1);
    let mut keys = [layout::weights(sum), layout::weights(ours_sum)];
    keys.sort_unstable();
    assert_eq!(harness.store.list("weights").await.unwrap(), keys);
    let references: Vec<_> = references
        .iter()
        .map(|(run, blob)| (run.as_str(), blob.key.as_str()))
        .collect();
    let [hub_key, file_key] = [layout::weights(sum), layout::weights(ours_sum)];
    assert_eq!(
        references,
        [
            ("run0", hub_key.as_str()),
            ("run2", &file_key),
            ("run3", &hub_key)
        ]
    );
}

#[tokio::test]
async fn a_file_that_changes_is_not_stored() {
    let harness = Harness::new().await;
    let file = harness.write("ours.safetensors", &weights(SIZE));
    let spec = experiment(&["ours.safetensors"]);
    let sources = WeightSources::new(&spec.runs, Some(&harness.store), harness.options())
        .await
        .unwrap();
    let found = sources.resolve(&mut progress()).await.unwrap();
    fs::write(file, weights(SIZE + 1)).unwrap();
    let error = put(&found, &harness.store).await.unwrap_err().to_string();
    assert!(error.contains("changed while it was read"), "{error}");
    assert!(harness.store.list("").await.unwrap().is_empty());
}

#[test]
fn every_backbone_has_a_choice() {
    for backbone in Backbone::ALL {
        let file = imagenet(backbone);
        assert_eq!(
            format!("hub:{}", short(&file)).parse(),
            Ok(Weights::Hub(HubFile {
                repository: file.repository.clone(),
                revision: None,
                file: None,
            }))
        );
        assert_eq!(explicit(&file), file);
    }
}
