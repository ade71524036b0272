//! Logs of the binaries: to stderr, so that stdout is for data alone.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::terminal::Console;

mod tap;

pub use tap::LogTap;

/// The variables that set the filter, the first that is set and not empty wins.
const FILTER_VARIABLES: [&str; 2] = ["QUARTET_LOG", "RUST_LOG"];

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error(
        "{origin} is not a log filter such as \"info\" or \"quartet_agent=debug\": {filter:?}: {source}"
    )]
    Filter {
        /// The variable that it came from, or `the default`.
        origin: &'static str,
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else has been set up to receive the logs of this process.
    #[error("logs are set up already")]
    AlreadySet,
}

/// Sends this process's logs to stderr, one line each. `QUARTET_LOG`, else `RUST_LOG`, else `default_filter`
/// (such as `info`) says what is logged. Colours only on a terminal, and not if `NO_COLOR` is set.
///
/// # Errors
/// A filter that cannot be parsed, or a second call.
pub fn init(default_filter: &str) -> Result<(), TelemetryError> {
    init_on(default_filter, Console::of_process())
}

/// The same for a program that draws on a console of its own.
///
/// # Errors
/// As [`init`].
pub fn init_on(default_filter: &str, console: Console) -> Result<(), TelemetryError> {
    init_with(default_filter, console, None)
}

/// As [`init`], and keeps what Quartet itself says, from `info` on and whatever the filter, for whoever takes
/// it from the tap.
///
/// # Errors
/// As [`init`].
pub fn init_tapped(default_filter: &str) -> Result<LogTap, TelemetryError> {
    let tap = LogTap::default();
    init_with(default_filter, Console::of_process(), Some(tap.clone()))?;
    Ok(tap)
}

fn init_with(
    default_filter: &str,
    console: Console,
    tap: Option<LogTap>,
) -> Result<(), TelemetryError> {
    let variable = |name: &str| std::env::var(name).ok();
    let filter = filter(variable, default_filter)?;
    let shown = fmt::layer()
        .compact()
        .with_writer(console)
        .with_ansi(colours(variable, std::io::stderr().is_terminal()))
        .with_filter(filter);
    let kept = tap.map(|tap| {
        let layer = fmt::layer().compact().with_writer(tap).with_ansi(false);
        // Whoever reads it later asks what happened, not where in the code.
        let layer = layer.with_target(false);
        layer.with_filter(Targets::new().with_target("quartet", LevelFilter::INFO))
    });
    tracing_subscriber::registry()
        .with(shown)
        .with(kept)
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)
}

fn filter(
    variable: impl Fn(&str) -> Option<String>,
    default_filter: &str,
) -> Result<EnvFilter, TelemetryError> {
    let set = FILTER_VARIABLES.into_iter().find_map(|name| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let (origin, filter) = set.unwrap_or_else(|| ("the default", default_filter.to_owned()));
    EnvFilter::builder()
        .parse(&filter)
        .map_err(|source| TelemetryError::Filter {
            origin,
            filter,
            source,
        })
}

/// As <https://no-color.org> has it: set and not empty.
fn colours(variable: impl Fn(&str) -> Option<String>, terminal: bool) -> bool {
    terminal && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartets_own_variable_comes_first() {
        let both = |name: &str| {
            Some(
                if name == "QUARTET_LOG" {
                    "debug"
                } else {
                    "warn"
                }
                .to_owned(),
            )
        };
        assert_eq!(filter(both, "info").unwrap().to_string(), "debug");
        let rust = |name: &str| Some(if name == "RUST_LOG" { "warn" } else { "" }.to_owned());
        assert_eq!(filter(rust, "info").unwrap().to_string(), "warn");
        assert_eq!(filter(|_| None, "info").unwrap().to_string(), "info");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let message = filter(|_| Some("a=b=c".to_owned()), "info")
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("QUARTET_LOG is not a log filter"),
            "{message}"
        );
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(colours(|_| None, true));
        assert!(colours(|_| Some(String::new()), true));
        assert!(!colours(|_| Some("1".to_owned()), true));
        assert!(!colours(|_| None, false));
    }
}
