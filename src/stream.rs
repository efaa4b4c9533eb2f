//! The pump: records from the store, through the encoder, into bounded chunks.
//!
//! [`start`] puts a scan on a thread of its own; what it returns yields the document's chunks. A
//! full channel stops the scan, a dropped [`Chunks`] ends it.
//!
//! | file | what it holds |
//! |---|---|
//! | `stream/connections.rs` | who gets a connection: requests in turn, helpers while cores are idle |
//! | `stream/places.rs` | how many streams run at once, over all databases |
//! | `stream/buffers.rs` | chunks' memory, used again |
//! | `stream/document.rs` | records in, chunks out |
//! | `stream/reply_end.rs` | where a reply will end |
//! | `stream/coding.rs` | chunks compressed by zstd or gzip |
//! | `stream/slices.rs` | one document in several slices at once |
//! | `stream/small.rs` | a small document, on the spot |

mod buffers;
mod coding;
pub mod connections;
mod document;
pub mod places;
mod reply_end;
mod slices;
mod small;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Crc;
use flows_formats::RecordEncoder;
use tokio::sync::mpsc;

use crate::selection::{Range, View};
use crate::store::{Cancel, Plan, Shared, Stop, StoreError};
use buffers::Buffers;
pub use coding::ContentCoding;
use coding::Trailer;
use connections::Lease;
use document::{Document, FindHelpers};
pub use reply_end::ReplyEnd;
use slices::{Slices, queue};
pub use small::{at_once, shortly};

/// A chunk leaves when it holds so many bytes. Larger costs memory per stream, smaller costs speed.
pub const CHUNK_BYTES: usize = 512 * 1024;

/// Chunks that wait for the client, besides the one being filled and the one being sent, while a
/// stream has no helpers.
const WAITING_CHUNKS: usize = 1;

/// Slices that wait for the client while the one before them is written: without them, a worker that
/// is done first would wait for the others.
const WAITING_SLICES: usize = 3;

/// A part of the document.
#[derive(Debug)]
pub struct Chunk {
    /// The next bytes of the document, coded. May be empty at an end.
    pub bytes: Bytes,
    /// What gzip needs to know of the bytes before they were coded.
    crc: Crc,
    /// How many records end in this chunk.
    pub records: u64,
    /// How many strings in them were not UTF-8.
    pub replaced: u64,
    /// What ends after this chunk.
    pub boundary: Boundary,
    /// How many of its last bytes are held back until more or the document's end is known, so that
    /// what was sent never ends where a record does.
    held: usize,
    /// What the head of the reply says. Only the first chunk has it.
    pub end: Option<ReplyEnd>,
}

/// What ends after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Nothing.
    Nothing,
    /// A slice of the document: the next one follows.
    Slice,
    /// The document.
    Document,
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
    /// The document cannot be compressed: there is no memory for it.
    #[error("cannot compress by {coding}: {reason}")]
    Coding {
        /// The coding's name.
        coding: &'static str,
        /// What the compressor said.
        reason: String,
    },
    /// A defect of ours.
    #[error("the stream ended without its end; this is a defect of the server, please report it")]
    Defect,
}

impl StreamError {
    fn coding(coding: ContentCoding, error: &std::io::Error) -> StreamError {
        StreamError::Coding {
            coding: coding.name(),
            reason: error.to_string(),
        }
    }

    fn format(view: &View, source: flows_formats::Error) -> StreamError {
        StreamError::Format {
            stream: view.stream.name.clone(),
            source,
        }
    }
}

/// The chunks of one slice, up to its end, or to where it failed.
type Slice = mpsc::Receiver<Chunk>;

/// Why a document failed, for whoever reads it: told when its chunks end without their end. To tell it
/// waits for no room in a channel, since its reader may wait for another slice first.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<Mutex<Option<StreamError>>>);

impl Failure {
    /// Says why, unless that was said.
    fn set(&self, error: StreamError) {
        let mut failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    /// Whoever writes a slice has said why, unless it panicked.
    fn take(&self) -> StreamError {
        let mut failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().unwrap_or(StreamError::Defect)
    }
}

/// The chunks of one document, up to its end or an error. Dropping it ends the scan.
#[derive(Debug)]
pub struct Chunks {
    slices: mpsc::Receiver<Slice>,
    slice: Option<Slice>,
    /// The last bytes of the chunks so far, which are held back.
    held: Bytes,
    /// The chunk after what was held back.
    next: Option<Box<Chunk>>,
    failure: Failure,
    trailer: Trailer,
    cancel: Cancel,
}

impl Chunks {
    /// The next chunk. Call it until [`Boundary::Document`], or an error.
    ///
    /// # Errors
    /// Why there is no next chunk.
    pub async fn next(&mut self) -> Result<Chunk, StreamError> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Chunks::next`], polled.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Chunk, StreamError>> {
        if let Some(chunk) = self.next.take() {
            return Poll::Ready(Ok(*chunk));
        }
        let mut chunk = ready!(self.poll_written(context))?;
        if chunk.bytes.is_empty() && chunk.boundary != Boundary::Document {
            return Poll::Ready(Ok(chunk));
        }
        let before = std::mem::take(&mut self.held);
        if chunk.boundary != Boundary::Document {
            let sent = chunk.bytes.len().saturating_sub(chunk.held);
            self.held = chunk.bytes.split_off(sent);
        }
        if before.is_empty() {
            return Poll::Ready(Ok(chunk));
        }
        self.next = Some(Box::new(chunk));
        Poll::Ready(Ok(Chunk::of_bytes(before)))
    }

    /// The next chunk as it was written.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<Result<Chunk, StreamError>> {
        if self.slice.is_none() {
            self.slice = ready!(self.slices.poll_recv(context));
        }
        let chunk = match &mut self.slice {
            Some(slice) => ready!(slice.poll_recv(context)),
            None => None,
        };
        let Some(mut chunk) = chunk else {
            return Poll::Ready(Err(self.failure.take()));
        };
        self.trailer.follow(&mut chunk);
        if chunk.boundary == Boundary::Slice {
            self.slice = None;
        }
        Poll::Ready(Ok(chunk))
    }
}

impl Chunk {
    /// Bytes of which everything else was told before.
    fn of_bytes(bytes: Bytes) -> Chunk {
        Chunk {
            bytes,
            crc: Crc::new(),
            records: 0,
            replaced: 0,
            boundary: Boundary::Nothing,
            held: 0,
            end: None,
        }
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
    mut lease: Lease,
    view: Arc<View>,
    encoder: Box<dyn RecordEncoder>,
    range: Range,
    coding: ContentCoding,
    count: bool,
) -> Chunks {
    let (slices, receiver) = mpsc::channel(WAITING_SLICES);
    let (cancel, failure) = (Cancel::default(), Failure::default());
    let chunks = Chunks {
        slices: receiver,
        slice: None,
        held: Bytes::new(),
        next: None,
        failure: failure.clone(),
        trailer: Trailer::new(coding),
        cancel: cancel.clone(),
    };
    tokio::task::spawn_blocking(move || {
        let Some(sender) = queue(&slices, WAITING_CHUNKS) else {
            return;
        };
        let pump = Pump {
            view,
            range,
            coding,
            count,
            cancel,
            failure,
            buffers: Buffers::default(),
            slices,
            sender,
        };
        let written = pump.write(&mut lease, encoder);
        // The connection goes home before the client has the end.
        drop(lease);
        // When sending fails, nobody is there to hear of it.
        match written {
            Ok(mut document) => drop(document.send(Boundary::Document)),
            Err(error) => pump.failure.set(error),
        }
    });
    chunks
}

/// One stream on its way.
struct Pump {
    view: Arc<View>,
    range: Range,
    coding: ContentCoding,
    /// Whether records are counted before they are sent.
    count: bool,
    cancel: Cancel,
    failure: Failure,
    buffers: Buffers,
    slices: mpsc::Sender<Slice>,
    /// The channel of the document's first slice.
    sender: document::Sender,
}

impl Pump {
    /// Writes the document; what is left to send is its last chunk.
    fn write(
        &self,
        lease: &mut Lease,
        encoder: Box<dyn RecordEncoder>,
    ) -> Result<Document, StreamError> {
        let plan = lease.snapshot(&self.view, &self.cancel)?;
        lease.entered();
        // How many records a filter leaves of a slice is not known, and a format that says how many
        // it wants would get next to none.
        let sized = encoder.slice_records().is_some() && !self.view.filters.is_empty();
        let can_slice = plan.splittable && !sized && encoder.fork().is_some();
        let connections = lease.connections();
        let find: FindHelpers = Box::new(move || {
            if can_slice {
                connections.helpers()
            } else {
                Vec::new()
            }
        });
        let (mut document, mut range) = self.begin(lease, plan, self.document(encoder, find))?;
        if document.helpers.is_empty() {
            return self.end(document);
        }
        let mut helpers = std::mem::take(&mut document.helpers);
        let same = share(lease, &mut helpers)?;
        if !same && let Some(encoder) = document.encoder.fork() {
            // Someone has written since the document began. Nothing of it is sent, so that it can
            // begin again in the snapshot that the helpers share.
            let find: FindHelpers = Box::new(move || helpers);
            (document, range) = self.begin(lease, plan, self.document(encoder, find))?;
            if document.helpers.is_empty() {
                return self.end(document);
            }
            helpers = std::mem::take(&mut document.helpers);
        }
        self.in_slices(lease, document, range, helpers)
    }

    fn document(&self, encoder: Box<dyn RecordEncoder>, find: FindHelpers) -> Document {
        Document::new(
            encoder,
            self.sender.clone(),
            self.coding,
            &self.buffers,
            find,
        )
    }

    /// Writes the beginning of the document, and all of it unless it finds helpers. The range is what
    /// was asked for, up to where its limit cuts.
    fn begin(
        &self,
        lease: &mut Lease,
        plan: Plan,
        mut document: Document,
    ) -> Result<(Document, Range), StreamError> {
        let Pump { view, cancel, .. } = self;
        let (mut end, range) = reply_end::before(lease, &self.range, plan.splittable, cancel)?;
        if self.count {
            let limit = range.limit.unwrap_or(u64::MAX);
            end.count = Some(lease.count(&range, cancel)?.min(limit));
        }
        document.head = Some(end);
        document.begin(view)?;
        let (mut document, scanned) = lease.scan(&range, document, cancel);
        document.end_slice(view, scanned)?;
        if let Some(head) = &mut document.head
            && head.position.is_none()
            && document.helpers.is_empty()
        {
            // All of it is in the first chunk.
            let count = head.count;
            let written = (document.records, document.last.take());
            let end = reply_end::after(lease, view, &range, written, cancel)?;
            *head = ReplyEnd { count, ..end };
        }
        Ok((document, range))
    }

    /// Writes the rest of a document whose first chunk is full, together with helpers.
    fn in_slices(
        &self,
        lease: &mut Lease,
        mut document: Document,
        range: Range,
        helpers: Vec<Lease>,
    ) -> Result<Document, StreamError> {
        let rest = Range {
            after: document.last.take().or_else(|| range.after.clone()),
            ..range
        };
        let slices = Slices::new(self, rest, &document, helpers.len());
        document
            .send(Boundary::Slice)
            .map_err(|Stop| StoreError::Stopped)?;
        // The slice that failed has said why.
        let (records, parts) = slices
            .write_all(lease, helpers, &*document.encoder)
            .ok_or(StoreError::Stopped)?;
        let sender = queue(&self.slices, WAITING_CHUNKS).ok_or(StoreError::Stopped)?;
        document.go_on(sender, records);
        document.join(&self.view, parts)?;
        self.end(document)
    }

    /// Writes the end of the document.
    fn end(&self, mut document: Document) -> Result<Document, StreamError> {
        document.end(&self.view)?;
        Ok(document)
    }
}

/// Has helpers join the snapshot, and sends those home that cannot; whether it is the one that there
/// was before.
fn share(lease: &mut Lease, helpers: &mut Vec<Lease>) -> Result<bool, StoreError> {
    let mut connections: Vec<_> = helpers.iter_mut().map(|helper| &mut **helper).collect();
    let Shared { joined, same } = lease.share(&mut connections)?;
    let mut joined = joined.into_iter();
    helpers.retain(|_| joined.next() == Some(true));
    Ok(same)
}
