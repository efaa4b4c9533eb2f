//! How a view is read: by SQL, straight from pages, or the one after the other.

use std::time::Duration;

use rusqlite::{Connection, Error, Result, Row, Rows, Statement, params_from_iter};

use super::pages::{ClusteredReader, Ended};
use super::query::{Query, SortNeeded, operands};
use super::scan;
use super::table::Table;
use crate::selection::{Range, View};

/// Records that are found by SQL before a table's pages are read.
const FEW: u64 = 200;

/// How long finding the last record of a view may take, which the head of a reply waits for: what
/// stands behind a view may be any amount of work.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest SQL whose statement is kept from one request to the next. Filters that a client makes
/// up may be long, and are rarely twice the same.
const LONGEST_KEPT: usize = 4096;

/// How the records of a view are read.
pub(super) struct Plan {
    pub(super) query: Query,
    reader: Option<ClusteredReader>,
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
    /// Finds out how a view's records are read, of the schema that the connection sees.
    pub(super) fn new(
        connection: &Connection,
        view: &View,
    ) -> Result<std::result::Result<Plan, NoPlan>> {
        let Some(table) = Table::inspect(connection, &view.stream.table)? else {
            return Ok(Err(NoPlan::NoTable));
        };
        Plan::of_table(connection, view, &table).map(|plan| plan.map_err(NoPlan::NoColumn))
    }

    /// [`Plan::new`] of a table that is known. `Err` names a column that it lacks.
    pub(super) fn of_table(
        connection: &Connection,
        view: &View,
        table: &Table,
    ) -> Result<std::result::Result<Plan, String>> {
        let query = match Query::new(connection, view, table)? {
            Ok(query) => query,
            Err(missing) => return Ok(Err(missing)),
        };
        // What an index finds for a filter, reading all pages does not.
        let by_pages = query.is_unique() && query.is_as_kept() && !query.filters_by_index();
        let reader = if by_pages {
            ClusteredReader::find(connection, view, table, query.names())?
        } else {
            None
        };
        Ok(Ok(Plan {
            query,
            reader,
            of_view: table.view,
        }))
    }

    /// Whether a run of records from the middle is found without reading all before it.
    pub(super) fn is_splittable(&self) -> bool {
        self.query.sort_needed() == SortNeeded::Nothing && self.query.is_unique()
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
        let Some(reader) = self.reader.as_ref().filter(|_| range.limit.is_none()) else {
            return self
                .scan_by_sql(connection, view, range)
                .map(|(_, went)| went);
        };
        let mut range = *range;
        // Walking down to a page costs more than SQL does, and leaving SQL more than a few records:
        // only a slice, which begins in mid-second, is known to be large. So is what filters look at.
        let few = view.filters.is_empty() && range.after.is_none_or(|after| after.id == i64::MAX);
        if few {
            let beginning = Range {
                limit: Some(FEW),
                ..range
            };
            let (records, went) = self.scan_by_sql(connection, view, &beginning)?;
            if records < FEW || went == Went::Stopped {
                return Ok(went);
            }
            range.after = scan::last();
        }
        match reader.scan(connection, &range, &view.filters)? {
            Ended::Done => Ok(Went::Done),
            Ended::Stopped => Ok(Went::Stopped),
            Ended::GaveUp(last) => {
                range.after = last.or(range.after);
                self.scan_by_sql(connection, view, &range)
                    .map(|(_, went)| went)
            }
        }
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

/// How far a scan went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// To its end.
    Done,
    /// Until it was to stop.
    Stopped,
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
