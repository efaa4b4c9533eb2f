//! Head and body of a stream. The head waits for the first chunk: what fails before has a status.

use flows_formats::{Format, Options};
use warp::Reply;
use warp::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use super::body::{Body, Log};
use super::parameters::Asked;
use super::problem::Problem;
use super::request::Shared;
use crate::config::Stream;
use crate::store::StoreError;
use crate::stream::connections::Lease;
use crate::stream::{self, Ends, StreamError};

/// Marks a reply whose log line is written when its body ends.
#[derive(Clone, Copy)]
pub(super) struct LogsItself;

/// Streams what was asked for.
pub(super) async fn stream(asked: Asked, lease: Lease, request: Shared) -> Response {
    let mut log = Log::new(request.clone(), &asked);
    let mut response = match begin(&asked, lease, &request, &mut log).await {
        Ok(Begun::Whole(bytes)) => {
            log.ended(if request.head {
                "complete, head only"
            } else {
                "complete"
            });
            Response::new(bytes.into())
        }
        Ok(Begun::Streaming(first, chunks)) => {
            if request.head {
                log.ended("complete, head only");
            }
            warp::reply::stream(Body::new(first, chunks, log)).into_response()
        }
        Err(problem) => {
            log.ended(problem.to_string());
            let mut response = problem.response();
            response.extensions_mut().insert(LogsItself);
            return response;
        }
    };
    describe(response.headers_mut(), &asked.stream, asked.format);
    response.extensions_mut().insert(LogsItself);
    response
}

/// A reply whose head can be written.
enum Begun {
    /// The whole document.
    Whole(bytes::Bytes),
    /// The document's first chunk, and the others.
    Streaming(stream::Chunk, stream::Chunks),
}

async fn begin(
    asked: &Asked,
    mut lease: Lease,
    request: &Shared,
    log: &mut Log,
) -> Result<Begun, Problem> {
    let encoder = (asked.format.encoder)(&asked.stream.schema, &Options::default())
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let range = asked.selection.into();
    if let Some(whole) = stream::at_once(&mut lease, &asked.stream, &*encoder, &range) {
        log.sent(&whole);
        return Ok(Begun::Whole(whole.bytes));
    }
    let mut chunks = stream::start(lease, asked.stream.clone(), encoder, range);
    let first = chunks.next().await.map_err(|error| problem(&error))?;
    if first.ends == Ends::Document {
        log.sent(&first);
        return Ok(Begun::Whole(first.bytes));
    }
    if !request.takes_chunks {
        return Err(Problem::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "this reply is too long for HTTP/1.0, whose clients cannot tell a broken stream from a \
             whole one; ask with HTTP/1.1 (behind nginx: proxy_http_version 1.1), or for less, \
             with limit or a narrower window",
        ));
    }
    Ok(Begun::Streaming(first, chunks))
}

fn problem(error: &StreamError) -> Problem {
    match error {
        StreamError::Store(StoreError::Busy { .. } | StoreError::Unavailable { .. }) => {
            Problem::unavailable(error.to_string())
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn describe(headers: &mut HeaderMap, stream: &Stream, format: &Format) {
    let media_type = format
        .media_types
        .first()
        .copied()
        .unwrap_or("application/octet-stream");
    let text = media_type.starts_with("text/") || media_type.ends_with("/xml");
    let content_type = format!("{media_type}{}", if text { "; charset=utf-8" } else { "" });
    let disposition = format!("inline; filename=\"{}.{}\"", stream.name, format.extension);
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_DISPOSITION, disposition),
    ] {
        // Media types, stream names and extensions are plain ASCII.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}
