//! The SQL of a view of a stream.

use std::sync::Arc;

use flows_formats::Type;

use super::compared::Compared;
use super::filters;
use super::kind::{Kind, Wire};
use super::relation::{Column, Relation};
use super::rows::Rows;
use crate::definition::{Stream, declaration};
use crate::selection::{Order, Range, View};
use crate::store::reading::Reading;
use crate::store::runs::{self, Which};
use crate::store::values::Decoder;
use crate::store::{Cancel, Sink, quoted};

/// A view's SQL, written for the relation as the server knows it.
pub(super) struct Query {
    from: String,
    /// What is selected.
    columns: Vec<String>,
    wires: Vec<Wire>,
    readings: Vec<Reading>,
    position_at: (usize, usize),
    key: Compared,
    id: Compared,
    /// Holds for records that have no place in the order, if there can be any.
    placeless: Option<String>,
    /// Each begins with AND.
    filters: String,
    by_id: bool,
}

/// A part of a range that an index serves as one piece.
pub(super) struct Run {
    condition: String,
    order: Vec<String>,
    pub(super) is_placeless: bool,
}

impl Query {
    /// The query of a view.
    ///
    /// # Errors
    /// Which column is missing or is not what it is declared to be, and the way out.
    pub(super) fn new(view: &View, relation: &Relation) -> Result<Query, String> {
        let stream = &*view.stream;
        let mut names: Vec<&str> = view
            .schema
            .columns
            .iter()
            .map(|column| &*column.name)
            .collect();
        // Time and id are read also where they are not sent: they say where a record stands.
        let mut at = |name| {
            let known = names.iter().position(|known| *known == name);
            known.unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let position_at = (at(view.key()), at(view.id()));
        let mut query = Query {
            from: format!("{} AS t", relation.sql),
            columns: Vec::new(),
            wires: Vec::new(),
            readings: Vec::new(),
            position_at,
            key: compared(stream, relation, view.key())?,
            id: compared(stream, relation, view.id())?,
            placeless: find(stream, relation, view.key())?
                .nullable
                .then(|| format!("{} IS NULL", sql(view.key()))),
            filters: String::new(),
            by_id: view.order == Order::Id,
        };
        for name in names {
            let column = find(stream, relation, name)?;
            let (declared, stored) = stream.declared(name);
            let read = column.kind.read(&sql(name), declared, stored);
            let read = read.ok_or_else(|| mismatch(stream, column))?;
            query.columns.push(read.sql);
            query.wires.push(read.wire);
            query.readings.push(read.reading);
        }
        for filter in &view.filters {
            let name = &filter.column;
            let column = find(stream, relation, name)?;
            let (_, stored) = stream.declared(name);
            let condition = filters::condition(filter, &sql(name), &column.kind, stored);
            query.filters.push_str(&format!(" AND ({condition})"));
        }
        Ok(query)
    }

    /// Asks for no record, but tells the columns, and keeps them as they are while the transaction lasts.
    pub(super) fn types(&self) -> String {
        format!("SELECT * FROM {} WHERE false", self.from)
    }

    /// A range's runs, one after another, in SQL. Records without a place are no part of a window; to all records
    /// they come first, so that they break a stream before anything of it is sent: to PostgreSQL they are the last.
    pub(super) fn runs(&self, range: &Range) -> Vec<Run> {
        let Query { key, id, by_id, .. } = self;
        let of_all = range.after.is_none() && range.until.is_none();
        let placeless = self.placeless.iter().filter(|_| of_all);
        let placeless = placeless.map(|condition| Run {
            condition: condition.clone(),
            order: vec![id.sql.clone()],
            is_placeless: true,
        });
        let runs = runs::runs(range, *by_id).into_iter().map(|run| {
            let conditions = run
                .conditions
                .into_iter()
                .map(|(which, how, part)| match which {
                    Which::Key => key.compared(how, part),
                    Which::Id => id.compared(how, part),
                });
            let conditions: Vec<_> = conditions.collect();
            let of_one_key = run.of_one_time && key.is_exact();
            Run {
                condition: match conditions.is_empty() {
                    true => "true".to_owned(),
                    false => conditions.join(" AND "),
                },
                order: match of_one_key || *by_id {
                    true => vec![id.sql.clone()],
                    false => vec![key.sql.clone(), id.sql.clone()],
                },
                is_placeless: false,
            }
        });
        placeless.chain(runs).collect()
    }

    /// Yields the records of a run that match the filters, in order, at most so many.
    pub(super) fn scan(&self, run: &Run, limit: Option<u64>) -> String {
        let (columns, order) = (self.columns.join(", "), run.order.join(", "));
        let limit = limit
            .map(|limit| format!(" LIMIT {limit}"))
            .unwrap_or_default();
        format!(
            "SELECT {columns} FROM {} WHERE {}{} ORDER BY {order}{limit}",
            self.from, run.condition, self.filters
        )
    }

    /// Yields a run's record number `nth`, counted from 1, whether it matches the filters or not.
    pub(super) fn nth(&self, run: &Run, nth: u64) -> String {
        let (columns, order) = (self.columns.join(", "), run.order.join(", "));
        format!(
            "SELECT {columns} FROM {} WHERE {} ORDER BY {order} LIMIT 1 OFFSET {}",
            self.from,
            run.condition,
            nth.saturating_sub(1)
        )
    }

    /// Yields a run's last record, whether it matches the filters or not.
    pub(super) fn last(&self, run: &Run) -> String {
        let order = run.order.iter().map(|part| format!("{part} DESC"));
        let (columns, order) = (
            self.columns.join(", "),
            order.collect::<Vec<_>>().join(", "),
        );
        format!(
            "SELECT {columns} FROM {} WHERE {} ORDER BY {order} LIMIT 1",
            self.from, run.condition
        )
    }

    /// Yield the first records and the last, in order.
    pub(super) fn samples(&self) -> [String; 2] {
        const RECORDS: u64 = 1000;
        let Query { key, id, from, .. } = self;
        let columns = self.columns.join(", ");
        let last = format!(
            "SELECT {columns} FROM (SELECT * FROM {from} ORDER BY {} DESC, {} DESC LIMIT {RECORDS}) AS t ORDER BY {}, {}",
            key.sql, id.sql, key.sql, id.sql
        );
        let first = format!(
            "SELECT {columns} FROM {from} ORDER BY {}, {} LIMIT {RECORDS}",
            key.sql, id.sql
        );
        [first, last]
    }

    /// Counts the records of a run; all, or those that match the filters.
    pub(super) fn count(&self, run: &Run, filtered: bool) -> String {
        let filters = if filtered { &self.filters } else { "" };
        format!(
            "SELECT count(*) FROM {} WHERE {}{filters}",
            self.from, run.condition
        )
    }

    /// The greatest id.
    pub(super) fn greatest_id(&self) -> String {
        format!("SELECT max({}) FROM {}", self.id.sql, self.from)
    }

    /// The statement that creates the index which gives the order of time.
    pub(super) fn index(&self, relation: &Relation) -> String {
        let column = |compared: &Compared| compared.sql.replacen("t.", "", 1);
        let (key, id) = (column(&self.key), column(&self.id));
        format!("CREATE INDEX ON {} ({key}, {id})", relation.sql)
    }

    /// What takes the rows of a scan of the view.
    pub(super) fn rows(&self, view: &Arc<View>, sink: Box<dyn Sink>, cancel: &Cancel) -> Rows {
        let decoder = Decoder::new(Arc::clone(view), self.readings.clone(), self.position_at);
        Rows::new(sink, decoder, &self.wires, cancel)
    }
}

fn find<'r>(stream: &Stream, relation: &'r Relation, name: &str) -> Result<&'r Column, String> {
    relation.column(name).ok_or_else(|| {
        let names = relation.columns.iter().map(|column| column.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        format!("{} has no column {name}; it has {names}", stream.origin())
    })
}

fn compared(stream: &Stream, relation: &Relation, name: &str) -> Result<Compared, String> {
    let column = find(stream, relation, name)?;
    let (declared, stored) = stream.declared(name);
    // What is cast has no order that is that of what is sent.
    let is_ordered = match declared {
        Type::Text => column.kind.is_text() || matches!(column.kind, Kind::Uuid | Kind::Other(_)),
        Type::Integer => column.kind.is_number(),
        _ => true,
    };
    let fits = is_ordered && column.kind.read("", declared, stored).is_some();
    if !fits {
        return Err(mismatch(stream, column));
    }
    Ok(Compared::new(&sql(name), &column.kind, declared, stored))
}

fn mismatch(stream: &Stream, column: &Column) -> String {
    let Column {
        name,
        kind,
        modifier,
        ..
    } = column;
    let (declared, _) = stream.declared(name);
    let (fitting, stored) = kind.declaration(*modifier);
    format!(
        "column {name} is {}, and cannot be read as the {declared} that it is declared to be; declare {}",
        kind.name(),
        declaration(fitting, stored)
    )
}

/// Copies out what a statement yields.
pub(super) fn copied(sql: &str) -> String {
    format!("COPY ({sql}) TO STDOUT (FORMAT binary); ")
}

/// A column in SQL.
fn sql(name: &str) -> String {
    format!("t.{}", quoted(name))
}
