//! The body of a stream's reply, and the log line when it ends, however it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use warp::Stream;

use super::parameters::StreamRequest;
use super::request::Shared;
use crate::selection::{Order, Part, Position};
use crate::stream::{Boundary, Chunk, Chunks, StreamError};

/// A body that yields a document's chunks. When it is dropped it logs how the request ended.
pub(super) struct Body {
    /// The chunk that the head waited for.
    first: Option<Bytes>,
    chunks: Chunks,
    error: Option<StreamError>,
    log: Log,
}

impl Body {
    pub(super) fn new(first: Chunk, chunks: Chunks, mut log: Log) -> Body {
        log.sent(&first);
        Body {
            first: Some(first.bytes),
            chunks,
            error: None,
            log,
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        if let Some(first) = body.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Some(error) = body.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            if body.log.complete {
                body.log.ended("complete");
                return Poll::Ready(None);
            }
            match ready!(body.chunks.poll_next(context)) {
                Ok(chunk) => {
                    body.log.sent(&chunk);
                    if !chunk.bytes.is_empty() {
                        return Poll::Ready(Some(Ok(chunk.bytes)));
                    }
                }
                Err(error) => {
                    body.log.ended(format!("broken: {error}"));
                    // An error makes hyper drop the connection with whatever it has not written yet.
                    // One pending poll lets it write: the client gets the head and sees a broken body.
                    body.error = Some(error);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The log line of a request for a stream, written when dropped.
pub(super) struct Log {
    request: Shared,
    stream: String,
    /// The name of the stream's database, where it has one.
    database: Option<String>,
    format: &'static str,
    coding: &'static str,
    window: String,
    records: u64,
    replaced: u64,
    bytes: u64,
    /// How many slices, written at once, the document has so far.
    slices: u64,
    complete: bool,
    ended: Option<String>,
}

impl Log {
    pub(super) fn new(asked: &StreamRequest) -> Log {
        Log {
            request: Shared::clone(&asked.request),
            stream: asked.view.stream.name.clone(),
            database: asked.view.stream.database.clone(),
            format: asked.format.name,
            coding: asked.coding.name(),
            window: window(asked),
            records: 0,
            replaced: 0,
            bytes: 0,
            slices: 0,
            complete: false,
            ended: None,
        }
    }

    /// Counts a chunk as sent.
    pub(super) fn sent(&mut self, chunk: &Chunk) {
        self.records += chunk.records;
        self.replaced += chunk.replaced;
        self.bytes += chunk.bytes.len() as u64;
        self.slices += u64::from(chunk.boundary == Boundary::Slice);
        self.complete = chunk.boundary == Boundary::Document;
    }

    /// Says how the request ended, unless that was said already.
    pub(super) fn ended(&mut self, how: impl Into<String>) {
        self.ended.get_or_insert_with(|| how.into());
    }
}

/// What is read, in words: `(AFTER..UNTIL] limit N by id, 2 filters`.
fn window(asked: &StreamRequest) -> String {
    let StreamRequest { view, range, .. } = asked;
    // After all records of a second: the second says it.
    let bound = |bound: &Option<Position>| match bound {
        None => String::new(),
        Some(Position { key, id: Part::End }) => key.to_string(),
        Some(position) => view.order.written(position, view.stream.ids()),
    };
    let mut window = format!("({}..{}]", bound(&range.after), bound(&range.until));
    if let Some(limit) = range.limit {
        window += &format!(" limit {limit}");
    }
    if view.order == Order::Id {
        window += " by id";
    }
    match view.filters.len() {
        0 => {}
        1 => window += ", 1 filter",
        filters => window += &format!(", {filters} filters"),
    }
    window
}

impl Drop for Log {
    fn drop(&mut self) {
        let dropped = || self.request.fate.reason();
        let ended = self.ended.clone().unwrap_or_else(dropped);
        tracing::info!(
            id = self.request.id,
            client = %self.request.peer.ip(),
            token = self.request.caller.token(),
            stream = self.stream,
            database = self.database,
            format = self.format,
            coding = self.coding,
            window = self.window,
            records = self.records,
            bytes = self.bytes,
            slices = self.slices.max(1),
            replaced_strings = self.replaced,
            ms = self.request.started.elapsed().as_millis() as u64,
            ended,
        );
    }
}
