//! Path → stream and extension: `/api/v1/stream/flows`, `/api/v1/stream/flows.csv`; and the way out of a path that
//! has a slash too many.

use std::sync::Arc;

use flows_formats::Format;
use warp::http::header::LOCATION;
use warp::http::{HeaderValue, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::problem::{Problem, shortened};
use super::request::{self, Request, Shared};
use super::{App, Served};
use crate::selection::View;
use crate::stream::connections::Connections;

/// What a path names: a stream, as the view of all there is in it.
pub(super) struct Target {
    pub(super) app: Arc<App>,
    pub(super) view: Arc<View>,
    /// Those to the stream's database.
    pub(super) connections: Connections,
    /// The path's extension, if it has one, and its format.
    pub(super) extension: Option<(String, &'static Format)>,
}

/// The stream that the path names; 404 when there is none, or no format of that extension; 401 and 403 when
/// the caller may not read it.
pub(super) fn target() -> impl Filter<Extract = (Target,), Error = Rejection> + Copy {
    warp::path!("api" / "v1" / "stream" / String)
        .and(warp::path::full())
        .and(warp::ext::get::<Shared>())
        .and_then(|name: String, full: FullPath, request: Shared| async move {
            // To warp `flows/` is `flows`.
            if full.as_str().ends_with('/') {
                return Err(warp::reject::not_found());
            }
            find(&request, &name).map_err(Problem::rejection)
        })
}

/// A path that is right but for a slash at its end leads to the one without: 308. Of any other it says what
/// would be said without the slash.
pub(super) fn without_slash() -> impl Filter<Extract = (Response,), Error = Rejection> + Copy {
    warp::path::full()
        .and(request::query())
        .and(warp::ext::get::<Shared>())
        .and_then(
            |full: FullPath, query: String, request: Shared| async move {
                let path = full.as_str().strip_prefix("/api/v1/");
                let path = path.and_then(|path| path.strip_suffix('/'));
                let segments: Vec<_> = path.into_iter().flat_map(|path| path.split('/')).collect();
                let (last, found) = match segments[..] {
                    ["streams"] => ("streams", request.streams().map(drop)),
                    ["stream", name] => (name, find(&request, name).map(drop)),
                    ["schema", name] => (name, request.stream(name).map(drop)),
                    _ => return Err(warp::reject::not_found()),
                };
                found.map_err(Problem::rejection)?;
                // Relative (RFC 3986 section 5.2.2): right also where a proxy has put a prefix before the path.
                let mark = if query.is_empty() { "" } else { "?" };
                let mut response = Response::default();
                *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
                // What was part of a URL may stand in a header.
                if let Ok(to) = HeaderValue::try_from(format!("../{last}{mark}{query}")) {
                    response.headers_mut().insert(LOCATION, to);
                }
                Ok(response)
            },
        )
}

fn find(request: &Request, path: &str) -> Result<Target, Problem> {
    // A stream's name has no dot.
    let (name, extension) = match path.split_once('.') {
        Some((name, extension)) => (name, Some(extension)),
        None => (path, None),
    };
    let app = &request.app;
    let served = request.stream(name)?.clone();
    let Served {
        view,
        connections,
        counted,
    } = served;
    request.counted.get_or_init(|| counted);
    let extension = match extension {
        None => None,
        Some(extension) => {
            let format = app.formats.by_extension(extension).ok_or_else(|| {
                let detail = format!("no format has the extension {:?}", shortened(extension));
                let extensions = app.formats.iter().flat_map(|format| format.extensions);
                Problem::not_found(detail).allowing(extension, extensions.copied())
            })?;
            Some((extension.to_owned(), format))
        }
    };
    Ok(Target {
        app: Arc::clone(app),
        view,
        connections,
        extension,
    })
}
