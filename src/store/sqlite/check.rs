//! What is wrong with a database, and how to fix it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Result};
use rustix::fs::{Access, access};

use super::file::{self, JournalMode};
use super::functions;
use super::plan::Plan;
use super::query::{Query, SortNeeded, cast, quoted};
use super::reading::described;
use super::scan::INSTRUCTIONS;
use super::table::{Affinity, Table};
use super::values::{part, position_must_be};
use crate::config::Database;
use crate::definition::Stream;
use crate::selection::{Order, View};
use crate::store::Finding;
use crate::suggest::nearest;

/// How long looking at records may take.
const SAMPLE: Duration = Duration::from_millis(100);

/// Looks at the database and at every stream in it, as a reader: it changes no record, but beside a
/// database in write-ahead-log mode SQLite makes the `-wal` and `-shm` that readers share.
pub(super) fn check(database: &Database, streams: &[Arc<Stream>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let imports = streams.iter().any(|stream| stream.name == "flows");
    match open(database, imports, &mut findings) {
        Err(error) => findings.push(Finding::Error(error)),
        Ok(connection) => {
            for stream in streams {
                let look = StreamCheck {
                    database,
                    connection: &connection,
                    stream,
                };
                match look.stream(&mut findings) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => findings.push(look.error(error)),
                    Err(error) => findings.push(look.error(error.to_string())),
                }
            }
        }
    }
    findings
}

/// Opens the database, or says why it cannot be read. `imports` says that an import would make it.
fn open(
    database: &Database,
    imports: bool,
    findings: &mut Vec<Finding>,
) -> Result<Connection, String> {
    let path = database.path.display();
    let quoted = shell(&database.path.to_string_lossy());
    let mode = match file::journal_mode(&database.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let import = if imports {
                format!("make one with `flows import SOURCE --database {quoted}`, or ")
            } else {
                String::new()
            };
            return Err(format!(
                "there is no database {path}; {import}name another with --database or database.path"
            ));
        }
        Err(error) => return Err(format!("the database {path} cannot be read: {error}")),
        Ok(None) => {
            return Err(format!(
                "{path} is not an SQLite database; name another with --database or database.path"
            ));
        }
        Ok(Some(mode)) => mode,
    };
    // SQLite writes beside the file that a link leads to.
    let file = database
        .path
        .canonicalize()
        .unwrap_or_else(|_| database.path.clone());
    let folder = file.parent().unwrap_or(Path::new("/"));
    let wal = mode == JournalMode::Wal;
    let writable = access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let opened = file::open(database).and_then(|connection| {
        functions::register(&connection)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    });
    let fix = format!(
        "{path} is in write-ahead-log mode, and its readers write beside it, but this user cannot \
         write the folder {}; allow that, or run `sqlite3 {quoted} 'PRAGMA journal_mode = DELETE'`",
        folder.display()
    );
    match opened {
        Err(error) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if wal && !writable => fix,
            Some(ErrorCode::NotADatabase) => format!(
                "{path} is not an SQLite database (damaged or encrypted); name another with \
                 --database or database.path"
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("the database {path} is locked by a writer; try again when it has finished")
            }
            _ if file::is_unfinished(&error) => format!(
                "a writer of {path} was killed in the middle of a transaction, and {path}-journal has \
                 to be rolled back, which readers cannot do; \
                 `sqlite3 {quoted} 'SELECT count(*) FROM sqlite_schema'` does it"
            ),
            _ => format!("the database {path} cannot be read: {error}"),
        }),
        Ok(connection) => {
            if wal && !writable {
                findings.push(Finding::Warning(fix));
            } else if mode == JournalMode::Rollback {
                findings.push(Finding::Warning(format!(
                    "{path} is in rollback-journal mode: a running stream keeps writers waiting; \
                     `sqlite3 {quoted} 'PRAGMA journal_mode = WAL'` fixes that"
                )));
            }
            Ok(connection)
        }
    }
}

/// A stream being looked at.
struct StreamCheck<'a> {
    database: &'a Database,
    connection: &'a Connection,
    stream: &'a Arc<Stream>,
}

impl StreamCheck<'_> {
    fn error(&self, text: String) -> Finding {
        Finding::Error(format!("stream {}: {text}", self.stream.name))
    }

    fn warning(&self, text: String) -> Finding {
        Finding::Warning(format!("stream {}: {text}", self.stream.name))
    }

    /// Looks at the stream; the inner error is what cannot work.
    fn stream(&self, findings: &mut Vec<Finding>) -> Result<Result<(), String>> {
        let stream = self.stream;
        let Some(table) = Table::inspect(self.connection, &stream.table)? else {
            return self.no_table().map(Err);
        };
        let view = View::all(Arc::clone(stream));
        let page_reader = self.database.page_reader;
        let plan = match Plan::of_table(self.connection, &view, &table, page_reader)? {
            Ok(plan) => plan,
            Err(missing) => return Ok(Err(self.no_column(&table, &missing))),
        };
        let query = &plan.query;
        if let Some(error) = self.positions_are_some()? {
            return Ok(Err(error));
        }
        findings.push(Finding::Fine(format!(
            "stream {}: {} {}, ordered by ({}, {})",
            stream.name,
            if table.view { "view" } else { "table" },
            stream.table,
            stream.time,
            stream.id
        )));
        for column in &stream.schema.columns {
            let nullable = if column.nullable { ", nullable" } else { "" };
            let text = format!("  {} {}{nullable}", column.name, column.kind);
            findings.push(Finding::Fine(text));
        }
        findings.push(Finding::Fine(match plan.not_read() {
            None => "  read straight from the table's pages".to_owned(),
            Some(why) => format!("  read by SQL: {why}"),
        }));
        findings.push(self.order_of_ids(&table)?);
        self.affinities(&table, findings);
        if query.sort_needed() != SortNeeded::Nothing {
            findings.push(self.warning(self.no_index(&table, query)));
        }
        if !query.is_unique() {
            findings.push(self.warning(format!(
                "nothing in {} says that no two records have the same ({}, {}), which keeps the \
                 stream to one core, and `after` skips those that have; an index on integer columns \
                 that is UNIQUE does",
                stream.table, stream.time, stream.id
            )));
        }
        Ok(Ok(()))
    }

    /// Whether an index serves the order of ids, for clients that pull what has arrived.
    fn order_of_ids(&self, table: &Table) -> Result<Finding> {
        let stream = self.stream;
        let columns = stream.schema.columns.clone();
        let view = View::new(Arc::clone(stream), columns, Order::Id, Vec::new());
        let id = &stream.id;
        let served = match Query::new(self.connection, &view, table)? {
            Ok(query) => {
                let served = if query.sort_needed() == SortNeeded::Nothing {
                    "served by an index".to_owned()
                } else if query.index().contains("CAST(") {
                    // SQLite does not take the order of an index on an expression alone.
                    format!(
                        "sorted for each request; an {id} that is INTEGER in the table needs no sort"
                    )
                } else {
                    let fix = self.create(table, &query, &format!("({id})"));
                    format!("sorted for each request; {fix}")
                };
                if query.is_unique() {
                    served
                } else {
                    format!(
                        "{served}; nothing says that no {id} repeats, and `after` skips those that do"
                    )
                }
            }
            // The other query has found every column.
            Err(_) => String::new(),
        };
        Ok(Finding::Fine(format!(
            "  order=id, which misses no late arrival where {id} only grows: {served}"
        )))
    }

    /// How to make the index that a query needs.
    fn create(&self, table: &Table, query: &Query, columns: &str) -> String {
        if table.view {
            return format!("index the table behind the view by {columns}");
        }
        let (path, index) = (self.database.path.to_string_lossy(), query.index());
        format!("`sqlite3 {} {}` fixes that", shell(&path), shell(index))
    }

    fn no_table(&self) -> Result<String> {
        let tables: Vec<String> = self
            .connection
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
                 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let missing = &self.stream.table;
        let there_are = if tables.is_empty() {
            "there is none; `flows import SOURCE` makes one for LANL's flows".to_owned()
        } else {
            format!("there are: {}", tables.join(", "))
        };
        Ok(format!(
            "no table {missing}{}; {there_are}",
            did_you_mean(missing, &tables)
        ))
    }

    fn no_column(&self, table: &Table, missing: &str) -> String {
        let columns: Vec<_> = table.columns().collect();
        let hint = did_you_mean(missing, &columns);
        let there_are = columns.join(", ");
        format!(
            "the table {} has no column {missing}{hint}; it has: {there_are}",
            self.stream.table
        )
    }

    /// Looks at some records: are their time and their id what they are declared to be?
    fn positions_are_some(&self) -> Result<Option<String>> {
        let Stream {
            table, time, id, ..
        } = &**self.stream;
        let (time, id) = (quoted(time), quoted(id));
        let sql = format!(
            "SELECT t.{time}, t.{id} FROM {} AS t LIMIT 100",
            quoted(table)
        );
        // A view may have to look long for its first record.
        let start = Instant::now();
        let enough = move || start.elapsed() > SAMPLE;
        self.connection
            .progress_handler(INSTRUCTIONS, Some(enough))?;
        let found = self.sample(&sql);
        self.connection.progress_handler(0, None::<fn() -> bool>)?;
        match found {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Ok(None)
            }
            found => found,
        }
    }

    fn sample(&self, sql: &str) -> Result<Option<String>> {
        let Stream {
            table, time, id, ..
        } = &**self.stream;
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for (at, what, column) in [(0, "time", time), (1, "id", id)] {
                let value = row.get_ref(at)?;
                if part(self.stream, column, value).is_none() {
                    let must = position_must_be(self.stream, column);
                    return Ok(Some(format!(
                        "the {what} column {} of table {table} holds {}, but it must be {must}, since \
                         records are ordered and windows cut by it; declare what it is, or name \
                         another column, such as a generated one",
                        quoted(column),
                        described(value)
                    )));
                }
            }
        }
        Ok(None)
    }

    fn affinities(&self, table: &Table, findings: &mut Vec<Finding>) {
        let stream = self.stream;
        for column in &stream.schema.columns {
            let Some(affinity) = table.affinity(&column.name) else {
                continue;
            };
            if cast(column.kind, affinity).is_some() {
                let position = column.name == stream.time || column.name == stream.id;
                let also = if position {
                    "; order and bounds use a cast"
                } else {
                    ""
                };
                findings.push(self.warning(format!(
                    "the column {} is declared {}, but in the table it has {}: each value is \
                     converted{also}, and one that cannot be breaks the stream",
                    column.name,
                    column.kind,
                    describe(affinity)
                )));
            }
        }
    }

    fn no_index(&self, table: &Table, query: &Query) -> String {
        let Stream {
            table: name,
            time,
            id,
            ..
        } = &**self.stream;
        let fix = self.create(table, query, &format!("({time}, {id})"));
        if query.sort_needed() == SortNeeded::EachTime {
            return format!(
                "an index of {name} gives the order of times, but the records of each {time} are \
                 sorted by {id}, which keeps the stream to one core; {fix}"
            );
        }
        let size = std::fs::metadata(&self.database.path).map_or(0, |file| file.len());
        format!(
            "no index of {name} gives ({time}, {id}) order: each request sorts its window first, \
             in a temporary file in {}, which for a whole table grows to about the size of its \
             records (the database has {} MiB); {fix}",
            temporary_folder().display(),
            size.div_ceil(1 << 20)
        )
    }
}

/// A word of a shell's command line, in quotes unless it is plain.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn did_you_mean(missing: &str, candidates: &[impl AsRef<str>]) -> String {
    nearest(missing, candidates)
        .map(|name| format!(" (did you mean {name}?)"))
        .unwrap_or_default()
}

fn describe(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Integer => "integer affinity",
        Affinity::Real => "real affinity",
        Affinity::Numeric => "numeric affinity",
        Affinity::Text => "text affinity",
        Affinity::Blob => "no type",
    }
}

/// Where SQLite puts temporary files on Unix (<https://sqlite.org/tempfiles.html>, section 5).
fn temporary_folder() -> PathBuf {
    let named = ["SQLITE_TMPDIR", "TMPDIR"]
        .into_iter()
        .filter_map(std::env::var_os);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp"].into_iter().map(Into::into);
    named
        .chain(usual)
        .map(PathBuf::from)
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| PathBuf::from("."))
}
