//! Filters as conditions of SQL.
//!
//! A value matches a comparison only if it is of the column's declared type, or stands for one that is:
//! SQLite would say that any string is greater than any number.

use flows_formats::Type;
use rusqlite::types::Value;

use super::super::functions::{INTEGER, LIKE, REAL};
use super::super::table::Affinity;
use super::cast;
use crate::selection::{Filter, Operand, Operator, View};

/// The values that a view's filters compare to, in order.
pub(in super::super) fn operands(view: &View) -> Vec<Value> {
    let operands = view.filters.iter().flat_map(|filter| &filter.operands);
    let value = |operand: &Operand| match operand {
        Operand::Integer(integer) => Value::Integer(*integer),
        Operand::Real(real) => Value::Real(*real),
        Operand::Text(text) => Value::Text(text.clone()),
        Operand::Blob(bytes) => Value::Blob(bytes.clone()),
    };
    operands.map(value).collect()
}

/// A filter of a column that SQLite keeps that way, with a parameter for each operand. Texts are
/// compared by `collation`, whatever collation the table has.
pub(super) fn condition(filter: &Filter, column: &str, kept: Affinity, collation: &str) -> String {
    let (left, of_kind) = match (filter.kind, cast(filter.kind, kept)) {
        // A cast would make 0 of what is not a number.
        (Type::Integer, Some(_)) => (format!("{INTEGER}({column})"), String::new()),
        (Type::Real, Some(_)) => (format!("{REAL}({column})"), String::new()),
        (_, Some(cast)) => (format!("CAST({column} AS {cast})"), String::new()),
        (kind, None) => {
            let of_kind = format!(" AND typeof({column}) = '{}'", kind.name());
            (column.to_owned(), of_kind)
        }
    };
    let collated = if filter.kind == Type::Text {
        format!("{left} COLLATE {collation}")
    } else {
        left.clone()
    };
    let ordered = |operator: &str| format!("{collated} {operator} ?{of_kind}");
    match filter.operator {
        Operator::Equal => format!("{collated} = ?"),
        Operator::NotEqual => ordered("<>"),
        Operator::Greater => ordered(">"),
        Operator::GreaterOrEqual => ordered(">="),
        Operator::Less => ordered("<"),
        Operator::LessOrEqual => ordered("<="),
        Operator::In => {
            let parameters = vec!["?"; filter.operands.len()].join(", ");
            format!("{collated} IN ({parameters})")
        }
        Operator::Like => format!("{LIKE}({left}, ?)"),
        Operator::Null => format!("{column} IS NULL"),
        Operator::NotNull => format!("{column} IS NOT NULL"),
    }
}
