//! Which records a client asks for.

/// The names of the request's parameters.
pub const PARAMETERS: [&str; 4] = ["scanned_after", "scanned_before", "limit", "format"];

/// The records that a client asks for: a window of time, and at most so many of it.
///
/// The window is open below and closed above, so that consecutive windows neither overlap nor leave
/// a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only records with a time strictly greater, in the unit of the stream's time column.
    pub scanned_after: Option<i64>,
    /// Only records with a time less or equal.
    pub scanned_before: Option<i64>,
    /// At most so many, the first in `(time, id)` order; 0 to `i64::MAX`.
    pub limit: Option<u64>,
}

/// A record's place in a stream. Records come in this order: by time, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The record's time.
    pub time: i64,
    /// The record's id.
    pub id: i64,
}

/// A run of records between two positions: a window, a page, or a slice of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Only records strictly after this position; `None` begins with the first.
    pub after: Option<Position>,
    /// Only records up to this position, itself included; `None` ends with the last.
    pub until: Option<Position>,
    /// At most so many; 0 to `i64::MAX`.
    pub limit: Option<u64>,
}

impl From<Selection> for Range {
    /// The window's bounds lie behind every record of their second.
    ///
    /// ```
    /// use flows::selection::{Position, Range, Selection};
    /// let window = Selection { scanned_after: Some(7), ..Selection::default() };
    /// assert_eq!(Range::from(window).after, Some(Position { time: 7, id: i64::MAX }));
    /// ```
    fn from(selection: Selection) -> Range {
        let end_of = |time: i64| Position { time, id: i64::MAX };
        Range {
            after: selection.scanned_after.map(end_of),
            until: selection.scanned_before.map(end_of),
            limit: selection.limit,
        }
    }
}
