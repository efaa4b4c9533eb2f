//! What stores yield and encoders consume: [`Schema`], [`Column`], [`Value`], [`Record`].

use std::fmt;

use crate::time::Unit;

/// The type a column is declared with. It decides what is sent, whatever the database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A signed 64-bit integer.
    Integer,
    /// A 64-bit IEEE 754 number; infinities and NaN occur.
    Real,
    /// Unicode text, possibly empty, possibly with control characters.
    Text,
    /// Bytes. Formats that are text write them in base64 (RFC 4648, with padding).
    Blob,
    /// An instant of the years 1 to 9999, in UTC: as many of the unit since 1970 as
    /// [`Value::Integer`] says. As text: RFC 3339, with the unit's digits.
    Timestamp(Unit),
    /// A day of the years 1 to 9999: so many since 1970 as [`Value::Integer`] says. As text: RFC 3339's
    /// `full-date`.
    Date,
    /// [`Value::Integer`] 0 or 1. As text: `false` or `true`.
    Boolean,
    /// An exact number, as [`Value::Text`]: a JSON number (RFC 8259 section 6) without an exponent.
    Decimal {
        /// The most digits that it has, 1 to 38.
        precision: u8,
        /// The most digits after the point, at most as many.
        scale: u8,
    },
    /// A JSON text (RFC 8259), as [`Value::Text`].
    Json,
}

impl Type {
    /// The name of every type, in the order in which documentation lists them.
    pub const NAMES: [&str; 9] = [
        "integer",
        "real",
        "text",
        "blob",
        "timestamp",
        "date",
        "boolean",
        "decimal",
        "json",
    ];

    /// The name by which configuration and messages call the type.
    ///
    /// ```
    /// assert_eq!(flows_formats::Type::Integer.name(), "integer");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Type::Integer => "integer",
            Type::Real => "real",
            Type::Text => "text",
            Type::Blob => "blob",
            Type::Timestamp(_) => "timestamp",
            Type::Date => "date",
            Type::Boolean => "boolean",
            Type::Decimal { .. } => "decimal",
            Type::Json => "json",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Type::Timestamp(unit) => write!(f, " in {}", unit.name()),
            Type::Decimal { precision, scale } => write!(f, "({precision}, {scale})"),
            _ => Ok(()),
        }
    }
}

/// One column of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name, as the client sees it. Not empty; otherwise any string.
    pub name: String,
    /// The type that every value of the column has, unless it is null.
    pub kind: Type,
    /// Whether a value may be null.
    pub nullable: bool,
}

/// The columns of a stream, in the order in which records carry their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The stream's name.
    pub name: String,
    /// The columns, at least one, with distinct names.
    pub columns: Vec<Column>,
}

/// One value, borrowed from the store for as long as its record is being encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value. Occurs only in nullable columns.
    Null,
    /// The value of an integer column; what else it may mean, [`Type`] says.
    Integer(i64),
    /// The value of a real column.
    Real(f64),
    /// The value of a text column, or of what [`Type`] says: valid UTF-8; what was not is U+FFFD already.
    Text(&'a str),
    /// The value of a blob column.
    Blob(&'a [u8]),
}

/// One record: a value for each column of the [`Schema`], in its order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// The values; as many as the schema has columns, each null or of its column's type.
    pub values: &'a [Value<'a>],
}
