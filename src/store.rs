//! What a database must offer: connections, and scans that push records into a sink.
//!
//! [`sqlite`] is the one database there is. A store knows nothing of formats' names or of HTTP.

pub mod sqlite;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flows_formats::Record;

use crate::selection::{Position, Range, View};

/// A database with a pool of connections.
pub trait Store: Send + Sync {
    /// A connection that is idle at this moment. Never waits, never blocks.
    fn idle(&self) -> Option<Box<dyn Connection>>;

    /// A connection, opened now or handed back within `wait`. Blocks its thread.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none in time.
    fn connect(&self, wait: Duration) -> Result<Box<dyn Connection>, StoreError>;

    /// How many connections there can be, and so streams at once.
    fn connections(&self) -> usize;
}

/// How many scans this machine can run at once: one a core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a connection sees of the database: equal again on the same connection, it has not changed.
/// Versions of two connections cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(i64);

/// A connection on loan from the pool, used for one stream; it goes home when dropped, and its
/// snapshot ends then. Every method blocks its thread for as long as it takes.
pub trait Connection: Send {
    /// Begins a snapshot, ending the one before.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when a writer holds the lock; otherwise what the database said.
    fn begin(&mut self, view: &View) -> Result<(), StoreError>;

    /// What the connection sees: in a snapshot the snapshot's version, else the present one.
    ///
    /// # Errors
    /// What the database said.
    fn version(&mut self, view: &View) -> Result<Version, StoreError>;

    /// Whether the stream's snapshots begin without waiting for writers, and its ranges are found
    /// without reading what is before them, so that a small one takes microseconds. Never blocks;
    /// says no until the stream's first snapshot on this connection.
    fn is_prompt(&mut self, view: &View) -> bool;

    /// Whether a run of records from the middle of the stream is found without reading all before
    /// it, so that a range can be scanned in several slices at once.
    ///
    /// # Errors
    /// What the database said.
    fn sliceable(&mut self, view: &View) -> Result<bool, StoreError>;

    /// The position of the range's record number `records`, counted from 1, whether it matches the
    /// filters or not; `None` when the range has fewer. The range's limit does not count.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `cancel` was set, or when that takes a view too long;
    /// otherwise what the database said.
    fn nth(
        &mut self,
        view: &View,
        range: &Range,
        records: u64,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError>;

    /// The position of the range's last record, whether it matches the filters or not; `None` when the
    /// range is empty. The range's limit does not count.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `cancel` was set, or when that takes a view too long;
    /// otherwise what the database said.
    fn last(
        &mut self,
        view: &View,
        range: &Range,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError>;

    /// How many records of the range match the filters; no more than its limit.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `cancel` was set; otherwise what the database said.
    fn count(&mut self, view: &View, range: &Range, cancel: &Cancel) -> Result<u64, StoreError>;

    /// A position within the range, about `records` records after its beginning, found at less
    /// cost than [`Connection::nth`]; `None` when the range has no more, or not many more.
    ///
    /// # Errors
    /// What the database said.
    fn cut(
        &mut self,
        view: &View,
        range: &Range,
        records: u64,
    ) -> Result<Option<Position>, StoreError>;

    /// Hands every record of `range` to `sink`, in `(time, id)` order and from one snapshot, and
    /// gives the sink back.
    ///
    /// The sink is owned, not borrowed, so that a store may let the database call it.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when the sink had enough or `cancel` was set; otherwise what the
    /// database said.
    fn scan_into(
        &mut self,
        view: &Arc<View>,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>);
}

impl dyn Connection + '_ {
    /// [`Connection::scan_into`], for a sink whose type is known and wanted back.
    ///
    /// # Errors
    /// Those of [`Connection::scan_into`].
    pub fn scan<S: Sink>(
        &mut self,
        view: &Arc<View>,
        range: &Range,
        sink: S,
        cancel: &Cancel,
    ) -> (S, Result<(), StoreError>) {
        let (sink, result) = self.scan_into(view, range, Box::new(sink), cancel);
        let sink: Box<dyn Any> = sink;
        let sink = sink
            .downcast()
            .expect("a store gives back the very sink it was given");
        (*sink, result)
    }
}
/// Takes the records of a scan.
pub trait Sink: Any + Send {
    /// Takes one record, which stands at `position`.
    ///
    /// # Errors
    /// [`Stop`] ends the scan.
    fn record(&mut self, record: &Record<'_>, position: Position) -> Result<(), Stop>;

    /// Called many times a second while the scan runs, whether it finds records or not.
    ///
    /// # Errors
    /// [`Stop`] ends the scan.
    fn tick(&mut self) -> Result<(), Stop>;

    /// Told that the next record has a string that was not UTF-8 and has U+FFFD in it now.
    fn replaced(&mut self);
}

/// The sink wants no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// Tells a scan, from any thread, that nobody wants its records any more.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the scan, within about 10 ms, also while it finds nothing or sorts.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a scan did not reach its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection in time.
    #[error("no database connection became free in time{}", reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Unavailable {
        /// What opening one failed with, if it was that.
        reason: Option<String>,
    },
    /// A writer holds the lock for longer than the configured wait.
    #[error("stream {stream}: the database is locked by a writer; try again")]
    Busy {
        /// The stream's name.
        stream: String,
    },
    /// A record that is not what the stream's configuration declares.
    #[error("stream {stream}, column {column}, record with id {id}: {reason}")]
    Value {
        /// The stream's name.
        stream: String,
        /// The column's name.
        column: String,
        /// The record's id, as the database holds it.
        id: String,
        /// What is there, and what is declared.
        reason: String,
    },
    /// The database cannot answer: no such table, a corrupt page, a full disk.
    #[error("stream {stream}: {reason}; `flows check` tells more")]
    Database {
        /// The stream's name.
        stream: String,
        /// What the database said.
        reason: String,
    },
    /// Nobody wants the records any more.
    #[error("stopped")]
    Stopped,
}
