//! A table's records straight from its pages.
//!
//! SQLite's virtual machine takes some 300 ns to find a record of ten columns and hand its values
//! over one by one. Its file format is documented and fixed (<https://sqlite.org/fileformat2.html>,
//! section 1.6), and the pages come through SQLite itself (the table-valued function
//! `sqlite_dbpage`), so that locks, snapshots and the write-ahead log remain its business.
//!
//! Only one kind of table is read: clustered by `(time, id)` (`WITHOUT ROWID`), as `flows import`
//! makes it. And only what is plain: at whatever is not, a record too large for its page or a page
//! that is not what it should be, the scan gives up after the last record that it handed over, and
//! SQLite goes on from there.

mod filters;
mod record;

use std::cmp::Ordering;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result};

use super::scan;
use super::table::{Affinity, Table};
use crate::selection::{Filter, Position, Range, View};
use filters::{is_plain, matches};
use record::{Record, number, varint};

/// The most columns of a table that is read.
const MOST_COLUMNS: usize = 32;

/// The deepest tree that is read: more pages than any file has.
const DEEPEST: usize = 20;

const PAGE: &str = "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1";

/// Where a table's records are, and how they are laid out.
pub(super) struct ClusteredReader {
    root: u32,
    /// The bytes of a page that are in use.
    usable: usize,
    /// For each column of the stream's query, which value of a record it is.
    columns: Vec<usize>,
    /// For each filter of the view, which value of a record it is about.
    filtered: Vec<usize>,
    /// For each value of a record, whether SQLite keeps it as a real.
    reals: Vec<bool>,
}

/// How a scan of the pages ended.
pub(super) enum Ended {
    /// All records of the range were taken.
    Done,
    /// The sink wants no more.
    Stopped,
    /// Something is not plain: SQLite goes on after this position, if any record was taken.
    GaveUp(Option<Position>),
}

impl ClusteredReader {
    /// The tree of the stream's table, if it is one that is read. `columns` are those of the query.
    pub(super) fn find(
        connection: &Connection,
        view: &View,
        table: &Table,
        columns: &[impl AsRef<str>],
    ) -> Result<Option<ClusteredReader>> {
        if connection.prepare(PAGE).is_err() {
            // SQLite was compiled without it.
            return Ok(None);
        }
        let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
        let root = connection
            .query_row(
                "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
                [&view.stream.table],
                |row| row.get(0),
            )
            .optional()?;
        let special: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE hidden)",
            [&view.stream.table],
            |row| row.get(0),
        )?;
        // The order in which a clustered table keeps its columns is that of its primary key's index.
        let kept: Vec<(Option<String>, bool, bool)> = connection
            .prepare(
                "SELECT c.name, c.\"desc\", c.key FROM pragma_index_list(?1) AS i, \
                 pragma_index_xinfo(i.name) AS c WHERE i.origin = 'pk' ORDER BY c.seqno",
            )?
            .query_map([&view.stream.table], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<Result<_>>()?;
        let names: Option<Vec<String>> = kept.iter().map(|(name, ..)| name.clone()).collect();
        let (Some(root), Some(names)) = (root, names) else {
            return Ok(None);
        };
        let is =
            |at: usize, name: &str| names.get(at).is_some_and(|n| n.eq_ignore_ascii_case(name));
        let clustered = table.is_clustered()
            && is(0, view.key())
            && is(1, view.id())
            && kept.iter().filter(|(_, _, key)| *key).count() == 2
            && kept.iter().all(|(_, descending, _)| !descending)
            && names.len() == table.columns().count();
        if !clustered || special || encoding != "UTF-8" || names.len() > MOST_COLUMNS {
            return Ok(None);
        }
        let at = |column: &str| {
            let mut names = names.iter();
            names.position(|name| name.eq_ignore_ascii_case(column))
        };
        let filtered = view.filters.iter().map(|filter| {
            let kept = table.affinity(&filter.column);
            at(&filter.column).filter(|_| is_plain(filter, kept))
        });
        let (columns, filtered) = (
            columns.iter().map(|column| at(column.as_ref())),
            filtered.collect(),
        );
        let (Some(columns), Some(filtered)) = (columns.collect(), filtered) else {
            return Ok(None);
        };
        let reals = names
            .iter()
            .map(|name| table.affinity(name) == Some(Affinity::Real))
            .collect();
        let usable = connection.query_row(PAGE, [1], |row| {
            let first = row.get_ref(0)?.as_blob()?;
            // Section 1.3.4: bytes at the end of each page that SQLite does not use.
            Ok(first
                .get(20)
                .map_or(0, |reserved| first.len() - usize::from(*reserved)))
        })?;
        Ok(Some(ClusteredReader {
            root,
            usable,
            columns,
            filtered,
            reals,
        }))
    }

    /// Hands the range's records that match the filters to the thread's scan, in order. The range's
    /// limit does not count. The filters are those of a view that the tree was found for, but for
    /// what they compare to.
    pub(super) fn scan(
        &self,
        connection: &Connection,
        range: &Range,
        filters: &[Filter],
    ) -> Result<Ended> {
        let mut walk = Walk {
            tree: self,
            connection,
            range,
            filters,
            last: None,
            leaf: None,
        };
        Ok(match walk.page(self.root, 0)? {
            Step::On | Step::Behind => Ended::Done,
            Step::Stopped => Ended::Stopped,
            Step::NotPlain => Ended::GaveUp(walk.last),
        })
    }
}

/// A walk through the tree, in order.
struct Walk<'a> {
    tree: &'a ClusteredReader,
    connection: &'a Connection,
    range: &'a Range,
    filters: &'a [Filter],
    /// The position of the last record that was taken.
    last: Option<Position>,
    /// Where the last leaf began, if there are filters.
    leaf: Option<Position>,
}

/// What to do after a part of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Go on.
    On,
    /// The range has ended.
    Behind,
    /// The sink wants no more.
    Stopped,
    /// Give up.
    NotPlain,
}

/// A page of the tree, section 1.6.
struct Page<'p> {
    bytes: &'p [u8],
    leaf: bool,
    cells: usize,
}

impl<'p> Page<'p> {
    fn new(bytes: &'p [u8]) -> Option<Page<'p>> {
        let leaf = match bytes.first()? {
            2 => false,
            10 => true,
            _ => return None,
        };
        Some(Page {
            bytes,
            leaf,
            cells: number(bytes, 3, 2)? as usize,
        })
    }

    /// The page after the last cell.
    fn right(&self) -> Option<u32> {
        number(self.bytes, 8, 4)
    }

    /// A cell: the page before it, unless this is a leaf, and its record.
    fn cell(&self, at: usize, usable: usize) -> Option<(u32, &'p [u8])> {
        let pointers = if self.leaf { 8 } else { 12 };
        let mut start = number(self.bytes, pointers + 2 * at, 2)? as usize;
        let mut left = 0;
        if !self.leaf {
            left = number(self.bytes, start, 4)?;
            start += 4;
        }
        let (length, start) = varint(self.bytes, start)?;
        let length = usize::try_from(length).ok()?;
        // Longer records have a part on other pages.
        if length > (usable - 12) * 64 / 255 - 23 {
            return None;
        }
        Some((left, self.bytes.get(start..start.checked_add(length)?)?))
    }
}

impl Walk<'_> {
    fn page(&mut self, number: u32, depth: usize) -> Result<Step> {
        if depth > DEEPEST {
            return Ok(Step::NotPlain);
        }
        let inner = {
            let mut statement = self.connection.prepare_cached(PAGE)?;
            let mut rows = statement.query([number])?;
            let Some(row) = rows.next()? else {
                return Ok(Step::NotPlain);
            };
            let bytes = row.get_ref(0)?.as_blob()?;
            match Page::new(bytes) {
                None => return Ok(Step::NotPlain),
                Some(page) if page.leaf => return Ok(self.leaf(&page)),
                // The statement is needed for the children.
                Some(_) => bytes.to_vec(),
            }
        };
        match Page::new(&inner) {
            Some(page) => self.inner(&page, depth),
            None => Ok(Step::NotPlain),
        }
    }

    fn inner(&mut self, page: &Page<'_>, depth: usize) -> Result<Step> {
        let Some(first) = self.first_cell(page) else {
            return Ok(Step::NotPlain);
        };
        for at in first..page.cells {
            let Some((left, record)) = page.cell(at, self.tree.usable) else {
                return Ok(Step::NotPlain);
            };
            let step = self.page(left, depth + 1)?;
            if step != Step::On {
                return Ok(step);
            }
            let step = self.record(record);
            if step != Step::On {
                return Ok(step);
            }
        }
        let Some(right) = page.right() else {
            return Ok(Step::NotPlain);
        };
        self.page(right, depth + 1)
    }

    fn leaf(&mut self, page: &Page<'_>) -> Step {
        if scan::is_over() {
            return Step::Stopped;
        }
        let Some(first) = self.first_cell(page) else {
            return Step::NotPlain;
        };
        if !self.filters.is_empty() {
            let step = self.begin_leaf(page, first);
            if step != Step::On {
                return step;
            }
        }
        for at in first..page.cells {
            let Some((_, record)) = page.cell(at, self.tree.usable) else {
                return Step::NotPlain;
            };
            let step = self.record(record);
            if step != Step::On {
                return step;
            }
        }
        Step::On
    }

    /// The first cell after the range's beginning.
    fn first_cell(&self, page: &Page<'_>) -> Option<usize> {
        let Some(after) = self.range.after else {
            return Some(0);
        };
        let (mut from, mut to) = (0, page.cells);
        while from < to {
            let middle = from + (to - from) / 2;
            let (_, record) = page.cell(middle, self.tree.usable)?;
            if Record::new(record)?.position()?.cmp(&after) == Ordering::Greater {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Some(from)
    }

    /// Hands over a record, unless it is after the range or does not match the filters.
    fn record(&mut self, bytes: &[u8]) -> Step {
        if !self.filters.is_empty() {
            // Few are let through, and the others need not be read.
            match Record::new(bytes).and_then(|record| self.is_let_through(&record)) {
                None => return Step::NotPlain,
                Some(true) => {}
                Some(false) => return Step::On,
            }
        }
        self.read_record(bytes)
    }

    /// Hands over a record, unless it is after the range.
    fn read_record(&mut self, bytes: &[u8]) -> Step {
        let tree = self.tree;
        let mut values = [ValueRef::Null; MOST_COLUMNS];
        let values = &mut values[..tree.reals.len()];
        let read = Record::new(bytes).and_then(|record| record.read(values, &tree.reals));
        let (Some(()), &[ValueRef::Integer(time), ValueRef::Integer(id), ..]) = (read, &*values)
        else {
            return Step::NotPlain;
        };
        let position = Position { key: time, id };
        if self.range.until.is_some_and(|until| position > until) {
            return Step::Behind;
        }
        if self.last.is_some_and(|last| position <= last) {
            // Pages that lead back to where the walk has been.
            return Step::NotPlain;
        }
        if !scan::record(|at| values[tree.columns[at]]) {
            return Step::Stopped;
        }
        self.last = Some(position);
        Step::On
    }

    /// Looks where a leaf begins, where filters may let nothing of it through: whether that is after
    /// the range, or where the walk has been.
    fn begin_leaf(&mut self, page: &Page<'_>, first: usize) -> Step {
        let cell = page.cell(first, self.tree.usable);
        let position = cell.and_then(|(_, record)| Record::new(record)?.position());
        match position {
            None if first < page.cells => Step::NotPlain,
            None => Step::On,
            Some(position) if self.range.until.is_some_and(|until| position > until) => {
                Step::Behind
            }
            Some(_) if self.leaf >= position => Step::NotPlain,
            Some(_) => {
                self.leaf = position;
                Step::On
            }
        }
    }

    /// Whether a record matches the filters; `None` if that is for SQLite to say.
    #[inline]
    fn is_let_through(&self, record: &Record<'_>) -> Option<bool> {
        for (filter, at) in self.filters.iter().zip(&self.tree.filtered) {
            if !matches(record.value(*at)?, filter)? {
                return Some(false);
            }
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests;
