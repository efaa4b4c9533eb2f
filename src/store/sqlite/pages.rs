//! A table's records straight from its pages.
//!
//! SQLite's virtual machine takes some 300 ns to find a record of ten columns and hand its values
//! over one by one. Its file format is documented and fixed (<https://sqlite.org/fileformat2.html>,
//! section 1.6), and the pages come through SQLite itself (the table-valued function
//! `sqlite_dbpage`), so that locks, snapshots and the write-ahead log remain its business.
//!
//! Two kinds of tables are read: clustered by `(time, id)` (`WITHOUT ROWID`), as `flows import` makes
//! them; and ordinary ones whose id is the rowid, by an index on the time, which is kept as a clustered
//! table of `(time, rowid)` is.
//!
//! What a reader of pages does not verify, it believes. This one verifies that keys are in order and
//! between those of the page above: then SQLite finds each record where this reader does, and no page
//! is read twice. Where they are not, the scan fails. What else is not plain (a record that is longer
//! than its page holds, one from before a column was added, one that does not add up) SQLite reads,
//! and judges, by its key.

mod count;
mod filters;
mod find;
mod key;
mod page;
mod record;
mod rows;
mod walk;

use rusqlite::{Connection, Result};

use super::scan::Went;
use crate::selection::{Filter, Range};
pub(super) use count::Counted;
pub(super) use find::NotRead;
pub(super) use key::Key;
use key::KeyRange;
use page::Sizes;
use rows::RowReader;
use walk::Walk;

/// The most columns of a table that is read.
const MOST_COLUMNS: usize = 32;

const PAGE: &str = "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1";

/// Where a table's records are, and how they are laid out.
#[derive(Debug)]
pub(super) struct PageReader {
    table: String,
    /// SQL that finds what comes after a position.
    seek: String,
    root: u32,
    sizes: Sizes,
    /// For each column of the stream's query, which value of a record, or of a row, it is.
    columns: Vec<usize>,
    /// For each filter of the view, which value of a record, or of a row, it is about.
    filtered: Vec<usize>,
    /// For each value of a record, whether SQLite keeps it as a real.
    reals: Vec<bool>,
    /// Where the rows are that the records point to, if these are an index's.
    rows: Option<RowReader>,
}

/// The first records of a range, which were handed over already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub(super) records: u64,
    /// Where the last of them is.
    pub(super) last: Key,
}

impl PageReader {
    /// Hands the range's records that match the filters to the thread's scan, in order. The range's
    /// limit does not count. The filters are those of a view that the reader was found for, but for
    /// what they compare to. `by_sql` does the same by SQL, for what is not plain.
    pub(super) fn scan(
        &self,
        connection: &Connection,
        range: &Range,
        filters: &[Filter],
        beginning: Option<Beginning>,
        by_sql: &mut dyn FnMut(&Range) -> Result<Went>,
    ) -> Result<Went> {
        // A bound that is no key is of another stream's positions, and for SQL to compare.
        let walk = KeyRange::of(range)
            .and_then(|range| Walk::new(self, connection, range, filters, beginning, &mut *by_sql));
        match walk {
            Some(walk) => walk.run(),
            None => by_sql(range),
        }
    }
}

#[cfg(test)]
mod tests;
