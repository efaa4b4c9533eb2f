//! Head and body of a stream. The head waits for the first chunk: what fails before has a status.

use warp::Reply;
use warp::http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use super::body::{Body, Log};
use super::parameters::Asked;
use super::problem::Problem;
use crate::store::StoreError;
use crate::stream::connections::Lease;
use crate::stream::{self, Coding, Ends, StreamError};

/// Marks a reply whose log line is written when its body ends.
#[derive(Clone, Copy)]
pub(super) struct LogsItself;

/// Streams what was asked for.
pub(super) async fn stream(asked: Asked, lease: Lease) -> Response {
    let request = &asked.request;
    let mut log = Log::new(&asked);
    let mut response = match begin(&asked, lease, &mut log).await {
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
            response.headers_mut().insert(VARY, VARIES);
            response.extensions_mut().insert(LogsItself);
            return response;
        }
    };
    describe(response.headers_mut(), &asked);
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

async fn begin(asked: &Asked, mut lease: Lease, log: &mut Log) -> Result<Begun, Problem> {
    let encoder = (asked.format.encoder)(&asked.stream.schema, &asked.options)
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let (range, coding) = (asked.selection.into(), asked.coding);
    if let Some(whole) = stream::at_once(&mut lease, &asked.stream, &*encoder, &range, coding) {
        log.sent(&whole);
        return Ok(Begun::Whole(whole.bytes));
    }
    let mut chunks = stream::start(lease, asked.stream.clone(), encoder, range, coding);
    let first = chunks.next().await.map_err(|error| problem(&error))?;
    if first.ends == Ends::Document {
        log.sent(&first);
        return Ok(Begun::Whole(first.bytes));
    }
    if !asked.request.takes_chunks {
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

/// What a reply depends on besides its URL.
pub(super) const VARIES: HeaderValue = HeaderValue::from_static("accept, accept-encoding");

fn describe(headers: &mut HeaderMap, asked: &Asked) {
    let media_type = asked.media_type;
    let text = media_type.starts_with("text/") || media_type.ends_with("/xml");
    let content_type = format!("{media_type}{}", if text { "; charset=utf-8" } else { "" });
    let (stream, extension) = (&asked.stream.name, asked.format.extension);
    let disposition = format!("inline; filename=\"{stream}.{extension}\"");
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_DISPOSITION, disposition),
    ] {
        // Media types, stream names and extensions are plain ASCII.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    if asked.coding != Coding::Identity {
        let coding = HeaderValue::from_static(asked.coding.name());
        headers.insert(CONTENT_ENCODING, coding);
    }
    headers.insert(VARY, VARIES);
}
