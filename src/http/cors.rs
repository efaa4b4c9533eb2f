//! Which pages of other origins may read replies: CORS (the Fetch standard, "HTTP extensions").

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use warp::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use warp::reply::Response;

/// What a page may send besides what every page may. That this server's address is in a private network, where
/// the page's is not, it is not told to overlook.
const MAY_SEND: &str = "Authorization, Accept, X-Request-Id, traceparent, Range, If-Range, If-Match, \
    If-None-Match";

/// What a page may read of a reply's head besides what every page may.
const MAY_READ: &str = "Link, Flows-Position, Flows-End, Flows-Count, X-Request-Id, Retry-After, \
    Content-Disposition, WWW-Authenticate, ETag, Accept-Ranges, Content-Range";

/// How many seconds a browser may keep the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What a request says of the page that it is from.
pub(super) struct Cors {
    /// Whether pages of any other origin may read.
    is_configured: bool,
    /// The page's, if it may read.
    origin: Option<HeaderValue>,
    /// Whether the browser asks first.
    is_preflight: bool,
}

impl Cors {
    pub(super) fn of<B>(origins: &[String], request: &Request<B>) -> Cors {
        let headers = request.headers();
        let may_read =
            |origin: &&HeaderValue| origins.iter().any(|known| known == "*" || *origin == known);
        Cors {
            is_configured: !origins.is_empty(),
            origin: headers.get(ORIGIN).filter(may_read).cloned(),
            is_preflight: request.method() == Method::OPTIONS
                && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        }
    }

    /// The answer to a browser that asks first: it has no token yet.
    pub(super) fn preflight(&self) -> Option<Response> {
        self.origin.as_ref().filter(|_| self.is_preflight)?;
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
            (ACCESS_CONTROL_ALLOW_HEADERS, MAY_SEND),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(response)
    }

    /// Lets the page read the reply, also one that is an error.
    pub(super) fn describe(self, headers: &mut HeaderMap) {
        if !self.is_configured {
            return;
        }
        let before = headers.get(VARY).and_then(|vary| vary.to_str().ok());
        let vary = before.map(|before| format!("{before}, origin"));
        let vary = vary.and_then(|vary| HeaderValue::try_from(vary).ok());
        headers.insert(VARY, vary.unwrap_or(HeaderValue::from_static("origin")));
        if let Some(origin) = self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let may_read = HeaderValue::from_static(MAY_READ);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, may_read);
        }
    }
}
