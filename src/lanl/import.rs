//! Loads LANL's lines into the table of the stream `flows`, all or nothing.
//!
//! | file | what it does |
//! |---|---|
//! | `lanl/import/source.rs` | lines out of a file, a gzip file or standard input |
//! | `lanl/import/batches.rs` | reads and understands lines while others are written |
//! | `lanl/import/postgres.rs` | a table of a PostgreSQL server |
//! | `lanl/import/target.rs` | the file: a new one appears complete, an old one in one transaction |
//! | `lanl/import/table.rs` | its table: whether it takes flows, how it is made and filled |
//! | `lanl/import/remains.rs` | what is left beside a database that was removed |
//! | `lanl/import/interrupt.rs` | the moment after which it cannot be interrupted |
//! | `lanl/import/rejected.rs` | the lines that were not kept |
//! | `lanl/import/error.rs` | why nothing was imported |

mod batches;
mod error;
mod interrupt;
mod postgres;
mod rejected;
mod remains;
mod source;
mod table;
mod target;

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use crate::config::Database;
use crate::definition::{self, Stream};
use batches::Batch;
pub use error::ImportError;
pub use interrupt::Interrupt;
use rejected::Rejected;
pub use source::Source;
use table::{TOGETHER, insert_records, insert_sql, table, takes_flows};
use target::Target;

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The largest id before and after: so many records were written.
    pub ids: (i64, i64),
    /// Lines that were not flows.
    pub rejected: u64,
    /// Where those lines are, if there were any.
    pub rejected_file: PathBuf,
}

/// Loads every line of `source` that is a flow into the table of `stream`, numbering the records in
/// `id`. The table is made where there is none. Progress goes to `bar`.
///
/// # Errors
/// Whatever happens, the database is then as it was before.
pub fn import(
    source: Source,
    database: &Database,
    stream: &Stream,
    append: bool,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<Imported, ImportError> {
    match load(source, database, stream, append, bar, interrupt) {
        // Whatever failed, this is why.
        Err(_) if interrupt.is_interrupted() => Err(ImportError::Interrupted),
        imported => imported,
    }
}

fn load(
    source: Source,
    database: &Database,
    stream: &Stream,
    append: bool,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<Imported, ImportError> {
    if let definition::Source::Query(_) = stream.source {
        return Err(ImportError::NoTable {
            stream: stream.name.clone(),
        });
    }
    if !takes_flows(stream) {
        return Err(ImportError::OtherColumns {
            stream: stream.name.clone(),
        });
    }
    match database.url {
        Some(_) => postgres::load(source, database, stream, append, bar, interrupt),
        None => load_file(source, &database.path, stream, append, bar, interrupt),
    }
}

fn load_file(
    source: Source,
    database: &Path,
    stream: &Stream,
    append: bool,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<Imported, ImportError> {
    let failed = |reason| ImportError::Database {
        path: database.to_owned(),
        reason,
    };
    let mut target = Target::open(database, interrupt)?;
    let transaction = target.begin()?;
    let before = table(&transaction, database, stream, append)?;
    let prepare = |rows| {
        transaction
            .prepare(&insert_sql(stream, rows))
            .map_err(failed)
    };
    let (mut insert, mut insert_one) = (prepare(TOGETHER)?, prepare(1)?);
    let imported = fill(source, stream, before, bar, interrupt, &mut |batch, id| {
        let mut flows = batch.flows();
        while flows.len() >= TOGETHER {
            let flows = flows.by_ref().take(TOGETHER);
            insert_records(&mut insert, id, flows).map_err(failed)?;
        }
        for flow in flows {
            insert_records(&mut insert_one, id, [flow]).map_err(failed)?;
        }
        Ok(())
    })?;
    drop((insert, insert_one));
    if !interrupt.may_commit() {
        return Err(ImportError::Interrupted);
    }
    transaction.commit().map_err(failed)?;
    target.publish()?;
    Ok(imported)
}

/// Has every flow of a source written, by `write`, which numbers them after the last id.
fn fill(
    source: Source,
    stream: &Stream,
    before: i64,
    bar: &ProgressBar,
    interrupt: &Interrupt,
    write: &mut dyn FnMut(&Batch, &mut i64) -> Result<(), ImportError>,
) -> Result<Imported, ImportError> {
    let mut rejected = Rejected::new(source.rejected_path());
    let source_name = source.name().to_owned();
    let mut id = before;
    for batch in batches::read(source) {
        let batch = batch?;
        for (number, reason, line) in &batch.rejected {
            rejected.line(*number, reason, line)?;
        }
        id.checked_add(batch.flows().len() as i64)
            .ok_or_else(|| ImportError::NoIds {
                table: stream.relation().into_owned(),
                id,
            })?;
        write(&batch, &mut id)?;
        let rows = id - before;
        let per_second = rows as f64 / bar.elapsed().as_secs_f64();
        bar.set_message(format!("{rows} rows, {per_second:.0} rows/s"));
        if interrupt.is_interrupted() {
            return Err(ImportError::Interrupted);
        }
    }
    rejected.finish()?;
    if id == before && rejected.count() > 0 {
        return Err(ImportError::NoFlows {
            source_name,
            rejected: rejected.count(),
            rejected_file: rejected.path(),
        });
    }
    Ok(Imported {
        ids: (before, id),
        rejected: rejected.count(),
        rejected_file: rejected.path(),
    })
}
