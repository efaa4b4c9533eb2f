//! Whether a stream's table is one whose pages are read.

use flows_formats::Type;
use rusqlite::{Connection, OptionalExtension, Result};

use super::super::query::quoted;
use super::super::table::{Affinity, Table};
use super::filters::is_plain;
use super::page::Sizes;
use super::{ClusteredReader, MOST_COLUMNS, PAGE};
use crate::definition::Stored;
use crate::selection::{Filter, View};

/// Why a view is read by SQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum NotRead {
    #[error("database.page_reader is false")]
    TurnedOff,
    #[error("SQLite was compiled without SQLITE_ENABLE_DBPAGE_VTAB")]
    NoPages,
    #[error("it is a view")]
    View,
    #[error("the table is not WITHOUT ROWID with PRIMARY KEY ({0}, {1})")]
    NotClustered(String, String),
    #[error("its {0} is not held as an integer")]
    NoInteger(String),
    #[error("its primary key is in descending order")]
    Descending,
    #[error("it has the generated column {0}")]
    Generated(String),
    #[error("the strings of the database are {0}, not UTF-8")]
    Encoding(String),
    #[error("it has {0} columns, more than {MOST_COLUMNS}")]
    Columns(usize),
    #[error("the database's pages are too small for {0} columns")]
    SmallPages(usize),
    #[error("the values of {0} are converted")]
    Converted(String),
    #[error("SQL tests the filter of {0}")]
    Filter(String),
    #[error("an index serves a filter")]
    Index,
}

impl ClusteredReader {
    /// The reader of the view's table, if it is one that is read. `columns` are those of the query.
    pub(in super::super) fn find(
        connection: &Connection,
        view: &View,
        table: &Table,
        columns: &[String],
    ) -> Result<std::result::Result<ClusteredReader, NotRead>> {
        if connection.prepare(PAGE).is_err() {
            return Ok(Err(NotRead::NoPages));
        }
        if table.view {
            return Ok(Err(NotRead::View));
        }
        for name in [view.key(), view.id()] {
            let (kind, stored) = view.stream.declared(name);
            if kind == Type::Text || stored != Stored::Plain {
                return Ok(Err(NotRead::NoInteger(name.to_owned())));
            }
        }
        let name = &*view.stream.relation();
        let not_clustered = || NotRead::NotClustered(view.key().to_owned(), view.id().to_owned());
        let generated: Option<String> = connection
            .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden LIMIT 1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        // The order in which a clustered table keeps its columns is that of its primary key's index.
        let kept: Vec<(Option<String>, bool, bool)> = connection
            .prepare(
                "SELECT c.name, c.\"desc\", c.key FROM pragma_index_list(?1) AS i, \
                 pragma_index_xinfo(i.name) AS c WHERE i.origin = 'pk' ORDER BY c.seqno",
            )?
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_>>()?;
        let names: Option<Vec<&str>> = kept.iter().map(|(name, ..)| name.as_deref()).collect();
        let root = connection
            .query_row(
                "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        let (Some(root), Some(names)) = (root, names) else {
            return Ok(Err(not_clustered()));
        };
        let is =
            |at: usize, name: &str| names.get(at).is_some_and(|n| n.eq_ignore_ascii_case(name));
        let of_key = kept.iter().filter(|(.., key)| *key).count();
        if !table.is_clustered() || !is(0, view.key()) || !is(1, view.id()) || of_key != 2 {
            return Ok(Err(not_clustered()));
        }
        if kept.iter().any(|(_, descending, _)| *descending) {
            return Ok(Err(NotRead::Descending));
        }
        if let Some(column) = generated {
            return Ok(Err(NotRead::Generated(column)));
        }
        let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
        if encoding != "UTF-8" {
            return Ok(Err(NotRead::Encoding(encoding)));
        }
        if names.len() > MOST_COLUMNS {
            return Ok(Err(NotRead::Columns(names.len())));
        }
        let sizes =
            connection.query_row(PAGE, [1], |row| Ok(Sizes::of(row.get_ref(0)?.as_blob()?)))?;
        let Some(sizes) = sizes.filter(|sizes| sizes.hold_keys(names.len())) else {
            return Ok(Err(NotRead::SmallPages(names.len())));
        };
        let at = |column: &str| names.iter().position(|n| n.eq_ignore_ascii_case(column));
        let stored = |filter: &Filter| view.stream.declared(&filter.column).1;
        let mut filtered = Vec::new();
        for filter in &view.filters {
            match at(&filter.column) {
                Some(at) if is_plain(filter, stored(filter), table.affinity(&filter.column)) => {
                    filtered.push(at);
                }
                _ => return Ok(Err(NotRead::Filter(filter.column.clone()))),
            }
        }
        // The query has found every column.
        let Some(columns) = columns.iter().map(|column| at(column)).collect() else {
            return Ok(Err(not_clustered()));
        };
        let real = |name: &&str| table.affinity(name) == Some(Affinity::Real);
        Ok(Ok(ClusteredReader {
            table: name.to_owned(),
            seek: format!(
                "SELECT 1 FROM {0} AS t WHERE (t.{1}, t.{2}) > (?, ?) ORDER BY t.{1}, t.{2} LIMIT 1",
                quoted(name),
                quoted(view.key()),
                quoted(view.id())
            ),
            root,
            sizes,
            columns,
            filtered,
            reals: names.iter().map(real).collect(),
        }))
    }
}
