//! Counts a table's records by its pages' headers, where nothing of the records need be read: to step
//! over them one by one takes SQLite some 45 ns each, over a page of a hundred about a microsecond.

use rusqlite::{CachedStatement, Connection, Result};

use super::super::scan;
use super::page::Page;
use super::walk::DEEPEST;
use super::{ClusteredReader, PAGE};
use crate::selection::Position;

/// What counting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Counted {
    /// The record of the number stands here.
    At(Position),
    /// There are so many fewer.
    Short(u64),
    /// Something is not as it should be, or nobody waits any more: SQLite counts, and judges.
    BySql,
}

impl ClusteredReader {
    /// Where the record of that number after a position stands, counted from 1.
    pub(in super::super) fn nth(
        &self,
        connection: &Connection,
        after: Option<Position>,
        number: u64,
    ) -> Result<Counted> {
        let mut count = Count {
            reader: self,
            pages: connection.prepare_cached(PAGE)?,
            after,
            left: number,
        };
        count.page(self.root, 0)
    }
}

struct Count<'a> {
    reader: &'a ClusteredReader,
    pages: CachedStatement<'a>,
    /// Where counting begins; `None` when it has begun.
    after: Option<Position>,
    /// How many records are still to be counted.
    left: u64,
}

impl Count<'_> {
    fn page(&mut self, number: u32, depth: usize) -> Result<Counted> {
        if depth >= DEEPEST || scan::is_over() {
            return Ok(Counted::BySql);
        }
        let sizes = self.reader.sizes;
        let bytes = {
            let mut rows = self.pages.query([number])?;
            let Some(row) = rows.next()? else {
                return Ok(Counted::BySql);
            };
            let bytes = row.get_ref(0)?.as_blob()?;
            match Page::new(bytes, sizes) {
                Some(page)
                    if page.leaf && self.after.is_none() && self.left > page.cells as u64 =>
                {
                    // Only the root may be empty.
                    if page.cells == 0 && depth > 0 {
                        return Ok(Counted::BySql);
                    }
                    self.left -= page.cells as u64;
                    return Ok(Counted::Short(self.left));
                }
                Some(_) => bytes.to_vec(),
                None => return Ok(Counted::BySql),
            }
        };
        let Some(page) = Page::new(&bytes, sizes) else {
            return Ok(Counted::BySql);
        };
        let Some(first) = self.first(&page) else {
            return Ok(Counted::BySql);
        };
        if page.leaf {
            self.after = None;
        }
        for at in first..=page.cells {
            if !page.leaf {
                let child = match page.cell(at) {
                    _ if at == page.cells => page.right(),
                    cell => cell.map(|cell| cell.left),
                };
                let Some(child) = child else {
                    return Ok(Counted::BySql);
                };
                let counted = self.page(child, depth + 1)?;
                if !matches!(counted, Counted::Short(_)) {
                    return Ok(counted);
                }
            }
            if at == page.cells {
                break;
            }
            self.left -= 1;
            if self.left == 0 {
                let position = page.cell(at).and_then(|cell| cell.record.position());
                return Ok(position.map_or(Counted::BySql, Counted::At));
            }
        }
        Ok(Counted::Short(self.left))
    }

    /// The page's first cell after where counting begins; `None` if its keys cannot be read.
    fn first(&self, page: &Page<'_>) -> Option<usize> {
        let Some(after) = self.after else {
            return Some(0);
        };
        let (mut from, mut to) = (0, page.cells);
        while from < to {
            let middle = from + (to - from) / 2;
            if page.cell(middle)?.record.position()? > after {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Some(from)
    }
}
