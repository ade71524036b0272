//! Where a result comes from: the program that computed it, and its machine.

use serde::{Deserialize, Serialize};

use crate::label::{self, InvalidLabel};

/// What a worker says of its program and its machine, each as far as it is known, as a label
/// ([`label::check`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The device, as the worker describes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Version of Quartet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit that was checked out when the program was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Features that the program was built with, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// The machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The processor, and how many of its cores the program may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The GPU, if it computes on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The GPU driver's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// LibTorch's version, if it computes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
}

impl Provenance {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// What is known, with the names that people read.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [
            ("device", &self.device),
            ("version", &self.version),
            ("commit", &self.commit),
            ("features", &self.features),
            ("host", &self.host),
            ("CPU", &self.cpu),
            ("GPU", &self.gpu),
            ("driver", &self.driver),
            ("LibTorch", &self.libtorch),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Checks every text: a stranger may have sent it.
    ///
    /// # Errors
    /// One of them is no label.
    pub fn check(&self) -> Result<(), InvalidLabel> {
        self.known().try_for_each(|(_, value)| label::check(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let some = Provenance {
            version: Some("0.1.0".to_owned()),
            gpu: Some("NVIDIA H200".to_owned()),
            ..Provenance::default()
        };
        let known: Vec<_> = some.known().collect();
        assert_eq!(known, [("version", "0.1.0"), ("GPU", "NVIDIA H200")]);
        let json = serde_json::to_string(&some).unwrap();
        assert_eq!(json, r#"{"version":"0.1.0","gpu":"NVIDIA H200"}"#);
        assert_eq!(serde_json::from_str::<Provenance>(&json).unwrap(), some);
        assert!(Provenance::default().is_empty() && !some.is_empty());
    }

    #[test]
    fn foreign_texts_are_checked() {
        let with = |host: &str| Provenance {
            host: Some(host.to_owned()),
            ..Provenance::default()
        };
        assert_eq!(with("node7").check(), Ok(()));
        for bad in ["", "a\x1b[2J", &"x".repeat(129)] {
            assert!(with(bad).check().is_err(), "{bad:?}");
        }
    }
}
