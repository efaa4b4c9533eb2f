//! Path → stream and extension: `/api/v1/stream/flows`, `/api/v1/stream/flows.csv`.

use std::sync::Arc;

use flows_formats::Format;
use warp::path::FullPath;
use warp::{Filter, Rejection};

use super::App;
use super::problem::{Problem, shortened};
use crate::selection::View;

/// What a path names: a stream, as the view of all there is in it.
pub(super) struct Target {
    pub(super) app: Arc<App>,
    pub(super) view: Arc<View>,
    /// The format of the path's extension, if it has one.
    pub(super) extension: Option<&'static Format>,
}

/// The stream that the path names; 404 when there is none, or no format of that extension.
pub(super) fn target(
    app: &Arc<App>,
) -> impl Filter<Extract = (Target,), Error = Rejection> + Clone + use<> {
    let app = Arc::clone(app);
    let path = warp::path!("api" / "v1" / "stream" / String).and(warp::path::full());
    path.and_then(move |name: String, full: FullPath| {
        // To warp `flows/` is `flows`.
        let found = if full.as_str().ends_with('/') {
            Err(warp::reject::not_found())
        } else {
            find(&app, &name).map_err(Problem::rejection)
        };
        async move { found }
    })
}

fn find(app: &Arc<App>, path: &str) -> Result<Target, Problem> {
    // A stream's name has no dot.
    let (name, extension) = match path.split_once('.') {
        Some((name, extension)) => (name, Some(extension)),
        None => (path, None),
    };
    let view = app.stream(name)?;
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
        view: Arc::clone(view),
        extension,
    })
}
