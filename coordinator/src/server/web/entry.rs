//! Who may look at the page: whoever shows keys or has a session where keys are used, else everybody.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, HOST, HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use axum::http::{Method, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use quartet_identity::Access;
use quartet_identity::session::SESSION_LIFETIME;
use quartet_shared::clock;

use super::Web;
use crate::listener::ConnectionInfo;
use crate::server::access::Policy;

/// The cookie of a session. Browsers take it from this host alone, over TLS alone.
const NAME: &str = "__Host-quartet";

/// Answers who may look; redeems a token.
pub(super) async fn check(
    State(web): State<Arc<Web>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let now = clock::unix_seconds();
    let policy = web.registry.policy;
    let connection = request.extensions().get::<ConnectionInfo>();
    if policy == Policy::Keys && !connection.is_some_and(ConnectionInfo::is_encrypted) {
        return refuse("this page is served over TLS alone: its address begins with https://\n");
    }
    let session = cookie(request.headers()).zip(web.sessions.as_ref());
    let has_session = session.is_some_and(|(session, all)| all.verify(session, now));
    // Whoever looks at a link before it is followed asks for the headers alone.
    if request.method() == Method::GET
        && let Some(sessions) = &web.sessions
        && let Some(token) = token(request.uri().query())
    {
        return match (sessions.redeem(token, now), has_session) {
            (Some(session), _) => enter(&session),
            (None, true) => to_page().into_response(),
            (None, false) => {
                refuse("this link has been used, or is too old: `status page` makes another one\n")
            }
        };
    }
    if !has_session && policy.check(request.extensions(), Access::Watch).is_err() {
        return refuse("`status page` makes a link to this page, for who has keys of the fleet\n");
    }
    // Another site's name may lead a browser of this machine here: it would read what only programs of this
    // machine are to read.
    if policy == Policy::Local && !is_local(request.headers()) {
        return refuse(
            "this coordinator answers browsers of its own machine, at http://127.0.0.1\n",
        );
    }
    if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
        connection.set_called();
    }
    next.run(request).await
}

fn refuse(why: &'static str) -> Response<Body> {
    (StatusCode::FORBIDDEN, why).into_response()
}

/// Sets the cookie, and leads to the page without the token in its address.
fn enter(session: &str) -> Response<Body> {
    let seconds = SESSION_LIFETIME.as_secs();
    let cookie =
        format!("{NAME}={session}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let Ok(cookie) = HeaderValue::from_str(&cookie) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    ([(SET_COOKIE, cookie)], to_page()).into_response()
}

/// Leads to the page.
fn to_page() -> impl IntoResponse {
    let to = HeaderValue::from_static("/");
    (StatusCode::SEE_OTHER, [(LOCATION, to)])
}

fn token(query: Option<&str>) -> Option<&str> {
    query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|all| all.split("; "));
    pairs.find_map(|pair| pair.strip_prefix(NAME)?.strip_prefix('='))
}

/// Whether a browser was led here by an address of this machine, not by a name that anybody may have made.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else {
        // HTTP/2 has none.
        return true;
    };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "[::1]") || name.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_anybody_may_have_made_are_refused() {
        let host =
            |host: &str| HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
        for local in [
            "localhost",
            "localhost:50051",
            "127.0.0.1:50051",
            "[::1]:50051",
        ] {
            assert!(is_local(&host(local)), "{local}");
        }
        for other in [
            "evil.example:50051",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_local(&host(other)), "{other}");
        }
    }

    #[test]
    fn tokens_and_cookies_are_found_among_others() {
        assert_eq!(token(Some("a=b&token=x")), Some("x"));
        assert_eq!(token(Some("tokens=x")), None);
        let headers = HeaderMap::from_iter([(
            COOKIE,
            HeaderValue::from_static("a=b; __Host-quartet=x.y; __Host-quartets=z"),
        )]);
        assert_eq!(cookie(&headers), Some("x.y"));
    }
}
