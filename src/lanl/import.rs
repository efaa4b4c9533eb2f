//! Loads LANL's lines into the table of the stream `flows`, all or nothing.
//!
//! | file | what it does |
//! |---|---|
//! | `lanl/import/source.rs` | lines out of a file, a gzip file or standard input |
//! | `lanl/import/batches.rs` | reads and understands lines while others are written |
//! | `lanl/import/target.rs` | the database: a new one appears complete, an old one in one transaction |
//! | `lanl/import/interrupt.rs` | the moment after which it cannot be interrupted |
//! | `lanl/import/rejected.rs` | the lines that were not kept |

mod batches;
mod interrupt;
mod rejected;
mod source;
mod target;

use std::io;
use std::path::{Path, PathBuf};

use flows_formats::{Column, Type};
use indicatif::ProgressBar;
use rusqlite::{Connection, Statement};

use crate::definition::Stream;
use crate::lanl::flow::{COLUMNS, Field};
use crate::store::sqlite::{Table, quoted};
pub use interrupt::Interrupt;
use rejected::Rejected;
pub use source::Source;
use target::Target;

/// Flows that one statement inserts: to begin and end one costs as much as some of them.
const TOGETHER: usize = 16;

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The largest id before and after: so many records were written.
    pub ids: (i64, i64),
    /// Lines that were no flows.
    pub rejected: u64,
    /// Where those lines are, if there were any.
    pub rejected_file: PathBuf,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The stream is not LANL's.
    #[error(
        "the stream {stream} has other columns than LANL's lines ({}): import another way, or use the default configuration",
        expected_columns()
    )]
    OtherColumns {
        /// The stream's name.
        stream: String,
    },
    /// The table has rows already.
    #[error("the table {table} of {} has records already; --append adds to them", path.display())]
    NotEmpty {
        /// The table's name.
        table: String,
        /// The database.
        path: PathBuf,
    },
    /// The table cannot take LANL's records.
    #[error("the table {table} of {} {reason}; import into a new database, or name another table in the configuration", path.display())]
    OtherTable {
        /// The table's name.
        table: String,
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No line was a flow.
    #[error("none of the {rejected} lines of {source_name} is a flow, see {}; nothing was imported", rejected_file.display())]
    NoFlows {
        /// The source's name.
        source_name: String,
        /// How many lines there were.
        rejected: u64,
        /// Where they are, with the reasons.
        rejected_file: PathBuf,
    },
    /// The table's ids leave no room.
    #[error("the table {table} has the id {id}, after which there are no more 64-bit integers")]
    NoIds {
        /// The table's name.
        table: String,
        /// The largest id.
        id: i64,
    },
    /// Another import into the same new database.
    #[error("another import is writing {}; wait until it has ended", path.display())]
    Running {
        /// The file that it writes.
        path: PathBuf,
    },
    /// The source cannot be read.
    #[error("cannot read {source_name}: {reason}; nothing was imported")]
    Source {
        /// The source's name.
        source_name: String,
        /// What the system, or the decompressor, said.
        reason: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}; nothing was imported", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The database's path is a symbolic link to nothing.
    #[error("{} is a symbolic link to nothing; name the file itself", path.display())]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// The database refuses.
    #[error("{}: {reason}; nothing was imported", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        reason: rusqlite::Error,
    },
    /// A signal came.
    #[error("interrupted; nothing was imported")]
    Interrupted,
}

/// Loads every line of `source` that is a flow into the table of `stream`, numbering the records in
/// `id`. The table is made where there is none. Progress goes to `bar`.
///
/// # Errors
/// Whatever happens, the database is then as it was before.
pub fn import(
    source: Source,
    database: &Path,
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
    database: &Path,
    stream: &Stream,
    append: bool,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<Imported, ImportError> {
    if !takes_flows(stream) {
        return Err(ImportError::OtherColumns {
            stream: stream.name.clone(),
        });
    }
    let failed = |reason| ImportError::Database {
        path: database.to_owned(),
        reason,
    };
    let mut target = Target::open(database, interrupt)?;
    let mut rejected = Rejected::new(source.rejected_path());
    let source_name = source.name().to_owned();
    let transaction = target.begin()?;
    let (made, before) = table(&transaction, database, stream, append)?;
    let mut id = before;
    {
        let prepare = |rows| {
            transaction
                .prepare(&insert_sql(stream, rows))
                .map_err(failed)
        };
        let (mut insert, mut insert_rest) = (prepare(TOGETHER)?, prepare(1)?);
        for batch in batches::read(source) {
            let batch = batch?;
            for (number, reason, line) in &batch.rejected {
                rejected.line(*number, reason, line)?;
            }
            let flows: Vec<_> = batch.flows().collect();
            id.checked_add(flows.len() as i64)
                .ok_or_else(|| ImportError::NoIds {
                    table: stream.table.clone(),
                    id,
                })?;
            let (together, rest) = flows.as_chunks::<TOGETHER>();
            for flows in together {
                insert_records(&mut insert, &mut id, flows).map_err(failed)?;
            }
            for flow in rest {
                insert_records(&mut insert_rest, &mut id, &[*flow]).map_err(failed)?;
            }
            let rows = id - before;
            let per_second = rows as f64 / bar.elapsed().as_secs_f64();
            bar.set_message(format!("{rows} rows, {per_second:.0} rows/s"));
            if interrupt.is_interrupted() {
                return Err(ImportError::Interrupted);
            }
        }
    }
    if made {
        bar.set_message("making the index on id");
        let index = quoted(&format!("{}_id", stream.table));
        let (table, id) = (quoted(&stream.table), quoted(&stream.id));
        let sql = format!("CREATE UNIQUE INDEX {index} ON {table} ({id})");
        transaction.execute_batch(&sql).map_err(failed)?;
    }
    rejected.finish()?;
    if id == before && rejected.count() > 0 {
        return Err(ImportError::NoFlows {
            source_name,
            rejected: rejected.count(),
            rejected_file: rejected.path(),
        });
    }
    if !interrupt.may_commit() {
        return Err(ImportError::Interrupted);
    }
    transaction.commit().map_err(failed)?;
    target.publish()?;
    Ok(Imported {
        ids: (before, id),
        rejected: rejected.count(),
        rejected_file: rejected.path(),
    })
}

/// Whether the stream has the columns of LANL's lines, and `time` and `id` mean what they say.
fn takes_flows(stream: &Stream) -> bool {
    let columns = &stream.schema.columns;
    let has = |name: &str, kind| columns.iter().any(|c| c.name == name && c.kind == kind);
    stream.time == "time"
        && stream.id == "id"
        && columns.len() == COLUMNS.len() + 1
        && has("id", Type::Integer)
        && COLUMNS.iter().all(|(name, kind)| has(name, *kind))
}

fn expected_columns() -> String {
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    format!("id, {}", names.join(", "))
}

/// Finds the table or makes it: whether it was made, and the largest id in it.
///
/// The table is clustered by `(time, id)`, so that a window is read from one end to the other.
fn table(
    connection: &Connection,
    database: &Path,
    stream: &Stream,
    append: bool,
) -> Result<(bool, i64), ImportError> {
    let failed = |reason| ImportError::Database {
        path: database.to_owned(),
        reason,
    };
    let table = quoted(&stream.table);
    let Some(known) = Table::inspect(connection, &stream.table).map_err(failed)? else {
        let column = |column: &Column| {
            let kind = column.kind.name().to_ascii_uppercase();
            format!("{} {kind} NOT NULL", quoted(&column.name))
        };
        let columns: Vec<_> = stream.schema.columns.iter().map(column).collect();
        let sql = format!(
            "CREATE TABLE {table} ({}, PRIMARY KEY (\"time\", \"id\")) WITHOUT ROWID",
            columns.join(", ")
        );
        connection.execute_batch(&sql).map_err(failed)?;
        return Ok((true, 0));
    };
    let mut columns = stream.schema.columns.iter();
    let missing = columns.find(|column| known.affinity(&column.name).is_none());
    let reason = match missing {
        _ if known.view => Some("is a view".to_owned()),
        Some(column) => Some(format!("has no column {}", column.name)),
        None => None,
    };
    if let Some(reason) = reason {
        let (table, path) = (stream.table.clone(), database.to_owned());
        return Err(ImportError::OtherTable {
            table,
            path,
            reason,
        });
    }
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
    let has_rows: bool = connection
        .query_row(&sql, [], |row| row.get(0))
        .map_err(failed)?;
    if has_rows && !append {
        let (table, path) = (stream.table.clone(), database.to_owned());
        return Err(ImportError::NotEmpty { table, path });
    }
    let sql = format!("SELECT coalesce(max(CAST(t.\"id\" AS INTEGER)), 0) FROM {table} AS t");
    let last = connection
        .query_row(&sql, [], |row| row.get(0))
        .map_err(failed)?;
    Ok((false, last))
}

fn insert_sql(stream: &Stream, rows: usize) -> String {
    let columns: Vec<_> = COLUMNS.iter().map(|(name, _)| quoted(name)).collect();
    let row = format!("(?{})", ", ?".repeat(COLUMNS.len()));
    // The import is all or nothing: rolling back a statement alone would need a journal of its own.
    format!(
        "INSERT OR ROLLBACK INTO {} (\"id\", {}) VALUES {}",
        quoted(&stream.table),
        columns.join(", "),
        vec![row; rows].join(", ")
    )
}

/// Inserts as many flows as the statement has rows, with the ids that follow.
fn insert_records(
    insert: &mut Statement<'_>,
    id: &mut i64,
    flows: &[[Field<'_>; COLUMNS.len()]],
) -> rusqlite::Result<()> {
    let mut parameter = 0;
    let mut next = || {
        parameter += 1;
        parameter
    };
    for fields in flows {
        *id += 1;
        insert.raw_bind_parameter(next(), *id)?;
        for field in fields {
            match *field {
                Field::Integer(integer) => insert.raw_bind_parameter(next(), integer)?,
                Field::Text(text) => insert.raw_bind_parameter(next(), text)?,
            }
        }
    }
    insert.raw_execute().map(|_| ())
}
