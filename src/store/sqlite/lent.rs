//! A connection on loan: its snapshot, and the scan that lets SQLite call the sink.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::FunctionFlags;

use super::query::{EMIT, Query, Sorts};
use super::table::Table;
use super::values::Decoder;
use super::{INSTRUCTIONS, Pooled, database, failed};
use crate::config::Stream;
use crate::selection::{Position, Range};
use crate::store::{Cancel, Connection, Sink, StoreError, Version};

/// A pooled connection, out on loan.
pub(super) struct Lent {
    connection: Pooled,
    running: Running,
    /// The stream's query, from the beginning of a snapshot to its end.
    query: Option<Arc<Query>>,
}

/// What stays with a connection from one loan to the next.
#[derive(Default)]
struct Known {
    running: Running,
    /// The queries of streams, by name, each with the version of the schema that it was written
    /// for: a table that is dropped and made anew may have other affinities.
    queries: HashMap<String, (i64, Arc<Query>)>,
}

/// The scan that a connection runs, if it runs one. SQLite calls back into it, with each record and
/// to ask whether to go on; all of that is on the scan's own thread, so that the lock is free.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Option<Scan>>>);

struct Scan {
    sink: Box<dyn Sink>,
    decoder: Decoder,
    cancel: Cancel,
    /// Why the sink or the decoder ended the scan.
    ended: Option<StoreError>,
}

impl Running {
    fn with<T>(&self, call: impl FnOnce(&mut Scan) -> T) -> Option<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(call)
    }

    fn set(&self, scan: Option<Scan>) -> Option<Scan> {
        std::mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            scan,
        )
    }

    /// Registers what SQLite calls, once for a connection.
    fn register(connection: &rusqlite::Connection) -> rusqlite::Result<Running> {
        let running = Running::default();
        let (emitting, progressing) = (running.clone(), running.clone());
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
        connection.create_scalar_function(EMIT, -1, flags, move |call| {
            let taken = emitting.with(|scan| scan.record(|column| call.get_raw(column)));
            match taken {
                Some(true) => Ok(rusqlite::types::Null),
                // The reason is in the scan.
                _ => Err(rusqlite::Error::UserFunctionError("stopped".into())),
            }
        })?;
        let stop = move || progressing.with(Scan::is_over).unwrap_or(false);
        connection.progress_handler(INSTRUCTIONS, Some(stop))?;
        Ok(running)
    }
}

impl Scan {
    /// Takes a row; whether the scan goes on.
    fn record<'r>(&mut self, value: impl Fn(usize) -> rusqlite::types::ValueRef<'r>) -> bool {
        match self.decoder.record(value, &mut *self.sink) {
            Ok(()) => true,
            Err(error) => {
                self.ended = Some(error);
                false
            }
        }
    }

    /// Asked many times a second: whether nobody wants the records any more.
    fn is_over(&mut self) -> bool {
        let over = self.cancel.is_cancelled() || self.sink.tick().is_err();
        if over {
            self.ended = Some(StoreError::Stopped);
        }
        over
    }
}

impl Lent {
    pub(super) fn new(mut connection: Pooled) -> Lent {
        if Pooled::extensions(&connection).get::<Known>().is_none() {
            // It fails only on a connection that is not owned, or has no memory; without the
            // function, preparing the first scan fails and says so.
            let running = Running::register(&connection).unwrap_or_default();
            let known = Known {
                running,
                ..Known::default()
            };
            Pooled::extensions_mut(&mut connection).insert(known);
        }
        let running = known(&mut connection).running.clone();
        Lent {
            connection,
            running,
            query: None,
        }
    }

    /// The stream's query, for the schema that the snapshot sees.
    fn look_up(&mut self, stream: &Stream) -> Result<Arc<Query>, StoreError> {
        let error = |error| failed(stream, &error);
        let version: i64 = self
            .connection
            .prepare_cached("PRAGMA schema_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(error)?;
        if let Some((written_for, query)) = known(&mut self.connection).queries.get(&stream.name)
            && *written_for == version
        {
            return Ok(Arc::clone(query));
        }
        let table = Table::inspect(&self.connection, &stream.table)
            .map_err(error)?
            .ok_or_else(|| database(stream, format!("no such table: {}", stream.table)))?;
        let query = Query::new(&self.connection, stream, &table).map_err(error)?;
        let query = query.map_err(|missing| {
            database(
                stream,
                format!("the table {} has no column {missing}", stream.table),
            )
        })?;
        let query = Arc::new(query);
        let entry = (version, Arc::clone(&query));
        known(&mut self.connection)
            .queries
            .insert(stream.name.clone(), entry);
        Ok(query)
    }

    fn end(&mut self) {
        self.query = None;
        if !self.connection.is_autocommit() {
            // A transaction that only read ends without an error.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// The query for the snapshot, which begins here if it has not begun.
    fn query(&mut self, stream: &Stream) -> Result<Arc<Query>, StoreError> {
        if self.query.is_none() {
            self.begin(stream)?;
        }
        Ok(Arc::clone(self.query.as_ref().expect("set by begin")))
    }

    /// Runs the scan that is set, up to its end or the range's.
    fn run(&self, stream: &Stream, query: &Query, range: &Range) -> Result<(), StoreError> {
        let error = |error| failed(stream, &error);
        let mut left = range.limit;
        for run in query.runs(range) {
            let (sql, parameters) = query.scan(run, left);
            let mut statement = self.connection.prepare_cached(&sql).map_err(error)?;
            let mut rows = statement
                .query(rusqlite::params_from_iter(parameters))
                .map_err(error)?;
            let mut records = 0;
            while let Some(row) = rows.next().map_err(error)? {
                records += 1;
                if query.emits() {
                    continue;
                }
                let value = |column| row.get_ref(column).expect("the query has this column");
                if self.running.with(|scan| scan.record(value)) != Some(true) {
                    return Err(StoreError::Stopped);
                }
            }
            left = left.map(|left| left.saturating_sub(records));
            if left == Some(0) {
                break;
            }
        }
        Ok(())
    }
}

fn known(connection: &mut Pooled) -> &mut Known {
    Pooled::extensions_mut(connection)
        .get_mut()
        .expect("put there when the connection was lent")
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A scan that panicked is still there, and with it the channel that someone listens to.
        self.running.set(None);
        self.end();
    }
}

impl Connection for Lent {
    fn begin(&mut self, stream: &Stream) -> Result<(), StoreError> {
        self.end();
        self.connection
            .execute_batch("BEGIN")
            .map_err(|error| failed(stream, &error))?;
        // The snapshot is taken by the first read.
        self.query = Some(self.look_up(stream)?);
        Ok(())
    }

    fn version(&mut self, stream: &Stream) -> Result<Version, StoreError> {
        self.connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map(Version)
            .map_err(|error| failed(stream, &error))
    }

    fn sliceable(&mut self, stream: &Stream) -> Result<bool, StoreError> {
        Ok(self.query(stream)?.sorts() == Sorts::Nothing)
    }

    fn nth(
        &mut self,
        stream: &Stream,
        range: &Range,
        records: u64,
    ) -> Result<Option<Position>, StoreError> {
        let query = self.query(stream)?;
        let error = |error| failed(stream, &error);
        let mut left = records;
        let mut runs = query.runs(range).into_iter().peekable();
        while let Some(run) = runs.next() {
            let (sql, parameters) = query.nth(run.clone(), left);
            let mut statement = self.connection.prepare_cached(&sql).map_err(error)?;
            let mut rows = statement
                .query(rusqlite::params_from_iter(parameters))
                .map_err(error)?;
            if let Some(row) = rows.next().map_err(error)? {
                let position = |row: &rusqlite::Row<'_>| {
                    Ok(Position {
                        time: row.get(0)?,
                        id: row.get(1)?,
                    })
                };
                return position(row).map(Some).map_err(error);
            }
            if runs.peek().is_some() {
                let (sql, parameters) = query.count(run);
                let mut statement = self.connection.prepare_cached(&sql).map_err(error)?;
                let parameters = rusqlite::params_from_iter(parameters);
                let count: i64 = statement
                    .query_row(parameters, |row| row.get(0))
                    .map_err(error)?;
                left = left.saturating_sub(count.unsigned_abs());
            }
        }
        Ok(None)
    }

    fn scan_into(
        &mut self,
        stream: &Arc<Stream>,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        let query = match self.query(stream) {
            Ok(query) => query,
            Err(error) => return (sink, Err(error)),
        };
        let decoder = Decoder::new(Arc::clone(stream), query.id_at());
        let cancel = cancel.clone();
        self.running.set(Some(Scan {
            sink,
            decoder,
            cancel,
            ended: None,
        }));
        let result = self.run(stream, &query, range);
        let scan = self
            .running
            .set(None)
            .expect("only this function ends the scan");
        // What SQLite says of a query that was stopped is not why it was.
        (scan.sink, scan.ended.map_or(result, Err))
    }
}
