//! Flows into a table of a PostgreSQL server.

use indicatif::ProgressBar;

use super::{ImportError, Imported, Interrupt, Source, fill};
use crate::config::Database;
use crate::definition::Stream;
use crate::lanl::flow::{COLUMNS, Field};
use crate::store::postgres::{Failure, Load, NoLoad};

/// Loads every line that is a flow, in one transaction.
pub(super) fn load(
    source: Source,
    database: &Database,
    stream: &Stream,
    append: bool,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<Imported, ImportError> {
    let place = database.place();
    let table = || stream.relation().into_owned();
    let failed = |failure: Failure| ImportError::Server {
        place: place.clone(),
        reason: failure.to_string(),
    };
    let no_load = |error| match error {
        NoLoad::Failed(failure) => failed(failure),
        NoLoad::NotEmpty => ImportError::NotEmpty {
            table: table(),
            place: place.clone(),
        },
        NoLoad::OtherTable(reason) => ImportError::OtherTable {
            table: table(),
            place: place.clone(),
            reason,
        },
    };
    let mut columns = vec!["id"];
    columns.extend(COLUMNS.iter().map(|(name, _)| *name));
    let (mut load, before) = Load::begin(database, stream, &columns, append).map_err(no_load)?;
    let imported = fill(source, stream, before, bar, interrupt, &mut |batch, id| {
        for flow in batch.flows() {
            *id += 1;
            load.integer(*id).map_err(no_load)?;
            for field in flow {
                match field {
                    Field::Integer(integer) => load.integer(integer),
                    Field::Text(text) => load.text(text),
                }
                .map_err(no_load)?;
            }
            load.flush().map_err(failed)?;
        }
        Ok(())
    })?;
    load.complete(imported.ids.1).map_err(failed)?;
    if !interrupt.may_commit() {
        return Err(ImportError::Interrupted);
    }
    load.commit().map_err(failed)?;
    Ok(imported)
}
