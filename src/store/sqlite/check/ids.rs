//! The order of ids: whether an index serves it, and whether ids stay what they are.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Result};

use super::StreamCheck;
use crate::selection::{Order, View};
use crate::store::Finding;
use crate::store::sqlite::query::{Query, SortNeeded};
use crate::store::sqlite::table::Table;

impl StreamCheck<'_> {
    /// Whether an index serves the order of ids, for clients that pull what has arrived.
    pub(super) fn order_of_ids(&self, table: &Table) -> Result<Finding> {
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
        let reused = if self.reuses_ids(table)? {
            "; without AUTOINCREMENT the id of a deleted last record is given out again, and then missed"
        } else {
            ""
        };
        Ok(Finding::Fine(format!(
            "  order=id, which misses no late arrival where {id} only grows: {served}{reused}"
        )))
    }

    /// That the rowid is not as good an id as a column.
    pub(super) fn rowid(&self, table: &Table) -> Option<Finding> {
        let (name, id) = (self.name(), &self.stream.id);
        let is_number = table.is_rowid(id) && table.alias().is_none();
        is_number.then(|| {
            self.warning(format!(
                "the id is {id}, which {name} does not keep as a column: VACUUM may number the records anew, so \
                 that positions which clients hold miss some or repeat some; an INTEGER PRIMARY KEY stays"
            ))
        })
    }

    /// Whether the id of a deleted last record is given out again.
    fn reuses_ids(&self, table: &Table) -> Result<bool> {
        let (name, id) = (self.stream.relation(), &self.stream.id);
        if !table.is_rowid(id) && table.alias() != Some(id) {
            return Ok(false);
        }
        let is_kept = self
            .connection
            .query_row(
                "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_schema WHERE type = 'table' AND name = ?1 \
                 COLLATE NOCASE",
                [name],
                |row| row.get::<_, bool>(0),
            )
            .optional()?;
        Ok(is_kept == Some(false))
    }
}
