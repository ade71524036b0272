//! Where a run's initial weights come from, as one string.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{ExperimentName, RunName};

/// Initial weights of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Weights {
    /// `none`: random (Glorot uniform).
    None,
    /// `imagenet`: the backbone's default choice among published ImageNet weights.
    Imagenet,
    /// `hub:OWNER/NAME[@REVISION][/FILE]`: a file of a model on the Hugging Face hub.
    Hub(HubFile),
    /// `run:[STORE/]NAME/RUN`: the best checkpoint of another run.
    Run(OtherRun),
    /// Anything else: a path, relative to the folder of the experiment's TOML file.
    File(String),
}

/// A file on the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubFile {
    /// `OWNER/NAME` of the model.
    pub repository: String,
    /// Branch, tag or commit; `main` if not given.
    pub revision: Option<String>,
    /// Path in the repository; `model.safetensors` if not given.
    pub file: Option<String>,
}

/// A run of an experiment that a store has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OtherRun {
    /// The store, as `--store` takes it, with a path relative to the folder of the experiment's TOML file;
    /// if not given, the experiment's own.
    pub store: Option<String>,
    /// The experiment.
    pub experiment: ExperimentName,
    /// Its run.
    pub run: RunName,
}

/// The text is no source of weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownWeights {
    /// There is no text.
    #[error(
        "weights must not be empty: \"none\", \"imagenet\", \"hub:OWNER/NAME\", \"run:NAME/RUN\" or the path \
         of a file"
    )]
    Empty,
    /// The part after `hub:` is not of the form.
    #[error("{0:?} is not of the form hub:OWNER/NAME[@REVISION][/FILE]")]
    Hub(String),
    /// The part after `run:` is not of the form.
    #[error(
        "{0:?} is not of the form run:NAME/RUN, of an experiment in the same store, or run:STORE/NAME/RUN"
    )]
    Run(String),
}

const HUB: &str = "hub:";
const RUN: &str = "run:";

impl OtherRun {
    fn parse(text: &str) -> Option<Self> {
        let (rest, run) = text.rsplit_once('/')?;
        let (store, experiment) = match rest.rsplit_once('/') {
            Some((store, experiment)) => (Some(store), experiment),
            None => (None, rest),
        };
        // A URL with too few parts would leave its scheme.
        let is_store = |store: &str| !store.is_empty() && !store.ends_with(['/', ':']);
        Some(Self {
            store: match store {
                Some(store) => Some(is_store(store).then(|| store.to_owned())?),
                None => None,
            },
            experiment: experiment.parse().ok()?,
            run: run.parse().ok()?,
        })
    }
}

impl fmt::Display for OtherRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(store) = &self.store {
            write!(f, "{store}/")?;
        }
        write!(f, "{}/{}", self.experiment, self.run)
    }
}

impl HubFile {
    /// The branch where no revision is given.
    pub const REVISION: &'static str = "main";
    /// The file where none is given, as timm's repositories have it.
    pub const FILE: &'static str = "model.safetensors";

    /// Branch, tag or commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(Self::REVISION)
    }

    /// Path in the repository.
    #[must_use]
    pub fn file(&self) -> &str {
        self.file.as_deref().unwrap_or(Self::FILE)
    }

    fn parse(text: &str) -> Option<Self> {
        let (owner, rest) = text.split_once('/')?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let (revision, file) = match rest.strip_prefix('@') {
            Some(rest) => match rest.split_once('/') {
                Some((revision, file)) => (Some(revision), Some(file)),
                None => (Some(rest), None),
            },
            None => (None, rest.strip_prefix('/')),
        };
        let word = |text: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !text.is_empty() && text.chars().all(known) && !text.starts_with('.')
        };
        let path = |text: &str| text.split('/').all(word);
        let valid = word(owner) && word(name) && revision.is_none_or(word) && file.is_none_or(path);
        valid.then(|| Self {
            repository: format!("{owner}/{name}"),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        })
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Imagenet => f.write_str("imagenet"),
            Self::Hub(file) => write!(f, "{HUB}{file}"),
            Self::Run(run) => write!(f, "{RUN}{run}"),
            Self::File(path) => f.write_str(path),
        }
    }
}

impl FromStr for Weights {
    type Err = UnknownWeights;

    fn from_str(text: &str) -> Result<Self, UnknownWeights> {
        match text {
            "" => Err(UnknownWeights::Empty),
            "none" => Ok(Self::None),
            "imagenet" => Ok(Self::Imagenet),
            _ => {
                if let Some(rest) = text.strip_prefix(HUB) {
                    let file = HubFile::parse(rest).map(Self::Hub);
                    file.ok_or_else(|| UnknownWeights::Hub(text.to_owned()))
                } else if let Some(rest) = text.strip_prefix(RUN) {
                    let run = OtherRun::parse(rest).map(Self::Run);
                    run.ok_or_else(|| UnknownWeights::Run(text.to_owned()))
                } else {
                    Ok(Self::File(text.to_owned()))
                }
            }
        }
    }
}

impl TryFrom<String> for Weights {
    type Error = UnknownWeights;

    fn try_from(text: String) -> Result<Self, UnknownWeights> {
        text.parse()
    }
}

impl From<Weights> for String {
    fn from(weights: Weights) -> Self {
        weights.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_its_text() {
        let texts = [
            "none",
            "imagenet",
            "weights/vgg16.h5",
            "hub:timm/resnet50.tv_in1k",
            "hub:timm/resnet50.tv_in1k@v1.0",
            "hub:timm/resnet50.tv_in1k/pytorch_model.bin",
            "hub:me/faces@0123abc/best/model.safetensors",
            "run:fer2013/vgg16",
            "run:../runs/fer2013/vgg16",
            "run:/shared/runs/fer2013/vgg16",
            "run:s3://bucket/fer2013/vgg16",
            "run:s3://bucket/some/prefix/fer2013/vgg16",
        ];
        for text in texts {
            assert_eq!(text.parse::<Weights>().unwrap().to_string(), text);
        }
        let Weights::Hub(file) = "hub:timm/vgg16.tv_in1k".parse().unwrap() else {
            panic!("it is on the hub");
        };
        assert_eq!(
            (file.repository.as_str(), file.revision(), file.file()),
            ("timm/vgg16.tv_in1k", "main", "model.safetensors")
        );
    }

    #[test]
    fn the_last_two_parts_are_experiment_and_run() {
        for (text, store) in [
            ("run:fer2013/vgg16", None),
            ("run:a/b/fer2013/vgg16", Some("a/b")),
            ("run:s3://bucket/fer2013/vgg16", Some("s3://bucket")),
        ] {
            let Ok(Weights::Run(of)) = text.parse() else {
                panic!("{text} is of a run");
            };
            assert_eq!(of.store.as_deref(), store);
            assert_eq!(
                (of.experiment.as_str(), of.run.as_str()),
                ("fer2013", "vgg16")
            );
        }
        for text in [
            "run:",
            "run:vgg16",
            "run:/vgg16",
            "run:a/",
            "run:/a/b",
            "run:s3://a/b",
            "run:a b/c",
        ] {
            let error = text.parse::<Weights>().unwrap_err().to_string();
            assert!(error.contains("run:NAME/RUN"), "{error}");
        }
    }

    #[test]
    fn what_is_no_hub_file_is_refused() {
        for text in [
            "hub:",
            "hub:timm",
            "hub:timm/",
            "hub:/x",
            "hub:timm/x@",
            "hub:timm/x/",
            "hub:timm/../x",
            "hub:timm/x/../../y",
            "hub:ti mm/x",
        ] {
            let error = text.parse::<Weights>().unwrap_err().to_string();
            assert!(error.contains("hub:OWNER/NAME"), "{error}");
        }
        assert_eq!("".parse::<Weights>(), Err(UnknownWeights::Empty));
    }
}
