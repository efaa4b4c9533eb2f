//! What a database must offer: connections, and scans that push records into a sink.
//!
//! [`sqlite`] reads a file, [`postgres`] asks a server. A store knows nothing of formats' names or of HTTP.

mod counter;
pub mod description;
mod guess;
mod pool;
pub mod postgres;
mod reading;
mod runs;
pub mod sqlite;
mod values;
mod wrong_records;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flows_formats::Record;

use crate::config::Database;
use crate::definition::Stream;
use crate::selection::{Position, Range, View};

/// A database with a pool of connections.
pub trait Store: Send + Sync {
    /// How many connections there can be, and so streams at once.
    fn capacity(&self) -> usize;

    /// A connection that is idle at this moment. Never waits for one; looks at no more than a file's name.
    fn idle(&self) -> Option<Box<dyn Connection>>;

    /// How many connections are open and idle at this moment.
    fn idle_count(&self) -> usize;

    /// Whose order of ids stays behind someone who writes, as far as requests have seen.
    fn held_back(&self) -> Vec<HeldBack> {
        Vec::new()
    }

    /// A connection, opened now or handed back within `wait`. Blocks its thread.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none in time; [`StoreError::Gone`] and
    /// [`StoreError::NotADatabase`] when there will be none.
    fn connect(&self, wait: Duration) -> Result<Box<dyn Connection>, StoreError>;

    /// Whether each view can be read now, as far as its schema says. Takes none of the connections, and blocks
    /// its thread.
    fn probe(&self, views: &[Arc<View>]) -> Vec<Result<(), StoreError>>;

    /// How much a request may ask to be compared.
    fn limits(&self) -> Limits;

    /// What is wrong with the database and with every stream in it, and how to fix it.
    fn check(&self, streams: &[Arc<Stream>]) -> Vec<Finding>;

    /// Whether every record of a stream is as it is declared: the first that would break it, and how many
    /// more there are. `progress` is told how many records were read, and of how many, if that is known.
    fn check_all_rows(
        &self,
        stream: &Arc<Stream>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Vec<Finding>;
}

/// The store of a database as configured. Nothing is opened before it is asked for something.
pub fn open(database: &Database) -> Arc<dyn Store> {
    match database.url {
        Some(_) => Arc::new(postgres::Postgres::new(database)),
        None => Arc::new(sqlite::Sqlite::new(database)),
    }
}

/// Every table and view of a database, and what there is to say of it.
///
/// # Errors
/// Why the database cannot be read, and the way out.
pub(crate) fn describe(
    database: &Database,
) -> Result<(Vec<description::Table>, Vec<Finding>), String> {
    match database.url {
        Some(_) => postgres::describe(database),
        None => sqlite::describe(database),
    }
}

/// What there is to say of streams that are declared as [`describe`] found them.
pub(crate) fn check_described(database: &Database, streams: &[Arc<Stream>]) -> Vec<Finding> {
    match database.url {
        Some(_) => open(database).check(streams),
        None => sqlite::check_described(database, streams),
    }
}

/// An SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How much a request may ask to be compared: what a client can make up must have a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most filters.
    pub filters: usize,
    /// The most values in all of them.
    pub operands: usize,
}

/// A stream of which replies in the order of ids stay behind a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The stream's name.
    pub stream: String,
    /// The process of the server whose transaction it is.
    pub holder: String,
    /// For how many seconds requests have seen it.
    pub seconds: u64,
}

/// One line of a check's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// What will be served.
    Fine(String),
    /// What works, but not as well as it could.
    Warning(String),
    /// What cannot work.
    Error(String),
}

/// How many scans this machine can run at once: one a core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a snapshot of a view can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether a run of records from the middle is found without reading all before it, so that a
    /// range can be scanned in several slices at once.
    pub splittable: bool,
}

/// What came of sharing a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// For each helper, whether it sees the very snapshot that the connection sees now.
    pub joined: Vec<bool>,
    /// Whether the connection sees what it saw before: a store that can only share a new snapshot
    /// begins one, and someone may have written in between.
    pub same: bool,
}

/// Which record of a range is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// The last one, whether it matches the filters or not.
    Last,
    /// The one of this number, counted from 1, of those that match the filters. A store that takes
    /// too long to get there answers with an earlier one.
    Nth(u64),
}

/// A connection on loan from the pool, used for one stream; it goes home when dropped, and its
/// snapshot ends then. Every method but [`Connection::is_instant`] blocks its thread for as long as
/// it takes, and so may dropping it: on a thread that may block.
///
/// What asks about records asks about the view and the snapshot of [`Connection::snapshot`].
pub trait Connection: Any + Send {
    /// Whether a snapshot of the view begins without waiting for writers, and its ranges are found
    /// without reading what is before them, so that a small one takes microseconds. Never blocks;
    /// says no until the view's first snapshot on this connection.
    fn is_instant(&mut self, view: &View) -> bool;

    /// Begins a snapshot, ending the one before, and finds out how the view's records are read.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when a writer holds the lock; [`StoreError::Stopped`] when `cancel` was
    /// set; otherwise what the database said.
    fn snapshot(&mut self, view: &Arc<View>, cancel: &Cancel) -> Result<Plan, StoreError>;

    /// Has helpers, connections of the same store, join the snapshot.
    ///
    /// # Errors
    /// What the database said to this connection; a helper that fails has not joined.
    fn share(&mut self, helpers: &mut [&mut dyn Connection]) -> Result<Shared, StoreError>;

    /// The position of a record of the range; `None` when there is none such. The range's limit does
    /// not count. Everything up to the position that is found has been looked at.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `cancel` was set, or when finding the last takes a view too long;
    /// otherwise what the database said.
    fn find(
        &mut self,
        range: &Range,
        which: Find,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError>;

    /// A position within the range, about `records` records (whether they match the filters or not)
    /// after its beginning, found at little cost; `None` when the range has no more, or not many
    /// more.
    ///
    /// # Errors
    /// What the database said.
    fn split(&mut self, range: &Range, records: u64) -> Result<Option<Position>, StoreError>;

    /// How many records of the range match the filters. The range's limit does not count.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `cancel` was set; otherwise what the database said.
    fn count(&mut self, range: &Range, cancel: &Cancel) -> Result<u64, StoreError>;

    /// Hands every record of `range` that matches the filters to `sink`, in the view's order, and
    /// gives the sink back.
    ///
    /// The sink is owned, not borrowed, so that a store may let the database call it.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when the sink had enough or `cancel` was set; otherwise what the
    /// database said.
    fn scan_into(
        &mut self,
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
        range: &Range,
        sink: S,
        cancel: &Cancel,
    ) -> (S, Result<(), StoreError>) {
        let (sink, result) = self.scan_into(range, Box::new(sink), cancel);
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
    fn record(&mut self, record: &Record<'_>, position: &Position) -> Result<(), Stop>;

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
    /// There is no file where the database was.
    #[error("the database {} cannot be found ({reason}); it is served again when it is back", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The server cannot be reached, or lets nobody in.
    #[error("the database {place} cannot be reached ({reason}); it is served again when it can")]
    Unreachable {
        /// Its URL, without a password.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// In the order of ids, nothing is certain yet.
    #[error(
        "stream {stream}: {holder} has written to it and has not ended, and no id is known that nothing comes before; \
         try again"
    )]
    HeldBack {
        /// The stream's name.
        stream: String,
        /// Whose transaction it is.
        holder: String,
    },
    /// The server was asked, and said nothing.
    #[error(
        "stream {stream}: the database said nothing for {seconds} s (silence_seconds); it hangs, or has no index for \
         what it was asked"
    )]
    Silent {
        /// The stream's name.
        stream: String,
        /// For how long that was waited for.
        seconds: u64,
    },
    /// What is there is something else.
    #[error("{} is not an SQLite database; it is served again when it is one", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A writer holds the lock for longer than the configured wait.
    #[error("stream {stream}: the database is locked by a writer; try again")]
    Busy {
        /// The stream's name.
        stream: String,
    },
    /// A writer was killed in the middle of a transaction, which only a writer can roll back.
    #[error(
        "stream {stream}: a writer was killed in the middle of a transaction, and the next writer has \
         to roll it back; `flows check` says how"
    )]
    Unfinished {
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
