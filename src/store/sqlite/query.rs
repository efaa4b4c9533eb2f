//! The SQL of a stream: its scan, and its positions.

mod compared;
mod filters;

use std::collections::HashSet;
use std::rc::Rc;

use flows_formats::Type;
use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ToSql};

use super::functions::{COLLATION, EMIT};
use super::table::{Affinity, Table};
use crate::definition::{Stored, Stream};
use crate::selection::{Filter, Ids, Order, Part, Position, Range, View};
use crate::store::quoted;
use crate::store::reading::Reading;
use crate::store::runs::{self, Which};
use compared::{Compared, Condition};
pub(super) use filters::operands;

/// The most arguments that SQLite lets any function have, in all versions.
const MOST_ARGUMENTS: usize = 100;

/// A statement and what is bound to it.
pub(super) type Statement = (String, Vec<Parameter>);

/// What is bound to a statement in place of a `?`.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    /// A value.
    Value(Value),
    /// A list of values, which SQLite looks others up in.
    List(Rc<Vec<Value>>),
}

impl ToSql for Parameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Parameter::Value(value) => value.to_sql(),
            Parameter::List(list) => list.to_sql(),
        }
    }
}

/// A part of a range that an index serves as one piece.
#[derive(Clone)]
pub(super) struct Run {
    /// The condition on the position's parts, empty for all.
    condition: String,
    /// The values bound to it.
    parameters: Vec<Value>,
    /// What its records are ordered by.
    order: Vec<String>,
    /// Whether all of them have one time.
    of_one_time: bool,
}

/// What SQLite sorts before it yields records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortNeeded {
    /// Nothing: an index gives the order.
    Nothing,
    /// The records of each time: an index gives the order of times.
    EachTime,
    /// The complete window.
    All,
}

/// A stream's SQL, written for the table as SQLite knows it.
pub(super) struct Query {
    /// The names of the columns that a scan reads.
    names: Vec<String>,
    /// How a scan reads them.
    columns: Vec<String>,
    table: String,
    key: Compared,
    id: Compared,
    ids: Ids,
    position_at: (usize, usize),
    /// The filters' condition, to go on after another one; empty without filters.
    filters: String,
    index: String,
    /// Whether scans hand their values to [`EMIT`] and yield rows of nothing.
    emits: bool,
    /// Whether no two records have the same position.
    unique: bool,
    /// Whether no two records have the same id, which an index makes sure of.
    unique_ids: bool,
    sort_needed: SortNeeded,
    /// Whether SQLite finds what filters let through by an index.
    filters_by_index: bool,
    /// A column whose values are not sent as SQLite keeps them, but cast.
    converted: Option<String>,
}

impl Query {
    /// The query of a view. `Err` names a column that the table lacks.
    pub(super) fn new(
        connection: &Connection,
        view: &View,
        table: &Table,
    ) -> rusqlite::Result<Result<Query, String>> {
        let stream = &*view.stream;
        let served = view.schema.columns.iter();
        let mut names: Vec<_> = served.map(|column| column.name.as_str()).collect();
        // Time and id are read also where they are not sent: they say where a record stands.
        let mut at = |name| {
            names
                .iter()
                .position(|known| *known == name)
                .unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                })
        };
        let position_at = (at(view.key()), at(view.id()));
        let filtered = view.filters.iter().map(|filter| filter.column.as_str());
        let mut used = names.iter().copied().chain(filtered);
        if let Some(missing) = used.find(|name| table.affinity(name).is_none()) {
            return Ok(Err(missing.to_owned()));
        }
        let kept = |name: &str| table.affinity(name).unwrap_or(Affinity::Blob);
        let cast_to = |kind: Type, name: &str, column: String| match cast(kind, kept(name)) {
            Some(cast) => format!("CAST({column} AS {cast})"),
            None => column,
        };
        let collation = collation(connection)?;
        // How a position's part is compared: as it is, or cast to the integer that it stands for. An id
        // that is a string is compared by its bytes, whatever collation the table has.
        let compared = |name: &str, column: String| match stream.declared(name) {
            (Type::Text, _) => {
                format!("{} COLLATE {collation}", cast_to(Type::Text, name, column))
            }
            (_, Stored::Plain) => cast_to(Type::Integer, name, column),
            _ => column,
        };
        // Any value has a string, and bytes, which SQLite writes. That a value stands for a number is
        // not for a cast to say, which makes 0 of all that does not.
        let read = |name: &&str| {
            let column = column(name);
            match stream.declared(name).0 {
                Type::Text => cast_to(Type::Text, name, column),
                // An affinity of blobs leaves every value as it is.
                Type::Blob => format!("CAST({column} AS BLOB)"),
                Type::Json => json(&column),
                _ => column,
            }
        };
        let columns: Vec<_> = names.iter().map(read).collect();
        let position = [view.key(), view.id()];
        let cast = |name: &str| compared(name, String::new()).starts_with("CAST");
        let unique_ids = table.is_unique(&[view.id()]) && !cast(view.id());
        let (kind, stored) = stream.declared(view.key());
        let key = Compared::new(compared(view.key(), column(view.key())), kind, stored);
        // Two spellings of one time are two values to SQLite.
        let by_both = key.is_exact() && table.is_unique(&position);
        let unique = unique_ids || (by_both && !position.into_iter().any(cast));
        let (kind, stored) = stream.declared(view.id());
        let id = Compared::new(compared(view.id(), column(view.id())), kind, stored);
        let converted = columns.iter().position(|column| !column.starts_with("t."));
        let converted = converted.map(|at| names[at].to_owned());
        let relation = stream.relation();
        let name = match view.order {
            Order::Time => quoted(&format!("{relation}_{}_{}", stream.time, stream.id)),
            Order::Id => quoted(&format!("{relation}_{}", stream.id)),
        };
        // A rowid stands at the end of every index, and cannot be named in one.
        let mut indexed: Vec<_> = position
            .into_iter()
            .filter(|name| !table.is_rowid(name))
            .collect();
        indexed.dedup();
        let indexed: Vec<_> = indexed
            .into_iter()
            .map(|name| compared(name, quoted(name)))
            .collect();
        let condition = |filter: &Filter| {
            let (name, column) = (&filter.column, column(&filter.column));
            let (_, stored) = stream.declared(name);
            let condition = filters::condition(filter, stored, &column, kept(name), collation);
            format!(" AND {condition}")
        };
        let mut query = Query {
            unique,
            unique_ids,
            emits: columns.len() <= MOST_ARGUMENTS,
            names: names.into_iter().map(str::to_owned).collect(),
            columns,
            table: format!("{} AS t", quoted(&relation)),
            key,
            id,
            ids: stream.ids(),
            position_at,
            filters: view.filters.iter().map(condition).collect(),
            index: format!(
                "CREATE INDEX {name} ON {} ({})",
                quoted(&relation),
                indexed.join(", ")
            ),
            sort_needed: SortNeeded::Nothing,
            filters_by_index: false,
            converted,
        };
        query.explain_all(connection, &operands(view))?;
        Ok(Ok(query))
    }

    /// The names of the columns that a scan reads.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// How the values of each of them are read.
    pub(super) fn readings(&self, stream: &Stream) -> Vec<Reading> {
        let names = self.names.iter();
        names.map(|name| Reading::of(stream, name)).collect()
    }

    /// How a scan reads each of them, in SQL.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(String::len).sum::<usize>();
        2 * columns + self.filters.len() + self.index.len()
    }

    /// Which of the columns are the record's time and id.
    pub(super) fn position_at(&self) -> (usize, usize) {
        self.position_at
    }

    /// What SQLite sorts before the first record.
    pub(super) fn sort_needed(&self) -> SortNeeded {
        self.sort_needed
    }

    /// Whether scans hand their values to [`EMIT`] and yield rows of nothing.
    pub(super) fn emits(&self) -> bool {
        self.emits
    }

    /// Whether SQLite finds what filters let through by an index.
    pub(super) fn filters_by_index(&self) -> bool {
        self.filters_by_index
    }

    /// A column whose values are not sent as SQLite keeps them, but cast.
    pub(super) fn converted(&self) -> Option<&str> {
        self.converted.as_deref()
    }

    /// Whether a position tells one record from all others.
    pub(super) fn is_unique(&self) -> bool {
        self.unique
    }

    /// The statement that creates the index which gives `(time, id)` order.
    pub(super) fn index(&self) -> &str {
        &self.index
    }

    /// Asks SQLite how it would run every statement that a range can need: the very statements, with
    /// [`EMIT`] in them if that can be.
    fn explain_all(
        &mut self,
        connection: &Connection,
        operands: &[Parameter],
    ) -> rusqlite::Result<()> {
        let early = [None, Some((1, Some(1))), Some((1, None))];
        let late = [
            None,
            Some((1, Some(2))),
            Some((2, Some(2))),
            Some((2, None)),
        ];
        let an_id = |number: i64| match self.ids {
            Ids::Integers => Part::Integer(number),
            Ids::Strings => Part::Text(number.to_string()),
        };
        let by_id = self.key.sql == self.id.sql;
        let position = |(key, id): (i64, Option<i64>)| Position {
            key: if by_id { an_id(key) } else { key.into() },
            id: id.map_or(Part::End, an_id),
        };
        let mut asked = HashSet::new();
        let mut runs = Vec::new();
        for (after, until) in early
            .into_iter()
            .flat_map(|after| late.map(|until| (after, until)))
        {
            let range = Range {
                after: after.map(position),
                until: until.map(position),
                limit: None,
            };
            let distinct = |run: &Run| asked.insert(run.condition.clone());
            runs.extend(self.runs(&range).into_iter().filter(distinct));
        }
        let plans = |query: &Query, operands| -> rusqlite::Result<Vec<(bool, Vec<String>)>> {
            let mut plans = Vec::new();
            for run in &runs {
                let of_one_time = run.of_one_time;
                for limit in [None, Some(1)] {
                    let steps = explain(connection, query.scan(run.clone(), operands, limit))?;
                    plans.push((of_one_time, steps));
                }
            }
            Ok(plans)
        };
        let filters = std::mem::take(&mut self.filters);
        let unfiltered: HashSet<_> = if filters.is_empty() {
            HashSet::new()
        } else {
            let plans = plans(self, &[])?;
            plans.into_iter().flat_map(|(_, steps)| steps).collect()
        };
        self.filters = filters;
        let mut explained = plans(self, operands)?;
        let mut steps = explained.iter().flat_map(|(_, steps)| steps);
        if self.emits && !steps.all(|step| is_in_order(step)) {
            // A row is computed before it is sorted or merged: its values are read when it comes.
            self.emits = false;
            explained = plans(self, operands)?;
        }
        for (of_one_time, step) in explained
            .iter()
            .flat_map(|(of_one_time, steps)| steps.iter().map(move |step| (*of_one_time, step)))
        {
            // An index that gives the order serves no filter.
            self.filters_by_index |= !self.filters.is_empty()
                && step.contains(" INDEX ")
                && !step.contains("VIRTUAL TABLE")
                && !unfiltered.contains(step);
            let sorted = step.contains("TEMP B-TREE");
            let sort_needed = if !sorted {
                SortNeeded::Nothing
            } else if of_one_time || step.contains("TEMP B-TREE FOR LAST TERM") {
                SortNeeded::EachTime
            } else {
                SortNeeded::All
            };
            self.sort_needed = self.sort_needed.max(sort_needed);
        }
        Ok(())
    }

    /// A range's runs, one after another, in SQL.
    pub(super) fn runs(&self, range: &Range) -> Vec<Run> {
        let Query { key, id, .. } = self;
        let by_id = key.sql == id.sql;
        let runs = runs::runs(range, by_id).into_iter();
        let written = runs.map(|run| {
            let conditions = run.conditions.into_iter();
            let (condition, parameters) = joined(conditions.map(|(part, compared, to)| {
                let column = match part {
                    Which::Key => key,
                    Which::Id => id,
                };
                column.compared(compared, to)
            }));
            // Where several values may stand for one time, an index has these in order, and then the ids of each.
            let of_one_key = run.of_one_time && key.is_exact();
            let order = if by_id || of_one_key {
                vec![id.sql.clone()]
            } else {
                vec![key.sql.clone(), id.sql.clone()]
            };
            Run {
                condition,
                parameters,
                order,
                of_one_time: run.of_one_time,
            }
        });
        written.collect()
    }

    /// The statement that yields the records of a run that match the filters, in order, at most so
    /// many. `operands` are those of the filters.
    pub(super) fn scan(&self, run: Run, operands: &[Parameter], limit: Option<u64>) -> Statement {
        let columns = self.columns.join(", ");
        if self.emits {
            self.filtered(&format!("{EMIT}({columns})"), run, operands, true, limit)
        } else {
            self.filtered(&columns, run, operands, true, limit)
        }
    }

    /// The statement that yields every record as a row, in order.
    pub(super) fn every(&self) -> String {
        let Query { key, id, table, .. } = self;
        let columns = self.columns.join(", ");
        format!(
            "SELECT {columns} FROM {table} ORDER BY {}, {}",
            key.sql, id.sql
        )
    }

    /// The statement that yields the time and id of a run's record number `nth`, counted from 1,
    /// whether it matches the filters or not.
    pub(super) fn nth(&self, run: Run, nth: u64) -> Statement {
        let (mut sql, mut parameters) = self.all(&self.position(), &run);
        sql.push_str(&format!(
            " ORDER BY {} LIMIT 1 OFFSET ?",
            run.order.join(", ")
        ));
        parameters.push(integer(nth.saturating_sub(1)));
        (sql, parameters)
    }

    /// The statement that yields the time and id of a run's last record, whether it matches the filters
    /// or not.
    pub(super) fn last(&self, run: Run) -> Statement {
        let (mut sql, parameters) = self.all(&self.position(), &run);
        let order: Vec<_> = run
            .order
            .iter()
            .map(|part| format!("{part} DESC"))
            .collect();
        sql.push_str(&format!(" ORDER BY {} LIMIT 1", order.join(", ")));
        (sql, parameters)
    }

    /// The statement that yields what there is of the table at most: the bytes of the database, and
    /// where none of them repeats, the least and the greatest id.
    pub(super) fn bounds(&self) -> Statement {
        let Query { id, table, .. } = self;
        let id = &id.sql;
        let of = |function| {
            if self.unique_ids {
                format!("(SELECT {function}({id}) FROM {table})")
            } else {
                "NULL".to_owned()
            }
        };
        let bytes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let sql = format!("SELECT ({bytes}), {}, {}", of("min"), of("max"));
        (sql, Vec::new())
    }

    /// The statement that counts the records of a run, whether they match the filters or not.
    pub(super) fn count(&self, run: &Run) -> Statement {
        self.all("count(*)", run)
    }

    /// The statement that counts the records of a run that match the filters.
    pub(super) fn count_filtered(&self, run: Run, operands: &[Parameter]) -> Statement {
        self.filtered("count(*)", run, operands, false, None)
    }

    fn position(&self) -> String {
        format!("{}, {}", self.key.sql, self.id.sql)
    }

    fn all(&self, columns: &str, run: &Run) -> Statement {
        let condition = if run.condition.is_empty() {
            "1"
        } else {
            &run.condition
        };
        let parameters = run.parameters.iter().cloned().map(Parameter::Value);
        (
            format!("SELECT {columns} FROM {} WHERE {condition}", self.table),
            parameters.collect(),
        )
    }

    fn filtered(
        &self,
        columns: &str,
        run: Run,
        operands: &[Parameter],
        ordered: bool,
        limit: Option<u64>,
    ) -> Statement {
        let (mut sql, mut parameters) = self.all(columns, &run);
        sql.push_str(&self.filters);
        parameters.extend_from_slice(operands);
        if ordered {
            sql.push_str(&format!(" ORDER BY {}", run.order.join(", ")));
        }
        if let Some(limit) = limit {
            sql.push_str(" LIMIT ?");
            parameters.push(integer(limit));
        }
        (sql, parameters)
    }
}

/// All of these conditions.
fn joined(conditions: impl Iterator<Item = Condition>) -> Condition {
    let (conditions, parameters): (Vec<_>, Vec<_>) = conditions.unzip();
    (conditions.join(" AND "), parameters.concat())
}

/// The order of strings as UTF-8, by the name that the database knows it by.
fn collation(connection: &Connection) -> rusqlite::Result<&'static str> {
    let encoding: String =
        connection.query_row("PRAGMA encoding", [], |encoding| encoding.get(0))?;
    Ok(if encoding == "UTF-8" {
        "BINARY"
    } else {
        COLLATION
    })
}

/// A column of JSON as text, whether SQLite holds it as that or as its own JSONB.
pub(super) fn json(column: &str) -> String {
    format!(
        "CASE WHEN typeof({column}) = 'blob' AND json_valid({column}, 8) THEN json({column}) ELSE \
         {column} END"
    )
}

/// The steps of a statement's plan.
fn explain(connection: &Connection, (sql, parameters): Statement) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?
        .query_map(rusqlite::params_from_iter(parameters), |step| {
            step.get("detail")
        })?
        .collect()
}

fn integer(number: u64) -> Parameter {
    Parameter::Value(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Whether a step of a plan yields its rows one after another, each computed when it is its turn.
/// Sorts, merges and subqueries that are run beforehand do not; what else there may be is not known.
fn is_in_order(step: &str) -> bool {
    ["SCAN ", "SEARCH ", "LIST SUBQUERY ", "REUSE LIST SUBQUERY "]
        .into_iter()
        .any(|kind| step.starts_with(kind))
}

/// The type to cast a column to before it is compared: its declared type, where SQLite would
/// compare otherwise. `NUMERIC` holds and compares integers as `INTEGER` does.
pub(super) fn cast(declared: Type, affinity: Affinity) -> Option<&'static str> {
    match (declared, affinity) {
        (Type::Integer, Affinity::Integer | Affinity::Numeric)
        | (Type::Real, Affinity::Real)
        | (Type::Text, Affinity::Text)
        | (Type::Blob, Affinity::Blob) => None,
        (Type::Integer, _) => Some("INTEGER"),
        (Type::Real, _) => Some("REAL"),
        (Type::Text, _) => Some("TEXT"),
        (Type::Blob, _) => Some("BLOB"),
        // What stands for these is compared as it is.
        (
            Type::Timestamp(_) | Type::Date | Type::Boolean | Type::Decimal { .. } | Type::Json,
            _,
        ) => None,
    }
}

/// The plain type that values of a type are, where they are held as one.
pub(super) fn plain(kind: Type, stored: Stored) -> Type {
    match (kind, stored) {
        (Type::Timestamp(_) | Type::Date, Stored::Plain) => Type::Integer,
        (kind, _) => kind,
    }
}

/// A column of the table: qualified, since SQLite takes an unknown bare `"name"` for a string.
fn column(name: &str) -> String {
    format!("t.{}", quoted(name))
}
