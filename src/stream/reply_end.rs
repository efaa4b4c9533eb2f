//! Where a reply will end, so that its head can say so: a stream reads one snapshot.

use super::connections::Lease;
use crate::selection::{Position, Range, View};
use crate::store::{Cancel, Find, StoreError};

/// What the head of a reply says of its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyEnd {
    /// After it, the next request goes on: the position of the last record that this one looks at, or
    /// where it was asked to begin if there is none. `None` when it was not asked to begin anywhere,
    /// or when that takes a view too long to say and no limit cuts.
    pub position: Option<Position>,
    /// Whether there are records after it that the limit cut off, or may be.
    pub more: bool,
    /// How many records there are, if that was asked.
    pub count: Option<u64>,
    /// Where the table ends, if there is nothing after where the reply was asked to begin: its last
    /// record's position, `None` in a table without any. Not looked for otherwise.
    pub table_end: Option<Option<Position>>,
}

/// What is known before the first record, and the range up to where its limit cuts. Of a range that can
/// be scanned in slices the limit is gone then; in any other, several records may stand there.
pub(super) fn before(
    lease: &mut Lease,
    range: &Range,
    splittable: bool,
    cancel: &Cancel,
) -> Result<(ReplyEnd, Range), StoreError> {
    let Some(limit) = range.limit.filter(|limit| *limit > 0) else {
        let position = match range.limit {
            Some(_) => None,
            None => last(lease, range, cancel)?,
        };
        let end = match position {
            None => empty(lease, range, cancel)?,
            position => ReplyEnd {
                position,
                ..ReplyEnd::default()
            },
        };
        return Ok((end, range.clone()));
    };
    let mut cut = Range {
        limit: None,
        ..range.clone()
    };
    let mut end = ReplyEnd::default();
    if let Some(position) = lease.find(&cut, Find::Nth(limit), cancel)? {
        end.more = is_more(lease, &cut, &position, cancel)?;
        cut.until = Some(position.clone());
        end.position = Some(position);
        cut.limit = range.limit.filter(|_| !splittable);
    } else {
        match last(lease, &cut, cancel)? {
            None => end = empty(lease, &cut, cancel)?,
            position => end.position = position,
        }
    }
    Ok((end, cut))
}

/// What is known when all records are written: so many, the last at that position.
pub(super) fn after(
    lease: &mut Lease,
    view: &View,
    range: &Range,
    (records, written): (u64, Option<Position>),
    cancel: &Cancel,
) -> Result<ReplyEnd, StoreError> {
    let (position, more) = match written {
        Some(cut) if range.limit == Some(records) => {
            let more = is_more(lease, range, &cut, cancel)?;
            (Some(cut), more)
        }
        // All of the range was looked at, whatever filters let through.
        _ if !view.filters.is_empty() && range.limit != Some(0) => {
            (last(lease, range, cancel)?, false)
        }
        written => (written, false),
    };
    match position {
        None => empty(lease, range, cancel),
        position => Ok(ReplyEnd {
            position,
            more,
            ..ReplyEnd::default()
        }),
    }
}

/// The end of a reply that looks at no record: where it was asked to begin.
fn empty(lease: &mut Lease, range: &Range, cancel: &Cancel) -> Result<ReplyEnd, StoreError> {
    let Some(after) = &range.after else {
        return Ok(ReplyEnd::default());
    };
    let table_end = match lease.find(&Range::default(), Find::Last, cancel) {
        Err(StoreError::Stopped) if !cancel.is_cancelled() => None,
        found => Some(found?),
    };
    Ok(ReplyEnd {
        position: Some(after.clone()),
        table_end,
        ..ReplyEnd::default()
    })
}

/// The position of the range's last record; `None` also when that takes a view too long to say.
fn last(lease: &mut Lease, range: &Range, cancel: &Cancel) -> Result<Option<Position>, StoreError> {
    match lease.find(range, Find::Last, cancel) {
        Err(StoreError::Stopped) if !cancel.is_cancelled() => Ok(None),
        found => found,
    }
}

/// Whether there are records of the range after a position. Whether they match the filters would have
/// to be looked at: an empty page more does no harm, and nor does one where that takes too long to say.
fn is_more(
    lease: &mut Lease,
    range: &Range,
    after: &Position,
    cancel: &Cancel,
) -> Result<bool, StoreError> {
    let rest = Range {
        after: Some(after.clone()),
        ..range.clone()
    };
    match lease.find(&rest, Find::Last, cancel) {
        Err(StoreError::Stopped) if !cancel.is_cancelled() => Ok(true),
        found => found.map(|found| found.is_some()),
    }
}
