//! A record as its page has it: SQLite's file format, section 2.1.

use rusqlite::types::ValueRef;

use crate::selection::Position;

/// A record, section 2.1: the types of its values, then the values.
pub(super) struct Record<'r> {
    bytes: &'r [u8],
    types: usize,
    header: usize,
}

impl<'r> Record<'r> {
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

    /// The first two values, which are the primary key.
    pub(super) fn position(&self) -> Option<Position> {
        let mut key = [ValueRef::Null; 2];
        self.read(&mut key, &[false, false])?;
        match key {
            [ValueRef::Integer(time), ValueRef::Integer(id)] => Some(Position { key: time, id }),
            _ => None,
        }
    }

    /// One of the values.
    #[inline]
    pub(super) fn value(&self, at: usize) -> Option<ValueRef<'r>> {
        let (mut types, mut start) = (self.types, self.header);
        for _ in 0..at {
            let (kind, next) = self.kind(types)?;
            types = next;
            start = start.checked_add(length(kind)?)?;
        }
        let (kind, _) = self.kind(types)?;
        let bytes = self.bytes.get(start..start.checked_add(length(kind)?)?)?;
        value(kind, bytes)
    }

    /// A value's type, and where the next one's is.
    #[inline]
    fn kind(&self, types: usize) -> Option<(u64, usize)> {
        if types >= self.header {
            return None;
        }
        varint(self.bytes, types)
    }

    /// Reads the first values; `None` when there are fewer.
    #[inline]
    pub(super) fn read(&self, values: &mut [ValueRef<'r>], reals: &[bool]) -> Option<()> {
        let (mut types, mut at) = (self.types, self.header);
        for (slot, real) in values.iter_mut().zip(reals) {
            let (kind, next) = self.kind(types)?;
            types = next;
            let end = at.checked_add(length(kind)?)?;
            *slot = value(kind, self.bytes.get(at..end)?)?;
            at = end;
            // SQLite keeps a real that is a whole number as an integer.
            if let (true, ValueRef::Integer(integer)) = (*real, *slot) {
                *slot = ValueRef::Real(integer as f64);
            }
        }
        Some(())
    }
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

/// The value of a type that these bytes are.
#[inline]
fn value(kind: u64, bytes: &[u8]) -> Option<ValueRef<'_>> {
    Some(match kind {
        0 => ValueRef::Null,
        7 => ValueRef::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
        8 | 9 => ValueRef::Integer(kind as i64 - 8),
        1..=6 => ValueRef::Integer(integer(bytes)),
        _ if kind.is_multiple_of(2) => ValueRef::Blob(bytes),
        _ => ValueRef::Text(bytes),
    })
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

/// A big-endian unsigned integer of a page's header.
pub(super) fn number(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u32::from(*byte)),
    )
}

/// A variable-length integer, section 1.6, and where it ends. Those of nine bytes are not plain.
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
