//! The body of a stream's reply, and the log line when it ends, however it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use warp::Stream;
use warp::http::StatusCode;

use super::ending::Ending;
use super::line::ended;
use super::metrics::{Reply, Running};
use super::parameters::StreamRequest;
use super::request::Shared;
use super::selected;
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
                body.log.ended(Ending::Complete, "complete");
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
                    let how = format!("broken: {error}");
                    body.log.ended(Ending::Failed, how);
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
    filters: Option<String>,
    columns: Option<String>,
    /// The status of the reply, once it has a head.
    status: Option<u16>,
    records: u64,
    replaced: u64,
    bytes: u64,
    /// How many slices, written at once, the document has so far.
    slices: u64,
    complete: bool,
    _running: Running,
    ended: Option<(Ending, String)>,
}

impl Log {
    pub(super) fn new(asked: &StreamRequest) -> Log {
        asked.request.may_tell();
        Log {
            request: Shared::clone(&asked.request),
            stream: asked.view.stream.name.clone(),
            database: asked.view.stream.database.clone(),
            format: asked.format.name,
            coding: asked.coding.name(),
            window: selected::window(asked),
            filters: selected::filters(asked),
            columns: selected::columns(asked),
            status: None,
            records: 0,
            replaced: 0,
            bytes: 0,
            slices: 0,
            complete: false,
            _running: asked.request.app.metrics.running(),
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

    /// Says the status of the reply, whose head is written now.
    pub(super) fn begins(&mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
        self.request.app.metrics.begins(&self.request);
    }

    /// Says how the request ended, unless that was said already.
    pub(super) fn ended(&mut self, ending: Ending, how: impl Into<String>) {
        self.ended.get_or_insert_with(|| (ending, how.into()));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let dropped = || self.request.fate.reason();
        let (ending, ended) = self.ended.take().unwrap_or_else(dropped);
        let status = self.status.unwrap_or_default();
        let reply = Reply {
            format: self.format,
            coding: self.coding,
            records: self.records,
            bytes: self.bytes,
        };
        let metrics = &self.request.app.metrics;
        metrics.ended(&self.request, ending, status, reply);
        ended!(
            self.request,
            ending,
            status,
            stream = self.stream,
            database = self.database,
            format = self.format,
            coding = self.coding,
            window = self.window,
            filters = self.filters,
            columns = self.columns,
            status = self.status,
            records = self.records,
            bytes = self.bytes,
            slices = self.slices.max(1),
            replaced_strings = self.replaced,
            ms = self.request.started.elapsed().as_millis() as u64,
            ended,
        );
    }
}
