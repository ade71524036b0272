//! Sessions of browsers, which show no certificate: a link with a token that is good once, then a cookie.
//!
//! A cookie says until when it is good, and carries a code that only the holder of the coordinator's private
//! key can make (HMAC-SHA-256, RFC 2104): a coordinator that was started again takes it, too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use ring::hmac;

use crate::{KeyError, KeyFolder, Role};

/// What the key is derived for; a cookie is good for nothing else.
const PURPOSE: &[u8] = b"quartet page session 1";

/// How long a token is good for.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long a session lasts.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Tokens that are good at a time; the oldest are dropped.
const MOST_TOKENS: usize = 64;

/// Makes and verifies tokens and cookies.
pub struct Sessions {
    key: hmac::Key,
    /// Tokens, each with the end of its time in seconds since the Unix epoch.
    tokens: Mutex<Vec<(String, u64)>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions of the coordinator whose keys these are.
    ///
    /// # Errors
    /// The private key cannot be read.
    pub fn of(folder: &KeyFolder) -> Result<Self, KeyError> {
        let path = folder.private_key(Role::Coordinator);
        let private = std::fs::read(&path).map_err(|reason| KeyError::File {
            action: "read",
            path,
            reason,
        })?;
        Ok(Self::new(&private))
    }

    fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&secret, PURPOSE);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
            tokens: Mutex::default(),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Vec<(String, u64)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token; `now` in seconds since the Unix epoch.
    #[must_use]
    pub fn create_token(&self, now: u64) -> String {
        let token = format!("{:032x}", rand::rng().random::<u128>());
        let mut tokens = self.tokens();
        tokens.retain(|(_, end)| *end > now);
        if tokens.len() >= MOST_TOKENS {
            tokens.remove(0);
        }
        tokens.push((token.clone(), now + TOKEN_LIFETIME.as_secs()));
        token
    }

    /// The value of a session's cookie, for a token that is good. It is not good any more then.
    #[must_use]
    pub fn redeem(&self, token: &str, now: u64) -> Option<String> {
        let mut tokens = self.tokens();
        let at = tokens
            .iter()
            .position(|(known, end)| known == token && *end > now)?;
        tokens.remove(at);
        let end = format!("{:016x}", now + SESSION_LIFETIME.as_secs());
        let code = hmac::sign(&self.key, end.as_bytes());
        Some(format!("{end}.{}", hex(code.as_ref())))
    }

    /// Whether a cookie's value is that of a session that lasts.
    #[must_use]
    pub fn verify(&self, cookie: &str, now: u64) -> bool {
        let Some((end, code)) = cookie.split_once('.') else {
            return false;
        };
        let Some(code) = unhex(code) else {
            return false;
        };
        let lasts = u64::from_str_radix(end, 16).is_ok_and(|end| end > now);
        lasts && hmac::verify(&self.key, end.as_bytes(), &code).is_ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_token_is_good_once_and_for_a_while() {
        let sessions = Sessions::new(b"secret");
        let token = sessions.create_token(NOW);
        assert!(sessions.redeem("", NOW).is_none());
        let late = NOW + TOKEN_LIFETIME.as_secs();
        assert!(sessions.redeem(&token, late).is_none());
        assert!(sessions.redeem(&token, late - 1).is_some());
        assert!(sessions.redeem(&token, NOW).is_none(), "a second time");
    }

    #[test]
    fn a_cookie_is_good_until_its_end_also_after_a_restart() {
        let sessions = Sessions::new(b"secret");
        let token = sessions.create_token(NOW);
        let cookie = sessions.redeem(&token, NOW).unwrap();
        let end = NOW + SESSION_LIFETIME.as_secs();
        for sessions in [&sessions, &Sessions::new(b"secret")] {
            assert!(sessions.verify(&cookie, end - 1));
            assert!(!sessions.verify(&cookie, end));
        }
        assert!(!Sessions::new(b"other").verify(&cookie, NOW));
    }

    #[test]
    fn what_was_changed_is_refused() {
        let sessions = Sessions::new(b"secret");
        let token = sessions.create_token(NOW);
        let cookie = sessions.redeem(&token, NOW).unwrap();
        let (end, code) = cookie.split_once('.').unwrap();
        let later = format!("{:016x}", u64::from_str_radix(end, 16).unwrap() + 1);
        for forged in [
            format!("{later}.{code}"),
            format!("{end}.{}", &code[2..]),
            format!("{end}."),
            format!("{end}.é"),
            format!("+{}.{code}", &end[1..]),
            String::new(),
            ".".to_owned(),
        ] {
            assert!(!sessions.verify(&forged, NOW), "{forged}");
        }
    }

    #[test]
    fn tokens_that_nobody_uses_are_bounded() {
        let sessions = Sessions::new(b"secret");
        let first = sessions.create_token(NOW);
        for _ in 0..MOST_TOKENS {
            let _ = sessions.create_token(NOW);
        }
        assert_eq!(sessions.tokens().len(), MOST_TOKENS);
        assert!(sessions.redeem(&first, NOW).is_none());
    }
}
