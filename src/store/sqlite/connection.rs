//! A connection on loan: its snapshot, its positions, its scans.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::OptionalExtension;

use super::pages::Ended;
use super::query::{Query, SortNeeded, Statement, operands};
use super::scan::{self, Scan};
use super::table::Table;
use super::values::{Decoder, as_integer, no_position};
use super::{Pooled, database, failed};
use crate::selection::{Position, Range, View};
use crate::store::{Cancel, Connection, Sink, StoreError, Version};

/// Records that are found by SQL before a table's pages are read.
const FEW: u64 = 200;

/// The most queries that a connection keeps: views that clients make up are many.
const MOST_QUERIES: usize = 100;

/// A pooled connection, out on loan.
pub(super) struct SqliteConnection {
    connection: Pooled,
    /// The view's query, from the beginning of a snapshot to its end.
    query: Option<Arc<Query>>,
}

/// What stays with a connection from one loan to the next.
#[derive(Default)]
struct PlanCache {
    /// The queries of views, by key, each with the version of the schema that it was written for:
    /// a table that is dropped and made anew may have other affinities.
    queries: HashMap<String, (i64, Arc<Query>)>,
    /// Whether the database was seen in write-ahead-log mode. It stays in it while this connection
    /// is open.
    wal: bool,
}

impl SqliteConnection {
    pub(super) fn new(mut connection: Pooled) -> SqliteConnection {
        if Pooled::extensions(&connection).get::<PlanCache>().is_none() {
            // It fails only on a connection that is not owned, or has no memory; without the
            // functions, preparing the first scan fails and says so.
            let _ = scan::register(&connection);
            Pooled::extensions_mut(&mut connection).insert(PlanCache::default());
        }
        SqliteConnection {
            connection,
            query: None,
        }
    }

    /// The stream's query, for the schema that the snapshot sees.
    fn look_up(&mut self, view: &View) -> Result<Arc<Query>, StoreError> {
        let error = |error| failed(&view.stream, &error);
        let version: i64 = self
            .connection
            .prepare_cached("PRAGMA schema_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(error)?;
        if let Some((written_for, query)) = kept(&mut self.connection).queries.get(view.shape())
            && *written_for == version
        {
            return Ok(Arc::clone(query));
        }
        let table = Table::inspect(&self.connection, &view.stream.table)
            .map_err(error)?
            .ok_or_else(|| {
                database(
                    &view.stream,
                    format!("no such table: {}", view.stream.table),
                )
            })?;
        let query = Query::new(&self.connection, view, &table).map_err(error)?;
        let query = query.map_err(|missing| {
            database(
                &view.stream,
                format!("the table {} has no column {missing}", view.stream.table),
            )
        })?;
        let query = Arc::new(query);
        let entry = (version, Arc::clone(&query));
        let mode: String = self
            .connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(error)?;
        let kept = kept(&mut self.connection);
        kept.wal = mode == "wal";
        if kept.queries.len() >= MOST_QUERIES {
            kept.queries.clear();
        }
        kept.queries.insert(view.shape().to_owned(), entry);
        Ok(query)
    }

    fn run_cached(&self, sql: &str) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute([])
    }

    fn end(&mut self) {
        self.query = None;
        if !self.connection.is_autocommit() {
            // A transaction that only read ends without an error.
            let _ = self.run_cached("ROLLBACK");
        }
    }

    /// The query for the snapshot, which begins here if it has not begun.
    fn query(&mut self, view: &View) -> Result<Arc<Query>, StoreError> {
        if self.query.is_none() {
            self.begin(view)?;
        }
        Ok(Arc::clone(self.query.as_ref().expect("set by begin")))
    }

    /// The position of the one record with that id, if the id is found through an index.
    fn position_of(&mut self, view: &View, id: i64) -> Result<Option<Position>, StoreError> {
        let query = self.query(view)?;
        let error = |error| failed(&view.stream, &error);
        let Some((sql, parameters)) = query.time_of(id) else {
            return Ok(None);
        };
        let mut statement = self.connection.prepare_cached(&sql).map_err(error)?;
        let mut rows = statement
            .query(rusqlite::params_from_iter(parameters))
            .map_err(error)?;
        let Some(row) = rows.next().map_err(error)? else {
            return Ok(None);
        };
        // A time that is not an integer is for the scan to complain of.
        let time = row.get(0).ok();
        Ok(time.map(|time| Position { key: time, id }))
    }

    /// The first row of a statement that yields times and ids.
    fn position(
        &self,
        view: &View,
        (sql, parameters): Statement,
    ) -> Result<Option<Position>, StoreError> {
        // A value that is not an integer has no place; whoever reads the record would say so, too.
        let position = |row: &rusqlite::Row<'_>| {
            let (time, id) = (row.get_ref(0)?, row.get_ref(1)?);
            Ok(match (as_integer(time), as_integer(id)) {
                (Some(time), Some(id)) => Ok(Position { key: time, id }),
                (None, _) => Err(no_position(view, false, time, id)),
                (_, None) => Err(no_position(view, true, id, id)),
            })
        };
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                let parameters = rusqlite::params_from_iter(parameters);
                statement.query_row(parameters, position).optional()
            })
            .map_err(|error| failed(&view.stream, &error))?
            .transpose()
    }

    /// The number that a statement yields.
    fn number(&self, view: &View, (sql, parameters): Statement) -> Result<u64, StoreError> {
        let number = |row: &rusqlite::Row<'_>| row.get(0).map(i64::unsigned_abs);
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement.query_row(rusqlite::params_from_iter(parameters), number)
            })
            .map_err(|error| failed(&view.stream, &error))
    }

    /// Runs the scan that is set, up to its end or the range's.
    fn run(&self, view: &View, query: &Query, range: &Range) -> Result<(), StoreError> {
        let error = |error| failed(&view.stream, &error);
        let Some(tree) = query.clustered_reader().filter(|_| range.limit.is_none()) else {
            return self.run_sql(view, query, range).map(|_| ());
        };
        let mut range = *range;
        // Walking down to a page costs more than SQL does, and leaving SQL more than a few records:
        // only a slice, which begins in mid-second, is known to be large.
        // So is what filters look at.
        let few = view.filters.is_empty() && range.after.is_none_or(|after| after.id == i64::MAX);
        if few {
            let beginning = Range {
                limit: Some(FEW),
                ..range
            };
            if self.run_sql(view, query, &beginning)? < FEW {
                return Ok(());
            }
            range.after = scan::last();
        }
        match tree
            .scan(&self.connection, &range, &view.filters)
            .map_err(error)?
        {
            Ended::Done => Ok(()),
            Ended::Stopped => Err(StoreError::Stopped),
            Ended::GaveUp(last) => {
                range.after = last.or(range.after);
                self.run_sql(view, query, &range).map(|_| ())
            }
        }
    }

    /// Runs the scan that is set, by SQL; how many records there were, if the range has a limit.
    fn run_sql(&self, view: &View, query: &Query, range: &Range) -> Result<u64, StoreError> {
        let error = |error| failed(&view.stream, &error);
        let operands = operands(view);
        let mut left = range.limit;
        for run in query.runs(range) {
            let (sql, parameters) = query.scan(run, &operands, left);
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
                if !scan::record(value) {
                    return Err(StoreError::Stopped);
                }
            }
            left = left.map(|left| left.saturating_sub(records));
            if left == Some(0) {
                break;
            }
        }
        Ok(range.limit.unwrap_or(0) - left.unwrap_or(0))
    }
}

fn kept(connection: &mut Pooled) -> &mut PlanCache {
    let kept = Pooled::extensions_mut(connection).get_mut();
    kept.expect("put there when the connection was lent")
}

/// Whether a run of records from the middle is found through an index.
fn is_sliceable(query: &Query) -> bool {
    query.sort_needed() == SortNeeded::Nothing && query.is_unique()
}

impl Drop for SqliteConnection {
    fn drop(&mut self) {
        // A scan that panicked is still there, and with it the channel that someone listens to.
        scan::set(None);
        self.end();
    }
}

impl Connection for SqliteConnection {
    fn begin(&mut self, view: &View) -> Result<(), StoreError> {
        self.end();
        self.run_cached("BEGIN")
            .map_err(|error| failed(&view.stream, &error))?;
        // The snapshot is taken by the first read.
        self.query = Some(self.look_up(view)?);
        Ok(())
    }

    fn version(&mut self, view: &View) -> Result<Version, StoreError> {
        self.connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map(Version)
            .map_err(|error| failed(&view.stream, &error))
    }

    fn sliceable(&mut self, view: &View) -> Result<bool, StoreError> {
        Ok(is_sliceable(&*self.query(view)?))
    }

    fn is_prompt(&mut self, view: &View) -> bool {
        let kept = kept(&mut self.connection);
        // Readers wait for writers in every other mode.
        kept.wal
            && kept
                .queries
                .get(view.shape())
                .is_some_and(|(_, query)| is_sliceable(query))
    }

    fn nth(
        &mut self,
        view: &View,
        range: &Range,
        records: u64,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let query = self.query(view)?;
        let mut left = records;
        let mut runs = query.runs(range).into_iter().peekable();
        scan::with_deadline(cancel, query.patience(), || {
            while let Some(run) = runs.next() {
                let found = self.position(view, query.nth(run.clone(), left))?;
                if found.is_some() {
                    return Ok(found);
                }
                if runs.peek().is_some() {
                    left = left.saturating_sub(self.number(view, query.count(&run))?);
                }
            }
            Ok(None)
        })
    }

    fn last(
        &mut self,
        view: &View,
        range: &Range,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let query = self.query(view)?;
        scan::with_deadline(cancel, query.patience(), || {
            for run in query.runs(range).into_iter().rev() {
                let found = self.position(view, query.last(run))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    fn count(&mut self, view: &View, range: &Range, cancel: &Cancel) -> Result<u64, StoreError> {
        let query = self.query(view)?;
        let operands = operands(view);
        scan::with_deadline(cancel, None, || {
            let mut count = 0;
            for run in query.runs(range) {
                count += self.number(view, query.count_filtered(run, &operands))?;
            }
            Ok(count.min(range.limit.unwrap_or(u64::MAX)))
        })
    }

    fn cut(
        &mut self,
        view: &View,
        range: &Range,
        records: u64,
    ) -> Result<Option<Position>, StoreError> {
        // Where ids rise with time, the record that many ids on is about that many records on. If
        // they do not, the cut is still a position, but may be a bad one: so the ids in between are
        // tried, too.
        if let Some(after) = range.after {
            let ahead = i64::try_from(records)
                .ok()
                .and_then(|records| after.id.checked_add(records));
            let tried = ahead.map(|id| [after.id + (id - after.id) / 2, id]);
            let mut last = Some(after);
            for id in tried.into_iter().flatten() {
                let found = self.position_of(view, id)?;
                last = found.filter(|found| last.is_some_and(|last| last < *found));
            }
            let inside = |cut: &Position| range.until.is_none_or(|until| *cut < until);
            if tried.is_some()
                && let Some(cut) = last.filter(inside)
            {
                return Ok(Some(cut));
            }
        }
        self.nth(view, range, records, &Cancel::default())
    }

    fn scan_into(
        &mut self,
        view: &Arc<View>,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        let query = match self.query(view) {
            Ok(query) => query,
            Err(error) => return (sink, Err(error)),
        };
        let decoder = Decoder::new(Arc::clone(view), query.position_at());
        scan::set(Some(Scan::new(sink, decoder, cancel.clone())));
        let result = self.run(view, &query, range);
        let (sink, ended) = scan::set(None)
            .expect("only this function ends the scan")
            .end();
        // What SQLite says of a query that was stopped is not why it was.
        (sink, ended.map_or(result, Err))
    }
}
