//! What can be wrong with a file of weights.

use std::fmt;
use std::io;
use std::path::PathBuf;

use quartet_shared::label::{MAX_LABEL, MAX_REASON, shortened};
use quartet_shared::spec::{Backbone, Variant};
use safetensors::SafeTensorError;

/// Why weights cannot be read or written. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is in none of the formats, or not as its format has it.
    #[error(
        "{} is not a usable file of weights: {reason}",
        .path.display(), reason = shortened(.reason, MAX_REASON)
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, which may repeat what the file says.
        reason: String,
    },
    /// The file is of another backbone.
    #[error("{} does not fit {backbone}: it looks like weights of {found}", .path.display())]
    OtherBackbone {
        /// The file.
        path: PathBuf,
        /// The backbone asked for.
        backbone: Backbone,
        /// The backbone that it is of.
        found: Backbone,
    },
    /// The file is of another implementation of the backbone.
    #[error("{} does not fit {backbone}: it is of variant {found}, not {expected}", .path.display())]
    OtherVariant {
        /// The file.
        path: PathBuf,
        /// The backbone asked for.
        backbone: Backbone,
        /// The variant that it is of.
        found: Variant,
        /// The variant that would fit.
        expected: Variant,
    },
    /// The tensors are not those of the network.
    #[error("{} does not fit {backbone}: {problems}", .path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The backbone of the network.
        backbone: Backbone,
        /// All that is wrong.
        problems: Box<Problems>,
    },
    /// The network cannot be expressed in the format.
    #[error("cannot write {}: {reason}", .path.display())]
    NotExpressible {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
}

impl WeightsError {
    /// The same error about `source` instead of the file: what the user knows a cached file as.
    #[must_use]
    pub fn about(mut self, source: impl fmt::Display) -> Self {
        let (Self::Read { path, .. }
        | Self::Format { path, .. }
        | Self::OtherBackbone { path, .. }
        | Self::OtherVariant { path, .. }
        | Self::Mismatch { path, .. }
        | Self::NotExpressible { path, .. }
        | Self::Write { path, .. }) = &mut self;
        *path = source.to_string().into();
        self
    }
}

/// How the tensors of a file differ from those of a network, in the file's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Tensors that the network needs and the file lacks.
    pub missing: Vec<String>,
    /// Tensors that the network has no place for.
    pub unused: Vec<String>,
    /// Tensors of another shape or of numbers that are no floats, with what they are.
    pub unfit: Vec<String>,
    /// What the shapes say of the file as a whole.
    pub hint: Option<String>,
}

/// Names of a kind that a message lists.
const LISTED: usize = 3;

impl Problems {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.unfit.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("missing", &self.missing),
            ("unused", &self.unused),
            ("unfit", &self.unfit),
        ];
        let mut parts: Vec<String> = kinds
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(kind, names)| format!("{kind}: {}", listed(names)))
            .collect();
        parts.extend(self.hint.clone());
        f.write_str(&parts.join("; "))
    }
}

fn listed(names: &[String]) -> String {
    let first = names
        .iter()
        .take(LISTED)
        .map(|name| shortened(name, MAX_LABEL));
    let first = first.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names = |prefix: &str, count| (0..count).map(|i| format!("{prefix}{i}")).collect();
        let problems = Problems {
            missing: names("m", 5),
            unused: names("u", 3),
            unfit: Vec::new(),
            hint: Some("so it is".to_owned()),
        };
        assert_eq!(
            problems.to_string(),
            "missing: m0, m1, m2 and 2 more; unused: u0, u1, u2; so it is"
        );
    }
}
