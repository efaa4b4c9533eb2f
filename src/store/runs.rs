//! The parts of a range that an index serves as one piece each.

use crate::selection::{Operator, Part, Position, Range};

/// A part of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// What records are ordered by.
    Key,
    /// What orders those of the same key.
    Id,
}

/// How a column is compared to a part of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Above,
    NotBelow,
    Below,
    UpTo,
    At,
}

impl How {
    /// The comparison of an operator that orders; of any other, equality.
    pub(super) fn of(operator: Operator) -> How {
        match operator {
            Operator::Greater => How::Above,
            Operator::GreaterOrEqual => How::NotBelow,
            Operator::Less => How::Below,
            Operator::LessOrEqual => How::UpTo,
            _ => How::At,
        }
    }
}

/// Records of which all conditions hold.
pub(super) struct Run<'r> {
    pub(super) conditions: Vec<(Which, How, &'r Part)>,
    /// Whether all of them have one time.
    pub(super) of_one_time: bool,
}

/// A range's runs, one after another: what is left of the second that the range begins in,
/// all of the seconds after that, and the beginning of the second that it ends in. A comparison of pairs would
/// be tested again for every record.
pub(super) fn runs(range: &Range, by_id: bool) -> Vec<Run<'_>> {
    // After every record of its time, a position is a bound of the time alone; in the order of ids
    // it always is.
    let within = |position: &&Position| position.id != Part::End && !by_id;
    let of_one_time = |conditions| Run {
        conditions,
        of_one_time: true,
    };
    let (after, until) = (range.after.as_ref(), range.until.as_ref());
    if until.is_some_and(|until| after >= Some(until)) {
        return Vec::new();
    }
    if let (Some(a), Some(u)) = (after, until)
        && a.key == u.key
    {
        let conditions = vec![
            (Which::Key, How::At, &a.key),
            (Which::Id, How::Above, &a.id),
            (Which::Id, How::UpTo, &u.id),
        ];
        let run = (a.id < u.id).then(|| of_one_time(conditions));
        return run.into_iter().collect();
    }
    let first = after.filter(within);
    let first = first.map(|a| {
        of_one_time(vec![
            (Which::Key, How::At, &a.key),
            (Which::Id, How::Above, &a.id),
        ])
    });
    let last = until.filter(within);
    let last = last.map(|u| {
        of_one_time(vec![
            (Which::Key, How::At, &u.key),
            (Which::Id, How::UpTo, &u.id),
        ])
    });
    let above = after.map(|a| (Which::Key, How::Above, &a.key));
    let below = until.map(|u| match within(&u) {
        true => (Which::Key, How::Below, &u.key),
        false => (Which::Key, How::UpTo, &u.key),
    });
    let middle = Run {
        conditions: above.into_iter().chain(below).collect(),
        of_one_time: false,
    };
    first.into_iter().chain([middle]).chain(last).collect()
}
