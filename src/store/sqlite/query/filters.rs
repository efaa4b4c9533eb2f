//! Filters as conditions of SQL.

use flows_formats::Type;
use rusqlite::types::Value;

use crate::selection::{Filter, Operand, Operator, View};

/// The values that a view's filters compare to, in order.
pub(in super::super) fn operands(view: &View) -> Vec<Value> {
    let operands = view.filters.iter().flat_map(|filter| {
        filter.operands.iter().map(|operand| match operand {
            Operand::Integer(integer) => Value::Integer(*integer),
            Operand::Real(real) => Value::Real(*real),
            Operand::Text(text) if filter.operator == Operator::Like => {
                // `[` begins a set of characters in GLOB, and is itself in one.
                Value::Text(text.replace('[', "[[]"))
            }
            Operand::Text(text) => Value::Text(text.clone()),
            Operand::Blob(bytes) => Value::Blob(bytes.clone()),
        })
    });
    operands.collect()
}

/// A filter in SQL, with a parameter for each operand.
pub(super) fn condition(filter: &Filter, left: &str) -> String {
    // Whatever collation the table has.
    let text = if filter.kind == Type::Text {
        " COLLATE BINARY"
    } else {
        ""
    };
    let compared = |operator: &str| format!("{left}{text} {operator} ?");
    match filter.operator {
        Operator::Equal => compared("="),
        Operator::NotEqual => compared("<>"),
        Operator::Greater => compared(">"),
        Operator::GreaterOrEqual => compared(">="),
        Operator::Less => compared("<"),
        Operator::LessOrEqual => compared("<="),
        Operator::In => {
            let parameters = vec!["?"; filter.operands.len()].join(", ");
            format!("{left}{text} IN ({parameters})")
        }
        Operator::Like => compared("GLOB"),
        Operator::Null => format!("{left} IS NULL"),
        Operator::NotNull => format!("{left} IS NOT NULL"),
    }
}
