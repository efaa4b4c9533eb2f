//! Filters as conditions of SQL.
//!
//! A value matches a comparison only if it is of the column's declared type, or stands for one that is:
//! SQLite would say that any string is greater than any number.

use std::rc::Rc;

use flows_formats::Type;
use rusqlite::types::Value;

use super::super::functions::{DECIMAL, INSTANT, INTEGER, LIKE, REAL, SENT, declared_as, sortable};
use super::super::table::Affinity;
use super::compared::{Compared, Condition};
use super::{Parameter, cast, json, plain};
use crate::definition::Stored;
use crate::selection::{Filter, Operand, Operator, Part, View};
use crate::store::runs::How;

/// What a view's filters compare to, in order.
pub(in super::super) fn operands(view: &View) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    for filter in &view.filters {
        let (_, stored) = view.stream.declared(&filter.column);
        let values = bounds(filter).into_iter().flatten();
        parameters.extend(values.map(Parameter::Value));
        let list = |values: Vec<Value>| Parameter::List(Rc::new(values));
        let by_value = || filter.operands.iter().map(value);
        match (filter.operator, filter.kind) {
            (Operator::Null | Operator::NotNull, _) => {}
            (_, Type::Boolean) => parameters.push(list(spellings(filter))),
            (Operator::In, _) => parameters.push(list(by_value().collect())),
            (Operator::NotEqual, _) => parameters.extend(by_value().map(Parameter::Value)),
            (operator, Type::Timestamp(_) | Type::Date) => {
                let column = Compared::new(String::new(), filter.kind, stored);
                let values = filter.operands.iter().flat_map(|operand| match operand {
                    Operand::Integer(integer) => {
                        compared(&column, operator, &Part::Integer(*integer)).1
                    }
                    other => vec![value(other)],
                });
                parameters.extend(values.map(Parameter::Value));
            }
            _ => parameters.extend(by_value().map(Parameter::Value)),
        }
    }
    parameters
}

fn value(operand: &Operand) -> Value {
    match operand {
        Operand::Integer(integer) => Value::Integer(*integer),
        Operand::Real(real) => Value::Real(*real),
        Operand::Text(text) => Value::Text(text.clone()),
        Operand::Blob(bytes) => Value::Blob(bytes.clone()),
        Operand::Decimal(decimal) => Value::Blob(sortable(*decimal).to_vec()),
    }
}

/// A comparison of a time or a day.
fn compared(column: &Compared, operator: Operator, part: &Part) -> Condition {
    column.compared(How::of(operator), part)
}

/// All values that stand for a boolean which matches.
fn spellings(filter: &Filter) -> Vec<Value> {
    let of = |boolean: i64, texts: [&str; 3]| {
        let texts = texts.map(|text| Value::Text(text.to_owned()));
        let values = [Value::Integer(boolean)].into_iter().chain(texts);
        filter
            .lets_boolean(boolean)
            .then_some(values)
            .into_iter()
            .flatten()
    };
    of(0, ["0", "false", "f"])
        .chain(of(1, ["1", "true", "t"]))
        .collect()
}

/// A filter of a column that SQLite keeps that way, with a parameter for each operand. Texts are
/// compared by `collation`, whatever collation the table has.
pub(super) fn condition(
    filter: &Filter,
    stored: Stored,
    column: &str,
    kept: Affinity,
    collation: &str,
) -> String {
    match filter.operator {
        Operator::Null => return format!("{column} IS NULL"),
        Operator::NotNull => return format!("{column} IS NOT NULL"),
        _ => {}
    }
    let kind = plain(filter.kind, stored);
    let (left, of_kind) = match (kind, cast(kind, kept)) {
        // A cast would make 0 of what is not a number.
        (Type::Integer, Some(_)) => (format!("{INTEGER}({column})"), String::new()),
        (Type::Real, Some(_)) => (format!("{REAL}({column})"), String::new()),
        (_, Some(cast)) => (format!("CAST({column} AS {cast})"), String::new()),
        (Type::Decimal { scale, .. }, None) => {
            (format!("{DECIMAL}({column}, {scale})"), String::new())
        }
        (Type::Json, None) => (json(column), String::new()),
        (Type::Boolean, None) => {
            // To SQLite a real may be equal to an integer.
            return format!(
                "{column} COLLATE BINARY IN (SELECT value FROM rarray(?)) AND typeof({column}) <> \
                 'real'"
            );
        }
        (Type::Timestamp(_) | Type::Date, None) => {
            return instant(filter, stored, column);
        }
        (kind, None) => {
            let of_kind = format!(" AND typeof({column}) = '{}'", kind.name());
            (column.to_owned(), of_kind)
        }
    };
    let collated = if filter.is_of_replaced() {
        format!("{SENT}({left}) COLLATE {collation}")
    } else if matches!(filter.kind, Type::Text | Type::Json) {
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
        // These were first.
        Operator::Null | Operator::NotNull => String::new(),
    }
}

/// A filter of times or days that are not held as integers.
fn instant(filter: &Filter, stored: Stored, column: &str) -> String {
    let declared = declared_as(filter.kind, stored);
    match filter.operator {
        Operator::NotEqual => format!("{INSTANT}({column}, '{declared}') <> ?"),
        Operator::In => {
            format!("{INSTANT}({column}, '{declared}') IN (SELECT value FROM rarray(?))")
        }
        operator => {
            let compares = Compared::new(column.to_owned(), filter.kind, stored);
            // What is bound is not in the condition.
            let (condition, _) = compared(&compares, operator, &Part::Integer(0));
            match stored {
                Stored::EpochReal => {
                    format!("{condition} AND typeof({column}) IN ('integer', 'real')")
                }
                _ => format!("{condition} AND typeof({column}) = 'text'"),
            }
        }
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
