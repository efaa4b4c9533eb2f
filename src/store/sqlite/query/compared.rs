//! A column that is compared to times, days or ids, by whatever the database holds it as.
//!
//! Where that is not the integer of the declared type, a bound is the greatest of what the database may
//! hold that stands for an instant not after the one asked for. Then nothing is converted for a
//! comparison, and an index of the column serves it.

use flows_formats::Type;
use flows_formats::time::Unit;
use rusqlite::types::Value;

use crate::definition::Stored;
use crate::selection::Part;
use crate::store::reading::seconds_bound;
use crate::store::runs::How;

/// A condition, and the values bound to it.
pub(super) type Condition = (String, Vec<Value>);

/// A column that is compared.
pub(super) struct Compared {
    /// What stands for it in SQL.
    pub(super) sql: String,
    kind: Type,
    stored: Stored,
}

impl Compared {
    pub(super) fn new(sql: String, kind: Type, stored: Stored) -> Compared {
        Compared { sql, kind, stored }
    }

    /// Whether the database may hold only one value for each.
    pub(super) fn is_exact(&self) -> bool {
        self.stored == Stored::Plain
    }

    /// After it.
    fn above(&self, part: &Part) -> Condition {
        (format!("{} > ?", self.sql), vec![self.bound(part)])
    }

    /// Up to it.
    fn up_to(&self, part: &Part) -> Condition {
        (format!("{} <= ?", self.sql), vec![self.bound(part)])
    }

    /// Before it.
    fn below(&self, part: &Part) -> Condition {
        if self.is_exact() {
            (format!("{} < ?", self.sql), vec![self.bound(part)])
        } else {
            self.up_to(&before(part))
        }
    }

    /// It, or after it.
    fn not_below(&self, part: &Part) -> Condition {
        if self.is_exact() {
            (format!("{} >= ?", self.sql), vec![self.bound(part)])
        } else {
            self.above(&before(part))
        }
    }

    /// It.
    fn at(&self, part: &Part) -> Condition {
        if self.is_exact() {
            return (format!("{} = ?", self.sql), vec![self.bound(part)]);
        }
        let (above, mut bounds) = self.above(&before(part));
        let (up_to, last) = self.up_to(part);
        bounds.extend(last);
        (format!("{above} AND {up_to}"), bounds)
    }

    /// A condition of any kind.
    pub(super) fn compared(&self, how: How, part: &Part) -> Condition {
        match how {
            How::Above => self.above(part),
            How::NotBelow => self.not_below(part),
            How::Below => self.below(part),
            How::UpTo => self.up_to(part),
            How::At => self.at(part),
        }
    }

    /// The last value that stands for what is not after it.
    fn bound(&self, part: &Part) -> Value {
        match part {
            Part::Integer(integer) => bound(self.kind, self.stored, *integer),
            Part::Text(text) => Value::Text(text.clone()),
            // After every string, and after every number.
            Part::End => Value::Blob(Vec::new()),
        }
    }
}

/// The last value that stands for an instant, or a day, not after this one.
pub(super) fn bound(kind: Type, stored: Stored, value: i64) -> Value {
    match (kind, stored) {
        (Type::Timestamp(unit), Stored::EpochReal) => Value::Real(seconds_bound(value, unit)),
        (Type::Timestamp(unit), Stored::Iso8601(spelling)) => {
            // No text is before an empty one.
            Value::Text(spelling.bound(value, unit).unwrap_or_default())
        }
        (_, Stored::Iso8601(spelling)) => {
            let seconds = value.saturating_mul(86_400);
            Value::Text(spelling.bound(seconds, Unit::Second).unwrap_or_default())
        }
        _ => Value::Integer(value),
    }
}

fn before(part: &Part) -> Part {
    match part {
        // Nothing is before the least.
        Part::Integer(integer) => Part::Integer(integer.saturating_sub(1)),
        part => part.clone(),
    }
}
