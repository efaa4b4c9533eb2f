//! Whether a database answers: asked on a connection of its own, so that a pool whose connections all stream is
//! not taken for a database that is locked.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode};

use super::connection::{failed, no_plan};
use super::file::open;
use super::plan::Plan;
use super::{functions, query_view};
use crate::config::Database;
use crate::selection::View;
use crate::store::StoreError;

/// The longest that it waits for a lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether each view can be read, as far as its schema says. Blocks its thread.
pub(super) fn probe(settings: &Database, views: &[Arc<View>]) -> Vec<Result<(), StoreError>> {
    let path = &settings.path;
    let file = std::fs::metadata(path);
    // Opening a pipe would wait for its other end.
    let is_file = file.as_ref().is_ok_and(|file| file.is_file());
    let opened = is_file.then(|| open(settings)).map(|opened| {
        let connection = opened?;
        connection.busy_timeout(settings.busy.min(PATIENCE))?;
        functions::register(&connection)?;
        Ok(connection)
    });
    let answer = |view: &Arc<View>| {
        if let Err(error) = &file {
            return Err(StoreError::Gone {
                path: path.clone(),
                reason: error.to_string(),
            });
        }
        let failed = |error: &Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase { path: path.clone() },
            _ => failed(&view.stream, error),
        };
        let Some(opened) = &opened else {
            return Err(StoreError::NotADatabase { path: path.clone() });
        };
        let connection = opened.as_ref().map_err(failed)?;
        let answer = read(connection, view, settings.page_reader, &failed);
        if matches!(answer, Err(StoreError::Busy { .. })) {
            // It will be so for the others: that is not waited for again and again.
            let _ = connection.busy_timeout(Duration::ZERO);
        }
        answer
    };
    views.iter().map(answer).collect()
}

/// Looks at a view in a snapshot.
fn read(
    connection: &Connection,
    view: &View,
    page_reader: bool,
    failed: &dyn Fn(&Error) -> StoreError,
) -> Result<(), StoreError> {
    let stream = &view.stream;
    let error = |error| failed(&error);
    query_view::make(connection, stream).map_err(error)?;
    let _snapshot = connection.unchecked_transaction().map_err(error)?;
    let plan = Plan::new(connection, view, page_reader).map_err(error)?;
    plan.map(drop).map_err(|why| no_plan(stream, why))
}
