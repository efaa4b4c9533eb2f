//! Records out of an SQLite file: the pool of read-only connections.
//!
//! | file | what it holds |
//! |---|---|
//! | `sqlite/connection.rs` | a connection on loan: its snapshot, its positions, its scans |
//! | `sqlite/pages.rs` | the records of a clustered table straight from its pages; filters on them |
//! | `sqlite/scan.rs` | what SQLite calls back while a scan runs |
//! | `sqlite/functions.rs` | SQL functions that filters use |
//! | `sqlite/table.rs` | what SQLite knows of a table: columns, affinities |
//! | `sqlite/query.rs` | the SQL of a scan, of its filters, of positions |
//! | `sqlite/values.rs` | SQLite's values as the types that the stream declares |
//! | `sqlite/check.rs` | what is wrong with a database, and how to fix it |

pub mod check;
mod connection;
mod functions;
mod pages;
mod query;
mod scan;
mod table;
mod values;

use std::path::Path;
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use rusqlite::{ErrorCode, OpenFlags};

use super::{Connection, Store, StoreError, cores};
use crate::config::Database;
use crate::definition::Stream;
use connection::SqliteConnection;
pub(crate) use query::quoted;
pub(crate) use table::Table;

/// How many instructions of SQLite's virtual machine pass between two looks at the cancel token:
/// some 20 microseconds.
const INSTRUCTIONS: i32 = 1000;

type Pool = r2d2::Pool<SqliteConnectionManager>;
type Pooled = r2d2::PooledConnection<SqliteConnectionManager>;

/// A pool of read-only connections to one SQLite file.
pub struct Sqlite {
    pool: Pool,
}

impl Sqlite {
    /// A pool as configured. Its connections are opened in the background, so that this cannot fail.
    pub fn new(database: &Database) -> Sqlite {
        let settings = database.clone();
        let manager = SqliteConnectionManager::file(&database.path)
            .with_flags(READ_ONLY)
            .with_init(move |connection| prepare(connection, &settings));
        // As many as can scan at once, so that a stream finds helpers.
        let idle = database
            .pool_size
            .min(u32::try_from(cores()).unwrap_or(u32::MAX));
        let pool = r2d2::Pool::builder()
            .max_size(database.pool_size)
            .min_idle(Some(idle))
            // Its query would be paid by every request; a broken connection fails the scan's.
            .test_on_check_out(false)
            .build_unchecked(manager);
        Sqlite { pool }
    }
}

fn lend(connection: Pooled) -> Box<dyn Connection> {
    Box::new(SqliteConnection::new(connection))
}

impl Store for Sqlite {
    fn idle(&self) -> Option<Box<dyn Connection>> {
        self.pool.try_get().map(lend)
    }

    fn connect(&self, wait: Duration) -> Result<Box<dyn Connection>, StoreError> {
        match self.pool.get_timeout(wait) {
            Ok(connection) => Ok(lend(connection)),
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
    // The plan that was looked at is the one that runs, whatever bounds are.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(&format!(
        "PRAGMA query_only = 1; PRAGMA cache_size = -{}; PRAGMA mmap_size = {};",
        database.cache_kib,
        u64::from(database.mmap_mib) << 20
    ))
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
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for its other end.
        return Err(std::io::Error::other("not a file"));
    }
    let mut file = std::fs::File::open(path)?;
    if metadata.len() == 0 {
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
