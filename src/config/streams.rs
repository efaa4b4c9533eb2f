//! What a stream must be, besides having every key.

use std::sync::Arc;

use flows_formats::time::Unit;
use flows_formats::{Column, Format, Registry, Schema, Type};
use serde::Deserialize;

use crate::definition::{Declared, NoSpelling, Source, Spelling, Stored, Stream};
use crate::selection::PARAMETERS;

/// A section `[[streams]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub(super) struct RawStream {
    name: String,
    table: Option<String>,
    query: Option<String>,
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

/// A column of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a column, { name = …, type = … }")]
struct RawColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    nullable: bool,
    unit: Option<String>,
    stored: Option<String>,
    spelling: Option<String>,
    precision: Option<u8>,
    scale: Option<u8>,
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
        schema: Schema {
            name: raw.name.clone(),
            columns,
        },
        name: raw.name,
        source,
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

/// What a column is to its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Time,
    Id,
    Other,
}

impl Role {
    fn of(name: &str, time: &str, id: &str) -> Role {
        if name == time {
            Role::Time
        } else if name == id {
            Role::Id
        } else {
            Role::Other
        }
    }
}

fn column(key: &str, raw: RawColumn, role: Role) -> Result<Declared, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    if raw.name.is_empty() || raw.name.contains('\0') {
        return wrong(at("name"), format!("{:?}", raw.name), "a column's name");
    }
    if role != Role::Other && raw.nullable {
        let allowed = "false, since it is the time or id column";
        return wrong(at("nullable"), "true", allowed);
    }
    let kind = kind(key, &raw)?;
    let allowed = match (role, kind) {
        (Role::Time, Type::Integer | Type::Timestamp(_))
        | (Role::Id, Type::Integer | Type::Text)
        | (Role::Other, _) => None,
        (Role::Time, _) => Some("\"integer\" or \"timestamp\", since it is the time column"),
        (Role::Id, _) => Some("\"integer\" or \"text\", since it is the id column"),
    };
    if let Some(allowed) = allowed {
        return wrong(at("type"), format!("{:?}", raw.kind), allowed);
    }
    Ok(Declared {
        stored: stored(key, kind, &raw)?,
        name: raw.name,
        kind,
    })
}

fn kind(key: &str, raw: &RawColumn) -> Result<Type, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    for (field, is_there, of) in [
        ("unit", raw.unit.is_some(), &["timestamp"][..]),
        ("stored", raw.stored.is_some(), &["timestamp", "date"]),
        ("spelling", raw.spelling.is_some(), &["timestamp"]),
        ("precision", raw.precision.is_some(), &["decimal"]),
        ("scale", raw.scale.is_some(), &["decimal"]),
    ] {
        if is_there && !of.contains(&raw.kind.as_str()) {
            let found = format!("a column of type {:?} has none", raw.kind);
            return wrong(at(field), found, format!("of type {}", of.join(" or ")));
        }
    }
    Ok(match raw.kind.as_str() {
        "integer" => Type::Integer,
        "real" => Type::Real,
        "text" => Type::Text,
        "blob" => Type::Blob,
        "date" => Type::Date,
        "boolean" => Type::Boolean,
        "json" => Type::Json,
        "timestamp" => {
            let name = raw.unit.as_deref().unwrap_or("us");
            let unit = Unit::ALL.into_iter().find(|unit| unit.name() == name);
            let Some(unit) = unit else {
                let allowed = format!("one of {}", Unit::ALL.map(Unit::name).join(", "));
                return wrong(at("unit"), format!("{name:?}"), allowed);
            };
            Type::Timestamp(unit)
        }
        "decimal" => {
            let (Some(precision), Some(scale)) = (raw.precision, raw.scale) else {
                let field = if raw.scale.is_none() {
                    "scale"
                } else {
                    "precision"
                };
                let allowed = "how many digits a decimal has (precision), and of these after the point \
                               (scale)";
                return wrong(at(field), "missing", allowed);
            };
            if !(1..=38).contains(&precision) {
                return wrong(at("precision"), precision.to_string(), "from 1 to 38");
            }
            if scale > precision {
                let allowed = "at most the precision";
                return wrong(at("scale"), scale.to_string(), allowed);
            }
            Type::Decimal { precision, scale }
        }
        other => {
            let allowed = format!("one of {}", Type::NAMES.join(", "));
            return wrong(at("type"), format!("{other:?}"), allowed);
        }
    })
}

fn stored(key: &str, kind: Type, raw: &RawColumn) -> Result<Stored, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    let spelling = match raw.spelling.as_deref().map(str::parse::<Spelling>) {
        None => None,
        Some(Ok(spelling)) => Some(spelling),
        Some(Err(error @ NoSpelling)) => {
            let found = format!("{:?}", raw.spelling.as_deref().unwrap_or_default());
            return wrong(at("spelling"), found, error.to_string());
        }
    };
    let stored = match (kind, raw.stored.as_deref()) {
        (Type::Timestamp(_), Some("iso8601")) => {
            return Ok(Stored::Iso8601(spelling.unwrap_or(Spelling::USUAL)));
        }
        (Type::Date, None | Some("iso8601")) => Stored::Iso8601(Spelling::DAY),
        (Type::Date, Some("days")) => Stored::Plain,
        (Type::Timestamp(_), Some("epoch_real")) => Stored::EpochReal,
        (Type::Timestamp(_), None | Some("epoch")) => Stored::Plain,
        (kind, Some(other)) => {
            let allowed = match kind {
                Type::Date => "one of iso8601, days",
                _ => "one of epoch, epoch_real, iso8601",
            };
            return wrong(at("stored"), format!("{other:?}"), allowed);
        }
        (_, None) => Stored::Plain,
    };
    if spelling.is_some() {
        let allowed = "beside stored = \"iso8601\", whose texts it describes";
        return wrong(at("spelling"), "there is no text to spell", allowed);
    }
    Ok(stored)
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
