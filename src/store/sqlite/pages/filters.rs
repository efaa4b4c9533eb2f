//! Filters of a table whose pages are read: tested on the value alone, as SQLite would compare it.

use std::cmp::Ordering;

use flows_formats::Type;
use rusqlite::types::ValueRef;

use super::super::query::plain;
use super::super::table::Affinity;
use crate::definition::Stored;
use crate::selection::{Filter, Operand, Operator};

/// Whether a filter of a column is one that is tested here.
pub(super) fn is_plain(filter: &Filter, stored: Stored, kept: Option<Affinity>) -> bool {
    let kept_as_declared = matches!(
        (plain(filter.kind, stored), kept),
        (Type::Integer, Some(Affinity::Integer)) | (Type::Text, Some(Affinity::Text))
    );
    kept_as_declared && filter.operator != Operator::Like && !filter.is_of_replaced()
}

/// A filter, made ready to test many values.
pub(super) struct Test<'f> {
    /// Which value of a record it is about.
    pub(super) at: usize,
    condition: Condition<'f>,
}

enum Condition<'f> {
    Null,
    NotNull,
    /// How the value must compare to the operand.
    Integer(fn(Ordering) -> bool, i64),
    Text(fn(Ordering) -> bool, &'f [u8]),
    /// Those that the value must be one of, in order.
    Integers(Vec<i64>),
    Texts(Vec<&'f [u8]>),
}

impl<'f> Test<'f> {
    /// A test of the value at `at`; `None` if that is for SQLite.
    pub(super) fn new(filter: &'f Filter, at: usize) -> Option<Test<'f>> {
        let holds: fn(Ordering) -> bool = match filter.operator {
            Operator::Equal | Operator::In => Ordering::is_eq,
            Operator::NotEqual => Ordering::is_ne,
            Operator::Greater => Ordering::is_gt,
            Operator::GreaterOrEqual => Ordering::is_ge,
            Operator::Less => Ordering::is_lt,
            Operator::LessOrEqual => Ordering::is_le,
            Operator::Null | Operator::NotNull => |_| false,
            Operator::Like => return None,
        };
        let condition = match (filter.operator, filter.operands.as_slice()) {
            (Operator::Null, _) => Condition::Null,
            (Operator::NotNull, _) => Condition::NotNull,
            (_, [Operand::Integer(operand)]) => Condition::Integer(holds, *operand),
            (_, [Operand::Text(operand)]) => Condition::Text(holds, operand.as_bytes()),
            (Operator::In, operands @ [Operand::Integer(_), ..]) => {
                Condition::Integers(sorted(operands, |operand| match operand {
                    Operand::Integer(operand) => Some(*operand),
                    _ => None,
                })?)
            }
            (Operator::In, operands @ [Operand::Text(_), ..]) => {
                Condition::Texts(sorted(operands, |operand| match operand {
                    Operand::Text(operand) => Some(operand.as_bytes()),
                    _ => None,
                })?)
            }
            _ => return None,
        };
        Some(Test { at, condition })
    }

    /// Whether a value matches; `None` if it is not of the declared type.
    #[inline]
    pub(super) fn matches(&self, value: ValueRef<'_>) -> Option<bool> {
        Some(match (&self.condition, value) {
            (Condition::Null, value) => value == ValueRef::Null,
            (Condition::NotNull, value) => value != ValueRef::Null,
            (_, ValueRef::Null) => false,
            (Condition::Integer(holds, operand), ValueRef::Integer(value)) => {
                holds(value.cmp(operand))
            }
            (Condition::Text(holds, operand), ValueRef::Text(value)) => holds(value.cmp(operand)),
            (Condition::Integers(operands), ValueRef::Integer(value)) => {
                operands.binary_search(&value).is_ok()
            }
            (Condition::Texts(operands), ValueRef::Text(value)) => {
                operands.binary_search(&value).is_ok()
            }
            _ => return None,
        })
    }
}

/// The operands in order; `None` if one is of another type.
fn sorted<'f, T: Ord>(
    operands: &'f [Operand],
    of_kind: impl Fn(&'f Operand) -> Option<T>,
) -> Option<Vec<T>> {
    let mut operands = operands.iter().map(of_kind).collect::<Option<Vec<_>>>()?;
    operands.sort_unstable();
    Some(operands)
}
