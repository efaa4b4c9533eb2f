//! The pump: records from the store, through the encoder, into bounded chunks.
//!
//! [`start`] puts a scan on a thread of its own; what it returns yields the document's chunks. A
//! full channel stops the scan, a dropped [`Chunks`] ends it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flows_formats::{Record, RecordEncoder};
use tokio::sync::mpsc;

use crate::config::Stream;
use crate::selection::Range;
use crate::store::{Cancel, Connection, Sink, Stop, StoreError};

/// A chunk leaves when it holds so many bytes. Larger costs memory per stream, smaller costs speed.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks that wait for the client, besides the one being filled and the one being sent.
const WAITING_CHUNKS: usize = 1;

/// How old the first chunk gets once it holds a record: until then a failure still has a status.
const FIRST_AGE: Duration = Duration::from_millis(50);

/// How old any other chunk gets. Below 100 ms, which is what clients are promised.
const AGE: Duration = Duration::from_millis(80);

/// A part of the document.
#[derive(Debug)]
pub struct Chunk {
    /// The next bytes of the document.
    pub bytes: Bytes,
    /// How many records the document holds up to the end of this chunk.
    pub records: u64,
    /// How many texts in them were not UTF-8.
    pub replaced: u64,
    /// Whether the document ends here.
    pub last: bool,
}

/// Why a document has no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The format cannot express a record.
    #[error("stream {stream}: {source}")]
    Format {
        /// The stream's name.
        stream: String,
        /// What the format said.
        source: flows_formats::Error,
    },
    /// A defect of ours.
    #[error("the stream ended without its end; this is a defect of the server, please report it")]
    Defect,
}

/// The chunks of one document, up to its last or an error. Dropping it ends the scan.
#[derive(Debug)]
pub struct Chunks {
    receiver: mpsc::Receiver<Result<Chunk, StreamError>>,
    cancel: Cancel,
}

impl Chunks {
    /// The next chunk. Call it until [`Chunk::last`], or an error.
    ///
    /// # Errors
    /// Why there is no next chunk.
    pub async fn next(&mut self) -> Result<Chunk, StreamError> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Chunks::next`], polled.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Chunk, StreamError>> {
        // The scan's thread says how it ended unless it panicked.
        self.receiver
            .poll_recv(context)
            .map(|next| next.unwrap_or(Err(StreamError::Defect)))
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Starts streaming a range of a stream on a thread that may block, and returns at once. The
/// connection goes home when the scan has ended. Needs a tokio runtime.
pub fn start(
    mut connection: Box<dyn Connection>,
    stream: Arc<Stream>,
    encoder: Box<dyn RecordEncoder>,
    range: Range,
) -> Chunks {
    let (sender, receiver) = mpsc::channel(WAITING_CHUNKS);
    let cancel = Cancel::default();
    let chunks = Chunks {
        receiver,
        cancel: cancel.clone(),
    };
    tokio::task::spawn_blocking(move || {
        let document = Document::new(encoder, sender.clone());
        let written = write(document, &mut *connection, &stream, &range, &cancel);
        // The connection goes home before the client has the end.
        drop(connection);
        // When sending fails, nobody is there to hear of it.
        let _ = match written {
            Ok(mut document) => document.send(true),
            Err(error) => sender.blocking_send(Err(error)).map_err(|_| Stop),
        };
    });
    chunks
}

/// Writes the whole document; what is left to send is its last chunk.
fn write(
    mut document: Document,
    connection: &mut dyn Connection,
    stream: &Stream,
    range: &Range,
    cancel: &Cancel,
) -> Result<Document, StreamError> {
    let format_error = |source| StreamError::Format {
        stream: stream.name.clone(),
        source,
    };
    document
        .encoder
        .begin(&mut document.buffer)
        .map_err(format_error)?;
    let (mut document, scanned) = connection.scan(stream, range, document, cancel);
    if let Some(source) = document.failure {
        return Err(format_error(source));
    }
    scanned?;
    document
        .encoder
        .flush(&mut document.buffer)
        .map_err(format_error)?;
    document
        .encoder
        .end(document.records, &mut document.buffer)
        .map_err(format_error)?;
    Ok(document)
}

/// A document being written: the encoder, the chunk being filled, and where chunks go.
struct Document {
    encoder: Box<dyn RecordEncoder>,
    separator: &'static [u8],
    buffer: Vec<u8>,
    sender: mpsc::Sender<Result<Chunk, StreamError>>,
    records: u64,
    replaced: u64,
    /// The number of records in the chunks sent so far; `None` before the first.
    sent: Option<u64>,
    /// When the chunk was first seen to hold a record.
    filling_since: Option<Instant>,
    failure: Option<flows_formats::Error>,
}

impl Document {
    fn new(
        encoder: Box<dyn RecordEncoder>,
        sender: mpsc::Sender<Result<Chunk, StreamError>>,
    ) -> Document {
        Document {
            separator: encoder.separator(),
            encoder,
            // A small document must not pay for a large chunk.
            buffer: Vec::new(),
            sender,
            records: 0,
            replaced: 0,
            sent: None,
            filling_since: None,
            failure: None,
        }
    }

    /// Sends what is in the buffer; waits while the client is behind.
    fn send(&mut self, last: bool) -> Result<(), Stop> {
        let room = if last {
            0
        } else {
            CHUNK_BYTES + CHUNK_BYTES / 16
        };
        let bytes = std::mem::replace(&mut self.buffer, Vec::with_capacity(room)).into();
        let chunk = Chunk {
            bytes,
            records: self.records,
            replaced: self.replaced,
            last,
        };
        self.sent = Some(self.records);
        self.filling_since = None;
        self.sender.blocking_send(Ok(chunk)).map_err(|_| Stop)
    }
}

impl Sink for Document {
    fn record(&mut self, record: &Record<'_>) -> Result<(), Stop> {
        if self.records > 0 {
            self.buffer.extend_from_slice(self.separator);
        }
        if let Err(error) = self.encoder.record(record, &mut self.buffer) {
            self.failure = Some(error);
            return Err(Stop);
        }
        self.records += 1;
        if self.buffer.len() >= CHUNK_BYTES {
            self.send(false)
        } else {
            Ok(())
        }
    }

    fn tick(&mut self) -> Result<(), Stop> {
        if self.buffer.is_empty() || self.records == self.sent.unwrap_or(0) {
            return Ok(());
        }
        let age = if self.sent.is_none() { FIRST_AGE } else { AGE };
        match self.filling_since {
            None => self.filling_since = Some(Instant::now()),
            Some(since) if since.elapsed() >= age => return self.send(false),
            Some(_) => {}
        }
        Ok(())
    }

    fn replaced(&mut self) {
        self.replaced += 1;
    }
}
