//! Where the hub and its cache are, as the Hugging Face tools learn it from their environment.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const ENDPOINT: &str = "https://huggingface.co";

/// The hub and its cache.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The folder of the cache; none where the environment names none and there is no home directory.
    pub cache: Option<PathBuf>,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// What identifies the user.
    pub token: Option<Token>,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// Sizes and times of downloads.
    pub pace: Pace,
}

/// A user's token. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

/// Sizes and times of downloads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes of one request: what an interruption costs at most, and what is held in memory.
    pub part: usize,
    /// Longest wait for the hub's first answer.
    pub answer: Duration,
    /// Longest wait for more bytes.
    pub stall: Duration,
    /// Attempts in a row that may get no further than the ones before.
    pub attempts: u32,
    /// Wait after the first of them; three times as long after each further one.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            part: 16 * 1024 * 1024,
            answer: Duration::from_secs(15),
            stall: Duration::from_secs(60),
            attempts: 4,
            pause: Duration::from_secs(1),
        }
    }
}

impl HubConfig {
    /// What the environment of this process says.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var_os(name), env::home_dir())
    }

    /// What these variables say: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`,
    /// `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_TOKEN_PATH`, with the meaning that they have for Python's
    /// `huggingface_hub`. Reads the file of the token.
    #[must_use]
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| {
            given(name).map(|value| {
                let path = PathBuf::from(value);
                match (path.strip_prefix("~"), &home) {
                    (Ok(rest), Some(home)) => home.join(rest),
                    _ => path,
                }
            })
        };
        let text = |name: &str| given(name).and_then(|value| value.into_string().ok());
        let caches = path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
        let hf_home = path("HF_HOME").or_else(|| Some(caches?.join("huggingface")));
        let in_home = |name: &str| hf_home.as_ref().map(|folder| folder.join(name));
        let token = text("HF_TOKEN").and_then(Token::new).or_else(|| {
            let file = path("HF_TOKEN_PATH").or_else(|| in_home("token"))?;
            Token::new(std::fs::read_to_string(file).ok()?)
        });
        let offline = text("HF_HUB_OFFLINE").map(|value| value.to_ascii_uppercase());
        Self {
            cache: path("HF_HUB_CACHE").or_else(|| in_home("hub")),
            endpoint: text("HF_ENDPOINT")
                .map(|endpoint| endpoint.trim_end_matches('/').to_owned())
                .unwrap_or_else(|| ENDPOINT.to_owned()),
            token,
            offline: offline.is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.as_str())),
            pace: Pace::default(),
        }
    }
}

impl Token {
    /// A token without the spaces and line ends around it; none where nothing is left.
    fn new(text: String) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(variables: &[(&str, &str)]) -> HubConfig {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        HubConfig::from_variables(variable, Some("/home/me".into()))
    }

    #[test]
    fn the_cache_is_where_the_hub_s_tools_have_it() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "/home/me/.cache/huggingface/hub"),
            (&[("HF_HOME", "")], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/hf")], "/hf/hub"),
            (&[("HF_HOME", "~/hf")], "/home/me/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c"),
        ];
        for (variables, folder) in cases {
            assert_eq!(
                config(variables).cache,
                Some(folder.into()),
                "{variables:?}"
            );
        }
        assert_eq!(HubConfig::from_variables(|_| None, None).cache, None);
    }

    #[test]
    fn endpoint_and_offline_mode() {
        let default = config(&[]);
        assert_eq!(
            (default.endpoint.as_str(), default.offline),
            (ENDPOINT, false)
        );
        let mirror = config(&[("HF_ENDPOINT", "http://mirror:80/")]);
        assert_eq!(mirror.endpoint, "http://mirror:80");
        for (value, offline) in [
            ("1", true),
            ("true", true),
            ("ON", true),
            ("0", false),
            ("", false),
        ] {
            assert_eq!(
                config(&[("HF_HUB_OFFLINE", value)]).offline,
                offline,
                "{value}"
            );
        }
    }

    #[test]
    fn the_token_comes_from_the_first_place_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        let elsewhere = elsewhere.to_str().unwrap();
        let token = |variables: &[(&str, &str)]| config(variables).token.map(|token| token.0);
        assert_eq!(token(&[("HF_HOME", home)]), None);
        fs::write(dir.path().join("token"), "hf_home\n").unwrap();
        fs::write(elsewhere, " hf_path ").unwrap();
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[("HF_HOME", home)], "hf_home"),
            (
                &[("HF_HOME", home), ("HF_TOKEN_PATH", elsewhere)],
                "hf_path",
            ),
            (&[("HF_HOME", home), ("HF_TOKEN", "hf_env")], "hf_env"),
            (&[("HF_HOME", home), ("HF_TOKEN", " ")], "hf_home"),
        ];
        for (variables, expected) in cases {
            assert_eq!(token(variables).as_deref(), Some(expected), "{variables:?}");
        }
        let shown = format!("{:?}", config(&[("HF_TOKEN", "hf_env")]));
        assert!(!shown.contains("hf_env"), "{shown}");
    }
}
