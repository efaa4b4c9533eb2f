//! What records are ordered by in a clustered table, or in an index on the time: two integers.

use crate::selection::{Part, Position, Range};

/// A primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Key {
    pub(in super::super) key: i64,
    pub(in super::super) id: i64,
}

impl Key {
    /// The key after all that begin so.
    pub(super) fn end_of(key: i64) -> Key {
        Key { key, id: i64::MAX }
    }

    /// A position as a key; `None` if it is of a string.
    pub(in super::super) fn of(position: &Position) -> Option<Key> {
        let integer = |part: &Part| match part {
            Part::Integer(integer) => Some(*integer),
            Part::End => Some(i64::MAX),
            Part::Text(_) => None,
        };
        Some(Key {
            key: integer(&position.key)?,
            id: integer(&position.id)?,
        })
    }
}

impl From<Key> for Position {
    fn from(Key { key, id }: Key) -> Position {
        match id {
            // Nothing is after it.
            i64::MAX => Position::end_of(key),
            id => Position {
                key: key.into(),
                id: id.into(),
            },
        }
    }
}

/// A range of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRange {
    /// Only keys after this one.
    pub(super) after: Option<Key>,
    /// Only keys up to this one.
    pub(super) until: Option<Key>,
}

impl KeyRange {
    /// A range of positions as one of keys; `None` if it is bounded by strings.
    pub(super) fn of(range: &Range) -> Option<KeyRange> {
        let key = |position: &Option<Position>| match position {
            Some(position) => Key::of(position).map(Some),
            None => Some(None),
        };
        Some(KeyRange {
            after: key(&range.after)?,
            until: key(&range.until)?,
        })
    }
}

impl From<KeyRange> for Range {
    fn from(KeyRange { after, until }: KeyRange) -> Range {
        Range {
            after: after.map(Position::from),
            until: until.map(Position::from),
            limit: None,
        }
    }
}
