//! Whether a stream's table is one whose pages are read.

use flows_formats::Type;
use rusqlite::{Connection, OptionalExtension, Result};

use super::super::query::cast;
use super::super::table::{Affinity, Table};
use super::filters::is_plain;
use super::page::Sizes;
use super::rows::RowReader;
use super::{MOST_COLUMNS, PAGE, PageReader};
use crate::definition::Stored;
use crate::selection::{Filter, View};
use crate::store::quoted;

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
    #[error(
        "its pages are read only with an index on {0}, and with {1} as its INTEGER PRIMARY KEY"
    )]
    NoIndex(String, String),
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

/// A b-tree whose records begin with the key and the id.
struct Tree {
    /// The name that the schema has it under, and what it is there.
    name: String,
    kind: &'static str,
    /// How many values its records have.
    values: usize,
}

impl PageReader {
    /// The reader of the view's table, if it is one that is read. `columns` are those of the query.
    pub(in super::super) fn find(
        connection: &Connection,
        view: &View,
        table: &Table,
        columns: &[String],
    ) -> Result<std::result::Result<PageReader, NotRead>> {
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
        let generated: Option<String> = connection
            .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden LIMIT 1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let found = if table.is_clustered() {
            clustered(connection, view)?
        } else {
            index(connection, view, table)?
        };
        let (tree, names) = match found {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
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
        let Some(sizes) = sizes.filter(|sizes| sizes.hold_keys(tree.values)) else {
            return Ok(Err(NotRead::SmallPages(tree.values)));
        };
        let alias = names.iter().position(|name| is_alias(table, name));
        // A rowid that is no column comes after them.
        let rowid = alias.unwrap_or(names.len());
        let at = |column: &str| {
            let named = names.iter().position(|n| n.eq_ignore_ascii_case(column));
            named.or_else(|| table.is_rowid(column).then_some(rowid))
        };
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
        let not_found = || NotRead::NotClustered(view.key().to_owned(), view.id().to_owned());
        let (Some(columns), Some(time)) = (
            columns.iter().map(|column| at(column)).collect(),
            at(view.key()),
        ) else {
            // The query has found every column, but a rowid may be none.
            return Ok(Err(not_found()));
        };
        let (Some(root), Some(rows)) = (
            root(connection, tree.kind, &tree.name)?,
            root(connection, "table", name)?,
        ) else {
            return Ok(Err(not_found()));
        };
        let real = |name: &String| table.affinity(name) == Some(Affinity::Real);
        let reals: Vec<_> = names.iter().map(real).collect();
        let (reals, rows) = if table.is_clustered() {
            (reals, None)
        } else {
            let rows = RowReader {
                root: rows,
                reals,
                rowid,
                time,
            };
            (vec![false; tree.values], Some(rows))
        };
        Ok(Ok(PageReader {
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
            reals,
            rows,
        }))
    }
}

/// Where a table or an index begins.
fn root(connection: &Connection, kind: &str, name: &str) -> Result<Option<u32>> {
    connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE type = ?1 AND name = ?2 COLLATE NOCASE",
            [kind, name],
            |row| row.get(0),
        )
        .optional()
}

/// A clustered table as a tree, and the names of its values, in the order of its primary key's index.
fn clustered(
    connection: &Connection,
    view: &View,
) -> Result<std::result::Result<(Tree, Vec<String>), NotRead>> {
    let name = &*view.stream.relation();
    let not_clustered = || NotRead::NotClustered(view.key().to_owned(), view.id().to_owned());
    let kept: Vec<(Option<String>, bool, bool)> = connection
        .prepare(
            "SELECT c.name, c.\"desc\", c.key FROM pragma_index_list(?1) AS i, \
             pragma_index_xinfo(i.name) AS c WHERE i.origin = 'pk' ORDER BY c.seqno",
        )?
        .query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_>>()?;
    let of_key = kept.iter().filter(|(.., key)| *key).count();
    let descending = kept.iter().any(|(_, descending, _)| *descending);
    let Some(names) = kept.into_iter().map(|(name, ..)| name).collect() else {
        return Ok(Err(not_clustered()));
    };
    let names: Vec<String> = names;
    let is = |at: usize, name: &str| names.get(at).is_some_and(|n| n.eq_ignore_ascii_case(name));
    if !is(0, view.key()) || !is(1, view.id()) || of_key != 2 {
        return Ok(Err(not_clustered()));
    }
    if descending {
        return Ok(Err(NotRead::Descending));
    }
    let tree = Tree {
        name: name.to_owned(),
        kind: "table",
        values: names.len(),
    };
    Ok(Ok((tree, names)))
}

/// An index of an ordinary table by time and then rowid, as a tree, and the names of the rows' values.
fn index(
    connection: &Connection,
    view: &View,
    table: &Table,
) -> Result<std::result::Result<(Tree, Vec<String>), NotRead>> {
    let (key, id) = (view.key(), view.id());
    let no_index = || NotRead::NoIndex(key.to_owned(), id.to_owned());
    // The order of what is cast is not the index's.
    let is_kept = |name| {
        table
            .affinity(name)
            .is_some_and(|affinity| cast(Type::Integer, affinity).is_none())
    };
    if !is_rowid(view, table, id) || !is_kept(key) || key == id {
        return Ok(Err(no_index()));
    }
    // The rowid follows what is indexed; where that names it, it does so twice.
    let found = connection
        .prepare(
            "SELECT i.name, (SELECT count(*) FROM pragma_index_xinfo(i.name)) \
             FROM pragma_index_list(?1) AS i, pragma_index_xinfo(i.name) AS c, \
             pragma_index_xinfo(i.name) AS d WHERE NOT i.partial AND c.seqno = 0 AND d.seqno = 1 \
             AND c.name = ?2 COLLATE NOCASE AND NOT c.\"desc\" AND NOT d.\"desc\" \
             AND (d.cid = -1 OR d.name = ?3 COLLATE NOCASE) AND \
             (SELECT count(*) FROM pragma_index_xinfo(i.name)) <= ?4 ORDER BY 2 LIMIT 1",
        )?
        .query_row(
            (&*view.stream.relation(), key, id, MOST_COLUMNS as u32),
            |row| Ok((row.get(0)?, row.get::<_, u32>(1)? as usize)),
        )
        .optional()?;
    let Some((name, values)) = found else {
        return Ok(Err(no_index()));
    };
    let tree = Tree {
        name,
        kind: "index",
        values,
    };
    let names = table.columns().map(str::to_owned).collect();
    Ok(Ok((tree, names)))
}

/// Whether a column is the rowid, by that or by another name.
fn is_rowid(view: &View, table: &Table, name: &str) -> bool {
    name.eq_ignore_ascii_case(view.id()) && (table.is_rowid(name) || is_alias(table, name))
}

fn is_alias(table: &Table, name: &str) -> bool {
    table
        .alias()
        .is_some_and(|alias| alias.eq_ignore_ascii_case(name))
}
