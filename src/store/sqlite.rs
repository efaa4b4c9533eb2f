//! Records out of an SQLite file: the pool of read-only connections, and the scan.
//!
//! | file | what it holds |
//! |---|---|
//! | `sqlite/table.rs` | what SQLite knows of a table: columns, affinities |
//! | `sqlite/query.rs` | the SQL of a scan |
//! | `sqlite/values.rs` | SQLite's values as the types that the stream declares |
//! | `sqlite/check.rs` | what is wrong with a database, and how to mend it |

pub mod check;
mod query;
mod table;
mod values;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{ErrorCode, OpenFlags};

use super::{Cancel, Connection, Sink, Store, StoreError};
use crate::config::{Database, Stream};
use crate::selection::Range;
use query::Query;
pub(crate) use query::quoted;
use table::Table;
use values::Decoder;

/// How many instructions of SQLite's virtual machine pass between two looks at the cancel token:
/// some 20 microseconds.
const INSTRUCTIONS: i32 = 1000;

type Pool = r2d2::Pool<SqliteConnectionManager>;
type Pooled = r2d2::PooledConnection<SqliteConnectionManager>;

/// A pool of read-only connections to one SQLite file.
pub struct Sqlite {
    pool: Pool,
    queries: Arc<Queries>,
}

impl Sqlite {
    /// A pool as configured. It opens no connection yet, so that this cannot fail.
    pub fn new(database: &Database) -> Sqlite {
        let settings = database.clone();
        let manager = SqliteConnectionManager::file(&database.path)
            .with_flags(READ_ONLY)
            .with_init(move |connection| prepare(connection, &settings));
        let pool = r2d2::Pool::builder()
            .max_size(database.pool_size)
            .min_idle(Some(0))
            // Its query would be paid by every request; a broken connection fails the scan's.
            .test_on_check_out(false)
            .build_unchecked(manager);
        Sqlite {
            pool,
            queries: Arc::default(),
        }
    }

    fn lend(&self, connection: Pooled) -> Box<dyn Connection> {
        Box::new(Lent {
            connection,
            queries: Arc::clone(&self.queries),
        })
    }
}

impl Store for Sqlite {
    fn idle(&self) -> Option<Box<dyn Connection>> {
        self.pool.try_get().map(|connection| self.lend(connection))
    }

    fn connect(&self, wait: Duration) -> Result<Box<dyn Connection>, StoreError> {
        match self.pool.get_timeout(wait) {
            Ok(connection) => Ok(self.lend(connection)),
            Err(error) => {
                // r2d2 writes "timed out waiting for connection: REASON".
                let text = error.to_string();
                let reason = text.split_once(": ").map(|(_, reason)| reason.to_owned());
                Err(StoreError::Unavailable { reason })
            }
        }
    }

    fn connections(&self) -> usize {
        self.pool.max_size() as usize
    }
}

/// Each connection is used by one thread at a time, so that SQLite's own mutexes are not needed.
const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_EXRESCODE);

/// Opens a connection as the pool does.
fn open(database: &Database) -> rusqlite::Result<rusqlite::Connection> {
    let mut connection = rusqlite::Connection::open_with_flags(&database.path, READ_ONLY)?;
    prepare(&mut connection, database)?;
    Ok(connection)
}

/// Sets what the configuration says, and that this connection never writes.
fn prepare(connection: &mut rusqlite::Connection, database: &Database) -> rusqlite::Result<()> {
    connection.busy_timeout(database.busy)?;
    connection.execute_batch(&format!(
        "PRAGMA query_only = 1; PRAGMA cache_size = -{}; PRAGMA mmap_size = {};",
        database.cache_kib,
        u64::from(database.mmap_mib) << 20
    ))
}

/// The queries of all streams, by name, each with the schema version it was written for: a table
/// that is dropped and made anew may have other affinities.
#[derive(Default)]
struct Queries(Mutex<HashMap<String, (i64, Arc<Query>)>>);

impl Queries {
    /// The stream's query, for the schema that the connection's transaction sees.
    fn get(
        &self,
        connection: &rusqlite::Connection,
        stream: &Stream,
    ) -> Result<Arc<Query>, StoreError> {
        let version: i64 = connection
            .prepare_cached("PRAGMA schema_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| failed(stream, &error))?;
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&stream.name)
            .cloned();
        if let Some((written_for, query)) = known
            && written_for == version
        {
            return Ok(query);
        }
        let table = Table::inspect(connection, &stream.table)
            .map_err(|error| failed(stream, &error))?
            .ok_or_else(|| database(stream, format!("no such table: {}", stream.table)))?;
        let query = Query::new(stream, &table).map_err(|missing| {
            database(
                stream,
                format!("the table {} has no column {missing}", stream.table),
            )
        })?;
        let query = Arc::new(query);
        let entry = (version, Arc::clone(&query));
        let mut queries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queries.insert(stream.name.clone(), entry);
        Ok(query)
    }
}

/// A pooled connection, out on loan.
struct Lent {
    connection: Pooled,
    queries: Arc<Queries>,
}

/// The sink of the running scan. SQLite's progress handler needs it while the scan waits for its
/// next record; both run on the scan's own thread, so that the lock is never contended.
type SharedSink = Arc<Mutex<Option<Box<dyn Sink>>>>;

impl Connection for Lent {
    fn scan_into(
        &mut self,
        stream: &Stream,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        let shared: SharedSink = Arc::new(Mutex::new(Some(sink)));
        let result = self.watched(&shared, cancel, |connection| {
            scan(connection, &self.queries, stream, range, &shared)
        });
        let sink = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sink = sink.expect("only this function takes the sink out");
        // Whatever the database says of an interrupted query, this is why it was interrupted.
        (
            sink,
            if cancel.is_cancelled() {
                Err(StoreError::Stopped)
            } else {
                result
            },
        )
    }
}

impl Lent {
    /// Runs `scan` with a progress handler that polls the cancel token and ticks the sink.
    fn watched<T>(
        &self,
        sink: &SharedSink,
        cancel: &Cancel,
        scan: impl FnOnce(&rusqlite::Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let handler = {
            let (sink, cancel) = (Arc::clone(sink), cancel.clone());
            move || {
                cancel.is_cancelled()
                    || with(&sink, |sink| sink.tick()).is_err_and(|_| {
                        cancel.cancel();
                        true
                    })
            }
        };
        // Fails on a connection that is not owned; the pool's are.
        let _ = self
            .connection
            .progress_handler(INSTRUCTIONS, Some(handler));
        let result = scan(&self.connection);
        let _ = self.connection.progress_handler(0, None::<fn() -> bool>);
        result
    }
}

fn with<T>(sink: &SharedSink, call: impl FnOnce(&mut dyn Sink) -> T) -> T {
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    call(
        sink.as_deref_mut()
            .expect("the sink is there for as long as the scan runs"),
    )
}

fn scan(
    connection: &rusqlite::Connection,
    queries: &Queries,
    stream: &Stream,
    range: &Range,
    sink: &SharedSink,
) -> Result<(), StoreError> {
    // One transaction: the schema that the query is written for is the one that it meets.
    let snapshot = connection
        .unchecked_transaction()
        .map_err(|error| failed(stream, &error))?;
    let query = queries.get(&snapshot, stream)?;
    let (sql, parameters) = query.select(range);
    let mut statement = snapshot
        .prepare_cached(&sql)
        .map_err(|error| failed(stream, &error))?;
    let mut rows = statement
        .query(rusqlite::params_from_iter(parameters))
        .map_err(|error| failed(stream, &error))?;
    let mut decoder = Decoder::new(stream, query.id_at());
    while let Some(row) = rows.next().map_err(|error| failed(stream, &error))? {
        let value = |column| row.get_ref(column).expect("the query has this column");
        with(sink, |sink| decoder.record(value, sink))?;
    }
    Ok(())
}

/// An error of the database's own, as ours.
fn failed(stream: &Stream, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy {
            stream: stream.name.clone(),
        },
        Some(ErrorCode::OperationInterrupted) => StoreError::Stopped,
        _ => database(stream, error.to_string()),
    }
}

fn database(stream: &Stream, reason: String) -> StoreError {
    StoreError::Database {
        stream: stream.name.clone(),
        reason,
    }
}

/// How a database keeps a transaction apart until it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JournalMode {
    /// An empty file is an empty database, whose mode is not decided.
    Undecided,
    Rollback,
    Wal,
}

/// The mode that the header of an SQLite database states; `None` when the file is none.
fn journal_mode(path: &Path) -> std::io::Result<Option<JournalMode>> {
    use std::io::Read;
    let mut header = [0; 20];
    let mut file = std::fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Some(JournalMode::Undecided));
    }
    match file.read_exact(&mut header) {
        Ok(()) if header.starts_with(b"SQLite format 3\0") => Ok(Some(if header[18] == 2 {
            JournalMode::Wal
        } else {
            JournalMode::Rollback
        })),
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
