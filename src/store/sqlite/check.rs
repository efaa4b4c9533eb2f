//! What is wrong with a database, and how to fix it.
//!
//! | file | what it looks at |
//! |---|---|
//! | `check/database.rs` | the file |
//! | `check/ids.rs` | the order of ids |
//! | `check/sampled.rs` | some records of a stream |
//! | `check/all_rows.rs` | every record of a stream |

mod all_rows;
mod database;
mod ids;
mod sampled;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, Result};
use rustix::fs::{Access, access};

use super::plan::Plan;
use super::query::{Query, SortNeeded, cast};
use super::query_view;
use super::table::{Affinity, Table};
use crate::config::Database;
use crate::definition::{Source, Stream};
use crate::selection::View;
use crate::store::Finding;
use crate::suggest::nearest;
pub(super) use all_rows::all_rows;
pub(super) use database::open;

/// How much of a stream is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The schema.
    Schema,
    /// The schema and some records.
    Sample,
}

/// Looks at the database and at every stream in it, as a reader: it changes no record, but beside a
/// database in write-ahead-log mode SQLite makes the `-wal` and `-shm` that readers share.
pub(super) fn check(database: &Database, streams: &[Arc<Stream>], depth: Depth) -> Vec<Finding> {
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
                match look.stream(depth, &mut findings) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => findings.push(look.error(error)),
                    Err(error) => findings.push(look.error(query_view::reason(stream, &error))),
                }
            }
        }
    }
    findings
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

    /// What its records are read from, to whoever reads a message.
    fn name(&self) -> Cow<'_, str> {
        match &self.stream.source {
            Source::Table(name) => Cow::Borrowed(name),
            Source::Query(_) => Cow::Owned(format!("the {}", self.stream.origin())),
        }
    }

    /// Looks at the stream; the inner error is what cannot work.
    fn stream(&self, depth: Depth, findings: &mut Vec<Finding>) -> Result<Result<(), String>> {
        let stream = self.stream;
        if let Err(error) = query_view::make(self.connection, stream) {
            return Ok(Err(format!(
                "its query is not one SELECT that SQLite takes: {error}"
            )));
        }
        let Some(table) = Table::inspect(self.connection, &stream.relation())? else {
            return self.no_table().map(Err);
        };
        if let Some(name) = query_view::repeated(self.connection, stream)? {
            return Ok(Err(format!(
                "more than one column of its query is called {name}; `AS` gives one of them another name"
            )));
        }
        let view = View::all(Arc::clone(stream));
        let page_reader = self.database.page_reader;
        let plan = match Plan::of_table(self.connection, &view, &table, page_reader)? {
            Ok(plan) => plan,
            Err(missing) => return Ok(Err(self.no_column(&table, &missing))),
        };
        let query = &plan.query;
        let mut warnings = Vec::new();
        if depth == Depth::Sample
            && let Err(error) = self.sampled(&table, query, &mut warnings)
        {
            return Ok(Err(error));
        }
        let what = match &stream.source {
            Source::Query(_) => "a query".to_owned(),
            Source::Table(name) if table.view => format!("view {name}"),
            Source::Table(name) => format!("table {name}"),
        };
        findings.push(Finding::Fine(format!(
            "stream {}: {what}, ordered by ({}, {})",
            stream.name, stream.time, stream.id
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
        findings.append(&mut warnings);
        findings.extend(self.rowid(&table));
        if query.sort_needed() != SortNeeded::Nothing {
            findings.push(self.warning(self.no_index(&table, query)));
        }
        if !query.is_unique() {
            let fix = if table.view {
                "only a table can, by an index that is UNIQUE"
            } else {
                "an index on integer columns that is UNIQUE does"
            };
            findings.push(self.warning(format!(
                "nothing in {} says that no two records have the same ({}, {}), which keeps the \
                 stream to one core, and `after` skips those that have; {fix}",
                self.name(),
                stream.time,
                stream.id
            )));
        }
        Ok(Ok(()))
    }

    /// How to make the index that a query needs.
    fn create(&self, table: &Table, query: &Query, columns: &str) -> String {
        if table.view {
            let view = match self.stream.source {
                Source::Table(_) => "view",
                Source::Query(_) => "query",
            };
            return format!("index the table behind the {view} by {columns}");
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
        let missing = &*self.stream.relation();
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
            "the {} has no column {missing}{hint}; it has: {there_are}",
            self.stream.origin()
        )
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
        let Stream { time, id, .. } = &**self.stream;
        let name = self.name();
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
            temporary_folder().map_or_else(
                || "a folder that is missing (SQLITE_TMPDIR names one that can be written)"
                    .to_owned(),
                |folder| folder.display().to_string()
            ),
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
fn temporary_folder() -> Option<PathBuf> {
    let named = ["SQLITE_TMPDIR", "TMPDIR"]
        .into_iter()
        .filter_map(std::env::var_os);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp"].into_iter().map(Into::into);
    let mut folders = named.chain(usual).map(PathBuf::from).chain([".".into()]);
    folders.find(|folder| {
        folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    })
}
