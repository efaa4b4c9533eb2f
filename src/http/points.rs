//! Where what a client compares to lies among the values that a column can have: between two of them, or
//! beyond all, it is compared as exactly as if it were one.

use crate::selection::Operator;

/// Where a value lies among those of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point<T> {
    /// Before all.
    BeforeAll,
    /// It is one.
    At(T),
    /// After this one, and before the next.
    After(T),
    /// After all.
    AfterAll,
}

impl<T> Point<T> {
    /// The one of two that leaves less: the `later`, or the earlier.
    pub(super) fn narrower(self, other: Point<T>, later: bool) -> Point<T>
    where
        T: Ord,
    {
        if (self.place() < other.place()) == later {
            other
        } else {
            self
        }
    }

    /// Compares as points lie.
    fn place(&self) -> (u8, Option<&T>, bool) {
        match self {
            Point::BeforeAll => (0, None, false),
            Point::At(at) => (1, Some(at), false),
            Point::After(before) => (1, Some(before), true),
            Point::AfterAll => (2, None, false),
        }
    }

    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Point<U> {
        match self {
            Point::BeforeAll => Point::BeforeAll,
            Point::At(at) => Point::At(map(at)),
            Point::After(before) => Point::After(map(before)),
            Point::AfterAll => Point::AfterAll,
        }
    }
}

/// The comparison to values of the column that means the same: as many points as the operator takes.
pub(super) fn compared<T>(operator: Operator, points: Vec<Point<T>>) -> (Operator, Vec<T>) {
    use Operator::{
        Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, Like, NotEqual, NotNull, Null,
    };
    if operator == In {
        let values = points.into_iter().filter_map(|point| match point {
            Point::At(at) => Some(at),
            _ => None,
        });
        return (In, values.collect());
    }
    let Some(point) = points.into_iter().next() else {
        return (operator, Vec::new());
    };
    // None of an empty list is equal to anything.
    let (all, none) = ((NotNull, Vec::new()), (In, Vec::new()));
    match (operator, point) {
        (_, Point::At(at)) => (operator, vec![at]),
        (Greater | GreaterOrEqual, Point::After(before)) => (Greater, vec![before]),
        (Less | LessOrEqual, Point::After(before)) => (LessOrEqual, vec![before]),
        (Greater | GreaterOrEqual, Point::BeforeAll) => all,
        (Less | LessOrEqual, Point::AfterAll) => all,
        (NotEqual | NotNull, _) => all,
        (Equal | In | Like | Null | Greater | GreaterOrEqual | Less | LessOrEqual, _) => none,
    }
}
