//! How a view is read: by SQL, straight from pages, or the one after the other.

use std::time::Duration;

use rusqlite::{Connection, Error, Result, Row, Rows, Statement, params_from_iter};

use super::pages::{Beginning, Counted, Key, NotRead, PageReader};
use super::query::{Query, SortNeeded, operands};
use super::scan::{self, Went};
use super::table::Table;
use crate::selection::{Part, Position, Range, View};

/// Records that are found by SQL before a table's pages are read.
const FEW: u64 = 200;

/// How long finding the last record of a view may take, which the head of a reply waits for: a
/// view may be any amount of work.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest SQL whose statement is kept from one request to the next. Filters that a client makes
/// up may be long, and are rarely twice the same.
const LONGEST_KEPT: usize = 4096;

/// How the records of a view are read.
pub(super) struct Plan {
    pub(super) query: Query,
    reader: std::result::Result<PageReader, NotRead>,
    /// Whether it is of a view of the database, and not of a table.
    of_view: bool,
}

/// Why a view cannot be read.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// There is no such table.
    NoTable,
    /// The table lacks this column.
    NoColumn(String),
}

impl Plan {
    /// Finds out how a view's records are read, of the schema that the connection sees; `page_reader`
    /// is whether straight from pages, if they can be.
    pub(super) fn new(
        connection: &Connection,
        view: &View,
        page_reader: bool,
    ) -> Result<std::result::Result<Plan, NoPlan>> {
        let Some(table) = Table::inspect(connection, &view.stream.relation())? else {
            return Ok(Err(NoPlan::NoTable));
        };
        Plan::of_table(connection, view, &table, page_reader)
            .map(|plan| plan.map_err(NoPlan::NoColumn))
    }

    /// [`Plan::new`] of a table that is known. `Err` names a column that it lacks.
    pub(super) fn of_table(
        connection: &Connection,
        view: &View,
        table: &Table,
        page_reader: bool,
    ) -> Result<std::result::Result<Plan, String>> {
        let query = match Query::new(connection, view, table)? {
            Ok(query) => query,
            Err(missing) => return Ok(Err(missing)),
        };
        let reader = if !page_reader {
            Err(NotRead::TurnedOff)
        } else if query.filters_by_index() {
            // What an index finds for a filter, reading all pages does not.
            Err(NotRead::Index)
        } else {
            let found = PageReader::find(connection, view, table, query.names())?;
            let converted = query.converted().map(str::to_owned);
            found.and_then(|reader| converted.map_or(Ok(reader), |c| Err(NotRead::Converted(c))))
        };
        Ok(Ok(Plan {
            query,
            reader,
            of_view: table.view,
        }))
    }

    /// Why its table's pages are not read, if they are not.
    pub(super) fn not_read(&self) -> Option<&NotRead> {
        self.reader.as_ref().err()
    }

    /// Whether a run of records from the middle is found without reading all before it.
    pub(super) fn is_splittable(&self) -> bool {
        self.query.sort_needed() == SortNeeded::Nothing && self.query.is_unique()
    }

    /// Where the record of that number after a position stands, counted from 1, whatever filters there
    /// are, if pages tell.
    pub(super) fn nth_by_pages(
        &self,
        connection: &Connection,
        after: Option<&Position>,
        number: u64,
    ) -> Result<Counted> {
        match &self.reader {
            // Walking down to a page costs more than stepping over a few records.
            Ok(reader) if number > FEW => reader.nth(connection, after.and_then(Key::of), number),
            _ => Ok(Counted::BySql),
        }
    }

    /// A position about so many records after another one, if pages tell; `None` if they do not.
    pub(super) fn split_by_pages(
        &self,
        connection: &Connection,
        after: Option<&Position>,
        records: u64,
    ) -> Option<Result<Option<Position>>> {
        let reader = self.reader.as_ref().ok()?;
        let found = reader.split(connection, after.and_then(Key::of), records);
        Some(found.map(|found| found.map(Position::from)))
    }

    /// Whether it is of a view of the database, which may have any number of records.
    pub(super) fn is_of_view(&self) -> bool {
        self.of_view
    }

    /// Whether the record of a number is found by counting an index's entries. In a view that may be
    /// any amount of work, and what a filter lets through is not counted in an index.
    pub(super) fn counts_by_index(&self, view: &View) -> bool {
        view.filters.is_empty() && !self.of_view
    }

    /// How long finding the last record may take; as long as it takes in a table.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.of_view.then_some(PATIENCE)
    }

    /// About how many bytes it takes, for the cache that keeps it.
    pub(super) fn bytes(&self) -> usize {
        // The query's SQL, and what stands around it.
        self.query.bytes() + 1024
    }

    /// Hands the records of the range that match the filters to the thread's scan, up to the range's
    /// end or its limit; whether the scan wants more.
    pub(super) fn scan(&self, connection: &Connection, view: &View, range: &Range) -> Result<Went> {
        let by_sql = |range: &Range| self.scan_by_sql(connection, view, range);
        let reader = self.reader.as_ref().ok();
        let Some(reader) = reader.filter(|_| range.limit.is_none()) else {
            return by_sql(range).map(|(_, went)| went);
        };
        // Walking down to a page costs more than SQL does, and leaving SQL more than a few records:
        // only a slice, which begins in mid-second, is known to be large, and so is what filters look
        // at. What ends in mid-second is more than one statement, each of which finds its beginning by
        // itself: that nothing is lost between them, the reader sees.
        let at_end =
            |position: &Option<Position>| position.as_ref().is_none_or(|at| at.id == Part::End);
        let mut beginning = None;
        if view.filters.is_empty() && at_end(&range.after) && at_end(&range.until) {
            let few = Range {
                limit: Some(FEW),
                ..range.clone()
            };
            let (records, went) = by_sql(&few)?;
            if records < FEW || went == Went::Stopped {
                return Ok(went);
            }
            beginning = scan::last(Key::of).map(|last| Beginning { records, last });
        }
        let by_sql = &mut |range: &Range| by_sql(range).map(|(_, went)| went);
        reader.scan(connection, range, &view.filters, beginning, by_sql)
    }

    /// [`Plan::scan`] by SQL alone; also how many records there were.
    fn scan_by_sql(
        &self,
        connection: &Connection,
        view: &View,
        range: &Range,
    ) -> Result<(u64, Went)> {
        let operands = operands(view);
        let (mut records, mut left) = (0, range.limit);
        for run in self.query.runs(range) {
            if left == Some(0) {
                break;
            }
            let (sql, parameters) = self.query.scan(run, &operands, left);
            let (found, went) = with_statement(connection, &sql, |statement| {
                self.hand_over(&mut statement.query(params_from_iter(&parameters))?)
            })?;
            records += found;
            left = left.map(|left| left.saturating_sub(found));
            if went == Went::Stopped {
                return Ok((records, went));
            }
        }
        Ok((records, Went::Done))
    }

    /// Hands rows over, unless the query does so itself; how many there were.
    fn hand_over(&self, rows: &mut Rows<'_>) -> Result<(u64, Went)> {
        let mut records = 0;
        while let Some(row) = rows.next()? {
            records += 1;
            if self.query.emits() {
                continue;
            }
            let value = |column| row.get_ref(column).expect("the query has this column");
            if !scan::record(value) {
                return Ok((records, Went::Stopped));
            }
        }
        Ok((records, Went::Done))
    }
}

/// Runs a statement, which is kept for the next time unless it is long.
pub(super) fn with_statement<T>(
    connection: &Connection,
    sql: &str,
    run: impl FnOnce(&mut Statement<'_>) -> Result<T>,
) -> Result<T> {
    if sql.len() > LONGEST_KEPT {
        run(&mut connection.prepare(sql)?)
    } else {
        run(&mut *connection.prepare_cached(sql)?)
    }
}

/// The first row of a statement; `None` when there is none.
pub(super) fn first_row<T>(
    connection: &Connection,
    (sql, parameters): &super::query::Statement,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    with_statement(connection, sql, |statement| {
        match statement.query_row(params_from_iter(parameters), read) {
            Err(Error::QueryReturnedNoRows) => Ok(None),
            row => row.map(Some),
        }
    })
}
