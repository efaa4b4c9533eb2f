//! Records out of a PostgreSQL server: the pool of sessions.
//!
//! Each file uses only those above it, but for `connection.rs`.
//!
//! | file | what it holds |
//! |---|---|
//! | `postgres/failure.rs` | why a server did not answer |
//! | `postgres/password.rs` | where a password comes from |
//! | `postgres/socket.rs` | TCP, TLS, a socket of this machine |
//! | `postgres/session.rs` | a session: it is let in, asked, and told to stop |
//! | `postgres/kind.rs` | what the server's types are to a stream |
//! | `postgres/relation.rs` | what the server knows of a table |
//! | `postgres/rows.rs` | rows of a binary copy, as records |
//! | `postgres/compared.rs` | times, days and ids in SQL |
//! | `postgres/filters.rs` | filters in SQL |
//! | `postgres/query.rs` | the SQL of a scan, of positions |
//! | `postgres/plan.rs` | what is known of streams for a while; the server's plans |
//! | `postgres/arrivals.rs` | in the order of ids, up to where nothing will come to be |
//! | `postgres/connection.rs` | a connection on loan: its snapshot, its positions, its scans |
//! | `postgres/load.rs` | records into a table |
//! | `postgres/check.rs` | what is wrong with a database, and how to fix it |
//! | `postgres/describe.rs` | what there is in a database that nobody has described |

mod arrivals;
mod check;
mod compared;
mod connection;
mod describe;
mod failure;
mod filters;
mod kind;
mod load;
mod password;
mod plan;
mod query;
mod relation;
mod rows;
mod session;
mod socket;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Connection, Finding, HeldBack, Limits, Store, StoreError, pool};
use crate::config::Database;
use crate::definition::Stream;
use crate::selection::View;
use connection::PostgresConnection;
pub use describe::describe;
pub(crate) use failure::Failure;
pub(crate) use load::{Load, NoLoad};
use plan::Memory;
use session::{Session, Watch};

/// Opens sessions for the pool.
struct Manager(Arc<Database>);

impl r2d2::ManageConnection for Manager {
    type Connection = Session;
    type Error = Failure;

    fn connect(&self) -> Result<Session, Failure> {
        Session::open(&self.0)
    }

    /// Not asked: it would be paid by every request, and a snapshot finds out by itself.
    fn is_valid(&self, session: &mut Session) -> Result<(), Failure> {
        session.ask("", Watch::default()).map(drop)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_broken()
    }
}

/// A session of the pool.
type Pooled = r2d2::PooledConnection<Manager>;

/// A pool of sessions of one server.
pub struct Postgres {
    settings: Arc<Database>,
    /// Opened by the first who wants a session.
    pool: OnceLock<r2d2::Pool<Manager>>,
    memory: Arc<Memory>,
}

impl Postgres {
    /// The database that the URL names. Sessions are opened when the first one is asked for, so that this cannot
    /// fail.
    pub fn new(database: &Database) -> Postgres {
        Postgres {
            settings: Arc::new(database.clone()),
            pool: OnceLock::new(),
            memory: Arc::default(),
        }
    }

    fn pool(&self) -> &r2d2::Pool<Manager> {
        self.pool.get_or_init(|| {
            pool::builder(self.settings.pool_size)
                .error_handler(Box::new(Unlogged))
                .build_unchecked(Manager(Arc::clone(&self.settings)))
        })
    }

    fn lend(&self, session: Pooled) -> Box<dyn Connection> {
        let (settings, memory) = (Arc::clone(&self.settings), Arc::clone(&self.memory));
        Box::new(PostgresConnection::new(session, settings, memory))
    }
}

/// Whoever waits for a session is told why there is none.
#[derive(Debug)]
struct Unlogged;

impl r2d2::HandleError<Failure> for Unlogged {
    fn handle_error(&self, error: Failure) {
        tracing::debug!(%error, "a connection to the database could not be opened");
    }
}

impl Store for Postgres {
    fn capacity(&self) -> usize {
        self.settings.pool_size as usize
    }

    fn idle(&self) -> Option<Box<dyn Connection>> {
        let session = self.pool().try_get()?;
        Some(self.lend(session))
    }

    fn idle_count(&self) -> usize {
        let pool = self.pool.get();
        pool.map_or(0, |pool| pool.state().idle_connections as usize)
    }

    fn held_back(&self) -> Vec<HeldBack> {
        self.memory.arrivals.held_back()
    }

    fn connect(&self, wait: Duration) -> Result<Box<dyn Connection>, StoreError> {
        // The first is opened by whoever wants it, to hear at once why it cannot be.
        let is_first = self
            .pool
            .get()
            .is_none_or(|pool| pool.state().connections == 0);
        if is_first && let Err(failure) = Session::open(&self.settings) {
            return Err(StoreError::Unreachable {
                place: self.settings.place(),
                reason: failure.to_string(),
            });
        }
        let session = pool::get(self.pool(), wait)?;
        Ok(self.lend(session))
    }

    fn probe(&self, views: &[Arc<View>]) -> Vec<Result<(), StoreError>> {
        let unreachable = |reason: String| StoreError::Unreachable {
            place: self.settings.place(),
            reason,
        };
        let session = match Session::open(&self.settings) {
            Ok(session) => session,
            Err(failure) => {
                let reason = failure.to_string();
                return views
                    .iter()
                    .map(|_| Err(unreachable(reason.clone())))
                    .collect();
            }
        };
        // A pool of its own of one: no request waits for it.
        let answer = |session: &mut Option<Session>, view: &Arc<View>| {
            let Some(asked) = session else {
                return Err(unreachable("it was lost before".to_owned()));
            };
            let answer = check::probe(asked, &self.settings, &self.memory, view);
            if asked.is_broken() {
                *session = None;
            }
            answer
        };
        let mut session = Some(session);
        views
            .iter()
            .map(|view| answer(&mut session, view))
            .collect()
    }

    fn limits(&self) -> Limits {
        // It plans these in milliseconds.
        Limits {
            filters: 300,
            operands: 10_000,
        }
    }

    fn check(&self, streams: &[Arc<Stream>]) -> Vec<Finding> {
        check::check(&self.settings, &self.memory, streams)
    }

    fn check_all_rows(
        &self,
        stream: &Arc<Stream>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Vec<Finding> {
        let connection = self.connect(self.settings.wait.max(self.settings.connect));
        check::all_rows(connection, stream, progress)
    }
}
