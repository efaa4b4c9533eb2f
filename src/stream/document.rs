//! A document, or a slice of one, being written: records in, chunks out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Crc;
use flows_formats::{Part, Record, RecordEncoder};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::buffers::Buffers;
use super::coding::Compressor;
use super::connections::Lease;
use super::{Boundary, CHUNK_BYTES, Chunk, ContentCoding, ReplyEnd, StreamError};
use crate::selection::{Position, View, clone_into};
use crate::store::{Sink, Stop, StoreError};

/// How old the first chunk gets once it holds a record: until then a failure still has a status.
const FIRST_AGE: Duration = Duration::from_millis(50);

/// How old the first chunk is when it is worth looking for helpers before it is full: filters let
/// little through.
const HELP_AGE: Duration = Duration::from_millis(5);

/// How old any other chunk gets. Below 100 ms, which is what clients are promised.
const AGE: Duration = Duration::from_millis(80);

/// How long a client may keep a chunk waiting before its worker looks for something better to do.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// The most bytes that are held back of a chunk.
const MOST_HELD: usize = 4096;

/// Whether a slice whose client takes nothing is set aside, for its worker to do something better.
pub(super) type SetsAside = Arc<dyn Fn() -> bool + Send + Sync>;

/// Where a slice's chunks go.
pub(super) type Sender = mpsc::Sender<Chunk>;

/// What the end of a document has to know of its slices: of each, by number, its bytes before they
/// were coded, and what its encoder said.
pub(super) type Parts = BTreeMap<u64, (u64, Part)>;

/// Finds connections for helpers, if there are idle ones.
pub(super) type FindHelpers = Box<dyn FnOnce() -> Vec<Lease> + Send>;

/// The encoder, the chunk being filled, and where chunks go.
pub(super) struct Document {
    pub(super) encoder: Box<dyn RecordEncoder>,
    separator: &'static [u8],
    pub(super) buffer: Vec<u8>,
    buffers: Buffers,
    coding: ContentCoding,
    /// Made with the first chunk.
    compressor: Option<Compressor>,
    /// Whether slices stand before what it codes.
    continues: bool,
    sender: Sender,
    /// Asked again and again while the client takes nothing; never by default.
    sets_aside: Option<SetsAside>,
    /// The chunk that could not be sent when the slice was set aside.
    unsent: Option<Chunk>,
    /// How many bytes were written at last: the last record's, or block's.
    written: usize,
    /// The records written so far.
    pub(super) records: u64,
    /// Where the last of them stands.
    pub(super) last: Option<Position>,
    replaced: u64,
    /// Whether a record stands before the next one.
    follows: bool,
    /// The number of records in the chunks sent so far; `None` before the first.
    sent: Option<u64>,
    /// The number of bytes in them, before they were coded.
    sent_bytes: u64,
    /// What the end of the document has to know of this slice.
    pub(super) part: Option<Part>,
    /// What the head of the reply says, until the first chunk takes it.
    pub(super) head: Option<ReplyEnd>,
    /// When the chunk was first seen to hold a record.
    filling_since: Option<Instant>,
    /// Asked once, when the first chunk is full or takes long.
    find_helpers: Option<FindHelpers>,
    /// The helpers that were found. The document then stops with its first chunk full and unsent.
    pub(super) helpers: Vec<Lease>,
    failure: Option<Failure>,
}

/// Why a document cannot go on, besides what the store says.
enum Failure {
    Format(flows_formats::Error),
    Compression(std::io::Error),
}

impl Document {
    /// A document that nothing is written of yet.
    pub(super) fn new(
        encoder: Box<dyn RecordEncoder>,
        sender: Sender,
        coding: ContentCoding,
        buffers: &Buffers,
        find_helpers: FindHelpers,
    ) -> Document {
        Document {
            find_helpers: Some(find_helpers),
            ..Document::unwritten(encoder, sender, coding, buffers)
        }
    }

    /// A slice of a document, after other records.
    pub(super) fn slice(
        encoder: Box<dyn RecordEncoder>,
        sender: Sender,
        coding: ContentCoding,
        buffers: &Buffers,
    ) -> Document {
        Document {
            buffer: buffers.take(),
            follows: true,
            continues: true,
            ..Document::unwritten(encoder, sender, coding, buffers)
        }
    }

    fn unwritten(
        encoder: Box<dyn RecordEncoder>,
        sender: Sender,
        coding: ContentCoding,
        buffers: &Buffers,
    ) -> Document {
        Document {
            separator: encoder.separator(),
            encoder,
            // A small document must not pay for a large chunk.
            buffer: Vec::new(),
            buffers: buffers.clone(),
            coding,
            compressor: None,
            continues: false,
            sender,
            sets_aside: None,
            unsent: None,
            written: 0,
            records: 0,
            last: None,
            replaced: 0,
            follows: false,
            sent: None,
            sent_bytes: 0,
            part: None,
            head: None,
            filling_since: None,
            find_helpers: None,
            helpers: Vec::new(),
            failure: None,
        }
    }

    /// Writes what comes before the first record.
    pub(super) fn begin(&mut self, view: &View) -> Result<(), StreamError> {
        self.encoder
            .begin(&mut self.buffer)
            .map_err(|error| StreamError::format(view, error))
    }

    /// Has the encoder end the slice, if it was scanned to its end or stopped when helpers were
    /// found; else says why it was not.
    pub(super) fn end_slice(
        &mut self,
        view: &View,
        scanned: Result<(), StoreError>,
    ) -> Result<(), StreamError> {
        match self.failure.take() {
            Some(Failure::Format(error)) => return Err(StreamError::format(view, error)),
            Some(Failure::Compression(error)) => {
                return Err(StreamError::coding(self.coding, &error));
            }
            None => {}
        }
        if self.helpers.is_empty() {
            scanned?;
        }
        let before = self.buffer.len();
        let part = self.encoder.end_slice(&mut self.buffer);
        self.part = part.map_err(|error| StreamError::format(view, error))?;
        self.wrote(before);
        Ok(())
    }

    /// Tells the encoder of the slices that others have written.
    pub(super) fn join(&mut self, view: &View, parts: Parts) -> Result<(), StreamError> {
        let mut before = self.bytes();
        for (bytes, part) in parts.into_values() {
            let joined = self.encoder.join(part, before);
            joined.map_err(|error| StreamError::format(view, error))?;
            before += bytes;
        }
        Ok(())
    }

    /// How many bytes it has, before they are coded.
    pub(super) fn bytes(&self) -> u64 {
        self.sent_bytes + self.buffer.len() as u64
    }

    /// Writes what the encoder has kept.
    fn flush(&mut self) -> Result<(), flows_formats::Error> {
        let before = self.buffer.len();
        self.encoder.flush(&mut self.buffer)?;
        self.wrote(before);
        Ok(())
    }

    /// Notes what was written after so many bytes of the buffer.
    fn wrote(&mut self, before: usize) -> usize {
        let written = self.buffer.len() - before;
        if written > 0 {
            self.written = written;
        }
        written
    }

    /// Goes on after slices that others have written, with so many records in all by now.
    pub(super) fn go_on(&mut self, sender: Sender, records: u64) {
        self.sender = sender;
        self.sets_aside = None;
        (self.compressor, self.continues) = (None, true);
        self.records = records;
        self.sent = Some(records);
    }

    /// Writes what comes after the last record.
    pub(super) fn end(&mut self, view: &View) -> Result<(), StreamError> {
        self.encoder
            .end(self.records, &mut self.buffer)
            .map_err(|error| StreamError::format(view, error))
    }

    /// Has the slice set aside when `sets_aside` says so while the client takes nothing.
    pub(super) fn may_be_set_aside(&mut self, sets_aside: SetsAside) {
        self.sets_aside = Some(sets_aside);
    }

    /// Where its chunks go.
    pub(super) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Whether it was set aside, to be gone on with.
    pub(super) fn is_set_aside(&self) -> bool {
        self.unsent.is_some()
    }

    /// Sends what could not be sent when it was set aside.
    pub(super) fn go_on_sending(&mut self) -> Result<(), Stop> {
        match self.unsent.take() {
            Some(chunk) => self.deliver(chunk),
            None => Ok(()),
        }
    }

    /// Sends what is in the buffer; waits while the client has not taken what came before.
    pub(super) fn send(&mut self, boundary: Boundary) -> Result<(), Stop> {
        let full = std::mem::take(&mut self.buffer);
        self.sent_bytes += full.len() as u64;
        let (bytes, crc) = if self.coding == ContentCoding::Identity {
            if boundary == Boundary::Nothing {
                self.buffer = self.buffers.take();
            }
            (full, Crc::new())
        } else {
            let coded = self.code(&full, boundary).map_err(|error| {
                self.failure = Some(Failure::Compression(error));
                Stop
            })?;
            if boundary == Boundary::Nothing {
                self.buffer = full;
                self.buffer.clear();
            } else {
                self.buffers.give_back(full);
            }
            coded
        };
        // Half of what was written at last: what follows the bytes that leave is neither nothing nor a
        // record's beginning. What is compressed cannot be read without its last bytes.
        let held = self.written.div_ceil(2).clamp(1, MOST_HELD);
        let records = self.records - self.sent.unwrap_or(0);
        let replaced = std::mem::take(&mut self.replaced);
        self.sent = Some(self.records);
        self.filling_since = None;
        let chunk = Chunk {
            bytes: self.buffers.send(bytes),
            crc,
            records,
            replaced,
            boundary,
            held,
            end: self.head.take(),
        };
        self.deliver(chunk)
    }

    fn deliver(&mut self, chunk: Chunk) -> Result<(), Stop> {
        let chunk = match self.sender.try_send(chunk) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(chunk)) => chunk,
            Err(_) => return Err(Stop),
        };
        let runtime = Handle::current();
        loop {
            let room = async { timeout(PATIENCE, self.sender.reserve()).await };
            match runtime.block_on(room) {
                Ok(Ok(room)) => {
                    room.send(chunk);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Stop),
                Err(_) if self.sets_aside.as_ref().is_some_and(|asked| asked()) => {
                    self.unsent = Some(chunk);
                    return Err(Stop);
                }
                Err(_) => {}
            }
        }
    }

    /// The bytes of a chunk, compressed.
    fn code(&mut self, bytes: &[u8], boundary: Boundary) -> std::io::Result<(Vec<u8>, Crc)> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(self.coding, self.continues)?),
        };
        let mut coded = self.buffers.take();
        let crc = compressor.code(bytes, boundary, &mut coded)?;
        Ok((coded, crc))
    }

    fn full(&mut self) -> Result<(), Stop> {
        self.find_helpers()?;
        self.send(Boundary::Nothing)
    }

    /// Stops the scan if there are helpers to go on with. They are looked for once.
    fn find_helpers(&mut self) -> Result<(), Stop> {
        if let Some(find_helpers) = self.find_helpers.take()
            && self.sent.is_none()
        {
            self.helpers = find_helpers();
            if !self.helpers.is_empty() {
                return Err(Stop);
            }
        }
        Ok(())
    }
}

impl Sink for Document {
    fn record(&mut self, record: &Record<'_>, position: &Position) -> Result<(), Stop> {
        if self.follows && !self.separator.is_empty() {
            self.buffer.extend_from_slice(self.separator);
        }
        let before = self.buffer.len();
        if let Err(error) = self.encoder.record(record, &mut self.buffer) {
            self.failure = Some(Failure::Format(error));
            return Err(Stop);
        }
        self.follows = true;
        clone_into(position, &mut self.last);
        self.records += 1;
        let written = self.wrote(before);
        // Full before the next record, or the next block of them, would not fit.
        if written > 0 && self.buffer.len() + written > CHUNK_BYTES {
            self.full()
        } else {
            Ok(())
        }
    }

    fn tick(&mut self) -> Result<(), Stop> {
        if self.records == self.sent.unwrap_or(0) {
            return Ok(());
        }
        let Some(since) = self.filling_since else {
            self.filling_since = Some(Instant::now());
            return Ok(());
        };
        let (age, first) = (since.elapsed(), self.sent.is_none());
        // A block that ends when helpers are found ends as late as can be.
        let help_age = match self.encoder.slice_records() {
            Some(_) => FIRST_AGE,
            None => HELP_AGE,
        };
        if first && age >= help_age {
            self.find_helpers()?;
        }
        if age < if first { FIRST_AGE } else { AGE } {
            return Ok(());
        }
        if let Err(error) = self.flush() {
            self.failure = Some(Failure::Format(error));
            return Err(Stop);
        }
        self.filling_since = None;
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.send(Boundary::Nothing)
    }

    fn replaced(&mut self) {
        self.replaced += 1;
    }
}
