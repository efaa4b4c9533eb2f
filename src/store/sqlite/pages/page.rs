//! A page of a clustered table, of an index or of an ordinary table: SQLite's file format, section 1.6.

use super::record::{Record, rowid, varint};

/// How a table's pages are divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The bytes of a page that are in use.
    usable: usize,
    /// The longest record that is all on its page.
    longest: usize,
    /// The least of a longer one that is on its page.
    shortest: usize,
}

/// What the pages of a tree hold.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Records in the order of their keys: a clustered table, or an index.
    Keys,
    /// Rows in the order of their rowids: an ordinary table.
    Rows,
}

/// A page.
pub(super) struct Page<'p> {
    bytes: &'p [u8],
    sizes: Sizes,
    pub(super) leaf: bool,
    pub(super) cells: usize,
    /// Where the cells' area begins.
    area: usize,
}

/// A place on a page that holds a record.
pub(super) struct Cell<'p> {
    /// The page before the record, unless this is a leaf.
    pub(super) left: u32,
    pub(super) record: Record<'p>,
    /// Whether it is all there, and where a page's records are.
    pub(super) plain: bool,
}

impl Sizes {
    /// Of a database whose first page this is.
    pub(super) fn of(first: &[u8]) -> Option<Sizes> {
        // Section 1.3.4: bytes at the end of each page that SQLite does not use.
        let usable = first.len() - usize::from(*first.get(20)?);
        // The smallest page, less what may be reserved of it.
        (usable >= 480).then_some(Sizes {
            usable,
            longest: (usable - 12) * 64 / 255 - 23,
            shortest: (usable - 12) * 32 / 255 - 23,
        })
    }

    /// Whether a record of so many columns always has its header and its first two integers on its
    /// page, even if it is longer than that.
    pub(super) fn hold_keys(&self, columns: usize) -> bool {
        const HEADER: usize = 2 + 2;
        const LONGEST_TYPE: usize = 4;
        HEADER + LONGEST_TYPE * columns.saturating_sub(2) + 16 <= self.shortest
    }

    /// How much of a record is on its page.
    fn local(&self, length: usize) -> usize {
        if length <= self.longest {
            return length;
        }
        let local = self.shortest + (length - self.shortest) % (self.usable - 4);
        if local <= self.longest {
            local
        } else {
            self.shortest
        }
    }
}

impl<'p> Page<'p> {
    /// A page of that kind, if it is one.
    pub(super) fn new(bytes: &'p [u8], kind: Kind, sizes: Sizes) -> Option<Page<'p>> {
        let (inner, leaf) = match kind {
            Kind::Keys => (2, 10),
            Kind::Rows => (5, 13),
        };
        let first = *bytes.first()?;
        if first != inner && first != leaf {
            return None;
        }
        let cells = number(bytes, 3, 2)? as usize;
        let area = match number(bytes, 5, 2)? {
            0 => 65_536,
            area => area as usize,
        };
        // More cells than SQLite believes.
        (cells <= (bytes.len() - 8) / 6).then_some(Page {
            bytes,
            sizes,
            leaf: first == leaf,
            cells,
            area,
        })
    }

    /// The page after the last cell.
    pub(super) fn right(&self) -> Option<u32> {
        number(self.bytes, 8, 4)
    }

    /// A cell; `None` if it is not on the page, or its record's header is not.
    #[inline(always)]
    pub(super) fn cell(&self, at: usize) -> Option<Cell<'p>> {
        let pointers = if self.leaf { 8 } else { 12 };
        let pointer = self.bytes.get(pointers + 2 * at..)?.first_chunk::<2>()?;
        let mut start = usize::from(u16::from_be_bytes(*pointer));
        let in_area = start >= self.area;
        if start < pointers + 2 * self.cells {
            return None;
        }
        let mut left = 0;
        if !self.leaf {
            left = number(self.bytes, start, 4)?;
            start += 4;
        }
        let (length, start) = varint(self.bytes, start)?;
        // SQLite keeps the length in 32 bits.
        let length = u32::try_from(length).ok()? as usize;
        let local = self.sizes.local(length);
        let end = start + local;
        if end > self.sizes.usable {
            return None;
        }
        Some(Cell {
            left,
            record: Record::new(self.bytes.get(start..end)?)?,
            plain: in_area && local == length,
        })
    }
}

/// What is on a page of rows.
impl Page<'_> {
    /// Where a cell begins, in the area of cells.
    #[inline]
    fn start(&self, at: usize) -> Option<usize> {
        let pointers = if self.leaf { 8 } else { 12 };
        let start = number(self.bytes, pointers + 2 * at, 2)? as usize;
        (start >= self.area && start >= pointers + 2 * self.cells).then_some(start)
    }

    /// A cell that leads to a page, and the greatest rowid there.
    pub(super) fn inner_cell(&self, at: usize) -> Option<(u32, i64)> {
        let start = self.start(at)?;
        let child = number(self.bytes, start, 4)?;
        let (rowid, end) = rowid(self.bytes, start + 4)?;
        (end <= self.sizes.usable).then_some((child, rowid))
    }

    /// A row's rowid, and where its record begins and ends, if it is all on the page.
    #[inline]
    pub(super) fn leaf_cell(&self, at: usize) -> Option<(i64, Option<(u32, u32)>)> {
        let (length, rowid_at) = varint(self.bytes, self.start(at)?)?;
        let (rowid, start) = rowid(self.bytes, rowid_at)?;
        // SQLite keeps the length in 32 bits.
        let length = u32::try_from(length).ok()? as usize;
        if length > self.sizes.usable - 35 {
            return Some((rowid, None));
        }
        let end = start + length;
        (end <= self.sizes.usable).then_some((rowid, Some((start as u32, end as u32))))
    }
}

/// A big-endian unsigned integer of a page's header.
#[inline]
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u32::from(*byte)),
    )
}
