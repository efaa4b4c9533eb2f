//! A connection on loan: its snapshot, its positions, its scans.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{ErrorCode, Row};

use super::file::{FileId, has_no_temporary_folder, is_unfinished};
use super::functions;
use super::held;
use super::pages::Counted;
use super::plan::{NoPlan, Plan, first_row};
use super::query::{Statement, operands};
use super::query_view;
use super::scan::{self, Scan, Went};
use crate::definition::{Source, Stream};
use crate::selection::{Position, Range, View};
use crate::store::counter::Counter;
use crate::store::values::{Decoder, no_position, part};
use crate::store::{self, Cancel, Connection, Find, Shared, Sink, StoreError};

/// The most bytes of plans that a connection keeps: views that clients make up are many.
const MOST_BYTES: usize = 256 * 1024;

/// How long finding the record at which a limit cuts may take, once there is one to cut at: the head
/// of the reply waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection of the pool.
pub(super) type Pooled = r2d2::PooledConnection<SqliteConnectionManager>;

/// A pooled connection, out on loan.
pub(super) struct SqliteConnection {
    connection: Pooled,
    /// The file that it reads.
    file: FileId,
    /// Whether tables are read straight from their pages where they can be.
    page_reader: bool,
    /// Whether nobody writes to the file.
    immutable: bool,
    /// What the snapshot is of, from its beginning to its end.
    current: Option<Current>,
}

/// A view and how it is read.
#[derive(Clone)]
struct Current {
    view: Arc<View>,
    plan: Arc<Plan>,
}

/// What stays with a connection from one loan to the next.
#[derive(Default)]
struct PlanCache {
    /// The plans of views, by shape, each with the version of the schema that it was made for: a
    /// table that is dropped and made anew may have other affinities.
    plans: HashMap<String, (i64, Arc<Plan>)>,
    /// About how many bytes they take.
    bytes: usize,
    /// The streams whose query has its view, each with the query.
    queries: HashMap<String, String>,
    /// Whether reading waits for no writer: the database was seen in write-ahead-log mode, in which it
    /// stays while this connection is open, or has no writer.
    waits_for_none: bool,
}

impl SqliteConnection {
    pub(super) fn new(
        mut connection: Pooled,
        file: FileId,
        page_reader: bool,
        immutable: bool,
    ) -> SqliteConnection {
        if Pooled::extensions(&connection).get::<PlanCache>().is_none() {
            // It fails only on a connection that is not owned, or has no memory; without the
            // functions, preparing the first scan fails and says so.
            let _ = functions::register(&connection);
            Pooled::extensions_mut(&mut connection).insert(PlanCache::default());
        }
        SqliteConnection {
            connection,
            file,
            page_reader,
            immutable,
            current: None,
        }
    }

    fn cache(&mut self) -> &mut PlanCache {
        let cache = Pooled::extensions_mut(&mut self.connection).get_mut();
        cache.expect("put there when the connection was lent")
    }

    /// The view's plan, for the schema that the snapshot sees.
    fn plan(&mut self, view: &View) -> Result<Arc<Plan>, StoreError> {
        let stream = &view.stream;
        let error = |error| failed(stream, &error);
        let version: i64 = self
            .connection
            .prepare_cached("PRAGMA schema_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(error)?;
        if let Some((made_for, plan)) = self.cache().plans.get(view.shape())
            && *made_for == version
        {
            return Ok(Arc::clone(plan));
        }
        let plan = Plan::new(&self.connection, view, self.page_reader).map_err(error)?;
        let plan = Arc::new(plan.map_err(|why| no_plan(stream, why))?);
        let mode: String = self
            .connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(error)?;
        let waits_for_none = self.immutable || mode == "wal";
        let cache = self.cache();
        cache.waits_for_none = waits_for_none;
        if cache.bytes > MOST_BYTES {
            cache.plans.clear();
            cache.bytes = 0;
        }
        cache.bytes += view.shape().len() + plan.bytes();
        let entry = (version, Arc::clone(&plan));
        cache.plans.insert(view.shape().to_owned(), entry);
        Ok(plan)
    }

    /// Makes the view of the stream's query, unless the stream has a table or the view is there.
    fn make_view(&mut self, stream: &Stream) -> Result<(), StoreError> {
        let Source::Query(query) = &stream.source else {
            return Ok(());
        };
        if self.cache().queries.get(&stream.name) == Some(query) {
            return Ok(());
        }
        // Of another query, if the configuration has changed.
        self.cache().queries.remove(&stream.name);
        query_view::make(&self.connection, stream).map_err(|error| failed(stream, &error))?;
        let (name, query) = (stream.name.clone(), query.clone());
        self.cache().queries.insert(name, query);
        Ok(())
    }

    fn run_cached(&self, sql: &str) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute([])
    }

    /// Begins a snapshot, ending the one before.
    fn begin(&mut self, view: &Arc<View>) -> Result<(), StoreError> {
        self.end();
        self.make_view(&view.stream)?;
        self.run_cached("BEGIN")
            .map_err(|error| failed(&view.stream, &error))?;
        // The snapshot is taken by the first read.
        let plan = self.plan(view)?;
        let view = Arc::clone(view);
        self.current = Some(Current { view, plan });
        Ok(())
    }

    fn end(&mut self) {
        self.current = None;
        if !self.connection.is_autocommit() {
            // A transaction that only read ends without an error.
            let _ = self.run_cached("ROLLBACK");
        }
    }

    /// What the snapshot is of.
    fn current(&self) -> Current {
        self.current
            .clone()
            .expect("what asks about records comes after the snapshot")
    }

    /// What the connection sees: in a snapshot the snapshot's version, else the present one. Equal
    /// again on the same connection, the database has not changed; those of two connections cannot
    /// be compared.
    fn version(&self) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))
    }

    /// The first row of a statement that yields positions.
    fn position(&self, view: &View, statement: &Statement) -> Result<Option<Position>, StoreError> {
        // A value that is not an integer has no place; whoever reads the record would say so, too.
        let position = |row: &Row<'_>| {
            let (key, id) = (held(row.get_ref(0)?), held(row.get_ref(1)?));
            let stream = &view.stream;
            let parts = (part(stream, view.key(), key), part(stream, view.id(), id));
            Ok(match parts {
                (Some(key), Some(id)) => Ok(Position { key, id }),
                (None, _) => Err(no_position(view, false, key, id)),
                (_, None) => Err(no_position(view, true, id, id)),
            })
        };
        first_row(&self.connection, statement, position)
            .map_err(|error| failed(&view.stream, &error))?
            .transpose()
    }

    /// The number that a statement yields.
    fn number(&self, view: &View, statement: &Statement) -> Result<u64, StoreError> {
        let number = |row: &Row<'_>| row.get(0).map(i64::unsigned_abs);
        first_row(&self.connection, statement, number)
            .map_err(|error| failed(&view.stream, &error))
            .map(Option::unwrap_or_default)
    }

    /// The position of the last record of a range.
    fn last(&self, current: &Current, range: &Range) -> Result<Option<Position>, StoreError> {
        let Current { view, plan } = current;
        for run in plan.query.runs(range).into_iter().rev() {
            let found = self.position(view, &plan.query.last(run))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The position of a range's record of that number, whether it matches the filters or not.
    fn nth(
        &self,
        current: &Current,
        range: &Range,
        number: u64,
    ) -> Result<Option<Position>, StoreError> {
        let Current { view, plan } = current;
        let counted = plan.nth_by_pages(&self.connection, range.after.as_ref(), number);
        match counted.map_err(|error| failed(&view.stream, &error))? {
            Counted::At(position) => {
                let position = Position::from(position);
                let within = range.until.as_ref().is_none_or(|until| position <= *until);
                return Ok(within.then_some(position));
            }
            Counted::Short(_) => return Ok(None),
            Counted::BySql => {}
        }
        let mut left = number;
        let mut runs = plan.query.runs(range).into_iter().peekable();
        while let Some(run) = runs.next() {
            let found = self.position(view, &plan.query.nth(run.clone(), left))?;
            if found.is_some() {
                return Ok(found);
            }
            if runs.peek().is_some() {
                left = left.saturating_sub(self.number(view, &plan.query.count(&run))?);
            }
        }
        Ok(None)
    }

    /// The position of a range's record of that number of those that match the filters, or of an
    /// earlier one when that takes long.
    fn nth_match(
        &mut self,
        view: &View,
        range: &Range,
        number: u64,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let view = Arc::new(view.positions());
        let plan = scan::with_deadline(cancel, None, || self.plan(&view))?;
        let sink = Counter::new(number, Some(Instant::now() + PATIENCE));
        let range = Range {
            limit: None,
            ..range.clone()
        };
        let (sink, scanned) = self.scan_plan(&Current { view, plan }, &range, sink, cancel);
        match scanned {
            Ok(()) => Ok(None),
            Err(StoreError::Stopped) if !cancel.is_cancelled() => Ok(Counter::last(sink)),
            Err(error) => Err(error),
        }
    }

    /// Whether the table cannot have so many records.
    fn is_beyond(&self, current: &Current, number: u64) -> Result<bool, StoreError> {
        // Each takes four bytes of a page at least: where it is, how long it is, its header.
        const LEAST: u64 = 4;
        let Current { view, plan } = current;
        let ends = |row: &Row<'_>| Ok((row.get(0)?, row.get(1).ok(), row.get(2).ok()));
        let bounds: Option<(i64, Option<i64>, Option<i64>)> =
            first_row(&self.connection, &plan.query.bounds(), ends)
                .map_err(|error| failed(&view.stream, &error))?;
        let Some((bytes, least, greatest)) = bounds else {
            return Ok(false);
        };
        // If no id repeats, there are at most as many records as integers between the ends.
        let by_ids = least
            .zip(greatest)
            .is_some_and(|(least, greatest): (i64, i64)| {
                greatest.abs_diff(least) < number.saturating_sub(1)
            });
        Ok(by_ids || bytes.unsigned_abs() / LEAST < number)
    }

    fn scan_plan(
        &self,
        Current { view, plan }: &Current,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        let query = &plan.query;
        let decoder = Decoder::new(
            Arc::clone(view),
            query.readings(&view.stream),
            query.position_at(),
        );
        scan::set(Some(Scan::new(sink, decoder, cancel.clone())));
        let result = match plan.scan(&self.connection, view, range) {
            Ok(Went::Done) => Ok(()),
            Ok(Went::Stopped) => Err(StoreError::Stopped),
            Err(error) => Err(failed(&view.stream, &error)),
        };
        let (sink, ended) = scan::set(None)
            .expect("only this function ends the scan")
            .end();
        // What SQLite says of a query that was stopped is not why it was.
        (sink, ended.map_or(result, Err))
    }
}

impl Drop for SqliteConnection {
    fn drop(&mut self) {
        // A scan that panicked is still there, and with it the channel that someone listens to.
        scan::set(None);
        self.end();
    }
}

impl Connection for SqliteConnection {
    fn is_instant(&mut self, view: &View) -> bool {
        let cache = self.cache();
        // Readers wait for writers in every other mode.
        cache.waits_for_none
            && cache
                .plans
                .get(view.shape())
                .is_some_and(|(_, plan)| plan.is_splittable())
    }

    fn snapshot(&mut self, view: &Arc<View>, cancel: &Cancel) -> Result<store::Plan, StoreError> {
        scan::with_deadline(cancel, None, || self.begin(view))?;
        Ok(store::Plan {
            splittable: self.current().plan.is_splittable(),
        })
    }

    /// A helper that has seen no change from before the snapshot was taken until its own was has the
    /// same snapshot. The one that the connection has was taken before: it begins another one.
    fn share(&mut self, helpers: &mut [&mut dyn Connection]) -> Result<Shared, StoreError> {
        let Current { view, .. } = self.current();
        let error = |error| failed(&view.stream, &error);
        let mut helpers: Vec<_> = helpers
            .iter_mut()
            .map(|helper| {
                let helper: &mut dyn Any = *helper;
                let helper = helper
                    .downcast_mut::<SqliteConnection>()
                    .filter(|helper| helper.file == self.file)?;
                let before = helper.version().ok()?;
                Some((helper, before))
            })
            .collect();
        let before = self.version().map_err(error)?;
        self.begin(&view)?;
        let same = self.version().map_err(error)? == before;
        let join = |helper: &mut Option<(&mut SqliteConnection, i64)>| {
            helper.as_mut().is_some_and(|(helper, before)| {
                helper.begin(&view).is_ok() && helper.version().ok() == Some(*before)
            })
        };
        Ok(Shared {
            joined: helpers.iter_mut().map(join).collect(),
            same,
        })
    }

    fn find(
        &mut self,
        range: &Range,
        which: Find,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let current = self.current();
        match which {
            Find::Last => {
                let patience = current.plan.patience();
                scan::with_deadline(cancel, patience, || self.last(&current, range))
            }
            Find::Nth(number)
                if !current.plan.is_of_view() && self.is_beyond(&current, number)? =>
            {
                Ok(None)
            }
            Find::Nth(number) if current.plan.counts_by_index(&current.view) => {
                scan::with_deadline(cancel, None, || {
                    if range.after.is_none() && range.until.is_none() {
                        // One without a time comes first, and a bound would leave it out in silence.
                        self.nth(&current, range, 1)?;
                    }
                    self.nth(&current, range, number)
                })
            }
            Find::Nth(number) => self.nth_match(&current.view, range, number, cancel),
        }
    }

    fn split(&mut self, range: &Range, records: u64) -> Result<Option<Position>, StoreError> {
        let current = self.current();
        let by_pages = current
            .plan
            .split_by_pages(&self.connection, range.after.as_ref(), records);
        match by_pages {
            Some(found) => found
                .map(|cut| cut.filter(|cut| range.until.as_ref().is_none_or(|until| cut < until)))
                .map_err(|error| failed(&current.view.stream, &error)),
            None => self.nth(&current, range, records),
        }
    }

    fn count(&mut self, range: &Range, cancel: &Cancel) -> Result<u64, StoreError> {
        let Current { view, plan } = self.current();
        let operands = operands(&view);
        scan::with_deadline(cancel, None, || {
            let mut count = 0;
            for run in plan.query.runs(range) {
                count += self.number(&view, &plan.query.count_filtered(run, &operands))?;
            }
            Ok(count)
        })
    }

    fn scan_into(
        &mut self,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        self.scan_plan(&self.current(), range, sink, cancel)
    }
}

/// An error of the database's own, as ours.
pub(super) fn failed(stream: &Stream, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy {
            stream: stream.name.clone(),
        },
        Some(ErrorCode::OperationInterrupted) => StoreError::Stopped,
        _ if is_unfinished(error) => StoreError::Unfinished {
            stream: stream.name.clone(),
        },
        _ if has_no_temporary_folder(error) => {
            let reason = "it sorts in a temporary file, and no folder for one can be written: SQLITE_TMPDIR \
                          names one, and an index spares the sort";
            database(stream, reason.to_owned())
        }
        _ => database(stream, query_view::reason(stream, error)),
    }
}

/// Why a view cannot be read.
pub(super) fn no_plan(stream: &Stream, why: NoPlan) -> StoreError {
    let origin = stream.origin();
    let reason = match why {
        NoPlan::NoTable => format!("no such table: {}", stream.relation()),
        NoPlan::NoColumn(missing) => format!("the {origin} has no column {missing}"),
    };
    database(stream, reason)
}

fn database(stream: &Stream, reason: String) -> StoreError {
    StoreError::Database {
        stream: stream.name.clone(),
        reason,
    }
}
