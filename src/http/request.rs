//! Who asks: the request's id and HTTP version; and what no request may have.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use warp::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use warp::http::{HeaderMap, HeaderName, Method, Version};
use warp::{Filter, Rejection};

use super::App;
use super::access::Caller;
use super::client_address::client;
use super::conditions::Conditions;
use super::metrics::Counted;
use super::problem::{Problem, shortened};
use super::quota::Running;
use super::trace::Trace;
use super::wire::{Fate, Wire};
use crate::token::is_in_url;

/// What is known of a request before its first filter.
pub(super) struct Request {
    /// The streams there were when it came.
    pub(super) app: Arc<App>,
    /// Who sent it: a token's holder, or anyone.
    pub(super) caller: Arc<Caller>,
    /// Why they get no answer, whatever they ask for; [`Request::caller`] says it.
    pub(super) refused: Option<Problem>,
    /// The stream that it is counted as.
    pub(super) running: OnceLock<Running>,
    /// Who sent it.
    pub(super) client: IpAddr,
    /// The proxy that it came through, if it is one that is believed.
    pub(super) proxy: Option<IpAddr>,
    /// The trace that it is a part of, if it says so.
    pub(super) trace: Option<Trace>,
    /// The client's `X-Request-Id` where it is sane, else one of ours.
    pub(super) id: String,
    /// The path and query, as sent.
    pub(super) uri: String,
    /// Whether only a head is wanted.
    pub(super) head: bool,
    /// Whether the client takes a body without a length: HTTP/1.1 does, HTTP/1.0 could not tell a
    /// broken one from a complete one.
    pub(super) takes_chunks: bool,
    /// What it would like to get: `Accept`, if it has one.
    pub(super) accept: Option<String>,
    /// How it would like to get it: `Accept-Encoding`, if it has one.
    pub(super) accept_encoding: Option<String>,
    /// What its client has already, and which part it wants.
    pub(super) conditions: Conditions,
    /// When its head had been read.
    pub(super) started: Instant,
    /// Why its reply may end before its end.
    pub(super) fate: Arc<Fate>,
    /// What is counted of the stream that it is for, once that is known.
    pub(super) counted: OnceLock<Arc<Counted>>,
    /// Whether someone has taken it upon itself to write its line in the log.
    told: AtomicBool,
}

impl Request {
    /// Notes what the head of a request says.
    pub(super) fn new<B>(request: &warp::http::Request<B>, app: Arc<App>, wire: &Wire) -> Request {
        let uri = request.uri().to_string();
        let (caller, mut refused) = app.access.caller(request.headers());
        if is_in_url(&uri) {
            refused = Some(Problem::token_in_url());
        }
        let peer = wire.peer().ip().to_canonical();
        let client = client(peer, request.headers(), &app.server.proxies);
        Request {
            app,
            caller,
            refused,
            running: OnceLock::new(),
            client,
            proxy: (client != peer).then_some(peer),
            trace: Trace::of(request.headers()),
            id: id(request.headers()),
            uri,
            head: request.method() == Method::HEAD,
            accept: list(request.headers(), &ACCEPT),
            accept_encoding: list(request.headers(), &ACCEPT_ENCODING),
            conditions: Conditions::of(request.headers()),
            takes_chunks: request.version() >= Version::HTTP_11,
            started: Instant::now(),
            fate: wire.fate(),
            counted: OnceLock::new(),
            told: AtomicBool::new(false),
        }
    }

    /// Whether its line in the log is for whoever asks: it is for the first one.
    pub(super) fn may_tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

/// A header that holds a list: all its lines are one (RFC 9110 section 5.3).
pub(super) fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// The client's request id, if it can stand in a header and in a log, else a random one.
fn id(headers: &HeaderMap) -> String {
    let sane = |c: u8| c.is_ascii_alphanumeric() || b"-_.:+/=".contains(&c);
    headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(sane) && !is_in_url(id))
        .map_or_else(random_id, str::to_owned)
}

/// The id of a request whose client gave it none.
pub(super) fn random_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Refuses all methods but `GET` and `HEAD`: 405.
pub(super) fn get_or_head() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::method()
        .and_then(|method: Method| async move {
            if method == Method::GET || method == Method::HEAD {
                return Ok(());
            }
            let method = shortened(method.as_str());
            let detail = format!("a stream is read by GET or HEAD, not by {method}");
            Err(Problem::method_not_allowed(detail, "GET, HEAD").rejection())
        })
        .untuple_one()
}

/// Refuses a request that announces a body: 400. While one is under way a client that leaves would
/// not be noticed.
pub(super) fn no_body() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::header::headers_cloned()
        .and_then(|headers: HeaderMap| async move {
            let empty = headers
                .get_all(CONTENT_LENGTH)
                .iter()
                .all(|length| length == "0");
            if empty && !headers.contains_key(TRANSFER_ENCODING) {
                return Ok(());
            }
            let detail = "a request for a stream has no body; put parameters into the URL";
            Err(Problem::bad_request(detail).rejection())
        })
        .untuple_one()
}

/// The query string, undecoded; empty when there is none.
pub(super) fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// A request as the log calls it.
pub(super) type Shared = Arc<Request>;
