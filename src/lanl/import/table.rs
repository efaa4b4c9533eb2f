//! The table of the stream `flows`: whether it takes LANL's lines, how it is made, what fills it.

use std::path::Path;

use flows_formats::{Column, Type};
use rusqlite::{Connection, Statement};

use super::ImportError;
use crate::definition::Stream;
use crate::lanl::flow::{COLUMNS, Field};
use crate::store::quoted;
use crate::store::sqlite::Table;

/// Flows that one statement inserts: to begin and end one costs as much as some of them.
pub(super) const TOGETHER: usize = 16;

/// Whether the stream has the columns of LANL's lines, and `time` and `id` mean what they say.
pub(super) fn takes_flows(stream: &Stream) -> bool {
    let columns = &stream.schema.columns;
    let has = |name: &str, kind| columns.iter().any(|c| c.name == name && c.kind == kind);
    stream.time == "time"
        && stream.id == "id"
        && columns.len() == COLUMNS.len() + 1
        && has("id", Type::Integer)
        && COLUMNS.iter().all(|(name, kind)| has(name, *kind))
}

pub(super) fn expected_columns() -> String {
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    format!("id, {}", names.join(", "))
}

/// Finds the table or makes it: the largest id in it.
///
/// The table is clustered by `(time, id)`, so that a window is read from one end to the other. The
/// index on `id` is there from the beginning: ids grow, so that each is written at the index's end,
/// for less than a sort takes later.
pub(super) fn table(
    connection: &Connection,
    database: &Path,
    stream: &Stream,
    append: bool,
) -> Result<i64, ImportError> {
    let failed = |reason| ImportError::Database {
        path: database.to_owned(),
        reason,
    };
    let table = quoted(&stream.relation());
    let Some(known) = Table::inspect(connection, &stream.relation()).map_err(failed)? else {
        let column = |column: &Column| {
            let kind = column.kind.name().to_ascii_uppercase();
            format!("{} {kind} NOT NULL", quoted(&column.name))
        };
        let columns: Vec<_> = stream.schema.columns.iter().map(column).collect();
        let sql = format!(
            "CREATE TABLE {table} ({}, PRIMARY KEY (\"time\", \"id\")) WITHOUT ROWID; \
             CREATE UNIQUE INDEX {} ON {table} (\"id\")",
            columns.join(", "),
            quoted(&format!("{}_id", stream.relation()))
        );
        connection.execute_batch(&sql).map_err(failed)?;
        return Ok(0);
    };
    let mut columns = stream.schema.columns.iter();
    let missing = columns.find(|column| known.affinity(&column.name).is_none());
    let reason = match missing {
        _ if known.view => Some("is a view".to_owned()),
        Some(column) => Some(format!("has no column {}", column.name)),
        None => None,
    };
    if let Some(reason) = reason {
        let (table, place) = (
            stream.relation().into_owned(),
            database.display().to_string(),
        );
        return Err(ImportError::OtherTable {
            table,
            place,
            reason,
        });
    }
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
    let has_rows: bool = connection
        .query_row(&sql, [], |row| row.get(0))
        .map_err(failed)?;
    if has_rows && !append {
        let (table, place) = (
            stream.relation().into_owned(),
            database.display().to_string(),
        );
        return Err(ImportError::NotEmpty { table, place });
    }
    let sql = format!("SELECT coalesce(max(CAST(t.\"id\" AS INTEGER)), 0) FROM {table} AS t");
    connection
        .query_row(&sql, [], |row| row.get(0))
        .map_err(failed)
}

pub(super) fn insert_sql(stream: &Stream, rows: usize) -> String {
    let columns: Vec<_> = COLUMNS.iter().map(|(name, _)| quoted(name)).collect();
    let row = format!("(?{})", ", ?".repeat(COLUMNS.len()));
    // The import is all or nothing: rolling back a statement alone would need a journal of its own.
    format!(
        "INSERT OR ROLLBACK INTO {} (\"id\", {}) VALUES {}",
        quoted(&stream.relation()),
        columns.join(", "),
        vec![row; rows].join(", ")
    )
}

/// Inserts flows, as many as the statement has rows, with the ids that follow.
pub(super) fn insert_records<'b>(
    insert: &mut Statement<'_>,
    id: &mut i64,
    flows: impl IntoIterator<Item = impl Iterator<Item = Field<'b>>>,
) -> rusqlite::Result<()> {
    let mut parameter = 0;
    let mut next = || {
        parameter += 1;
        parameter
    };
    for fields in flows {
        *id += 1;
        insert.raw_bind_parameter(next(), *id)?;
        for field in fields {
            match field {
                Field::Integer(integer) => insert.raw_bind_parameter(next(), integer)?,
                Field::Text(text) => insert.raw_bind_parameter(next(), text)?,
            }
        }
    }
    insert.raw_execute().map(|_| ())
}
