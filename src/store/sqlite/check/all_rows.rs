//! Whether every record of a stream is as it is declared: read as a request reads them.

use std::sync::Arc;

use flows_formats::Record;
use rusqlite::{Connection, Result};

use super::database::open;
use crate::config::Database;
use crate::definition::Stream;
use crate::selection::{Position, View};
use crate::store::quoted;
use crate::store::sqlite::held;
use crate::store::sqlite::plan::Plan;
use crate::store::sqlite::query_view;
use crate::store::values::Decoder;
use crate::store::wrong_records::{STEP, WrongRecords};
use crate::store::{Finding, Sink, Stop, StoreError};

/// Reads every record of a stream, and goes on after those that would break it. `progress` is told how
/// many were read, and of how many, if that is known.
pub(in crate::store::sqlite) fn all_rows(
    database: &Database,
    stream: &Arc<Stream>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What there is to say of the file, the check has said.
    let read = match open(database, false, &mut Vec::new()) {
        Ok(connection) => read(&connection, stream, &mut findings, progress),
        Err(_) => return findings,
    };
    if let Err(error) = read {
        let text = format!(
            "stream {}: reading its records ended with: {error}",
            stream.name
        );
        findings.push(Finding::Error(text));
    }
    findings
}

fn read(
    connection: &Connection,
    stream: &Arc<Stream>,
    findings: &mut Vec<Finding>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let name = &stream.name;
    let view = Arc::new(View::all(Arc::clone(stream)));
    query_view::make(connection, stream)?;
    // Pages are read where that is fast; what they say is the same.
    let Ok(plan) = Plan::new(connection, &view, false)? else {
        // The check has said why.
        return Ok(());
    };
    let query = &plan.query;
    connection.execute_batch("BEGIN")?;
    let total = if plan.is_of_view() {
        None
    } else {
        let count = format!("SELECT count(*) FROM {}", quoted(&stream.relation()));
        let count: i64 = connection.query_row(&count, [], |row| row.get(0))?;
        Some(count.unsigned_abs())
    };
    let (mut records, mut sink) = (0_u64, Replaced::default());
    let mut wrong = WrongRecords::new(name, findings);
    let mut decoder = Decoder::new(
        Arc::clone(&view),
        query.readings(&view.stream),
        query.position_at(),
    );
    let mut statement = connection.prepare(&query.every())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if records.is_multiple_of(STEP) {
            progress(records, total);
        }
        records += 1;
        let value = |column| held(row.get_ref(column).expect("the query has this column"));
        let Err(error) = decoder.record(value, &mut sink) else {
            continue;
        };
        wrong.add(&error);
        if !matches!(error, StoreError::Value { .. }) {
            break;
        }
    }
    progress(records, total);
    wrong.end(records);
    if sink.0 > 0 {
        findings.push(Finding::Warning(format!(
            "stream {name}: {} strings are not UTF-8, and are sent with U+FFFD in the place of what is not",
            sink.0
        )));
    }
    Ok(())
}

/// Takes every record, and counts the strings that were not UTF-8.
#[derive(Default)]
struct Replaced(u64);

impl Sink for Replaced {
    fn record(&mut self, _: &Record<'_>, _: &Position) -> std::result::Result<(), Stop> {
        Ok(())
    }

    fn tick(&mut self) -> std::result::Result<(), Stop> {
        Ok(())
    }

    fn replaced(&mut self) {
        self.0 += 1;
    }
}
