//! What SQLite knows of a table: its columns and their affinities.

use rusqlite::{Connection, OptionalExtension, Result};

/// A column's affinity: what SQLite turns values into before it stores and compares them
/// (<https://sqlite.org/datatype3.html>, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Real,
    Numeric,
    Text,
    Blob,
}

impl Affinity {
    /// Section 3.1 of SQLite's rules. In a `STRICT` table `ANY` keeps values as they are.
    fn of(declared: &str, strict: bool) -> Affinity {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Affinity::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Affinity::Text
        } else if has("BLOB") || declared.is_empty() || (strict && declared == "ANY") {
            Affinity::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Affinity::Real
        } else {
            Affinity::Numeric
        }
    }
}

/// The names of the rowid that no column has taken.
const ROWIDS: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// A table or view as SQLite describes it.
pub(crate) struct Table {
    /// Whether it is a view, which has no index of its own.
    pub(crate) view: bool,
    /// Whether rows have a rowid.
    rowid: bool,
    /// The columns of the primary key.
    primary: Vec<String>,
    /// The primary key that is another name for the rowid.
    alias: Option<String>,
    columns: Vec<(String, Affinity)>,
    /// Sets of columns of which no two rows have the same values.
    unique: Vec<Vec<String>>,
}

impl Table {
    /// Describes the table of that name; `None` when there is none.
    pub(crate) fn inspect(connection: &Connection, name: &str) -> Result<Option<Table>> {
        let found = connection
            .query_row(
                "SELECT type, wr, strict FROM pragma_table_list WHERE schema IN ('main', 'temp') \
                 AND name = ?1 COLLATE NOCASE ORDER BY schema DESC",
                [name],
                |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let Some((kind, without_rowid, strict)): Option<(_, bool, bool)> = found else {
            return Ok(None);
        };
        let columns = connection
            .prepare("SELECT name, type FROM pragma_table_xinfo(?1)")?
            .query_map([name], |row| {
                Ok((row.get(0)?, Affinity::of(&row.get::<_, String>(1)?, strict)))
            })?
            .collect::<Result<_>>()?;
        // The primary key of a table with rowids is listed here unless it is the rowid.
        let mut unique: Vec<Vec<String>> = connection
            .prepare(
                "SELECT json_group_array(c.name) FROM pragma_index_list(?1) AS i, \
                 pragma_index_info(i.name) AS c WHERE i.\"unique\" AND NOT i.partial GROUP BY i.seq",
            )?
            .query_map([name], |row| row.get::<_, String>(0))?
            .map(|names| Ok(serde_json::from_str(&names?).unwrap_or_default()))
            .collect::<Result<_>>()?;
        // A primary key with an index of its own is no rowid: INTEGER PRIMARY KEY DESC has one.
        let alias: Option<String> = connection
            .query_row(
                "SELECT name FROM pragma_table_xinfo(?1) WHERE pk = 1 AND type = 'INTEGER' COLLATE \
                 NOCASE AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE pk > 1) \
                 AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        unique.extend(alias.clone().map(|name| vec![name]));
        let primary = connection
            .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk")?
            .query_map([name], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let view = kind == "view";
        Ok(Some(Table {
            view,
            rowid: !view && !without_rowid,
            primary,
            alias: alias.filter(|_| !view && !without_rowid),
            columns,
            unique,
        }))
    }

    /// The affinity of a column; `None` when there is no such column.
    pub(crate) fn affinity(&self, column: &str) -> Option<Affinity> {
        let listed = self
            .columns
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(column));
        let rowid = self.is_rowid(column).then_some(Affinity::Integer);
        listed.map(|(_, affinity)| *affinity).or(rowid)
    }

    /// Whether the name is the rowid's, which is not a column of its own.
    pub(crate) fn is_rowid(&self, name: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        self.rowid && ROWIDS.into_iter().any(is) && !self.columns().any(is)
    }

    /// A name for the rowid that no column has taken.
    pub(crate) fn rowid(&self) -> Option<&'static str> {
        ROWIDS.into_iter().find(|name| self.is_rowid(name))
    }

    /// The column that is another name for the rowid.
    pub(crate) fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }

    /// What the table keeps its rows in the order of; nothing, where it is a view.
    pub(crate) fn clustered_by(&self) -> Vec<&str> {
        match (self.alias(), self.rowid()) {
            (Some(name), _) | (None, Some(name)) => vec![name],
            (None, None) if self.is_clustered() => {
                self.primary.iter().map(String::as_str).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// Sets of columns of which no two rows have the same values.
    pub(crate) fn unique(&self) -> &[Vec<String>] {
        &self.unique
    }

    /// Whether rows are kept in the order of their primary key, and have no rowid.
    pub(crate) fn is_clustered(&self) -> bool {
        !self.view && !self.rowid
    }

    /// Whether no two rows have the same values of all these columns.
    pub(crate) fn is_unique(&self, columns: &[&str]) -> bool {
        let given = |name: &String| {
            columns
                .iter()
                .any(|column| column.eq_ignore_ascii_case(name))
        };
        // An expression has no name, so that its set is empty and says nothing.
        self.unique
            .iter()
            .any(|set| !set.is_empty() && set.iter().all(given))
            || columns.iter().any(|column| self.is_rowid(column))
    }

    /// The names of all columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }
}
