//! The coordinator's page, and what monitoring asks for: HTTP on the port of the services.
//!
//! - `live`: parts of the page as they change, rendered once for all who watch
//! - `entry`: who may look
//! - `metrics`: for Prometheus

mod entry;
mod live;
mod metrics;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use quartet_history::ExperimentRecord;
use quartet_identity::session::Sessions;
use quartet_page::document;
use quartet_shared::blocking;
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::Attempt;
use quartet_shared::task::Task;
use quartet_status::json;
use quartet_store::log::joined;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use super::logs;
use super::shell::Shell;
use super::snapshots::snapshot;
use live::Live;

/// Pages that are kept up to date at a time: each is a connection.
const MOST_PAGES: usize = 256;

/// Nothing but what this server says itself is run, shown or asked for, and no other site frames it.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What the paths of all services begin with.
const SERVICES: &str = "/quartet.v1.";

/// Whole pages and reports that are rendered at a time.
const MOST_RENDERINGS: usize = 2;

/// What the page needs.
pub(super) struct Web {
    shell: Arc<Shell>,
    sessions: Option<Arc<Sessions>>,
    live: Live,
    pages: Arc<Semaphore>,
    renderings: Semaphore,
}

/// The page's routes. Sessions are there where keys are used.
pub(super) fn routes(shell: &Arc<Shell>, sessions: Option<Arc<Sessions>>) -> Router {
    let web = Arc::new(Web {
        shell: Arc::clone(shell),
        sessions,
        live: Live::start(shell),
        pages: Arc::new(Semaphore::new(MOST_PAGES)),
        renderings: Semaphore::new(MOST_RENDERINGS),
    });
    let shown = Router::new()
        .route("/", get(page))
        .route("/page.js", get(script))
        .route("/page.css", get(style))
        .route("/events", get(events))
        .route("/report", get(report))
        .route("/logs/{task}", get(log))
        .route("/snapshot.json", get(snapshot_json))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(Arc::clone(&web), entry::check));
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .merge(shown)
        .layer(axum::middleware::from_fn(secure))
        .with_state(web)
}

/// Adds the headers that every answer has.
async fn secure(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    for (name, value) in [
        ("content-security-policy", CONTENT_SECURITY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        let name = HeaderName::from_static(name);
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
        .headers_mut()
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Answers calls of gRPC's clients alone. A web site can have a browser send what it likes to an address of
/// its machine, but neither HTTP/2 without TLS nor this content type.
pub(super) async fn only_grpc(request: Request, next: Next) -> Response<Body> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !request.uri().path().starts_with(SERVICES) {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    }
    match is_grpc && request.version() == Version::HTTP_2 {
        true => next.run(request).await,
        false => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this is a gRPC service\n",
        )
            .into_response(),
    }
}

fn text(content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let content_type = HeaderValue::from_static(content_type);
    ([(CONTENT_TYPE, content_type)], body.into()).into_response()
}

/// Renders off the asynchronous threads, a few at a time: the others wait.
async fn render(web: &Web, html: impl FnOnce() -> String + Send + 'static) -> Response<Body> {
    let _turn = web.renderings.acquire().await;
    match blocking::run(html).await {
        Ok(html) => text("text/html; charset=utf-8", html),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn page(State(web): State<Arc<Web>>) -> Response<Body> {
    let (snapshot, record) = (snapshot(&web.shell), web.shell.history.record());
    render(&web, move || document(&snapshot, record.as_deref())).await
}

async fn script() -> Response<Body> {
    text("text/javascript; charset=utf-8", quartet_page::SCRIPT)
}

async fn style() -> Response<Body> {
    text("text/css; charset=utf-8", quartet_page::style())
}

/// The report so far.
async fn report(State(web): State<Arc<Web>>) -> Response<Body> {
    let Some(record) = web.shell.history.record() else {
        let why = "the history is being read from the store\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let mut record = ExperimentRecord::clone(&record);
    let store = &web.shell.experiment.store;
    let findings = quartet_status::stored::findings(store, &mut record).await;
    let report = move || quartet_report::html(&record, &findings, Timestamp::now());
    render(&web, report).await
}

/// The log of the newest attempt at a task, read as it is sent.
async fn log(State(web): State<Arc<Web>>, Path(task): Path<String>) -> Response<Body> {
    let Ok(name) = task.parse() else {
        return (StatusCode::NOT_FOUND, "there is no such run\n").into_response();
    };
    let task = Task::of_name(name);
    let first = match logs::read(&web.shell, &task, None, 0).await {
        Ok(first) => first,
        Err(status) => {
            let code = match status.code() {
                Code::NotFound => StatusCode::NOT_FOUND,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            return (code, format!("{}\n", status.message())).into_response();
        }
    };
    let attempt = Some(Attempt(first.attempt));
    let parts = futures::stream::try_unfold((Some(first), 0), move |(read, last)| {
        let (web, task) = (Arc::clone(&web), task.clone());
        async move {
            let Some(read) = read else {
                return Ok::<_, Status>(None);
            };
            let parts = read.parts.into_iter();
            let (text, last) = joined(parts.map(|part| (part.number, part.text)), last);
            let next = match read.more {
                true => Some(logs::read(&web.shell, &task, attempt, last).await?),
                false => None,
            };
            Ok(Some((text, (next, last))))
        }
    });
    text("text/plain; charset=utf-8", Body::from_stream(parts))
}

async fn snapshot_json(State(web): State<Arc<Web>>) -> Response<Body> {
    text(
        "application/json",
        json::pretty(&snapshot(&web.shell)) + "\n",
    )
}

async fn metrics(State(web): State<Arc<Web>>) -> Response<Body> {
    let snapshot = snapshot(&web.shell);
    match metrics::render(&snapshot, &web.shell.history.counters) {
        Ok(metrics) => text(metrics::CONTENT_TYPE, metrics),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// This process serves.
async fn health() -> &'static str {
    "ok\n"
}

/// Workers are served, and the store works.
async fn ready(State(web): State<Arc<Web>>) -> Response<Body> {
    let why_not = match (
        web.shell.store_trouble.now(),
        web.shell.connections.is_stopping(),
    ) {
        (_, true) => "the coordinator stops\n",
        (Some(_), _) => "the store fails\n",
        (None, false) => return "ok\n".into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why_not).into_response()
}

/// The parts of the page now, and again whenever one has changed.
async fn events(State(web): State<Arc<Web>>) -> Response<Body> {
    let Ok(permit) = Arc::clone(&web.pages).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let watch = web.live.watch();
    let stream = futures::stream::unfold((watch, permit), |(mut watch, permit)| async move {
        let (name, data) = watch.next().await?;
        let event = Event::default().event(name).data(&*data);
        Some((Ok::<_, Infallible>(event), (watch, permit)))
    });
    Sse::new(stream).into_response()
}
