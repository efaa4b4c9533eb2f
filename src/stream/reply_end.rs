//! Where a reply will end, so that its head can say so: a stream reads one snapshot.

use super::connections::Lease;
use crate::selection::{Position, Range, View};
use crate::store::{Cancel, StoreError};

/// What the head of a reply says of its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyEnd {
    /// Behind it, the next request goes on: the position of the last record that this one looks at, or
    /// where it was asked to begin if there is none. `None` when it was not asked to begin anywhere,
    /// when a limit counts what filters let through, or when that takes a view too long to say.
    pub position: Option<Position>,
    /// Whether there are records after it that the limit cut off.
    pub more: bool,
    /// How many records there are, if that was asked.
    pub count: Option<u64>,
}

/// What is known before the first record.
pub(super) fn before(
    lease: &mut Lease,
    view: &View,
    range: &Range,
    cancel: &Cancel,
) -> Result<ReplyEnd, StoreError> {
    in_time(found(lease, view, range, cancel), cancel)
}

/// What was found; nothing is known if that takes too long.
fn in_time(found: Result<ReplyEnd, StoreError>, cancel: &Cancel) -> Result<ReplyEnd, StoreError> {
    match found {
        Err(StoreError::Stopped) if !cancel.is_cancelled() => Ok(ReplyEnd::default()),
        found => found,
    }
}

fn found(
    lease: &mut Lease,
    view: &View,
    range: &Range,
    cancel: &Cancel,
) -> Result<ReplyEnd, StoreError> {
    let (position, more) = match range.limit {
        Some(0) => (range.after, false),
        Some(_) if !view.filters.is_empty() => (None, false),
        Some(limit) => match lease.nth(view, range, limit, cancel)? {
            Some(cut) => (Some(cut), is_more(lease, view, range, cut, cancel)?),
            None => (lease.last(view, range, cancel)?.or(range.after), false),
        },
        None => (lease.last(view, range, cancel)?.or(range.after), false),
    };
    Ok(ReplyEnd {
        position,
        more,
        count: None,
    })
}

/// What is known when all records are written: so many, the last at that position.
pub(super) fn after(
    lease: &mut Lease,
    view: &View,
    range: &Range,
    written: (u64, Option<Position>),
    cancel: &Cancel,
) -> Result<ReplyEnd, StoreError> {
    in_time(ended(lease, view, range, written, cancel), cancel)
}

fn ended(
    lease: &mut Lease,
    view: &View,
    range: &Range,
    (records, last): (u64, Option<Position>),
    cancel: &Cancel,
) -> Result<ReplyEnd, StoreError> {
    let filtered = !view.filters.is_empty();
    let (position, more) = match last {
        // Whether those after it match the filters would have to be looked at: an empty page more
        // does no harm.
        Some(last) if range.limit == Some(records) => {
            let more = filtered || is_more(lease, view, range, last, cancel).unwrap_or(true);
            (Some(last), more)
        }
        _ if filtered && range.limit != Some(0) => {
            let last = lease.last(view, range, cancel)?;
            (last.or(range.after), false)
        }
        last => (last.or(range.after), false),
    };
    Ok(ReplyEnd {
        position,
        more,
        count: None,
    })
}

fn is_more(
    lease: &mut Lease,
    view: &View,
    range: &Range,
    after: Position,
    cancel: &Cancel,
) -> Result<bool, StoreError> {
    let after = Some(after);
    let rest = Range { after, ..*range };
    Ok(lease.nth(view, &rest, 1, cancel)?.is_some())
}
