//! What a stream is: a table or a query, and what of it is served. The configuration makes them; everything else
//! reads them.

mod declaration;
mod spelling;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use flows_formats::{Schema, Type};

use crate::selection::Ids;
pub use declaration::declaration;
pub use spelling::{Day, NoSpelling, Spelling};

/// One stream: a table or a query, and what of it is served.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Tells definitions from one another while the process runs, also those of one name.
    pub number: Number,
    /// The name in the URL.
    pub name: String,
    /// What its records are read from.
    pub source: Source,
    /// The name of the database that it is in; none is the one of `[database]`.
    pub database: Option<String>,
    /// The column that holds a record's time.
    pub time: String,
    /// The column that holds a record's id.
    pub id: String,
    /// Whether clients may filter by the columns that are served.
    pub filters: bool,
    /// The name of the format when the client asks for none.
    pub default_format: String,
    /// The columns to send, in order.
    pub schema: Schema,
    /// What every column that is read is declared to be: those of the schema, the time and the id.
    pub declared: Vec<Declared>,
}

/// A number that no other definition of a stream has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number(u64);

impl Number {
    /// The next one.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Number {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Number(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the records of a stream are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table or view of this name.
    Table(String),
    /// A `SELECT`: a view that the database does not have.
    Query(String),
}

impl Stream {
    /// What SQL reads the records from: the table, or the view that each connection makes of the query.
    /// A query may well read from a table that is called as its stream is.
    pub fn relation(&self) -> Cow<'_, str> {
        match &self.source {
            Source::Table(name) => Cow::Borrowed(name),
            Source::Query(_) => Cow::Owned(format!("query of stream {}", self.name)),
        }
    }

    /// What messages call that: `table logins`, `query of stream logins`.
    pub fn origin(&self) -> Cow<'_, str> {
        match &self.source {
            Source::Table(name) => Cow::Owned(format!("table {name}")),
            Source::Query(_) => self.relation(),
        }
    }

    /// What a column is declared to be; an integer, where nothing is.
    pub fn declared(&self, column: &str) -> (Type, Stored) {
        let found = self.declared.iter().find(|known| known.name == column);
        found.map_or((Type::Integer, Stored::Plain), |known| {
            (known.kind, known.stored)
        })
    }

    /// What the ids are.
    pub fn ids(&self) -> Ids {
        match self.declared(&self.id) {
            (Type::Text, _) => Ids::Strings,
            _ => Ids::Integers,
        }
    }
}

/// What a column is declared to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The type that its values are sent as.
    pub kind: Type,
    /// How the database holds them.
    pub stored: Stored,
}

/// How the database holds a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// As the type says: a timestamp as an integer in its unit, a date as days since 1970.
    Plain,
    /// A timestamp as seconds since 1970, in a real.
    EpochReal,
    /// A timestamp or a date as text.
    Iso8601(Spelling),
}
