//! A connection on loan: its snapshot, its positions, its scans.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Pooled;
use super::check::Nothing;
use super::failure::Failure;
use super::plan::{Known, Memory, Planned};
use super::query::{Query, copied};
use super::rows::Forgiving;
use super::session::{Session, Watch};
use crate::config::Database;
use crate::selection::{Order, Part, Position, Range, View};
use crate::store::counter::Counter;
use crate::store::wrong_records::WrongRecords;
use crate::store::{Cancel, Connection, Find, Plan, Shared, Sink, StoreError};

/// How long finding the record at which a limit cuts may take: the head of the reply waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A pooled connection, out on loan.
pub(super) struct PostgresConnection {
    session: Pooled,
    database: Arc<Database>,
    memory: Arc<Memory>,
    /// What the snapshot is of, from its beginning to its end.
    current: Option<Current>,
}

/// A view and how it is read.
#[derive(Clone)]
struct Current {
    view: Arc<View>,
    query: Arc<Query>,
    /// The same of nothing but positions.
    positions: Arc<(Arc<View>, Query)>,
    known: Arc<Known>,
    planned: Planned,
    /// In the order of ids, the last one that all before it are there for.
    bound: Option<Position>,
}

impl PostgresConnection {
    pub(super) fn new(
        session: Pooled,
        database: Arc<Database>,
        memory: Arc<Memory>,
    ) -> PostgresConnection {
        PostgresConnection {
            session,
            database,
            memory,
            current: None,
        }
    }

    fn of_stream(&self, view: &View, failure: Failure) -> StoreError {
        failure.of_stream(&view.stream, &self.database.place())
    }

    /// Begins a snapshot: a new one, or one that another connection has exported.
    fn begin(
        &mut self,
        view: &Arc<View>,
        exported: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<(), StoreError> {
        match self.try_to_begin(view, exported, watch) {
            // A connection that was idle may have been closed by then, and a table altered.
            Err(Begun::Failed(failure))
                if failure.is_lost() && !matches!(failure, Failure::Silent(_)) =>
            {
                let opened = Session::open(&self.database);
                *self.session = opened.map_err(|failure| self.of_stream(view, failure))?;
                self.try_to_begin(view, exported, watch)
            }
            Err(Begun::Altered) => self.try_to_begin(view, exported, watch),
            begun => begun,
        }
        .map_err(|begun| begun.told(view, &self.database))
    }

    fn try_to_begin(
        &mut self,
        view: &Arc<View>,
        exported: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<(), Begun> {
        self.end()?;
        let (known, query) = self.memory.query(&mut self.session, view, watch)?;
        let planned = known.plan(&mut self.session, view, &query, watch)?;
        let positions = Arc::new(view.positions());
        let of_positions = Query::new(&positions, &known.relation).map_err(|reason| {
            Begun::Unfit(StoreError::Database {
                stream: view.stream.name.clone(),
                reason,
            })
        })?;
        let is_by_id = view.order == Order::Id && known.ids_can_grow(view.id());
        let bound = if exported.is_none() && is_by_id {
            let arrivals = &self.memory.arrivals;
            let (session, database) = (&mut self.session, &self.database);
            Some(arrivals.bound(session, database, view, &known, &query, watch)?)
        } else {
            None
        };
        let import = exported.map(|name| format!("SET TRANSACTION SNAPSHOT '{name}'; "));
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {}{}{}",
            import.unwrap_or_default(),
            settings(&self.database, planned.sorts_few),
            query.types()
        );
        let answer = self.session.ask(&sql, watch);
        let is_altered = match &answer {
            Ok(answer) => !known.has(&answer.columns),
            // undefined_table, undefined_column
            Err(failure) => failure.is("42P01") || failure.is("42703"),
        };
        if is_altered {
            self.memory.forget(view);
            self.end()?;
            return Err(Begun::Altered);
        }
        answer?;
        self.current = Some(Current {
            view: Arc::clone(view),
            query: Arc::new(query),
            positions: Arc::new((positions, of_positions)),
            known,
            planned,
            bound,
        });
        Ok(())
    }

    /// Ends the snapshot, if there is one.
    fn end(&mut self) -> Result<(), Failure> {
        self.current = None;
        if self.session.in_transaction() && !self.session.is_broken() {
            self.session.ask("ROLLBACK", Watch::default())?;
        }
        Ok(())
    }

    /// What the snapshot is of.
    fn current(&self) -> Current {
        let current = self.current.clone();
        current.expect("what asks about records comes after the snapshot")
    }

    /// A range, up to where nothing will come to be before.
    fn bounded(&self, current: &Current, range: &Range) -> Range {
        let mut range = range.clone();
        if let Some(bound) = &current.bound
            && range.until.as_ref().is_none_or(|until| bound < until)
        {
            range.until = Some(bound.clone());
        }
        range
    }

    /// Runs what copies records into a sink.
    fn copy(
        &mut self,
        view: &Arc<View>,
        query: &Query,
        statements: &[String],
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, u64, Result<(), StoreError>) {
        let mut rows = query.rows(view, sink, cancel);
        let copies = statements.iter().map(|sql| copied(sql));
        // What is stopped in the middle leaves the snapshot as it was.
        let sql = format!(
            "SAVEPOINT copying; {}RELEASE copying",
            copies.collect::<String>()
        );
        let result = self.session.copy_out(&sql, &mut rows);
        let result = match result {
            Err(Failure::Stopped) => {
                let rolled = match self.session.is_failed() {
                    true => self
                        .session
                        .ask("ROLLBACK TO copying; RELEASE copying", Watch::default())
                        .map(drop),
                    false => Ok(()),
                };
                match (rows.ended.take(), rolled) {
                    (_, Err(failure)) => Err(self.of_stream(view, failure)),
                    (ended, Ok(())) => Err(ended.unwrap_or(StoreError::Stopped)),
                }
            }
            Err(failure) => Err(self.of_stream(view, failure)),
            Ok(()) => Ok(()),
        };
        (rows.sink, rows.records, result)
    }

    /// Reads every record, and notes those that would break a stream.
    pub(super) fn read_all(
        &mut self,
        wrong: WrongRecords<'_>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), StoreError> {
        let Current { view, query, .. } = self.current();
        let rows = query.rows(&view, Box::new(Nothing::default()), &Cancel::default());
        let mut rows = Forgiving::new(rows, wrong, progress);
        let runs = query.runs(&Range::default());
        let sql = runs.iter().map(|run| copied(&query.scan(run, None)));
        let taken = self.session.copy_out(&sql.collect::<String>(), &mut rows);
        taken.map_err(|failure| self.of_stream(&view, failure))?;
        rows.conclude();
        Ok(())
    }

    /// The position of the one record that a statement of positions yields.
    fn position(
        &mut self,
        current: &Current,
        sql: String,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let (view, query) = &*current.positions;
        let sink = Counter::new(u64::MAX, None);
        let (sink, _, taken) = self.copy(view, query, &[sql], sink, cancel);
        taken?;
        Ok(Counter::last(sink))
    }

    fn number(&mut self, view: &View, sql: &str, cancel: &Cancel) -> Result<u64, StoreError> {
        let answer = self.session.ask(sql, Watch::of(cancel));
        let answer = answer.map_err(|failure| self.of_stream(view, failure))?;
        Ok(answer
            .value(0)
            .and_then(|number| number.parse().ok())
            .unwrap_or_default())
    }

    /// The position of a range's record of that number, whether it matches the filters or not.
    fn nth(
        &mut self,
        current: &Current,
        range: &Range,
        number: u64,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let (_, query) = &*current.positions;
        let mut left = number;
        let mut runs = query.runs(range).into_iter().peekable();
        while let Some(run) = runs.next() {
            // Any record without a place is one too many.
            let number = if run.is_placeless { 1 } else { left };
            let sql = query.nth(&run, number);
            let found = self.position(current, sql, cancel)?;
            if found.is_some() {
                return Ok(found);
            }
            if runs.peek().is_some() && !run.is_placeless {
                let sql = query.count(&run, false);
                left = left.saturating_sub(self.number(&current.view, &sql, cancel)?);
            }
        }
        Ok(None)
    }

    /// The position of a range's record of that number of those that match the filters, or of an earlier one when
    /// that takes long.
    fn nth_match(
        &mut self,
        current: &Current,
        range: &Range,
        number: u64,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let (view, query) = &*current.positions;
        let sink = Counter::new(number, Some(Instant::now() + PATIENCE));
        let limit = i64::try_from(number).unwrap_or(i64::MAX) as u64;
        let statements: Vec<_> = query
            .runs(range)
            .iter()
            .map(|run| query.scan(run, Some(limit)))
            .collect();
        let (sink, _, scanned) = self.copy(view, query, &statements, sink, cancel);
        match scanned {
            Ok(()) => Ok(None),
            Err(StoreError::Stopped) if !cancel.is_cancelled() => Ok(Counter::last(sink)),
            Err(error) => Err(error),
        }
    }
}

/// What keeps the server from planning, waiting or running in ways that are none of ours: nothing is sorted where an
/// index gives the order, nothing is compiled before the first record, and what is left behind ends.
fn settings(database: &Database, sorts: bool) -> String {
    format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL lock_timeout \
         = {}; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_sort = {}; SET \
         LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL standard_conforming_strings = on; ",
        database.statement.as_millis(),
        database.idle_transaction.as_millis(),
        database.busy.as_millis(),
        if sorts { "on" } else { "off" }
    )
}

/// Why no snapshot was begun.
pub(super) enum Begun {
    Failed(Failure),
    /// The table is another than was known.
    Altered,
    /// It cannot be served.
    Unfit(StoreError),
}

impl From<Failure> for Begun {
    fn from(failure: Failure) -> Begun {
        Begun::Failed(failure)
    }
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        // A connection that does not end its transaction is not used again.
        if self.end().is_err() {
            self.session.give_up();
        }
    }
}

impl Connection for PostgresConnection {
    /// Every answer waits for the server.
    fn is_instant(&mut self, _view: &View) -> bool {
        false
    }

    fn snapshot(&mut self, view: &Arc<View>, cancel: &Cancel) -> Result<Plan, StoreError> {
        self.begin(view, None, Watch::of(cancel))?;
        let Current { known, planned, .. } = self.current();
        let Planned {
            in_order,
            sorts_few,
        } = planned;
        Ok(Plan {
            // Where several records may stand at one place, a limit cuts between them only in one piece. Of parts on
            // other servers nothing can be declared unique.
            splittable: in_order
                && !sorts_few
                && (known.is_unique(view) || known.relation.is_foreign),
        })
    }

    fn share(&mut self, helpers: &mut [&mut dyn Connection]) -> Result<Shared, StoreError> {
        let current = self.current();
        let none = Shared {
            joined: vec![false; helpers.len()],
            same: true,
        };
        if self.memory.cannot_share.load(Ordering::Relaxed) {
            return Ok(none);
        }
        let exported = match self
            .session
            .ask("SELECT pg_export_snapshot()", Watch::default())
        {
            Ok(answer) => answer.value(0).map(str::to_owned),
            Err(Failure::Said(said)) if !Failure::ends_connection(&said.code) => {
                // The transaction has failed: it is not asked again.
                self.memory.cannot_share.store(true, Ordering::Relaxed);
                tracing::info!(%said, "this engine shares no snapshots: streams come in one slice at a time");
                self.begin(&current.view, None, Watch::default())?;
                return Ok(Shared {
                    same: false,
                    ..none
                });
            }
            Err(failure) => return Err(self.of_stream(&current.view, failure)),
        };
        let Some(exported) = exported else {
            return Ok(none);
        };
        let joined = helpers.iter_mut().map(|helper| {
            let helper: &mut dyn Any = *helper;
            let Some(helper) = helper.downcast_mut::<PostgresConnection>() else {
                return false;
            };
            let joined = helper
                .begin(&current.view, Some(&exported), Watch::default())
                .is_ok();
            if let Some(joined) = &mut helper.current {
                joined.bound.clone_from(&current.bound);
            }
            joined
        });
        Ok(Shared {
            joined: joined.collect(),
            same: true,
        })
    }

    fn find(
        &mut self,
        range: &Range,
        which: Find,
        cancel: &Cancel,
    ) -> Result<Option<Position>, StoreError> {
        let current = self.current();
        let range = self.bounded(&current, range);
        match which {
            Find::Last => {
                let (_, query) = &*current.positions;
                for run in query.runs(&range).iter().rev() {
                    let found = self.position(&current, query.last(run), cancel)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(None)
            }
            Find::Nth(0) => Ok(None),
            Find::Nth(number) if current.view.filters.is_empty() => {
                self.nth(&current, &range, number, cancel)
            }
            Find::Nth(number) => self.nth_match(&current, &range, number, cancel),
        }
    }

    fn split(&mut self, range: &Range, records: u64) -> Result<Option<Position>, StoreError> {
        let current = self.current();
        let range = self.bounded(&current, range);
        let found = self.nth(&current, &range, records, &Cancel::default())?;
        let Some(mut position) = found else {
            return Ok(None);
        };
        if !current.known.is_unique(&current.view) {
            // Several records may stand there: the next slice begins after all of that time.
            position.id = Part::End;
        }
        let is_within = range.until.as_ref().is_none_or(|until| position < *until);
        Ok(is_within.then_some(position))
    }

    fn count(&mut self, range: &Range, cancel: &Cancel) -> Result<u64, StoreError> {
        let current = self.current();
        let range = self.bounded(&current, range);
        let mut count = 0;
        for run in current.query.runs(&range) {
            let sql = current.query.count(&run, true);
            count += self.number(&current.view, &sql, cancel)?;
        }
        Ok(count)
    }

    fn scan_into(
        &mut self,
        range: &Range,
        mut sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        let current = self.current();
        let Current { view, query, .. } = &current;
        let range = self.bounded(&current, range);
        let runs = query.runs(&range);
        let Some(mut left) = range.limit else {
            let statements: Vec<_> = runs.iter().map(|run| query.scan(run, None)).collect();
            let (sink, _, copied) = self.copy(view, query, &statements, sink, cancel);
            return (sink, copied);
        };
        for run in runs {
            if left == 0 {
                break;
            }
            let statement = query.scan(&run, Some(left));
            let (back, records, copied) = self.copy(view, query, &[statement], sink, cancel);
            sink = back;
            if copied.is_err() {
                return (sink, copied);
            }
            left = left.saturating_sub(records);
        }
        (sink, Ok(()))
    }
}
