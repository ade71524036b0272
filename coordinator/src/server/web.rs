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
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use quartet_history::ExperimentRecord;
use quartet_identity::session::Sessions;
use quartet_page::{document, idle};
use quartet_shared::blocking;
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::{Attempt, ExperimentName};
use quartet_shared::task::Task;
use quartet_status::json;
use quartet_store::log::joined;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use super::logs;
use super::queue_runner::QueueRunner;
use super::registry::{Open, Registry};
use super::snapshots::snapshot;

pub(super) use live::Live;

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
    registry: Arc<Registry>,
    /// The queue, unless there is but one experiment.
    runner: Option<Arc<QueueRunner>>,
    sessions: Option<Arc<Sessions>>,
    pages: Arc<Semaphore>,
    renderings: Semaphore,
}

/// The page's routes. Sessions are there where keys are used.
pub(super) fn routes(
    registry: &Arc<Registry>,
    runner: Option<Arc<QueueRunner>>,
    sessions: Option<Arc<Sessions>>,
) -> Router {
    let web = Arc::new(Web {
        registry: Arc::clone(registry),
        runner,
        sessions,
        pages: Arc::new(Semaphore::new(MOST_PAGES)),
        renderings: Semaphore::new(MOST_RENDERINGS),
    });
    let mut shown = Router::new()
        .route("/experiments/{experiment}", get(with_slash))
        .route("/page.js", get(script))
        .route("/page.css", get(style));
    // The first experiment, and one of those that are trained.
    for folder in ["", "/experiments/{experiment}"] {
        let path = |path: &str| format!("{folder}/{path}");
        shown = shown
            .route(&path(""), get(page))
            .route(&path("events"), get(events))
            .route(&path("report"), get(report))
            .route(&path("logs/{task}"), get(log))
            .route(&path("snapshot.json"), get(snapshot_json))
            .route(&path("metrics"), get(metrics));
    }
    let shown = shown.layer(from_fn_with_state(Arc::clone(&web), entry::check));
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

/// What an address says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    /// The experiment; empty for the first.
    experiment: String,
    /// A run, or the evaluation.
    task: String,
}

/// The experiment of an address, or the answer if it is not trained now.
fn open(web: &Web, place: &Place) -> Result<Arc<Open>, Box<Response<Body>>> {
    let found = web.registry.named(&place.experiment);
    found.map_err(|status| Box::new(error(&status)))
}

/// Leads to the page of an experiment, whose links are relative to its folder.
async fn with_slash(Path(place): Path<Place>) -> Response<Body> {
    // No name has a character that an address could not have.
    match place.experiment.parse::<ExperimentName>() {
        Ok(name) => Redirect::permanent(&format!("/experiments/{name}/")).into_response(),
        Err(error) => (StatusCode::NOT_FOUND, format!("{error}\n")).into_response(),
    }
}

/// An error as HTTP has it.
fn error(status: &Status) -> Response<Body> {
    let code = match status.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{}\n", status.message())).into_response()
}

async fn page(State(web): State<Arc<Web>>, Path(place): Path<Place>) -> Response<Body> {
    let queue = web.runner.as_ref().map(|runner| runner.queue_for_page());
    match open(&web, &place) {
        Ok(open) => {
            let shell = &open.shell;
            let (snapshot, record) = (snapshot(shell), shell.history.record());
            let html = move || document(&snapshot, record.as_deref(), &queue.unwrap_or_default());
            render(&web, html).await
        }
        Err(_) if queue.is_some() && place.experiment.is_empty() => {
            render(&web, move || idle(&queue.unwrap_or_default())).await
        }
        Err(response) => *response,
    }
}

async fn script() -> Response<Body> {
    text("text/javascript; charset=utf-8", quartet_page::SCRIPT)
}

async fn style() -> Response<Body> {
    text("text/css; charset=utf-8", quartet_page::style())
}

/// The report so far.
async fn report(State(web): State<Arc<Web>>, Path(place): Path<Place>) -> Response<Body> {
    let shell = match open(&web, &place) {
        Ok(open) => Arc::clone(&open.shell),
        Err(response) => return *response,
    };
    let Some(record) = shell.history.record() else {
        let why = "the history is being read from the store\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let mut record = ExperimentRecord::clone(&record);
    let store = &shell.experiment.store;
    let findings = quartet_status::stored::findings(store, &mut record).await;
    let report = move || quartet_report::html(&record, &findings, Timestamp::now());
    render(&web, report).await
}

/// The log of the newest attempt at a task, read as it is sent.
async fn log(State(web): State<Arc<Web>>, Path(place): Path<Place>) -> Response<Body> {
    let shell = match open(&web, &place) {
        Ok(open) => Arc::clone(&open.shell),
        Err(response) => return *response,
    };
    let Ok(name) = place.task.parse() else {
        return (StatusCode::NOT_FOUND, "there is no such run\n").into_response();
    };
    let task = Task::of_name(name);
    let first = match logs::read(&shell, &task, None, 0).await {
        Ok(first) => first,
        Err(status) => return error(&status),
    };
    let attempt = Some(Attempt(first.attempt));
    let parts = futures::stream::try_unfold((Some(first), 0), move |(read, last)| {
        let (shell, task) = (Arc::clone(&shell), task.clone());
        async move {
            let Some(read) = read else {
                return Ok::<_, Status>(None);
            };
            let parts = read.parts.into_iter();
            let (text, last) = joined(parts.map(|part| (part.number, part.text)), last);
            let next = match read.more {
                true => Some(logs::read(&shell, &task, attempt, last).await?),
                false => None,
            };
            Ok(Some((text, (next, last))))
        }
    });
    text("text/plain; charset=utf-8", Body::from_stream(parts))
}

async fn snapshot_json(State(web): State<Arc<Web>>, Path(place): Path<Place>) -> Response<Body> {
    match open(&web, &place) {
        Ok(open) => text(
            "application/json",
            json::pretty(&snapshot(&open.shell)) + "\n",
        ),
        Err(response) => *response,
    }
}

async fn metrics(State(web): State<Arc<Web>>, Path(place): Path<Place>) -> Response<Body> {
    let open = match open(&web, &place) {
        Ok(open) => open,
        // A coordinator without work is not down.
        Err(_) if web.runner.is_some() && place.experiment.is_empty() => {
            return text(metrics::CONTENT_TYPE, metrics::NOTHING);
        }
        Err(response) => return *response,
    };
    match metrics::render(&snapshot(&open.shell), &open.shell.history.counters) {
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
    let all = web.registry.all();
    let mut trouble = all.iter().filter_map(|open| open.shell.store_trouble.now());
    let why_not = match (trouble.next(), web.registry.is_stopping()) {
        (_, true) => "the coordinator stops\n",
        (Some(_), _) => "the store fails\n",
        (None, false) => return "ok\n".into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why_not).into_response()
}

/// The parts of the page now, and again whenever one has changed.
async fn events(State(web): State<Arc<Web>>, Path(place): Path<Place>) -> Response<Body> {
    let open = match open(&web, &place) {
        Ok(open) => open,
        Err(response) => return *response,
    };
    let Ok(permit) = Arc::clone(&web.pages).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let watch = open.live.watch();
    let stream = futures::stream::unfold((watch, permit), |(mut watch, permit)| async move {
        let (name, data) = watch.next().await?;
        let event = Event::default().event(name).data(&*data);
        Some((Ok::<_, Infallible>(event), (watch, permit)))
    });
    Sse::new(stream).into_response()
}
