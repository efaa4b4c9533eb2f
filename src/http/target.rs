//! Path → stream and extension: `/api/v1/stream/flows`, `/api/v1/stream/flows.csv`.

use std::sync::Arc;

use flows_formats::Format;
use warp::path::FullPath;
use warp::{Filter, Rejection};

use super::problem::{Problem, shortened};
use super::request::{Request, Shared};
use super::{App, Served};
use crate::selection::View;
use crate::stream::connections::Connections;

/// What a path names: a stream, as the view of all there is in it.
pub(super) struct Target {
    pub(super) app: Arc<App>,
    pub(super) view: Arc<View>,
    /// Those to the stream's database.
    pub(super) connections: Connections,
    /// The format of the path's extension, if it has one.
    pub(super) extension: Option<&'static Format>,
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
        Some(extension) => Some(app.formats.by_extension(extension).ok_or_else(|| {
            let detail = format!("no format has the extension {:?}", shortened(extension));
            let extensions = app.formats.iter().map(|format| format.extension);
            Problem::not_found(detail).allowing(extension, extensions)
        })?),
    };
    Ok(Target {
        app: Arc::clone(app),
        view,
        connections,
        extension,
    })
}
