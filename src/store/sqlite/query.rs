//! The SQL of a scan.

use flows_formats::Type;

use super::table::{Affinity, Table};
use crate::config::Stream;
use crate::selection::Range;

/// The parts of a stream's `SELECT`, written for the table as SQLite knows it.
pub(super) struct Query {
    /// `SELECT …, … FROM … AS t`
    head: String,
    time: String,
    id: String,
    id_at: usize,
    index: String,
}

impl Query {
    /// The query of a stream. `Err` names a column that the table lacks.
    pub(super) fn new(stream: &Stream, table: &Table) -> Result<Query, String> {
        let mut names: Vec<_> = stream
            .schema
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        let served = names.iter().position(|name| *name == stream.id);
        let id_at = served.unwrap_or_else(|| {
            // Not to be sent, but needed to say which record is wrong.
            names.push(&stream.id);
            names.len() - 1
        });
        if let Some(missing) = names.iter().find(|name| table.affinity(name).is_none()) {
            return Err((*missing).to_owned());
        }
        let columns: Vec<_> = names.iter().map(|name| column(name)).collect();
        let head = format!(
            "SELECT {} FROM {} AS t",
            columns.join(", "),
            quoted(&stream.table)
        );
        let position = |name: &str| {
            let affinity = table.affinity(name).ok_or_else(|| name.to_owned())?;
            let cast = cast(Type::Integer, affinity);
            let compared = |column: String| match cast {
                Some(cast) => format!("CAST({column} AS {cast})"),
                None => column,
            };
            Ok::<_, String>((compared(column(name)), compared(quoted(name))))
        };
        let (time, indexed_time) = position(&stream.time)?;
        let (id, indexed_id) = position(&stream.id)?;
        let name = quoted(&format!("{}_{}_{}", stream.table, stream.time, stream.id));
        let table = quoted(&stream.table);
        let index = format!("CREATE INDEX {name} ON {table} ({indexed_time}, {indexed_id})");
        Ok(Query {
            head,
            time,
            id,
            id_at,
            index,
        })
    }

    /// Which of the columns is the record's id.
    pub(super) fn id_at(&self) -> usize {
        self.id_at
    }

    /// The statement that yields the range's records in order, and its parameters.
    pub(super) fn select(&self, range: &Range) -> (String, Vec<i64>) {
        let Query { head, time, id, .. } = self;
        let mut sql = head.clone();
        let mut parameters = Vec::with_capacity(5);
        let bounds = [(range.after, ">"), (range.until, "<=")];
        for (position, operator) in bounds {
            let Some(position) = position else { continue };
            sql.push_str(if parameters.is_empty() {
                " WHERE "
            } else {
                " AND "
            });
            parameters.push(position.time);
            if position.id == i64::MAX {
                // Behind every record of its time: the time alone decides.
                sql.push_str(&format!("{time} {operator} ?"));
            } else {
                sql.push_str(&format!("({time}, {id}) {operator} (?, ?)"));
                parameters.push(position.id);
            }
        }
        sql.push_str(&format!(" ORDER BY {time}, {id}"));
        if let Some(limit) = range.limit {
            sql.push_str(" LIMIT ?");
            parameters.push(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        (sql, parameters)
    }

    /// The statement that creates the index which gives `(time, id)` order.
    pub(super) fn index(&self) -> &str {
        &self.index
    }
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
    }
}

/// A column of the table: qualified, since SQLite takes an unknown bare `"name"` for a text.
fn column(name: &str) -> String {
    format!("t.{}", quoted(name))
}

/// An SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
