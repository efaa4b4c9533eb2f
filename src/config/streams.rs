//! What a stream must be, besides having every key.

use std::sync::Arc;

use flows_formats::{Column, Format, Registry, Schema};
use serde::Deserialize;

use super::columns::{RawColumn, Role, column};
use crate::definition::{Number, Source, Stream};
use crate::selection::PARAMETERS;

/// A section `[[streams]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub(super) struct RawStream {
    name: String,
    table: Option<String>,
    query: Option<String>,
    database: Option<String>,
    time: RawKey,
    id: RawKey,
    #[serde(default = "yes")]
    filters: bool,
    #[serde(default = "json")]
    default_format: String,
    columns: Vec<RawColumn>,
}

fn yes() -> bool {
    true
}

fn json() -> String {
    "json".to_owned()
}

/// The time or id column: the name of a column that is sent, or a column.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a column's name, or a column, { name = …, type = … }"
)]
enum RawKey {
    Name(String),
    Column(RawColumn),
}

impl RawKey {
    fn name(&self) -> &str {
        match self {
            RawKey::Name(name) | RawKey::Column(RawColumn { name, .. }) => name,
        }
    }
}

/// The key of what is wrong, and why it is.
pub(super) type Wrong = (String, String);

/// `found` must be `allowed`.
pub(super) fn wrong<T>(
    key: String,
    found: impl AsRef<str>,
    allowed: impl AsRef<str>,
) -> Result<T, Wrong> {
    let (found, allowed) = (found.as_ref(), allowed.as_ref());
    Err((key, format!("{found}; it must be {allowed}")))
}

/// Whether a name can stand in a URL, and in a key.
pub fn is_name(name: &str) -> bool {
    let in_url = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(in_url)
}

/// The streams, if each can be served. `databases` are the names of those that have one.
pub(super) fn checked(
    raw: Vec<RawStream>,
    databases: &[&str],
    formats: &Registry,
) -> Result<Vec<Arc<Stream>>, Wrong> {
    if raw.is_empty() {
        return wrong(
            "streams".to_owned(),
            "empty",
            "at least one section [[streams]]",
        );
    }
    let mut streams: Vec<Arc<Stream>> = Vec::new();
    for (i, raw) in raw.into_iter().enumerate() {
        let key = format!("streams[{i}]");
        let stream = stream(&key, raw, databases, formats)?;
        if streams.iter().any(|other| other.name == stream.name) {
            let found = format!("another stream is called {:?}", stream.name);
            return wrong(format!("{key}.name"), found, "a name of its own");
        }
        streams.push(Arc::new(stream));
    }
    Ok(streams)
}

fn stream(
    key: &str,
    raw: RawStream,
    databases: &[&str],
    formats: &Registry,
) -> Result<Stream, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    if !is_name(&raw.name) {
        let allowed = "letters, digits, '_' and '-', at least one";
        return wrong(at("name"), format!("{:?}", raw.name), allowed);
    }
    not_a_parameter(at("name"), &raw.name, formats)?;
    let (time, id) = (raw.time.name().to_owned(), raw.id.name().to_owned());
    for (field, value) in [("time", &time), ("id", &id)] {
        if value.is_empty() || value.contains('\0') {
            return wrong(at(field), format!("{value:?}"), "a name");
        }
    }
    let source = match (raw.table, raw.query) {
        (Some(table), None) => Source::Table(text(at("table"), table, "a name")?),
        (None, Some(query)) => Source::Query(text(at("query"), query, "a SELECT")?),
        (table, _) => {
            let found = table.map_or("neither table nor query", |_| "both table and query");
            return wrong(key.to_owned(), found, "one of them");
        }
    };
    if let Some(name) = raw
        .database
        .as_deref()
        .filter(|name| !databases.contains(name))
    {
        let allowed = match databases {
            [] => "left out, since there are no sections [databases.NAME]".to_owned(),
            names => format!("one of {}, or left out for [database]", names.join(", ")),
        };
        return wrong(
            at("database"),
            format!("there is no [databases.{name}]"),
            allowed,
        );
    }
    if time == id {
        let found = format!("{id:?} is the time column");
        return wrong(at("id"), found, "another column");
    }
    if formats.get(&raw.default_format).is_none() {
        let names: Vec<_> = formats.iter().map(|format| format.name).collect();
        let allowed = format!("one of {}", names.join(", "));
        return wrong(
            at("default_format"),
            format!("{:?}", raw.default_format),
            allowed,
        );
    }
    if raw.columns.is_empty() {
        return wrong(at("columns"), "empty", "at least one column");
    }
    let mut columns: Vec<Column> = Vec::with_capacity(raw.columns.len());
    let mut declared = Vec::with_capacity(raw.columns.len() + 2);
    for (i, column) in raw.columns.into_iter().enumerate() {
        let key = at(&format!("columns[{i}]"));
        if columns.iter().any(|other| other.name == column.name) {
            let found = format!("{:?} is listed already", column.name);
            return wrong(format!("{key}.name"), found, "listed once");
        }
        let role = Role::of(&column.name, &time, &id);
        not_a_parameter(format!("{key}.name"), &column.name, formats)?;
        let nullable = column.nullable;
        let column = self::column(&key, column, role)?;
        columns.push(Column {
            name: column.name.clone(),
            kind: column.kind,
            nullable,
        });
        declared.push(column);
    }
    for (field, key) in [("time", raw.time), ("id", raw.id)] {
        let RawKey::Column(column) = key else {
            continue;
        };
        if columns.iter().any(|other| other.name == column.name) {
            let found = format!("{:?} is in columns, which says what it is", column.name);
            return wrong(at(field), found, "its name alone");
        }
        let role = Role::of(&column.name, &time, &id);
        declared.push(self::column(&at(field), column, role)?);
    }
    Ok(Stream {
        number: Number::new(),
        schema: Schema {
            name: raw.name.clone(),
            columns,
        },
        name: raw.name,
        source,
        database: raw.database,
        time,
        id,
        declared,
        filters: raw.filters,
        default_format: raw.default_format,
    })
}

/// What SQLite takes for a text that is not empty.
fn text(key: String, text: String, allowed: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() || text.contains('\0') {
        return wrong(key, format!("{text:?}"), allowed);
    }
    Ok(text)
}

/// Whether a name is also a parameter of requests.
pub(crate) fn is_parameter(name: &str, formats: &Registry) -> bool {
    let is_option = |format: &Format| {
        let option = name
            .strip_prefix(format.name)
            .and_then(|option| option.strip_prefix('.'));
        format
            .options
            .iter()
            .any(|known| Some(known.name) == option)
    };
    PARAMETERS.contains(&name) || formats.iter().any(is_option)
}

/// A name that is also a parameter of requests could not be asked for.
fn not_a_parameter(key: String, name: &str, formats: &Registry) -> Result<(), Wrong> {
    if !is_parameter(name, formats) {
        return Ok(());
    }
    let found = format!("{name:?} is a parameter of requests");
    let allowed = format!(
        "none of {} (a view, `CREATE VIEW … AS SELECT …`, can give a column another name)",
        PARAMETERS.join(", ")
    );
    wrong(key, found, allowed)
}
