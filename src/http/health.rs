//! `/healthz`: whether the process lives. `/readyz`: whether each stream's database answers. `/`: where things are.
//!
//! All connections busy is ready: requests wait for their turn. A database that is locked, gone or without a
//! stream's table is not, nor is a server that stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};
use warp::http::header::{ALLOW, CONTENT_TYPE};
use warp::http::{HeaderValue, Method};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::problem::Problem;
use super::request::{self, Shared};
use super::{App, Listener};
use crate::selection::View;

/// How long the databases may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer counts, so that asking again and again costs nothing.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of the server's health.
pub(super) struct Health {
    stopping: AtomicBool,
    checks: Mutex<Checks>,
}

struct Checks {
    /// Of each database, what was asked and is not answered yet.
    asked: Vec<Option<oneshot::Receiver<Unready>>>,
    /// The last answers, and when they were there.
    known: Option<(Instant, Arc<Unready>)>,
}

/// The streams that cannot be read, with the reasons.
type Unready = BTreeMap<String, String>;

impl Health {
    /// Of a server with so many databases.
    pub(super) fn new(databases: usize) -> Health {
        Health {
            stopping: AtomicBool::new(false),
            checks: Mutex::new(Checks {
                asked: std::iter::repeat_with(|| None).take(databases).collect(),
                known: None,
            }),
        }
    }

    /// Notes that the server stops: it is not ready from now on.
    pub(super) fn stops(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The streams that cannot be read.
    async fn unready(&self, app: &App) -> Arc<Unready> {
        // One asks, the others wait for what it hears.
        let mut checks = self.checks.lock().await;
        let begun = Instant::now();
        let Checks { asked, known } = &mut *checks;
        if let Some((at, unready)) = known
            && begun.duration_since(*at) < FRESH
        {
            return Arc::clone(unready);
        }
        for (at, asked) in asked.iter_mut().enumerate() {
            // What nobody waited for may be old.
            let old = asked.as_mut().and_then(|asked| asked.try_recv().ok());
            if old.is_some() || asked.is_none() {
                *asked = ask(app, at);
            }
        }
        let (mut unready, deadline) = (Unready::new(), begun + PATIENCE);
        for (at, asked) in asked.iter_mut().enumerate() {
            let Some(answer) = asked else { continue };
            let silent = match timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => {
                    unready.extend(answer);
                    *asked = None;
                    continue;
                }
                // It panicked, or there was no thread for it.
                Ok(Err(_)) => {
                    *asked = None;
                    "cannot be asked"
                }
                // The next one who asks waits for the same answer.
                Err(_) => "did not answer in time",
            };
            let views = views(app, at).into_iter();
            let reason = format!("the database {silent}");
            unready.extend(views.map(|view| (view.stream.name.clone(), reason.clone())));
        }
        let unready = Arc::new(unready);
        let was_ready = known.as_ref().is_none_or(|(_, known)| known.is_empty());
        match (was_ready, unready.is_empty()) {
            (true, false) => {
                let reasons: Vec<_> = unready
                    .iter()
                    .map(|(name, why)| format!("{name}: {why}"))
                    .collect();
                tracing::warn!(reason = reasons.join("; "), "not ready");
            }
            (false, true) => tracing::info!("ready again"),
            _ => {}
        }
        *known = Some((Instant::now(), Arc::clone(&unready)));
        unready
    }
}

/// All there is in each stream of a database.
fn views(app: &App, database: usize) -> Vec<Arc<View>> {
    let Some((database, _)) = app.databases.get(database) else {
        return Vec::new();
    };
    let views = app.streams.iter().map(|served| &served.view);
    let is_in = |view: &&Arc<View>| view.stream.database == database.name;
    views.filter(is_in).cloned().collect()
}

/// Asks a database, on a thread of its own: it may never answer.
fn ask(app: &App, database: usize) -> Option<oneshot::Receiver<Unready>> {
    let views = views(app, database);
    let (_, connections) = app.databases.get(database)?;
    let (sender, answer) = oneshot::channel();
    let connections = connections.clone();
    let ask = move || {
        let answers = connections.probe(&views);
        let answers = views.iter().zip(answers);
        let failed = answers.filter_map(|(view, answer)| {
            let reason = answer.err()?.to_string();
            Some((view.stream.name.clone(), reason))
        });
        // Whoever asked may have gone.
        let _ = sender.send(failed.collect());
    };
    // Without a thread the channel is closed.
    let _ = std::thread::Builder::new()
        .name("ready".to_owned())
        .spawn(ask);
    Some(answer)
}

/// `/healthz` and `/readyz`, without a line each in the log, for anyone. Where streams are, only those who may read
/// all of them are told which cannot be read.
pub(super) fn health(
    listener: Listener,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Copy {
    let read = || request::get_or_head().and(warp::ext::get::<Shared>());
    let lives = warp::path!("healthz").and(read()).map(|request: Shared| {
        request.may_tell();
        plain("alive\n")
    });
    let ready = warp::path!("readyz")
        .and(read())
        .then(move |request: Shared| async move {
            request.may_tell();
            let health = &request.app.health;
            if health.stopping.load(Ordering::Relaxed) {
                return Problem::unavailable("the server stops").response();
            }
            let unready = health.unready(&request.app).await;
            if unready.is_empty() {
                return plain("ready\n");
            }
            let problem = Problem::unavailable("not every stream can be read");
            if listener == Listener::Main && request.knows_all().is_err() {
                return problem.response();
            }
            problem.of_streams((*unready).clone()).response()
        });
    lives.or(ready).unify()
}

/// `/`, which load balancers ask for by default, and people who look around: where everything is. For anyone, and
/// without a line in the log.
pub(super) fn root() -> impl Filter<Extract = (Response,), Error = Rejection> + Copy {
    warp::path::end()
        .and(warp::method())
        .and(warp::ext::get::<Shared>())
        .and_then(|method: Method, request: Shared| async move {
            if ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&method) {
                let detail = "/ is read by GET, HEAD or OPTIONS";
                return Err(Problem::method_not_allowed(detail, ALLOWED).rejection());
            }
            request.may_tell();
            let mut response = plain(
                "flows: streams are listed at /api/v1/streams, and read at /api/v1/stream/NAME\n",
            );
            let allowed = HeaderValue::from_static(ALLOWED);
            response.headers_mut().insert(ALLOW, allowed);
            Ok(response)
        })
}

/// How `/` may be asked for.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

fn plain(text: &'static str) -> Response {
    let mut response = Response::new(text.into());
    let media_type = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
