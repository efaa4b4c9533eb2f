//! A look at some records: those of both ends of a table and of its middle.

use std::time::{Duration, Instant};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, Result, params_from_iter};

use super::scan::with_deadline;
use super::table::{Affinity, Table};
use crate::store::Cancel;
use crate::store::quoted;

/// How long looking at the records of one table may take, which takes milliseconds unless all else does.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same of a view, which may have to look long for its first record.
const PATIENCE_WITH_VIEWS: Duration = Duration::from_millis(100);

/// The most records of each of the three places.
const MOST: usize = 1000;

/// The most values of each of them: tables may have many columns.
const MOST_VALUES: usize = 30_000;

/// Longer texts and blobs are not looked into.
const LONGEST: usize = 1 << 16;

/// Some records of a table.
pub(super) struct Sample {
    /// The values of each column: the records of the beginning, of the middle and of the end.
    pub(super) columns: Vec<Vec<Value>>,
    /// How many records there are.
    pub(super) records: usize,
}

/// Which records of a table are looked at.
enum Part {
    Beginning,
    End,
    Middle,
}

/// Looks at some records of a table, no longer than a moment; where that is over, there may be fewer.
/// `columns` are expressions, each of a column of that affinity.
pub(super) fn sample(
    connection: &Connection,
    name: &str,
    table: &Table,
    columns: &[(String, Affinity)],
) -> Result<Sample> {
    let sampler = Sampler {
        connection,
        table: quoted(name),
        key: table.clustered_by().into_iter().map(quoted).collect(),
        columns: columns.iter().map(shortened).collect(),
        most: (MOST_VALUES / columns.len().max(1)).clamp(100, MOST),
        deadline: Instant::now()
            + if table.view {
                PATIENCE_WITH_VIEWS
            } else {
                PATIENCE
            },
    };
    let mut rows = sampler.rows(Part::Beginning, &[], &[])?;
    let key = sampler.key.len();
    let key_of = |row: &[Value]| row[..key].to_vec();
    if rows.len() == sampler.most && key > 0 {
        let first = rows.last().map(|row| key_of(row)).unwrap_or_default();
        let mut end = sampler.rows(Part::End, &first, &[])?;
        end.reverse();
        if let Some(last) = end.first().map(|row| key_of(row)) {
            rows.extend(sampler.rows(Part::Middle, &first, &last)?);
        }
        rows.extend(end);
    }
    let mut columns = vec![Vec::with_capacity(rows.len()); columns.len()];
    let records = rows.len();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row.into_iter().skip(key)) {
            column.push(value);
        }
    }
    Ok(Sample { columns, records })
}

/// A column's value, unless it is long: one of that kind, then.
fn shortened((column, affinity): &(String, Affinity)) -> String {
    if matches!(affinity, Affinity::Integer | Affinity::Real) {
        // Where numbers are meant to be, nothing is long, and asking takes time.
        return column.clone();
    }
    format!(
        "CASE WHEN typeof({column}) IN ('text', 'blob') AND octet_length({column}) > {LONGEST} THEN \
         iif(typeof({column}) = 'text', '…', x'') ELSE {column} END"
    )
}

struct Sampler<'a> {
    connection: &'a Connection,
    table: String,
    /// What the table keeps its records in the order of.
    key: Vec<String>,
    columns: Vec<String>,
    most: usize,
    deadline: Instant,
}

impl Sampler<'_> {
    /// Records of a part, after the one of that key and before the one of the other.
    fn rows(&self, part: Part, after: &[Value], before: &[Value]) -> Result<Vec<Vec<Value>>> {
        let Sampler { key, table, .. } = self;
        let keys = key.join(", ");
        let marks = vec!["?"; key.len()].join(", ");
        let mut bound: Vec<Value> = [after, before].concat();
        let (condition, order) = match part {
            Part::Beginning => (String::new(), ""),
            Part::End => (format!(" WHERE ({keys}) > ({marks})"), " DESC"),
            Part::Middle => {
                let (Some(Value::Integer(first)), Some(Value::Integer(last))) =
                    (after.first(), before.first())
                else {
                    // There is no middle between texts.
                    return Ok(Vec::new());
                };
                bound.push(Value::Integer(first.midpoint(*last)));
                let first = &key[0];
                (
                    format!(
                        " WHERE ({keys}) > ({marks}) AND ({keys}) < ({marks}) AND {first} >= ?"
                    ),
                    "",
                )
            }
        };
        let by: Vec<_> = key.iter().map(|key| format!("{key}{order}")).collect();
        let order = match by.as_slice() {
            [] => String::new(),
            by => format!(" ORDER BY {}", by.join(", ")),
        };
        let columns: Vec<_> = key
            .iter()
            .chain(&self.columns)
            .map(String::as_str)
            .collect();
        let sql = format!(
            "SELECT {} FROM {table} AS t{condition}{order} LIMIT {}",
            columns.join(", "),
            self.most
        );
        let left = self.deadline.saturating_duration_since(Instant::now());
        with_deadline(&Cancel::default(), Some(left), || {
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query(params_from_iter(bound))?;
            let mut found = Vec::new();
            loop {
                match rows.next() {
                    Ok(Some(row)) => {
                        let value = |at| row.get_ref(at).map(owned);
                        found.push((0..columns.len()).map(value).collect::<Result<_>>()?);
                    }
                    Ok(None) => return Ok(found),
                    Err(error) if is_late(&error) => return Ok(found),
                    Err(error) => return Err(error),
                }
            }
        })
    }
}

fn is_late(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(text) => Value::Text(match str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            // Nothing but a text, and so is this: no JSON, no time, no id.
            Err(_) => format!("\u{FFFD}{}", String::from_utf8_lossy(text)),
        }),
    }
}
