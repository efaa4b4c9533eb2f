//! What there is in a database that nobody has described.

use std::sync::Arc;

use rusqlite::{Connection, Result};

use super::check::{self, Depth};
use super::query::json;
use super::sample::sample;
use super::table::{Affinity, Table};
use crate::config::Database;
use crate::definition::Stream;
use crate::store::Finding;
use crate::store::description::{self, Column};
use crate::store::guess::{self, Known};
use crate::store::quoted;

/// Every table and view, in the order in which they were made, and what there is to say of the file.
///
/// # Errors
/// Why the database cannot be read, and the way out.
pub fn describe(database: &Database) -> Result<(Vec<description::Table>, Vec<Finding>), String> {
    let mut findings = Vec::new();
    let connection = check::open(database, false, &mut findings)?;
    let failed = |error| {
        format!(
            "the database {} cannot be read: {error}",
            database.path.display()
        )
    };
    // A snapshot, so that names, schemas and records are of one moment.
    connection.execute_batch("BEGIN").map_err(failed)?;
    let listed = listed(&connection).map_err(failed)?;
    let tables = listed
        .into_iter()
        .map(|(name, kind, sql)| table(&connection, &name, &kind, &sql))
        .collect();
    Ok((tables, findings))
}

/// What there is to say of streams that are declared as [`describe`] found them: of the schema alone,
/// since their records have been looked at.
pub fn check_described(database: &Database, streams: &[Arc<Stream>]) -> Vec<Finding> {
    check::check(database, streams, Depth::Schema)
}

/// The name, the kind and the SQL of each.
fn listed(connection: &Connection) -> Result<Vec<(String, String, String)>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    connection
        .prepare(
            "SELECT s.name, coalesce(l.type, s.type), coalesce(s.sql, '') FROM sqlite_schema AS s \
             LEFT JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = s.name \
             WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             ORDER BY s.rowid",
        )?
        .query_map([], |row| {
            // A name need not be UTF-8.
            let column = |at| Ok::<_, rusqlite::Error>(text(row.get_ref(at)?.as_bytes()?));
            Ok((column(0)?, column(1)?, column(2)?))
        })?
        .collect()
}

fn table(connection: &Connection, name: &str, kind: &str, sql: &str) -> description::Table {
    let unfit = |why: String| description::Table::unfit(name, kind == "view", why);
    match kind {
        "virtual" => {
            return unfit(
                "a virtual table, which has no order of its own; stream the table that it is of"
                    .to_owned(),
            );
        }
        "shadow" => return unfit("a part of a virtual table".to_owned()),
        _ => {}
    }
    match looked_at(connection, name, sql) {
        Ok(Some(table)) => table,
        Ok(None) => unfit("its name is not UTF-8".to_owned()),
        Err(error) => unfit(format!("it cannot be read: {error}")),
    }
}

/// A column, as the schema has it.
struct Declared {
    name: String,
    kind: String,
    not_null: bool,
    is_json: bool,
}

fn looked_at(connection: &Connection, name: &str, sql: &str) -> Result<Option<description::Table>> {
    let Some(table) = Table::inspect(connection, name)? else {
        return Ok(None);
    };
    let constraints = sql.to_ascii_lowercase();
    let declared: Vec<Declared> = connection
        .prepare(
            // 1 are the hidden columns of virtual tables.
            "SELECT name, type, \"notnull\" FROM pragma_table_xinfo(?1) WHERE hidden <> 1",
        )?
        .query_map([name], |row| {
            let name: String = row.get(0)?;
            Ok(Declared {
                kind: row.get(1)?,
                not_null: row.get(2)?,
                is_json: has_json_check(&constraints, &name),
                name,
            })
        })?
        .collect::<Result<_>>()?;
    let read = |column: &Declared| {
        let is_json = column.is_json || column.kind.to_ascii_uppercase().contains("JSON");
        let name = format!("t.{}", quoted(&column.name));
        let affinity = table.affinity(&column.name).unwrap_or(Affinity::Blob);
        (if is_json { json(&name) } else { name }, affinity)
    };
    let expressions: Vec<_> = declared.iter().map(read).collect();
    let sample = sample(connection, name, &table, &expressions)?;
    let columns = declared.into_iter().zip(sample.columns);
    let columns = columns.map(|(column, values)| {
        let found = guess::guess(
            &Known {
                table: name,
                view: table.view,
                name: &column.name,
                declared: &column.kind,
                is_json: column.is_json,
            },
            &values,
        );
        let nulls = guess::nulls(&values);
        Column {
            not_null: (column.not_null || table.alias() == Some(&column.name)) && nulls == 0,
            nulls,
            ids: guess::can_be_ids(&values),
            distinct: guess::differ(&values),
            grows: guess::grows(&values),
            found,
            name: column.name,
            declared: column.kind,
        }
    });
    let columns = columns.collect();
    Ok(Some(description::Table {
        name: name.to_owned(),
        view: table.view,
        unfit: None,
        columns,
        unique: unique(&table),
        indexed: indexed(connection, name)?,
        number: table.rowid(),
        sampled: sample.records,
    }))
}

/// Whether a constraint, as Django writes it, says that a column holds JSON. `sql` is in lower case.
fn has_json_check(sql: &str, column: &str) -> bool {
    let column = column.to_ascii_lowercase();
    [quoted(&column), column]
        .into_iter()
        .any(|written| sql.contains(&format!("json_valid({written})")))
}

/// Its sets of columns of which no two rows have the same values, the rowid's name first.
fn unique(table: &Table) -> Vec<Vec<String>> {
    let mut sets = table.unique().to_vec();
    // An expression has no name, and says nothing.
    sets.retain(|set| !set.is_empty());
    let alias = |set: &Vec<String>| set.len() != 1 || table.alias() != Some(&set[0]);
    sets.sort_by_key(alias);
    sets
}

/// The first column of each index, and of the primary key of a table without rowids.
fn indexed(connection: &Connection, name: &str) -> Result<Vec<String>> {
    connection
        .prepare(
            "SELECT c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c \
             WHERE c.seqno = 0 AND NOT i.partial AND c.name IS NOT NULL",
        )?
        .query_map([name], |row| row.get(0))?
        .collect()
}
