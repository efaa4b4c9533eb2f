//! What a stream must be, besides having every key.

use std::sync::Arc;

use flows_formats::{Column, Format, Registry, Schema, Type};
use serde::Deserialize;

use crate::definition::Stream;
use crate::selection::PARAMETERS;

/// A section `[[streams]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub(super) struct RawStream {
    name: String,
    table: String,
    time: String,
    id: String,
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

/// A column of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a column, { name = …, type = … }")]
struct RawColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    nullable: bool,
}

/// The key of what is wrong, and why it is.
type Wrong = (String, String);

/// `found` must be `allowed`.
fn wrong<T>(key: String, found: impl AsRef<str>, allowed: impl AsRef<str>) -> Result<T, Wrong> {
    let (found, allowed) = (found.as_ref(), allowed.as_ref());
    Err((key, format!("{found}; it must be {allowed}")))
}

/// The streams, if each can be served.
pub(super) fn checked(raw: Vec<RawStream>, formats: &Registry) -> Result<Vec<Arc<Stream>>, Wrong> {
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
        let stream = stream(&key, raw, formats)?;
        if streams.iter().any(|other| other.name == stream.name) {
            let found = format!("another stream is called {:?}", stream.name);
            return wrong(format!("{key}.name"), found, "a name of its own");
        }
        streams.push(Arc::new(stream));
    }
    Ok(streams)
}

fn stream(key: &str, raw: RawStream, formats: &Registry) -> Result<Stream, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    let in_url = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if raw.name.is_empty() || !raw.name.chars().all(in_url) {
        let allowed = "letters, digits, '_' and '-', at least one";
        return wrong(at("name"), format!("{:?}", raw.name), allowed);
    }
    not_a_parameter(at("name"), &raw.name, formats)?;
    for (field, value) in [("table", &raw.table), ("time", &raw.time), ("id", &raw.id)] {
        if value.is_empty() || value.contains('\0') {
            return wrong(at(field), format!("{value:?}"), "a name");
        }
    }
    if raw.time == raw.id {
        let found = format!("{:?} is the time column", raw.id);
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
    let mut columns = Vec::with_capacity(raw.columns.len());
    for (i, column) in raw.columns.into_iter().enumerate() {
        let is_key = column.name == raw.time || column.name == raw.id;
        let column = self::column(
            &at(&format!("columns[{i}]")),
            column,
            is_key,
            &columns,
            formats,
        )?;
        columns.push(column);
    }
    Ok(Stream {
        schema: Schema {
            name: raw.name.clone(),
            columns,
        },
        name: raw.name,
        table: raw.table,
        time: raw.time,
        id: raw.id,
        filters: raw.filters,
        default_format: raw.default_format,
    })
}

fn column(
    key: &str,
    raw: RawColumn,
    is_key: bool,
    before: &[Column],
    formats: &Registry,
) -> Result<Column, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    let name = raw.name;
    if name.is_empty() || name.contains('\0') {
        return wrong(at("name"), format!("{name:?}"), "a column's name");
    }
    if before.iter().any(|other| other.name == name) {
        let found = format!("{name:?} is listed already");
        return wrong(at("name"), found, "listed once");
    }
    not_a_parameter(at("name"), &name, formats)?;
    let Some(kind) = Type::ALL.into_iter().find(|known| known.name() == raw.kind) else {
        let allowed = format!("one of {}", Type::ALL.map(Type::name).join(", "));
        return wrong(at("type"), format!("{:?}", raw.kind), allowed);
    };
    if is_key && kind != Type::Integer {
        let allowed = "\"integer\", since it is the time or id column";
        return wrong(at("type"), format!("{:?}", raw.kind), allowed);
    }
    if is_key && raw.nullable {
        let allowed = "false, since it is the time or id column";
        return wrong(at("nullable"), "true", allowed);
    }
    Ok(Column {
        name,
        kind,
        nullable: raw.nullable,
    })
}

/// A name that is also a parameter of requests could not be asked for.
fn not_a_parameter(key: String, name: &str, formats: &Registry) -> Result<(), Wrong> {
    let is_option = |format: &Format| {
        let option = name
            .strip_prefix(format.name)
            .and_then(|option| option.strip_prefix('.'));
        format
            .options
            .iter()
            .any(|known| Some(known.name) == option)
    };
    if !PARAMETERS.contains(&name) && !formats.iter().any(is_option) {
        return Ok(());
    }
    let found = format!("{name:?} is a parameter of requests");
    let allowed = format!(
        "none of {} (a view, `CREATE VIEW … AS SELECT …`, can give a column another name)",
        PARAMETERS.join(", ")
    );
    wrong(key, found, allowed)
}
