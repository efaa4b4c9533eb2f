//! The rows of an ordinary table, by the rowids that an index of it has.
//!
//! SQLite looks for each row anew, from the root. Rows that are near one another in time mostly are on
//! the same page: the last few pages are kept, each with the rowids that it has, which were verified to
//! be in order and between those of the pages above. So SQLite finds a row where this does, or not at
//! all where this does not.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use super::PAGE;
use super::filters::Test;
use super::key::Key;
use super::page::{Kind, Page, Sizes};
use super::record::{Layout, Record};
use super::walk::DEEPEST;

/// How many pages of rows are kept: as many places may be written to at once.
const KEPT: usize = 4;

/// Pages that are read before it is asked whether that pays.
const TRIED: u64 = 32;

/// How many rows a page must have had on average, so that to look for each would take longer.
const WORTH: u64 = 4;

/// How an ordinary table keeps its rows.
#[derive(Debug)]
pub(super) struct RowReader {
    pub(super) root: u32,
    /// For each value of a row, whether SQLite keeps it as a real.
    pub(super) reals: Vec<bool>,
    /// Which value is the rowid: one that is kept as a null or, where no column is the rowid, one after
    /// the others.
    pub(super) rowid: usize,
    /// Which value is the time.
    pub(super) time: usize,
}

/// What a row is to a scan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// Its values can be read.
    Plain,
    /// It does not match the filters.
    Passed,
    /// SQLite reads it.
    Odd,
}

/// Rows being looked for.
pub(super) struct Rows<'a> {
    reader: &'a RowReader,
    sizes: Sizes,
    connection: &'a Connection,
    /// The pages that lead to the last leaf, from the root on.
    path: Vec<Inner>,
    leaves: Vec<Leaf>,
    /// Which of them was used last, and which of its rows.
    at: (usize, usize),
    /// Where that row's values are.
    layout: Layout,
    loaded: u64,
    looked_for: u64,
}

/// Rowids from after one to another, both of them bounds that the pages above set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bounds {
    after: Option<i64>,
    until: Option<i64>,
}

impl Bounds {
    fn contain(self, rowid: i64) -> bool {
        self.after.is_none_or(|after| rowid > after)
            && self.until.is_none_or(|until| rowid <= until)
    }
}

/// A page that leads to others.
struct Inner {
    bounds: Bounds,
    /// The greatest rowid that each page leads to, and the page; the last one has no greatest.
    children: Vec<(Option<i64>, u32)>,
}

/// A page of rows.
struct Leaf {
    bounds: Bounds,
    bytes: Vec<u8>,
    /// Each row's rowid, and where its record is; nowhere if it is not all there.
    cells: Vec<(i64, u32, u32)>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(reader: &'a RowReader, sizes: Sizes, connection: &'a Connection) -> Rows<'a> {
        Rows {
            reader,
            sizes,
            connection,
            path: Vec::new(),
            leaves: Vec::new(),
            at: (0, 0),
            layout: Layout::NOTHING,
            loaded: 0,
            looked_for: 0,
        }
    }

    /// Whether pages have as many rows as make it worth to read them.
    pub(super) fn pay(&self) -> bool {
        self.loaded < TRIED || self.looked_for >= WORTH * self.loaded
    }

    /// Looks for the row that an index entry is of.
    #[inline]
    pub(super) fn find(&mut self, key: Key, tests: &[Test<'_>]) -> Result<Row> {
        self.looked_for += 1;
        if !self.seek(key.id)? {
            return Ok(Row::Odd);
        }
        Ok(self.classify(key, tests).unwrap_or(Row::Odd))
    }

    #[inline]
    fn classify(&mut self, key: Key, tests: &[Test<'_>]) -> Option<Row> {
        let record = record(&self.leaves, self.at)?;
        let layout = &mut self.layout;
        record.layout(self.reader.reals.len(), layout)?;
        // An entry of another time is for SQLite to judge.
        if record.value(self.reader.time, layout)? != ValueRef::Integer(key.key) {
            return None;
        }
        for test in tests {
            let value = if self.reader.rowid == test.at {
                ValueRef::Integer(key.id)
            } else {
                record.value(test.at, layout)?
            };
            if !test.matches(value)? {
                return Some(Row::Passed);
            }
        }
        Some(Row::Plain)
    }

    /// The record of the row that was found last.
    #[inline]
    pub(super) fn record(&self) -> Option<Record<'_>> {
        record(&self.leaves, self.at)
    }

    /// A value of the row that was found last.
    #[inline]
    pub(super) fn value<'r>(&self, key: Key, record: &Record<'r>, at: usize) -> ValueRef<'r> {
        if self.reader.rowid == at {
            return ValueRef::Integer(key.id);
        }
        // That all values are there, the layout has verified.
        let value = record.value(at, &self.layout).unwrap_or(ValueRef::Null);
        match (self.reader.reals.get(at), value) {
            // SQLite keeps a real that is a whole number as an integer.
            (Some(true), ValueRef::Integer(integer)) => ValueRef::Real(integer as f64),
            _ => value,
        }
    }

    /// Goes to a row; whether it is there, and its page is as it should be.
    #[inline]
    fn seek(&mut self, rowid: i64) -> Result<bool> {
        let (leaf, cell) = self.at;
        if let Some(leaf) = self.leaves.get(leaf) {
            // Most often it is the next one.
            if let Some((found, ..)) = leaf.cells.get(cell + 1)
                && *found == rowid
            {
                self.at.1 = cell + 1;
                return Ok(true);
            }
        }
        let kept = self
            .leaves
            .iter()
            .position(|leaf| leaf.bounds.contain(rowid));
        let at = match kept {
            Some(at) => at,
            None => match self.load(rowid)? {
                Some(at) => at,
                None => return Ok(false),
            },
        };
        let cells = &self.leaves[at].cells;
        match cells.binary_search_by_key(&rowid, |(rowid, ..)| *rowid) {
            Ok(cell) => {
                self.at = (at, cell);
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Reads the page that has a row if there is one; `None` if a page on the way is not as it should be.
    #[cold]
    fn load(&mut self, rowid: i64) -> Result<Option<usize>> {
        self.loaded += 1;
        let leads = self
            .path
            .iter()
            .rposition(|inner| inner.bounds.contain(rowid));
        self.path.truncate(leads.map_or(0, |at| at + 1));
        let mut statement = self.connection.prepare_cached(PAGE)?;
        while self.path.len() < DEEPEST {
            let (number, bounds) = match self.path.last() {
                None => (
                    self.reader.root,
                    Bounds {
                        after: None,
                        until: None,
                    },
                ),
                Some(inner) => inner.child(rowid),
            };
            let mut rows = statement.query([number])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let bytes = row.get_ref(0)?.as_blob()?;
            let page = Page::new(bytes, Kind::Rows, self.sizes);
            let Some(page) = page.filter(|page| page.cells > 0) else {
                return Ok(None);
            };
            if page.leaf {
                let at = if self.leaves.len() < KEPT {
                    self.leaves.push(Leaf {
                        bounds,
                        bytes: Vec::new(),
                        cells: Vec::new(),
                    });
                    self.leaves.len() - 1
                } else {
                    (self.at.0 + 1) % KEPT
                };
                let leaf = &mut self.leaves[at];
                if !leaf.fill(&page, bytes, bounds) {
                    // No row is within its bounds.
                    leaf.bounds = Bounds {
                        after: Some(i64::MAX),
                        until: None,
                    };
                    leaf.cells.clear();
                    return Ok(None);
                }
                return Ok(Some(at));
            }
            match Inner::new(&page, bounds) {
                Some(inner) => self.path.push(inner),
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

#[inline]
fn record(leaves: &[Leaf], (leaf, cell): (usize, usize)) -> Option<Record<'_>> {
    let leaf = leaves.get(leaf)?;
    let (_, start, end) = *leaf.cells.get(cell)?;
    Record::new(leaf.bytes.get(start as usize..end as usize)?)
}

impl Inner {
    /// A page whose rowids are in order and within the bounds.
    fn new(page: &Page<'_>, bounds: Bounds) -> Option<Inner> {
        let mut children = Vec::with_capacity(page.cells + 1);
        let mut last = bounds.after;
        for at in 0..page.cells {
            let (child, rowid) = page.inner_cell(at)?;
            if last >= Some(rowid) || bounds.until.is_some_and(|until| rowid > until) {
                return None;
            }
            last = Some(rowid);
            children.push((Some(rowid), child));
        }
        children.push((None, page.right()?));
        Some(Inner { bounds, children })
    }

    /// The page that leads to a rowid, and the rowids that it leads to.
    fn child(&self, rowid: i64) -> (u32, Bounds) {
        let before =
            |(greatest, _): &(Option<i64>, u32)| greatest.is_some_and(|greatest| greatest < rowid);
        // The last one has no greatest, and so is never before.
        let at = self.children.partition_point(before);
        let (greatest, number) = self.children.get(at).copied().unwrap_or((None, 0));
        let after = at.checked_sub(1).and_then(|at| self.children.get(at)?.0);
        let bounds = Bounds {
            after: after.or(self.bounds.after),
            until: greatest.or(self.bounds.until),
        };
        (number, bounds)
    }
}

impl Leaf {
    /// Takes a page's rows; whether their rowids are in order and within the bounds.
    fn fill(&mut self, page: &Page<'_>, bytes: &[u8], bounds: Bounds) -> bool {
        self.bounds = bounds;
        self.cells.clear();
        let mut last = bounds.after;
        for at in 0..page.cells {
            let Some((rowid, place)) = page.leaf_cell(at) else {
                return false;
            };
            if last >= Some(rowid) || bounds.until.is_some_and(|until| rowid > until) {
                return false;
            }
            last = Some(rowid);
            let (start, end) = place.unwrap_or((u32::MAX, 0));
            self.cells.push((rowid, start, end));
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        true
    }
}
