//! What a column of a stream must be, besides having every key.

use flows_formats::Type;
use flows_formats::time::Unit;
use serde::Deserialize;

use super::streams::{Wrong, wrong};
use crate::definition::{Declared, NoSpelling, Spelling, Stored};

/// A column of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a column, { name = …, type = … }")]
pub(super) struct RawColumn {
    pub(super) name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    pub(super) nullable: bool,
    unit: Option<String>,
    stored: Option<String>,
    spelling: Option<String>,
    precision: Option<u8>,
    scale: Option<u8>,
}

/// What a column is to its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    Id,
    Other,
}

impl Role {
    pub(super) fn of(name: &str, time: &str, id: &str) -> Role {
        if name == time {
            Role::Time
        } else if name == id {
            Role::Id
        } else {
            Role::Other
        }
    }
}

/// A column that is sent, or that says where a record stands; or what is wrong with it.
pub(super) fn column(key: &str, raw: RawColumn, role: Role) -> Result<Declared, Wrong> {
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
