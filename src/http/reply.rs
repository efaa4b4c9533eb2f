//! Head and body of a stream. The head waits for the first chunk: what fails before has a status.

use std::sync::Arc;

use warp::Reply;
use warp::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK, VARY,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::Response;

use super::body::{Body, Log};
use super::conditions::{Sent, etag};
use super::ending::Ending;
use super::negotiation::VARIES;
use super::parameters::{Resolved, StreamRequest};
use super::problem::Problem;
use crate::selection::{Order, Part, Position};
use crate::store::StoreError;
use crate::stream::connections::Lease;
use crate::stream::{self, Boundary, Chunk, ContentCoding, ReplyEnd, StreamError};

/// Streams what was asked for.
pub(super) async fn stream(asked: StreamRequest, lease: Lease) -> Response {
    let request = &asked.request;
    let mut log = Log::new(&asked);
    let end;
    let mut response = match begin(&asked, lease, &mut log).await {
        Ok(Begun::Complete(response, of_reply)) => {
            log.begins(response.status());
            log.ended(
                Ending::Complete,
                if request.head { HEAD_ONLY } else { "complete" },
            );
            end = of_reply;
            response
        }
        Ok(Begun::Streaming(mut first, chunks)) => {
            end = first.end.take();
            log.begins(StatusCode::OK);
            if request.head {
                log.ended(Ending::Complete, HEAD_ONLY);
            }
            warp::reply::stream(Body::new(first, chunks, log)).into_response()
        }
        Err(problem) => {
            log.begins(problem.status());
            log.ended(Ending::Complete, problem.to_string());
            let mut response = problem.response();
            response.headers_mut().insert(VARY, VARIES);
            return response;
        }
    };
    let has_document = response.status() != StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    if has_document {
        describe_document(headers, &asked);
    }
    headers.insert(VARY, VARIES);
    say_where_it_ends(headers, &asked, end.unwrap_or_default());
    response
}

/// How a request for a head ends.
const HEAD_ONLY: &str = "complete, head only";

/// A reply whose head can be written.
enum Begun {
    /// The reply that has all that is wanted of the complete document, and where that ends.
    Complete(Response, Option<ReplyEnd>),
    /// The document's first chunk, and the others.
    Streaming(Chunk, stream::Chunks),
}

async fn begin(asked: &StreamRequest, mut lease: Lease, log: &mut Log) -> Result<Begun, Problem> {
    let mut encoder = asked
        .format
        .new_encoder(&asked.view.schema, &asked.options)
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let (range, coding) = (asked.range.clone(), asked.coding);
    if let Some(document) = stream::at_once(&mut lease, &asked.view, &*encoder, &range, coding) {
        return complete(asked, document, log);
    }
    let unavailable = |error: StoreError| Problem::unavailable(error.to_string());
    if !lease.may_be_kept() {
        // Large streams have all the connections that they may have: a small request needs none of those.
        let (view, connections) = (Arc::clone(&asked.view), lease.connections());
        let shortly = stream::shortly(lease, view, encoder, range.clone(), coding).await;
        let Some((kept, chunk)) = shortly else {
            return Err(problem(&StreamError::Defect));
        };
        if let Some(document) = chunk {
            return complete(asked, document, log);
        }
        // Who waits holds nothing that a small request could use.
        let large = connections.borrow_for_long().await;
        (encoder, lease) = (kept, large.map_err(unavailable)?);
    }
    let mut chunks = stream::start(
        lease,
        asked.view.clone(),
        encoder,
        range,
        coding,
        asked.count,
    );
    let first = chunks.next().await.map_err(|error| problem(&error))?;
    if first.boundary == Boundary::Document {
        return complete(asked, first, log);
    }
    if !asked.request.takes_chunks {
        return Err(Problem::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "this reply is too long for HTTP/1.0, whose clients cannot tell a broken stream from a \
             complete one; ask with HTTP/1.1 (behind nginx: proxy_http_version 1.1), or for less, \
             with limit or a narrower window",
        ));
    }
    Ok(Begun::Streaming(first, chunks))
}

/// What is wanted of a document that is complete.
fn complete(asked: &StreamRequest, mut document: Chunk, log: &mut Log) -> Result<Begun, Problem> {
    let (request, length) = (&asked.request, document.bytes.len());
    let etag = etag(asked.media_type, &document.bytes);
    let sent = request.conditions.sent(&etag, length, request.head)?;
    let mut response = Response::default();
    let headers = response.headers_mut();
    set(headers, ETAG, &etag);
    // Whoever keeps it asks whether it is still the same: records are added at any time.
    set(headers, CACHE_CONTROL, "no-cache");
    set(headers, ACCEPT_RANGES, "bytes");
    let mut status = StatusCode::OK;
    if sent != Sent::Whole {
        // No record counts as sent of which it is not known that it was.
        (document.records, document.replaced) = (0, 0);
    }
    match sent {
        Sent::Whole => {}
        Sent::Part(part) => {
            status = StatusCode::PARTIAL_CONTENT;
            let (first, last) = (part.start, part.end - 1);
            set(
                headers,
                CONTENT_RANGE,
                &format!("bytes {first}-{last}/{length}"),
            );
            document.bytes = document.bytes.slice(part);
        }
        Sent::Nothing => {
            status = StatusCode::NOT_MODIFIED;
            document.bytes.clear();
        }
    }
    if status != StatusCode::NOT_MODIFIED {
        // hyper says no length of nothing to HEAD.
        headers.insert(CONTENT_LENGTH, document.bytes.len().into());
    }
    log.sent(&document);
    *response.status_mut() = status;
    *response.body_mut() = document.bytes.into();
    Ok(Begun::Complete(response, document.end))
}

fn problem(error: &StreamError) -> Problem {
    match error {
        StreamError::Store(
            StoreError::Busy { .. }
            | StoreError::HeldBack { .. }
            | StoreError::Unavailable { .. }
            | StoreError::Unfinished { .. }
            | StoreError::Unreachable { .. },
        ) => Problem::unavailable(error.to_string()),
        StreamError::Store(StoreError::Silent { .. }) => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, error.to_string())
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn describe_document(headers: &mut HeaderMap, asked: &StreamRequest) {
    let media_type = asked.media_type;
    let text = media_type.starts_with("text/") || media_type.ends_with("/xml");
    let content_type = format!("{media_type}{}", if text { "; charset=utf-8" } else { "" });
    let (stream, extension) = (&asked.view.stream.name, asked.format.extension());
    let disposition = format!("inline; filename=\"{stream}.{extension}\"");
    set(headers, CONTENT_TYPE, &content_type);
    set(headers, CONTENT_DISPOSITION, &disposition);
    if asked.coding != ContentCoding::Identity {
        let coding = HeaderValue::from_static(asked.coding.name());
        headers.insert(CONTENT_ENCODING, coding);
    }
}

fn say_where_it_ends(headers: &mut HeaderMap, asked: &StreamRequest, end: ReplyEnd) {
    let (order, ids) = (asked.view.order, asked.view.stream.ids());
    if let Some(position) = end.position {
        let position = order.written(&position, ids);
        if end.more {
            let next = next(asked, &position);
            set(headers, LINK, &format!("<{next}>; rel=\"next\""));
        }
        set(
            headers,
            HeaderName::from_static("flows-position"),
            &position,
        );
    }
    if let (Some(end), Some(after)) = (end.table_end, &asked.after)
        && is_beyond(order, after, end.as_ref())
    {
        let end = end.map_or("none".to_owned(), |end| order.written(&end, ids));
        set(headers, HeaderName::from_static("flows-end"), &end);
    }
    if asked.count
        && let Some(count) = end.count
    {
        headers.insert("flows-count", count.into());
    }
}

/// Whether a position lies after a table's end, as no record's does that is still there. A window without
/// a record ends in one that is after every id of a time: that never was a record's.
fn is_beyond(order: Order, after: &Position, end: Option<&Position>) -> bool {
    let Some(end) = end else {
        return true;
    };
    match (order, &after.id) {
        (Order::Id, _) => after.key > end.key,
        (Order::Time, Part::End | Part::Integer(i64::MAX)) => false,
        (Order::Time, _) => after > end,
    }
}

/// Sets a header to what is plain ASCII: media types, names of streams, extensions, URLs.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The request's query, moved on to a position; what it says of now means that now, on every page. Without a path it
/// leads to the request's own (RFC 3986 section 5.2.2), also where a proxy has put a prefix before that.
fn next(asked: &StreamRequest, position: &str) -> String {
    let uri = &asked.request.uri;
    let (_, query) = uri.split_once('?').unwrap_or((uri, ""));
    let pair = |pair: &str| {
        let (name, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
        if name == "after" {
            return None;
        }
        let resolved = asked.resolved.iter();
        let mut resolved = resolved.filter(|known| known.name == name && known.written == value);
        Some(match resolved.next() {
            None => pair.to_owned(),
            Some(Resolved { name, absolute, .. }) => {
                form_urlencoded::Serializer::new(String::new())
                    .append_pair(name, absolute)
                    .finish()
            }
        })
    };
    let pairs = query.split('&').filter_map(pair);
    let after = format!("after={position}");
    let query: Vec<_> = pairs.chain([after]).collect();
    format!("?{}", query.join("&"))
}
