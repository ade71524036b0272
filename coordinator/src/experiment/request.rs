//! What the user asks a coordinator for.

use std::path::PathBuf;

use quartet_ingest::data::{self, Source};
use quartet_ingest::weights::{self, HubConfig};
use quartet_proto::channel::Connector;
use quartet_shared::ids::ExperimentName;
use quartet_shared::spec::{ExperimentSpec, SpecError};

/// What the user asks for.
#[derive(Debug)]
pub struct Request {
    /// The experiment to train, or to go on with when the store has it already.
    pub spec: ExperimentSpec,
    /// Whether the spec was given explicitly, and so must equal the stored one, unless that is to be changed.
    pub spec_is_explicit: bool,
    /// Values that take the place of those of the given spec, or else of the stored one; see
    /// [`ExperimentSpec::set`].
    pub settings: Vec<String>,
    /// Whether the stored experiment is to be changed where it differs.
    pub update: bool,
    /// The experiment of the same store whose data and weights a new one shares.
    pub fork: Option<ExperimentName>,
    /// Where the images come from.
    pub source: Source,
    /// Whether the source was given explicitly, and so must equal the stored data.
    pub source_is_explicit: bool,
    /// How to read the source.
    pub data: data::Options,
    /// Where to look for the runs' initial weights.
    pub weights: weights::Options,
    /// What the experiment's owner says of it.
    pub note: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// `HOST:PORT` at which this coordinator can be reached.
    pub address: String,
    /// How another coordinator is reached.
    pub connector: Connector,
    /// How to ask a coordinator that does not speak TLS, where the other way does.
    pub plain_connector: Option<Connector>,
}

impl Request {
    /// Asks for `spec` trained on `source`, or for whatever the store has instead. Initial weights are looked
    /// for in the working directory and on the Hugging Face hub.
    #[must_use]
    pub fn new(
        spec: ExperimentSpec,
        source: Source,
        address: String,
        connector: Connector,
    ) -> Self {
        Self {
            spec,
            spec_is_explicit: false,
            settings: Vec::new(),
            update: false,
            fork: None,
            source,
            source_is_explicit: false,
            data: data::Options::default(),
            weights: weights::Options {
                folder: PathBuf::new(),
                hub: HubConfig::from_env(),
            },
            note: None,
            tags: Vec::new(),
            address,
            connector,
            plain_connector: None,
        }
    }

    /// What is asked for, given the spec that it is to be made from where none was given explicitly.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub(super) fn wanted(
        &self,
        base: Option<&ExperimentSpec>,
    ) -> Result<ExperimentSpec, SpecError> {
        let mut spec = match base {
            Some(base) if !self.spec_is_explicit => base.clone(),
            _ => self.spec.clone(),
        };
        spec.name.clone_from(&self.spec.name);
        if !self.settings.is_empty() {
            spec.set(&self.settings, "--set")?;
        }
        Ok(spec)
    }

    /// How other coordinators may be reached.
    pub(super) fn connectors(&self) -> Vec<&Connector> {
        let all = [Some(&self.connector), self.plain_connector.as_ref()];
        all.into_iter().flatten().collect()
    }

    /// What is asked for of an experiment that the store does not have, made from the preset or the file.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new_spec(&self) -> Result<ExperimentSpec, SpecError> {
        self.wanted(None)
    }
}
