//! Which records a client asks for, of which columns, in which order.

use std::fmt;
use std::sync::Arc;

use flows_formats::{Column, Schema, Type};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::definition::Stream;

/// How many of [`PARAMETERS`], the first ones, are bounds: each may be given more than once, and all hold then.
pub const BOUNDS: usize = 5;

/// The names of the request's parameters, bounds first. No stream and no column may be called so.
pub const PARAMETERS: [&str; 10] = [
    "scanned_after",
    "scanned_from",
    "scanned_before",
    "after",
    "until",
    "limit",
    "order",
    "columns",
    "count",
    "format",
];

/// The order in which records come, and so what a position is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// By time, then by id: the order of history.
    #[default]
    Time,
    /// By id: the order of arrival, in tables whose ids only grow.
    Id,
}

impl Order {
    /// Every order.
    pub const ALL: [Order; 2] = [Order::Time, Order::Id];

    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Order::Time => "time",
            Order::Id => "id",
        }
    }

    /// A position of a stream whose ids may be either, if it is written as [`Order::written`] does: what
    /// becomes part of a file's name must not be anything else.
    ///
    /// ```
    /// use flows::selection::{Order, Part, Position};
    /// let position = |key: i64, id| Some(Position { key: key.into(), id });
    /// assert_eq!(Order::Time.any_position("7:42"), position(7, 42.into()));
    /// assert_eq!(Order::Time.any_position("7:a%2Fb"), position(7, Part::Text("a/b".into())));
    /// assert_eq!(Order::Id.any_position("42"), position(42, Part::End));
    /// assert_eq!(Order::Time.any_position("7:../b"), None);
    /// ```
    pub fn any_position(self, text: &str) -> Option<Position> {
        let read = |ids: Ids| {
            let position = match self {
                Order::Time => {
                    let (time, id) = text.split_once(':')?;
                    Position {
                        key: integer(time)?,
                        id: ids.part(id)?,
                    }
                }
                Order::Id => Position::end_of(ids.part(text)?),
            };
            (self.written(&position, ids) == text).then_some(position)
        };
        read(Ids::Integers).or_else(|| read(Ids::Strings))
    }

    /// A position as it is in a URL: `TIME:ID`, or `ID` in the order of ids. A string is percent-encoded
    /// (RFC 3986 section 2.1).
    pub fn written(self, position: &Position, ids: Ids) -> String {
        match self {
            Order::Time => format!("{}:{}", position.key, ids.written(&position.id)),
            // What orders comes first, and there is nothing after it.
            Order::Id => ids.written(&position.key),
        }
    }
}

fn integer(text: &str) -> Option<Part> {
    let integer = text.parse().ok().filter(|_| !text.starts_with('+'));
    integer.map(Part::Integer)
}

/// What the ids of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ids {
    /// Integers.
    Integers,
    /// Strings.
    Strings,
}

/// After every id that is a string: what none of them has.
const END_OF_STRINGS: &str = "%";

impl Ids {
    /// An id as clients write it; percent-encoded once more than the URL's reader undid, or not: no id has
    /// a percent sign.
    ///
    /// ```
    /// use flows::selection::{Ids, Part};
    /// assert_eq!(Ids::Integers.part("42"), Some(42.into()));
    /// assert_eq!(Ids::Strings.part("a%20b"), Some(Part::Text("a b".into())));
    /// assert_eq!(Ids::Strings.part("a b"), Some(Part::Text("a b".into())));
    /// assert_eq!(Ids::Strings.part("%25"), Some(Part::End));
    /// assert_eq!(Ids::Integers.part("a"), None);
    /// ```
    pub fn part(self, text: &str) -> Option<Part> {
        match self {
            Ids::Integers => integer(text),
            Ids::Strings => {
                let text = percent_decode_str(text).decode_utf8().ok()?;
                if text == END_OF_STRINGS {
                    return Some(Part::End);
                }
                is_id(&text).then(|| Part::Text(text.into_owned()))
            }
        }
    }

    fn written(self, id: &Part) -> String {
        match (self, id) {
            (Ids::Strings, Part::End) => {
                utf8_percent_encode(END_OF_STRINGS, UNRESERVED).to_string()
            }
            (_, id) => id.to_string(),
        }
    }
}

/// Whether a string can be an id, and so a part of positions: a percent sign would not survive being
/// decoded twice, and a head of more than some KiB many a client.
pub fn is_id(text: &str) -> bool {
    (1..=1024).contains(&text.len()) && !text.contains('%')
}

/// A part of a record's position: its time, or its id.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A time, or an id that is an integer.
    Integer(i64),
    /// An id that is a string, in the order of its bytes. Without a percent sign, which would not
    /// survive being decoded twice.
    Text(String),
    /// After every id.
    End,
}

impl Clone for Part {
    fn clone(&self) -> Part {
        match self {
            Part::Integer(integer) => Part::Integer(*integer),
            Part::Text(text) => Part::Text(text.clone()),
            Part::End => Part::End,
        }
    }

    /// Keeps the memory that it has: each record of a scan has a position.
    #[inline]
    fn clone_from(&mut self, other: &Part) {
        match (self, other) {
            (Part::Text(text), Part::Text(other)) => other.clone_into(text),
            (part, other) => *part = other.clone(),
        }
    }
}

impl From<i64> for Part {
    fn from(integer: i64) -> Part {
        Part::Integer(integer)
    }
}

/// As it is in a URL: a string is percent-encoded (RFC 3986 section 2.1).
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Integer(integer) => integer.fmt(f),
            Part::Text(text) => utf8_percent_encode(text, UNRESERVED).fmt(f),
            Part::End => i64::MAX.fmt(f),
        }
    }
}

/// What is not encoded in a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A record's place in a stream. Records come in this order: by time, then by id.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The record's time; in the order of ids, its id.
    pub key: Part,
    /// The record's id.
    pub id: Part,
}

impl Clone for Position {
    fn clone(&self) -> Position {
        Position {
            key: self.key.clone(),
            id: self.id.clone(),
        }
    }

    #[inline]
    fn clone_from(&mut self, other: &Position) {
        self.key.clone_from(&other.key);
        self.id.clone_from(&other.id);
    }
}

impl Position {
    /// The position after every record of a time, or of an id.
    pub fn end_of(key: impl Into<Part>) -> Position {
        Position {
            key: key.into(),
            id: Part::End,
        }
    }
}

/// Notes where a record stands, in the memory that is there.
#[inline]
pub fn clone_into(position: &Position, noted: &mut Option<Position>) {
    match noted {
        Some(noted) => noted.clone_from(position),
        None => *noted = Some(position.clone()),
    }
}

/// A run of records between two positions: a window, a page, or a slice of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Only records strictly after this position; `None` begins with the first.
    pub after: Option<Position>,
    /// Only records up to this position, itself included; `None` ends with the last.
    pub until: Option<Position>,
    /// At most so many; 0 to `i64::MAX`.
    pub limit: Option<u64>,
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Equal to the value.
    Equal,
    /// Not null, and not equal to the value.
    NotEqual,
    /// Greater than the value.
    Greater,
    /// Greater than the value, or equal to it.
    GreaterOrEqual,
    /// Less than the value.
    Less,
    /// Less than the value, or equal to it.
    LessOrEqual,
    /// Equal to one of the values.
    In,
    /// A string in which `*` stands for any characters and `?` for one. Upper is not lower case.
    Like,
    /// Null.
    Null,
    /// Not null.
    NotNull,
}

/// A value that a column is compared to, of the column's declared type.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// For a column of integers; of timestamps, in their unit; of dates, in days since 1970; of booleans,
    /// 0 or 1.
    Integer(i64),
    /// For a column of reals. Never NaN.
    Real(f64),
    /// For a column of strings.
    Text(String),
    /// For a column of blobs.
    Blob(Vec<u8>),
    /// For a column of decimals: that number, times ten to the power of the column's scale.
    Decimal(i128),
}

impl Operand {
    /// How many bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        size_of::<Operand>()
            + match self {
                Operand::Integer(_) | Operand::Real(_) | Operand::Decimal(_) => 0,
                Operand::Text(text) => text.len(),
                Operand::Blob(bytes) => bytes.len(),
            }
    }
}

/// A condition that records must match.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The column's name.
    pub column: String,
    /// The column's declared type, by which it is compared.
    pub kind: Type,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared to: as many as the operator takes.
    pub operands: Vec<Operand>,
}

impl Filter {
    /// What every string that matches a pattern begins with; empty for other operators, too. What is
    /// sent as U+FFFD may be any bytes that are not UTF-8.
    ///
    /// ```
    /// use flows::selection::{Filter, Operand, Operator};
    /// let filter = |pattern: &str| Filter {
    ///     column: "src_comp".into(),
    ///     kind: flows_formats::Type::Text,
    ///     operator: Operator::Like,
    ///     operands: vec![Operand::Text(pattern.into())],
    /// };
    /// assert_eq!(filter("C17*").beginning(), "C17");
    /// assert_eq!(filter("C\u{FFFD}*").beginning(), "C");
    /// assert_eq!(filter("*7").beginning(), "");
    /// ```
    pub fn beginning(&self) -> &str {
        match (self.operator, self.operands.first()) {
            (Operator::Like, Some(Operand::Text(pattern))) => {
                let ends = ['*', '?', char::REPLACEMENT_CHARACTER];
                pattern.split(ends).next().unwrap_or_default()
            }
            _ => "",
        }
    }

    /// Whether it lets a boolean through, 0 or 1.
    pub fn lets_boolean(&self, boolean: i64) -> bool {
        let is = |operand: &Operand| *operand == Operand::Integer(boolean);
        let compares = |holds: fn(i64, i64) -> bool| match self.operands.first() {
            Some(Operand::Integer(operand)) => holds(boolean, *operand),
            _ => false,
        };
        match self.operator {
            Operator::Equal | Operator::In => self.operands.iter().any(is),
            Operator::NotEqual => compares(|a, b| a != b),
            Operator::Greater => compares(|a, b| a > b),
            Operator::GreaterOrEqual => compares(|a, b| a >= b),
            Operator::Less => compares(|a, b| a < b),
            Operator::LessOrEqual => compares(|a, b| a <= b),
            Operator::Like | Operator::Null | Operator::NotNull => false,
        }
    }

    /// Whether it tells strings apart by what stands for bytes that are not UTF-8: those that are not
    /// are then compared as they are sent. To any other value no such string is equal.
    pub fn is_of_replaced(&self) -> bool {
        let equality = [Operator::Equal, Operator::NotEqual, Operator::In];
        let replaced = |operand: &Operand| match operand {
            Operand::Text(text) => text.contains(char::REPLACEMENT_CHARACTER),
            _ => false,
        };
        equality.contains(&self.operator) && self.operands.iter().any(replaced)
    }
}

/// What a request reads of a stream: the columns it sends, in which order, and which records.
#[derive(Debug)]
pub struct View {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The columns to send.
    pub schema: Schema,
    /// The order of records.
    pub order: Order,
    /// All of them must hold.
    pub filters: Vec<Filter>,
    /// Tells views from one another that need different queries, whatever is compared to.
    shape: String,
}

impl View {
    /// All columns and records of a stream, in the order of time.
    pub fn all(stream: Arc<Stream>) -> View {
        let schema = stream.schema.clone();
        View::new(stream, schema.columns, Order::Time, Vec::new())
    }

    /// Some columns of a stream, and the records that match all filters.
    pub fn new(
        stream: Arc<Stream>,
        columns: Vec<Column>,
        order: Order,
        filters: Vec<Filter>,
    ) -> View {
        // Without columns it reads positions, and is not the view of all columns.
        let mut shape = Shape(format!(
            "{} {} {}",
            stream.number,
            order.name(),
            columns.len()
        ));
        if columns != stream.schema.columns {
            columns.iter().for_each(|column| shape.add(&column.name));
        }
        for filter in &filters {
            shape.add(&filter.column);
            shape.0.push_str(&format!("{:?}", filter.operator));
            // What all matches begin with may be found through an index.
            shape.0.push(if filter.beginning().is_empty() {
                ' '
            } else {
                '^'
            });
            if filter.is_of_replaced() {
                shape.0.push_str(" replaced");
            }
        }
        let schema = Schema {
            name: stream.schema.name.clone(),
            columns,
        };
        View {
            stream,
            schema,
            order,
            filters,
            shape: shape.0,
        }
    }

    /// The same records, of which nothing but their positions is read.
    pub fn positions(&self) -> View {
        let stream = Arc::clone(&self.stream);
        View::new(stream, Vec::new(), self.order, self.filters.clone())
    }

    /// Equal for views of one stream that differ in nothing but what they compare to.
    pub fn shape(&self) -> &str {
        &self.shape
    }

    /// The column that records are ordered by.
    pub fn key(&self) -> &str {
        match self.order {
            Order::Time => &self.stream.time,
            Order::Id => &self.stream.id,
        }
    }

    /// The column that orders records of the same time.
    pub fn id(&self) -> &str {
        &self.stream.id
    }
}

/// A shape whose parts cannot run into one another.
struct Shape(String);

impl Shape {
    fn add(&mut self, part: &str) {
        self.0.push_str(&format!(" {}:{part} ", part.len()));
    }
}
