//! What PostgreSQL's types are to a stream: how their values travel, and as what they are read.

use flows_formats::Type;
use flows_formats::time::Unit;

use crate::definition::{Spelling, Stored};
use crate::store::reading::Reading;

/// A type of PostgreSQL, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    /// `char(n)`, whose blanks at the end are not part of the value.
    Blank,
    Enum,
    Uuid,
    Bytes,
    Date,
    Timestamp,
    TimestampTz,
    Json,
    Jsonb,
    /// Any other, by its name.
    Other(String),
}

/// How a value travels in a binary copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Uuid,
    Bytes,
    Date,
    /// Microseconds since 2000, which become so many of a unit since 1970.
    Timestamp(Unit),
    Jsonb,
}

/// How a column is read.
pub(super) struct Read {
    /// What is selected.
    pub(super) sql: String,
    pub(super) wire: Wire,
    pub(super) reading: Reading,
}

impl Kind {
    /// The type of this number in the server's catalogue, if it is one that every server has.
    pub(super) fn of(oid: u32) -> Option<Kind> {
        Some(match oid {
            16 => Kind::Bool,
            17 => Kind::Bytes,
            20 => Kind::Int8,
            21 => Kind::Int2,
            23 => Kind::Int4,
            // name, text, varchar
            19 | 25 | 1043 => Kind::Text,
            114 => Kind::Json,
            700 => Kind::Float4,
            701 => Kind::Float8,
            1042 => Kind::Blank,
            1082 => Kind::Date,
            1114 => Kind::Timestamp,
            1184 => Kind::TimestampTz,
            1700 => Kind::Numeric,
            2950 => Kind::Uuid,
            3802 => Kind::Jsonb,
            _ => return None,
        })
    }

    /// Its name in SQL.
    pub(super) fn name(&self) -> &str {
        match self {
            Kind::Bool => "boolean",
            Kind::Int2 => "smallint",
            Kind::Int4 => "integer",
            Kind::Int8 => "bigint",
            Kind::Float4 => "real",
            Kind::Float8 => "double precision",
            Kind::Numeric => "numeric",
            Kind::Text => "text",
            Kind::Blank => "char",
            Kind::Enum => "enum",
            Kind::Uuid => "uuid",
            Kind::Bytes => "bytea",
            Kind::Date => "date",
            Kind::Timestamp => "timestamp",
            Kind::TimestampTz => "timestamptz",
            Kind::Json => "json",
            Kind::Jsonb => "jsonb",
            Kind::Other(name) => name,
        }
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self, Kind::Int2 | Kind::Int4 | Kind::Int8)
    }

    pub(super) fn is_real(&self) -> bool {
        matches!(self, Kind::Float4 | Kind::Float8)
    }

    pub(super) fn is_number(&self) -> bool {
        self.is_integer() || self.is_real() || *self == Kind::Numeric
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Kind::Text | Kind::Blank | Kind::Enum)
    }

    /// Whether it is an instant, or a day, to the server.
    pub(super) fn is_native_time(&self) -> bool {
        matches!(self, Kind::Date | Kind::Timestamp | Kind::TimestampTz)
    }

    /// How a value travels as it is.
    fn wire(&self, column: &str) -> (String, Wire) {
        let wire = match self {
            Kind::Bool => Wire::Bool,
            Kind::Int2 => Wire::Int2,
            Kind::Int4 => Wire::Int4,
            Kind::Int8 => Wire::Int8,
            Kind::Float4 => Wire::Float4,
            Kind::Float8 => Wire::Float8,
            Kind::Numeric => Wire::Numeric,
            Kind::Text | Kind::Json => Wire::Text,
            Kind::Uuid => Wire::Uuid,
            Kind::Bytes => Wire::Bytes,
            Kind::Date => Wire::Date,
            Kind::Timestamp | Kind::TimestampTz => Wire::Timestamp(Unit::Microsecond),
            Kind::Jsonb => Wire::Jsonb,
            Kind::Blank | Kind::Enum | Kind::Other(_) => {
                return (format!("{column}::text"), Wire::Text);
            }
        };
        (column.to_owned(), wire)
    }

    /// How a column of this type is read as what it is declared to be; `None` if it cannot be.
    pub(super) fn read(&self, column: &str, declared: Type, stored: Stored) -> Option<Read> {
        let plain = || {
            let (sql, wire) = self.wire(column);
            let reading = Reading::new(declared, stored);
            Some(Read { sql, wire, reading })
        };
        let cast = |to: &str, wire, stored| {
            let sql = format!("{column}::{to}");
            let reading = Reading::new(declared, stored);
            Some(Read { sql, wire, reading })
        };
        match declared {
            Type::Integer | Type::Real if self.is_number() || self.is_text() => plain(),
            Type::Integer | Type::Real => None,
            Type::Text if matches!(self, Kind::Uuid | Kind::Bytes) || self.is_text() => plain(),
            Type::Text => cast("text", Wire::Text, stored),
            Type::Blob if *self == Kind::Bytes => plain(),
            Type::Blob if self.is_text() => Some(Read {
                sql: format!("convert_to({column}::text, 'UTF8')"),
                wire: Wire::Bytes,
                reading: Reading::Blob,
            }),
            Type::Timestamp(unit) if self.is_native_time() => {
                let wire = Wire::Timestamp(unit);
                match self {
                    Kind::Date => cast("timestamp", wire, Stored::Plain),
                    _ => Some(Read {
                        sql: column.to_owned(),
                        wire,
                        reading: Reading::new(declared, Stored::Plain),
                    }),
                }
            }
            Type::Date if *self == Kind::Date => Some(Read {
                sql: column.to_owned(),
                wire: Wire::Date,
                reading: Reading::new(declared, Stored::Plain),
            }),
            Type::Timestamp(_) | Type::Date => match stored {
                Stored::Plain if self.is_integer() || *self == Kind::Numeric => plain(),
                Stored::EpochReal if *self == Kind::Numeric => cast("float8", Wire::Float8, stored),
                Stored::EpochReal if self.is_number() => plain(),
                Stored::Iso8601(_) if self.is_text() => plain(),
                _ => None,
            },
            Type::Boolean if *self == Kind::Bool || self.is_integer() || self.is_text() => plain(),
            Type::Decimal { .. } if self.is_number() || self.is_text() => plain(),
            Type::Json if matches!(self, Kind::Json | Kind::Jsonb) || self.is_text() => plain(),
            Type::Blob | Type::Boolean | Type::Decimal { .. } | Type::Json => None,
        }
    }

    /// What to declare a column of this type as: its type, and how it is held.
    pub(super) fn declaration(&self, modifier: i32) -> (Type, Stored) {
        let kind = match self {
            Kind::Bool => Type::Boolean,
            Kind::Int2 | Kind::Int4 | Kind::Int8 => Type::Integer,
            Kind::Float4 | Kind::Float8 => Type::Real,
            Kind::Numeric => return (decimal(modifier).unwrap_or(Type::Text), Stored::Plain),
            Kind::Text | Kind::Blank | Kind::Enum | Kind::Uuid | Kind::Other(_) => Type::Text,
            Kind::Bytes => Type::Blob,
            Kind::Date => return (Type::Date, Stored::Iso8601(Spelling::DAY)),
            Kind::Timestamp | Kind::TimestampTz => Type::Timestamp(Unit::Microsecond),
            Kind::Json | Kind::Jsonb => Type::Json,
        };
        (kind, Stored::Plain)
    }
}

/// The decimal that a `numeric(precision, scale)` is.
fn decimal(modifier: i32) -> Option<Type> {
    let modifier = modifier.checked_sub(4).filter(|modifier| *modifier >= 0)?;
    let (precision, scale) = (modifier >> 16, modifier & 0x7FF);
    let precision = u8::try_from(precision)
        .ok()
        .filter(|precision| (1..=38).contains(precision))?;
    let scale = u8::try_from(scale)
        .ok()
        .filter(|scale| *scale <= precision)?;
    Some(Type::Decimal { precision, scale })
}
