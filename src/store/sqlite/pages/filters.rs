//! Filters of a table whose pages are read: tested on the value alone, as SQLite would compare it.

use std::cmp::Ordering;

use flows_formats::Type;
use rusqlite::types::ValueRef;

use super::super::table::Affinity;
use crate::selection::{Filter, Operand, Operator};

/// Whether a filter of a column is one that is tested here.
pub(super) fn is_plain(filter: &Filter, kept: Option<Affinity>) -> bool {
    let kept_as_declared = matches!(
        (filter.kind, kept),
        (Type::Integer, Some(Affinity::Integer)) | (Type::Text, Some(Affinity::Text))
    );
    kept_as_declared && filter.operator != Operator::Like
}

/// Whether a value matches a filter, as SQLite compares them; `None` if it is not of the declared type.
pub(super) fn matches(value: ValueRef<'_>, filter: &Filter) -> Option<bool> {
    let is_null = value == ValueRef::Null;
    let mut compared = filter
        .operands
        .iter()
        .map(|operand| match (value, operand) {
            (ValueRef::Integer(value), Operand::Integer(operand)) => Some(value.cmp(operand)),
            (ValueRef::Text(value), Operand::Text(operand)) => Some(value.cmp(operand.as_bytes())),
            _ => None,
        });
    Some(match filter.operator {
        Operator::Null => is_null,
        Operator::NotNull => !is_null,
        _ if is_null => false,
        Operator::In => {
            for compared in compared {
                if compared? == Ordering::Equal {
                    return Some(true);
                }
            }
            false
        }
        operator => {
            let compared = compared.next()??;
            match operator {
                Operator::Equal => compared.is_eq(),
                Operator::NotEqual => compared.is_ne(),
                Operator::Greater => compared.is_gt(),
                Operator::GreaterOrEqual => compared.is_ge(),
                Operator::Less => compared.is_lt(),
                Operator::LessOrEqual => compared.is_le(),
                _ => return None,
            }
        }
    })
}
