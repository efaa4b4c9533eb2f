//! What there is in a database that nobody has described.

use flows_formats::Type;
use rusqlite::types::Value;

use super::failure::Failure;
use super::kind::Kind;
use super::relation::{Column, Relation};
use super::session::{Session, Watch};
use crate::config::Database;
use crate::definition::{Source, Stored};
use crate::store::description::{self, Found};
use crate::store::guess::{self, Known};
use crate::store::{Finding, quoted};

/// How many records of each end of a table are looked at.
const RECORDS: usize = 1000;

/// Longer texts are not looked into.
const LONGEST: usize = 1 << 16;

/// Every table and view but those of the server itself, in the order of their names, and what there is to say of the
/// database.
///
/// # Errors
/// Why the database cannot be read, and the way out.
pub fn describe(database: &Database) -> Result<(Vec<description::Table>, Vec<Finding>), String> {
    let failed = |failure: Failure| {
        format!(
            "the database {} cannot be read: {failure}",
            database.place()
        )
    };
    let mut session = Session::open(database).map_err(failed)?;
    let listed = session.ask(
        "SELECT name FROM (SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || \
         c.relname END::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE \
         c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname <> 'information_schema' AND \
         NOT n.nspname LIKE 'pg\\_%' AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = \
         'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) AS names ORDER BY name COLLATE \"C\"",
        Watch::default(),
    );
    let mut tables = Vec::new();
    for row in listed.map_err(failed)?.rows {
        for name in row.into_iter().flatten() {
            tables.push(match looked_at(&mut session, &name) {
                Ok(table) => table,
                Err(Failure::Said(said)) => unfit(&name, format!("it cannot be read: {said}")),
                Err(failure) => return Err(failed(failure)),
            });
        }
    }
    Ok((tables, Vec::new()))
}

fn unfit(name: &str, why: impl Into<String>) -> description::Table {
    description::Table::unfit(name, false, why.into())
}

fn looked_at(session: &mut Session, name: &str) -> Result<description::Table, Failure> {
    let source = Source::Table(name.to_owned());
    let relation = Relation::look(session, &source, Watch::default());
    let relation = match relation {
        Ok(relation) => relation,
        Err(Some(failure)) => return Err(failure),
        Err(None) => return Ok(unfit(name, "it is gone")),
    };
    let rows = sample(session, &relation)?;
    // Of a table with parts on other servers, nothing can say what is unique.
    let view = relation.is_view || relation.is_foreign;
    let columns = relation.columns.iter().enumerate().map(|(at, column)| {
        let values: Vec<Value> = rows
            .iter()
            .map(|row| value(&column.kind, row.get(at)))
            .collect();
        let nulls = guess::nulls(&values);
        let (kind, stored) = column.kind.declaration(column.modifier);
        let declared = column.kind.name();
        let says_all = !(column.kind.is_text() || column.kind.is_number());
        let known = Known {
            table: name,
            view,
            name: &column.name,
            declared,
            is_json: false,
        };
        let found = match &column.kind {
            _ if says_all => certain(kind, stored),
            Kind::Numeric if kind != Type::Text => certain(kind, stored),
            Kind::Numeric => Found {
                guessed: Some(
                    "declared numeric without digits; declare a decimal if all have so many"
                        .to_owned(),
                ),
                ..certain(kind, stored)
            },
            Kind::Enum => certain(kind, stored),
            _ if values.len() == nulls => certain(kind, stored),
            _ => guess::guess(&known, &values),
        };
        description::Column {
            name: column.name.clone(),
            declared: declared.to_owned(),
            not_null: nulls == 0 && !column.nullable,
            nulls,
            ids: guess::can_be_ids(&values),
            distinct: guess::differ(&values),
            grows: guess::grows(&values),
            found,
        }
    });
    Ok(description::Table {
        name: name.to_owned(),
        view,
        unfit: None,
        columns: columns.collect(),
        unique: relation.unique.clone(),
        indexed: relation
            .indexes
            .iter()
            .filter_map(|(_, columns)| columns.first().cloned())
            .collect(),
        number: None,
        sampled: rows.len(),
    })
}

fn certain(kind: Type, stored: Stored) -> Found {
    Found {
        kind,
        stored,
        guessed: None,
        no_time: None,
    }
}

/// Some records of both ends, as texts.
fn sample(session: &mut Session, relation: &Relation) -> Result<Vec<Vec<Option<String>>>, Failure> {
    let column = |column: &Column| {
        let name = format!("t.{}", quoted(&column.name));
        match column.kind {
            Kind::Bytes => format!("CASE WHEN {name} IS NOT NULL THEN '' END"),
            _ => format!("left({name}::text, {LONGEST})"),
        }
    };
    let columns: Vec<_> = relation.columns.iter().map(column).collect();
    let (columns, from) = (columns.join(", "), &relation.sql);
    let key = relation.unique.first().filter(|_| !relation.is_view);
    let order = |direction: &str| {
        let key = key
            .into_iter()
            .flatten()
            .map(|name| format!("t.{} {direction}", quoted(name)));
        match key.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => String::new(),
            key => format!(" ORDER BY {key}"),
        }
    };
    let mut rows = |order: String| {
        let sql = format!("SELECT {columns} FROM {from} AS t{order} LIMIT {RECORDS}");
        session
            .ask(&sql, Watch::default())
            .map(|answer| answer.rows)
    };
    let mut found = rows(order("ASC"))?;
    if found.len() == RECORDS && key.is_some() {
        let mut end = rows(order("DESC"))?;
        end.reverse();
        // Those that were in the beginning are not looked at twice.
        end.retain(|row| !found.contains(row));
        found.extend(end);
    }
    Ok(found)
}

/// A value of a sample.
fn value(kind: &Kind, text: Option<&Option<String>>) -> Value {
    let Some(text) = text.and_then(Option::as_ref) else {
        return Value::Null;
    };
    let number = || {
        if kind.is_integer() {
            text.parse().ok().map(Value::Integer)
        } else {
            text.parse().ok().map(Value::Real)
        }
    };
    match kind {
        Kind::Bytes => Value::Blob(Vec::new()),
        kind if kind.is_integer() || kind.is_real() => number().unwrap_or(Value::Null),
        _ => Value::Text(text.clone()),
    }
}
