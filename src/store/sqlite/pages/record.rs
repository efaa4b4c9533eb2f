//! A record as its page has it: SQLite's file format, section 2.1.

use rusqlite::types::ValueRef;

use super::Key;
use super::MOST_COLUMNS;

/// The longest header of a record that SQLite compares by a shortcut, which a table of up to
/// [`SHORTCUT`] columns takes.
const SHORT_HEADER: usize = 63;
const SHORTCUT: usize = 13;

/// How many bytes a value has whose type is written in one byte. Types 10 and 11 are no record's.
const LENGTHS: [u8; 128] = {
    let mut lengths = [0; 128];
    let mut kind = 0;
    while kind < 128 {
        lengths[kind as usize] = match kind {
            0..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            8..12 => 0,
            _ => (kind - 12) / 2,
        };
        kind += 1;
    }
    lengths
};

/// A record: the types of its values, then the values.
pub(super) struct Record<'r> {
    /// What of it is on its page.
    bytes: &'r [u8],
    types: usize,
    header: usize,
}

/// A type and where its value is, for each of a record's values.
pub(super) struct Layout {
    values: [(u32, u32); MOST_COLUMNS],
}

impl<'r> Record<'r> {
    /// A record of which these bytes are on its page; `None` unless its header is among them.
    #[inline]
    pub(super) fn new(bytes: &'r [u8]) -> Option<Record<'r>> {
        let (header, types) = varint(bytes, 0)?;
        let header = usize::try_from(header).ok()?;
        (header <= bytes.len()).then_some(Record {
            bytes,
            types,
            header,
        })
    }

    /// The first two values, which are the primary key, if both are integers.
    #[inline]
    pub(super) fn position(&self) -> Option<Key> {
        match self.key()? {
            [ValueRef::Integer(key), ValueRef::Integer(id)] => Some(Key { key, id }),
            _ => None,
        }
    }

    /// The first two values; strings and blobs, which may go on elsewhere, without their bytes.
    #[inline]
    pub(super) fn key(&self) -> Option<[ValueRef<'static>; 2]> {
        let (mut types, mut at) = (self.types, self.header);
        let mut key = [ValueRef::Null; 2];
        for slot in &mut key {
            let (kind, next) = self.kind(types)?;
            types = next;
            *slot = match kind {
                12.. if kind.is_multiple_of(2) => ValueRef::Blob(&[]),
                12.. => ValueRef::Text(&[]),
                _ => {
                    let end = at + length(kind)?;
                    let value = number(kind, self.bytes.get(at..end)?);
                    at = end;
                    value
                }
            };
            if kind >= 12 {
                // What is after it decides no order here.
                break;
            }
        }
        Some(key)
    }

    /// Whether SQLite looks for the key where [`Record::key`] does, in a table of so many columns.
    pub(super) fn has_usual_header(&self, columns: usize) -> bool {
        columns > SHORTCUT || self.header <= SHORT_HEADER
    }

    /// A value's type, and where the next one's is.
    #[inline]
    fn kind(&self, types: usize) -> Option<(u64, usize)> {
        if types >= self.header {
            return None;
        }
        varint(self.bytes, types)
    }

    /// Where all values are; `None` unless there are so many of them, and they are exactly what is on
    /// the page.
    #[inline]
    pub(super) fn layout(&self, columns: usize, layout: &mut Layout) -> Option<()> {
        let values = layout.values.get_mut(..columns)?;
        let mut at = self.header;
        let types = self.bytes.get(self.types..self.header)?;
        if types.len() == columns {
            for (slot, kind) in values.iter_mut().zip(types) {
                if *kind >= 0x80 || matches!(kind, 10 | 11) {
                    return None;
                }
                *slot = (u32::from(*kind), at as u32);
                at += usize::from(LENGTHS[usize::from(*kind)]);
            }
        } else {
            let mut types = self.types;
            for slot in values {
                let (kind, next) = self.kind(types)?;
                types = next;
                *slot = (u32::try_from(kind).ok()?, u32::try_from(at).ok()?);
                at = at.checked_add(length(kind)?)?;
            }
            if types != self.header {
                return None;
            }
        }
        (at == self.bytes.len()).then_some(())
    }

    /// One of the values.
    #[inline]
    pub(super) fn value(&self, at: usize, layout: &Layout) -> Option<ValueRef<'r>> {
        let (kind, start) = *layout.values.get(at)?;
        let (kind, start) = (u64::from(kind), start as usize);
        let length = match LENGTHS.get(kind as usize) {
            Some(length) => usize::from(*length),
            None => length(kind)?,
        };
        let bytes = self.bytes.get(start..start.checked_add(length)?)?;
        Some(value(kind, bytes))
    }

    /// Reads the values; `None` unless there are so many of them, and they are exactly what is on the
    /// page.
    #[inline]
    pub(super) fn read(&self, values: &mut [ValueRef<'r>], reals: &[bool]) -> Option<()> {
        let (mut types, mut at) = (self.types, self.header);
        for (slot, real) in values.iter_mut().zip(reals) {
            let (kind, next) = self.kind(types)?;
            types = next;
            let end = at.checked_add(length(kind)?)?;
            *slot = value(kind, self.bytes.get(at..end)?);
            at = end;
            // SQLite keeps a real that is a whole number as an integer.
            if let (true, ValueRef::Integer(integer)) = (*real, *slot) {
                *slot = ValueRef::Real(integer as f64);
            }
        }
        (types == self.header && at == self.bytes.len()).then_some(())
    }
}

impl Layout {
    pub(super) const NOTHING: Layout = Layout {
        values: [(0, 0); MOST_COLUMNS],
    };
}

/// How many bytes a value of a type has; `None` for types that there are not.
#[inline]
fn length(kind: u64) -> Option<usize> {
    match kind {
        0..=4 => Some(kind as usize),
        5 => Some(6),
        6 | 7 => Some(8),
        8 | 9 => Some(0),
        10 | 11 => None,
        _ => usize::try_from((kind - 12) / 2).ok(),
    }
}

/// The value of a type that these bytes are, which are as many as [`length`] says.
#[inline]
fn value(kind: u64, bytes: &[u8]) -> ValueRef<'_> {
    match kind {
        0..12 => number(kind, bytes),
        _ if kind.is_multiple_of(2) => ValueRef::Blob(bytes),
        _ => ValueRef::Text(bytes),
    }
}

/// [`value`] of one that is neither a string nor a blob.
#[inline]
fn number(kind: u64, bytes: &[u8]) -> ValueRef<'static> {
    match kind {
        7 => match bytes.try_into().map(f64::from_be_bytes) {
            // To SQLite there is no NaN.
            Ok(real) if !real.is_nan() => ValueRef::Real(real),
            _ => ValueRef::Null,
        },
        8 | 9 => ValueRef::Integer(kind as i64 - 8),
        1..=6 => ValueRef::Integer(integer(bytes)),
        _ => ValueRef::Null,
    }
}

/// A big-endian signed integer of 1 to 8 bytes.
#[inline]
fn integer(bytes: &[u8]) -> i64 {
    let start = if bytes.first().is_some_and(|first| *first >= 0x80) {
        -1
    } else {
        0
    };
    bytes
        .iter()
        .fold(start, |sum, byte| (sum << 8) | i64::from(*byte))
}

/// A rowid, which is a variable-length integer of up to nine bytes, and where it ends.
#[inline]
pub(super) fn rowid(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    if let Some((rowid, end)) = varint(bytes, at) {
        return Some((rowid.cast_signed(), end));
    }
    // Of the ninth byte all bits count.
    let nine = bytes.get(at..)?.first_chunk::<9>()?;
    let (eight, last) = (&nine[..8], nine[8]);
    let sum = eight
        .iter()
        .fold(0, |sum, byte| (sum << 7) | u64::from(byte & 0x7F));
    Some((((sum << 8) | u64::from(last)).cast_signed(), at + 9))
}

/// A variable-length integer, section 1.6, and where it ends. Those of nine bytes are of no length or
/// type that there is.
#[inline]
pub(super) fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((first.into(), at + 1));
    }
    let mut sum = u64::from(first & 0x7F);
    for length in 1..8 {
        let byte = *bytes.get(at + length)?;
        sum = (sum << 7) | u64::from(byte & 0x7F);
        if byte < 0x80 {
            return Some((sum, at + length + 1));
        }
    }
    None
}
