//! Records out of an SQLite file: the pool of read-only connections.
//!
//! Each file uses only those above it.
//!
//! | file | what it holds |
//! |---|---|
//! | `sqlite/file.rs` | the file: which one a path names, opening it |
//! | `sqlite/table.rs` | what SQLite knows of a table: columns, affinities |
//! | `sqlite/query_view.rs` | the query of a stream, as a view of one connection |
//! | `sqlite/scan.rs` | the scan that a thread runs, and when what it asks is over |
//! | `sqlite/functions.rs` | SQL functions of ours: a scan's rows, filters |
//! | `sqlite/query.rs` | the SQL of a scan, of its filters, of positions |
//! | `sqlite/pages.rs` | a table's records straight from its pages; filters on them |
//! | `sqlite/plan.rs` | how a view is read: by SQL, from pages, or both |
//! | `sqlite/connection.rs` | a connection on loan: its snapshot, its positions, its scans |
//! | `sqlite/probe.rs` | whether the database answers |
//! | `sqlite/sample.rs` | a look at some records: both ends and the middle |
//! | `sqlite/check.rs` | what is wrong with a database, and how to fix it |
//! | `sqlite/describe.rs` | what there is in a database that nobody has described |

mod check;
mod connection;
mod describe;
mod file;
mod functions;
mod pages;
mod plan;
mod probe;
mod query;
mod query_view;
mod sample;
mod scan;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::types::ValueRef;

use super::reading::Held;
use super::{Connection, Finding, Limits, Store, StoreError, pool};
use crate::config::Database;
use crate::definition::Stream;
use crate::selection::View;
use check::Depth;
use connection::{Pooled, SqliteConnection};
pub use describe::{check_described, describe};
use file::{FileId, prepare};
pub(crate) use table::Table;

/// A value as SQLite holds it.
#[inline]
pub(super) fn held(value: ValueRef<'_>) -> Held<'_> {
    match value {
        ValueRef::Null => Held::Null,
        ValueRef::Integer(integer) => Held::Integer(integer),
        ValueRef::Real(real) => Held::Real(real),
        ValueRef::Text(text) => Held::Text(text),
        ValueRef::Blob(bytes) => Held::Blob(bytes),
    }
}

type Pool = r2d2::Pool<SqliteConnectionManager>;

/// Pools of read-only connections to one SQLite file.
pub struct Sqlite {
    settings: Database,
    current: Mutex<Current>,
}

/// The connections to the file that the path names now.
#[derive(Default)]
struct Current {
    pool: Option<(FileId, Pool)>,
    /// Whether the path named no file when it was last looked at.
    gone: bool,
}

impl Sqlite {
    /// The file as configured. Connections are opened when the first one is asked for, and more in
    /// the background, so that this cannot fail.
    pub fn new(database: &Database) -> Sqlite {
        Sqlite {
            settings: database.clone(),
            current: Mutex::default(),
        }
    }

    /// The connections to the file that the path names at this moment. When it is another file than
    /// before, the old one's are retired: those on loan end what they began.
    fn pool(&self) -> Result<(FileId, Pool), StoreError> {
        let path = &self.settings.path;
        // What was seen before the lock may be older than what another thread acted on.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match FileId::of(path) {
            Ok(file) => file,
            Err(error) => {
                if !std::mem::replace(&mut current.gone, true) {
                    tracing::warn!(database = %path.display(), %error, "the database is gone");
                }
                return Err(StoreError::Gone {
                    path: path.clone(),
                    reason: error.to_string(),
                });
            }
        };
        if std::mem::replace(&mut current.gone, false) {
            tracing::info!(database = %path.display(), "the database is back");
        }
        if let Some((known, pool)) = &current.pool
            && *known == file
        {
            return Ok((file, pool.clone()));
        }
        let pool = self.open_pool(file);
        if let Some(retired) = current.pool.replace((file, pool.clone())) {
            tracing::info!(database = %path.display(), "the database was replaced: the new file is served");
            // Closing files may block.
            std::thread::spawn(move || drop(retired));
        }
        Ok((file, pool))
    }

    fn open_pool(&self, file: FileId) -> Pool {
        let Sqlite { settings, .. } = self;
        let prepared = settings.clone();
        let (source, flags) = file::source(settings);
        let manager = SqliteConnectionManager::file(source)
            .with_flags(flags)
            .with_init(move |connection| {
                prepare(connection, &prepared)?;
                file.verify(connection, &prepared.path)
            });
        pool::builder(settings.pool_size).build_unchecked(manager)
    }
}

impl Sqlite {
    fn lend(&self, connection: Pooled, file: FileId) -> Box<dyn Connection> {
        let Database {
            page_reader,
            immutable,
            ..
        } = self.settings;
        Box::new(SqliteConnection::new(
            connection,
            file,
            page_reader,
            immutable,
        ))
    }
}

impl Store for Sqlite {
    fn capacity(&self) -> usize {
        self.settings.pool_size as usize
    }

    fn idle(&self) -> Option<Box<dyn Connection>> {
        let (file, pool) = self.pool().ok()?;
        let connection = pool.try_get()?;
        Some(self.lend(connection, file))
    }

    fn idle_count(&self) -> usize {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = current.pool.as_ref();
        pool.map_or(0, |(_, pool)| pool.state().idle_connections as usize)
    }

    fn connect(&self, wait: Duration) -> Result<Box<dyn Connection>, StoreError> {
        let (file, pool) = self.pool()?;
        let path = &self.settings.path;
        // The pool would try again and again to open its first one.
        if pool.state().connections == 0 && file::is_no_database(&self.settings) {
            return Err(StoreError::NotADatabase { path: path.clone() });
        }
        let connection = pool::get(&pool, wait)?;
        Ok(self.lend(connection, file))
    }

    fn probe(&self, views: &[Arc<View>]) -> Vec<Result<(), StoreError>> {
        probe::probe(&self.settings, views)
    }

    fn limits(&self) -> Limits {
        // SQLite nests conditions 1,000 deep, and plans some hundreds of them in milliseconds.
        Limits {
            filters: 300,
            operands: 10_000,
        }
    }

    fn check(&self, streams: &[Arc<Stream>]) -> Vec<Finding> {
        check::check(&self.settings, streams, Depth::Sample)
    }

    fn check_all_rows(
        &self,
        stream: &Arc<Stream>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Vec<Finding> {
        check::all_rows(&self.settings, stream, progress)
    }
}
