//! Filters as conditions of SQL.
//!
//! A value matches a comparison only if it is of the column's declared type, or stands for one that is:
//! SQLite would say that any string is greater than any number.

use std::rc::Rc;

use flows_formats::Type;
use rusqlite::types::Value;

use super::super::functions::{INTEGER, LIKE, REAL, SENT};
use super::super::table::Affinity;
use super::{Parameter, cast};
use crate::selection::{Filter, Operand, Operator, View};

/// What a view's filters compare to, in order.
pub(in super::super) fn operands(view: &View) -> Vec<Parameter> {
    let value = |operand: &Operand| match operand {
        Operand::Integer(integer) => Value::Integer(*integer),
        Operand::Real(real) => Value::Real(*real),
        Operand::Text(text) => Value::Text(text.clone()),
        Operand::Blob(bytes) => Value::Blob(bytes.clone()),
    };
    let mut parameters = Vec::new();
    for filter in &view.filters {
        let values = filter.operands.iter().map(value);
        parameters.extend(bounds(filter).into_iter().flatten().map(Parameter::Value));
        if filter.operator == Operator::In {
            parameters.push(Parameter::List(Rc::new(values.collect())));
        } else {
            parameters.extend(values.map(Parameter::Value));
        }
    }
    parameters
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
    let collated = if filter.is_of_replaced() {
        format!("{SENT}({left}) COLLATE {collation}")
    } else if filter.kind == Type::Text {
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
        Operator::In => format!("{collated} IN (SELECT value FROM rarray(?))"),
        Operator::Like => {
            let bounds = bounds(filter).map(|_| format!("{collated} >= ? AND {collated} < ? AND "));
            format!("{}{LIKE}({left}, ?)", bounds.unwrap_or_default())
        }
        Operator::Null => format!("{column} IS NULL"),
        Operator::NotNull => format!("{column} IS NOT NULL"),
    }
}

/// Between which values all strings lie that match a pattern: they may be found through an index,
/// where the pattern is not. `C17*` lies between `C17` and `C18`.
fn bounds(filter: &Filter) -> Option<[Value; 2]> {
    let beginning = filter.beginning();
    (!beginning.is_empty()).then(|| {
        // Blobs come after all strings.
        let after = after(beginning).map_or(Value::Blob(Vec::new()), Value::Text);
        [Value::Text(beginning.to_owned()), after]
    })
}

/// The least string after all that begin like this one.
fn after(beginning: &str) -> Option<String> {
    let mut text = beginning.to_owned();
    while let Some(last) = text.pop() {
        let mut greater = u32::from(last) + 1..=u32::from(char::MAX);
        if let Some(next) = greater.find_map(char::from_u32) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn what_lies_after_a_beginning() {
        for (beginning, expected) in [
            ("C17", Some("C18")),
            ("é", Some("ê")),
            ("\u{D7FF}", Some("\u{E000}")),
            ("a\u{10FFFF}", Some("b")),
            ("\u{10FFFF}", None),
        ] {
            assert_eq!(after(beginning).as_deref(), expected);
        }
    }
}
