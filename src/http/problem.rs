//! Errors as `application/problem+json` (RFC 9457): what is wrong, where, and the way out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use warp::http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use warp::http::{HeaderName, HeaderValue, StatusCode};
use warp::reject::{Reject, Rejection};
use warp::reply::Response;

use super::negotiation::VARIES;
use crate::suggest::nearest;
use crate::token::redacted;

/// An error reply. Boxed: it is large, and rare.
#[derive(Clone, Debug)]
pub(super) struct Problem(Box<Members>);

/// RFC 9457's members, and ours.
#[derive(Clone, Debug, Serialize)]
struct Members {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    header: Option<(HeaderName, HeaderValue)>,
}

impl Reject for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status, self.0.detail)
    }
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem(Box::new(Members {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            parameter: None,
            value: None,
            allowed: None,
            suggestion: None,
            streams: None,
            header: None,
        }))
    }

    /// A 400.
    pub(super) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// A 405, with `Allow`.
    pub(super) fn method_not_allowed(detail: impl Into<String>, allow: &'static str) -> Problem {
        let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
        problem.0.header = Some((ALLOW, HeaderValue::from_static(allow)));
        problem
    }

    /// A 406: another `Accept` may get another reply.
    pub(super) fn not_acceptable(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::NOT_ACCEPTABLE, detail);
        problem.0.header = Some((VARY, VARIES));
        problem
    }

    /// A 412: the document is the one of that `ETag`, and not what the client has.
    pub(super) fn changed(etag: &str) -> Problem {
        let detail = format!(
            "the document has changed, and is {etag} now; ask without If-Match for all of it"
        );
        Problem::new(StatusCode::PRECONDITION_FAILED, detail)
    }

    /// A 416, with `Content-Range`: of a document of so many bytes.
    pub(super) fn no_such_part(length: usize) -> Problem {
        let detail =
            format!("the document has {length} bytes, and none of those that Range asks for");
        let mut problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail);
        let range = HeaderValue::try_from(format!("bytes */{length}")).ok();
        problem.0.header = range.map(|range| (CONTENT_RANGE, range));
        problem
    }

    /// A 414: a URL of more than so many bytes.
    pub(super) fn url_too_long(most: usize) -> Problem {
        let detail = format!(
            "the URL is longer than {most} bytes (server.url_bytes); ask for less at once, with fewer filters \
             or values"
        );
        Problem::new(StatusCode::URI_TOO_LONG, detail)
    }

    /// A 503, with `Retry-After` (in seconds).
    pub(super) fn unavailable(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.0.header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
        problem
    }

    /// A 429, with `Retry-After`: the seconds after which there may be one more.
    pub(super) fn too_many(detail: impl Into<String>, wait: Duration) -> Problem {
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        problem.0.header = Some((RETRY_AFTER, seconds.into()));
        problem
    }

    /// A 401 or 403, with what a token would have to be (RFC 6750 section 3). The detail is plain ASCII.
    pub(super) fn challenge(status: StatusCode, error: Option<&str>, detail: &str) -> Problem {
        let mut challenge = "Bearer realm=\"flows\"".to_owned();
        if let Some(error) = error {
            challenge += &format!(", error=\"{error}\", error_description=\"{detail}\"");
        }
        let mut problem = Problem::new(status, detail);
        let challenge = HeaderValue::try_from(challenge).ok();
        problem.0.header = challenge.map(|challenge| (WWW_AUTHENTICATE, challenge));
        problem
    }

    /// A 400 for a token where everybody writes it down.
    pub(super) fn token_in_url() -> Problem {
        Problem::bad_request(
            "the URL has a token in it, which logs and histories keep; send it in the header \
             Authorization: Bearer TOKEN, and have this one replaced if it was one",
        )
    }

    /// Says what is wrong with each of some streams.
    pub(super) fn of_streams(mut self, reasons: BTreeMap<String, String>) -> Problem {
        self.0.streams = Some(reasons);
        self
    }

    /// Names the parameter and, where there is one, its value.
    pub(super) fn about(mut self, parameter: &str, value: Option<&str>) -> Problem {
        self.0.parameter = Some(shortened(parameter));
        self.0.value = value.map(shortened);
        self
    }

    /// Lists what would do, and suggests the one nearest to what was given.
    pub(super) fn allowing(
        self,
        given: &str,
        allowed: impl IntoIterator<Item = impl Into<String>>,
    ) -> Problem {
        let allowed: Vec<String> = allowed.into_iter().map(Into::into).collect();
        self.suggesting(nearest(given, &allowed).map(str::to_owned), allowed)
    }

    /// Lists what would do, and suggests what was meant.
    pub(super) fn suggesting(
        mut self,
        suggestion: Option<String>,
        allowed: impl IntoIterator<Item = impl Into<String>>,
    ) -> Problem {
        self.0.suggestion = suggestion.map(|suggestion| shortened(&suggestion));
        if let Some(suggestion) = &self.0.suggestion {
            self.0
                .detail
                .push_str(&format!("; did you mean {suggestion}?"));
        }
        self.listing(allowed)
    }

    /// Lists what would do.
    pub(super) fn listing(
        mut self,
        allowed: impl IntoIterator<Item = impl Into<String>>,
    ) -> Problem {
        self.0.allowed = Some(allowed.into_iter().map(Into::into).collect());
        self
    }

    /// What would do, in words.
    pub(super) fn allowing_only(mut self, allowed: &str) -> Problem {
        self.0.allowed = Some(vec![allowed.to_owned()]);
        self
    }

    pub(super) fn rejection(self) -> Rejection {
        warp::reject::custom(self)
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// A header that it has besides, as it is sent.
    pub(super) fn header(&self) -> Option<(&str, &str)> {
        let (name, value) = self.0.header.as_ref()?;
        Some((name.as_str(), value.to_str().ok()?))
    }

    pub(super) fn body(&self) -> String {
        // A struct of strings and numbers is always JSON.
        let mut body = serde_json::to_string_pretty(&self.0).unwrap_or_default();
        body.push('\n');
        body
    }

    pub(super) fn response(&self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status();
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        if let Some((name, value)) = &self.0.header {
            response.headers_mut().insert(name, value.clone());
        }
        response.extensions_mut().insert(Why(self.to_string()));
        response
    }
}

/// The reason for an error reply, for the log.
#[derive(Clone)]
pub(super) struct Why(pub(super) String);

/// Turns whatever a filter rejected into a reply.
pub(super) async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = match rejection.find::<Problem>() {
        Some(problem) => problem.clone(),
        None if rejection.is_not_found() => {
            Problem::not_found("there is nothing at this path; /api/v1/streams lists what there is")
        }
        None => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{rejection:?}")),
    };
    Ok(problem.response())
}

/// What the client sent, as far as it needs repeating.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    // A token that is cut is none to whoever looks for them.
    let text = redacted(text);
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into_owned(),
    }
}
