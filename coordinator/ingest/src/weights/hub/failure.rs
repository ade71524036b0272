//! What a failed attempt means, and whether another one may help.

use std::error::Error;
use std::io;
use std::time::Duration;

use hf_hub::api::tokio::ApiError;
use quartet_shared::human;

use super::{HubConfig, HubProblem, Missing};

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It would fail in the same way.
    Never,
    /// After a pause.
    Later,
    /// When the other process that downloads the file has ended.
    Locked,
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) problem: HubProblem,
    pub(super) retry: Retry,
    /// Whether the hub answered that it will not serve this client, as opposed to that it cannot.
    pub(super) is_refusal: bool,
}

/// Where an attempt is made, for its messages.
#[derive(Debug)]
pub(super) struct Place<'a> {
    endpoint: &'a str,
    with_token: bool,
}

impl Failure {
    fn never(problem: HubProblem) -> Self {
        Self {
            problem,
            retry: Retry::Never,
            is_refusal: false,
        }
    }

    fn refusal(problem: HubProblem) -> Self {
        Self {
            is_refusal: true,
            ..Self::never(problem)
        }
    }

    fn later(problem: String) -> Self {
        Self {
            problem: HubProblem::Unreachable(problem),
            retry: Retry::Later,
            is_refusal: false,
        }
    }

    pub(super) fn cache(error: io::Error) -> Self {
        Self::never(HubProblem::Cache(error))
    }

    /// The attempt was ended from outside, or panicked.
    pub(super) fn stopped() -> Self {
        Self::never(HubProblem::Unexpected("the download stopped".to_owned()))
    }

    /// Takes the hub's word for what is missing.
    pub(super) fn refine(&mut self, error_code: &str) {
        if let HubProblem::NotFound(missing) = &mut self.problem {
            *missing = match error_code {
                "RepoNotFound" => Missing::Repository,
                "RevisionNotFound" => Missing::Revision,
                "EntryNotFound" => Missing::File,
                _ => Missing::Unknown,
            };
        }
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(config: &'a HubConfig, with_token: bool) -> Self {
        Self {
            endpoint: &config.endpoint,
            with_token,
        }
    }

    /// Nothing was heard for so long.
    pub(super) fn silent(&self, limit: Duration) -> Failure {
        let limit = human::duration(limit);
        Failure::later(format!("no answer from {} in {limit}", self.endpoint))
    }

    /// What an error of hf-hub means. Addresses are left out of it: those of the hub's storage are signed.
    pub(super) fn failure(&self, error: ApiError) -> Failure {
        let endpoint = self.endpoint;
        let unexpected = |what: String| HubProblem::Unexpected(format!("{endpoint}: {what}"));
        match error {
            ApiError::RequestError(error) => match error.status().map(|status| status.as_u16()) {
                Some(status @ (401 | 403)) => Failure::refusal(HubProblem::Denied {
                    status,
                    with_token: self.with_token,
                }),
                Some(404) => Failure::refusal(HubProblem::NotFound(Missing::Unknown)),
                Some(status @ (408 | 429 | 500..)) => Failure {
                    is_refusal: status == 429,
                    ..Failure::later(format!("{endpoint} answers {status}"))
                },
                Some(status) => Failure::never(unexpected(format!("status {status}"))),
                None if error.is_builder() => {
                    Failure::never(unexpected(chain(&error.without_url())))
                }
                None => Failure::later(format!("{endpoint}: {}", chain(&error.without_url()))),
            },
            // The storage's answer, whose status hf-hub does not look at.
            ApiError::MissingHeader(header) if header == "content-range" => Failure::later(
                format!("the storage of {endpoint} sends no part of the file"),
            ),
            ApiError::LockAcquisition(_) => Failure {
                retry: Retry::Locked,
                ..Failure::later(error.to_string())
            },
            ApiError::IoError(error) => Failure::cache(error),
            error => Failure::never(unexpected(chain(&error))),
        }
    }
}

/// An error with what lies below it, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        let config = HubConfig::from_variables(|_| None, None);
        let retry = |error| Place::new(&config, false).failure(error).retry;
        let header = |name: &str| ApiError::MissingHeader(name.parse().unwrap());
        assert_eq!(retry(header("content-range")), Retry::Later);
        assert_eq!(retry(header("x-repo-commit")), Retry::Never);
        assert_eq!(
            retry(ApiError::LockAcquisition("x.lock".into())),
            Retry::Locked
        );
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(retry(ApiError::IoError(full)), Retry::Never);
    }
}
