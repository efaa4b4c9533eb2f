//! A stream's query, as a view that only one connection has: the database is not written to.

use rusqlite::{Connection, Error, Result};

use crate::definition::{Source, Stream};
use crate::store::quoted;

/// Makes the view of a stream's query, in place of one that the stream had before, for as long as the
/// connection lasts; nothing, where the stream has a table. Outside of a transaction, whose end would end it.
///
/// That what the query reads from is there is not looked at: it may come and go.
pub(super) fn make(connection: &Connection, stream: &Stream) -> Result<()> {
    let Source::Query(query) = &stream.source else {
        return Ok(());
    };
    let name = quoted(&stream.relation());
    // Tables of the connection itself count as the database's.
    connection.pragma_update(None, "query_only", false)?;
    let made = connection
        .execute(&format!("DROP VIEW IF EXISTS temp.{name}"), [])
        .and_then(|_| connection.execute(&format!("CREATE TEMP VIEW {name} AS {query}"), []));
    connection.pragma_update(None, "query_only", true)?;
    made.map(drop)
}

/// What the database said of a stream, and that it said it of the query if there is one.
pub(super) fn reason(stream: &Stream, error: &Error) -> String {
    let reason = match error {
        // The statement is ours, and may name columns that are not served.
        Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    };
    match stream.source {
        Source::Table(_) => reason,
        Source::Query(_) => format!("its query: {reason}"),
    }
}

/// A column that the stream needs and its query yields more than once.
pub(super) fn repeated(connection: &Connection, stream: &Stream) -> Result<Option<String>> {
    let Source::Query(query) = &stream.source else {
        return Ok(None);
    };
    let statement = connection.prepare(query)?;
    let names = statement.column_names();
    let repeats = |name: &str| {
        let same = names
            .iter()
            .filter(|other| other.eq_ignore_ascii_case(name));
        same.count() > 1
    };
    let declared = stream.declared.iter().map(|column| &column.name);
    let mut needed = declared.chain([&stream.time, &stream.id]);
    Ok(needed.find(|name| repeats(name)).cloned())
}
