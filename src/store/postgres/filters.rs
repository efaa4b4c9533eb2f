//! Filters as conditions of SQL. They mean what they mean everywhere: texts are compared by their bytes, and NaN
//! is greater than nothing.

use flows_formats::Type;

use super::compared::{Compared, is_uuid, real, whole};
use super::kind::Kind;
use super::relation::literal;
use crate::definition::Stored;
use crate::selection::{Filter, Operand, Operator, Part};
use crate::store::runs::How;

/// A filter of a column.
pub(super) fn condition(filter: &Filter, column: &str, kind: &Kind, stored: Stored) -> String {
    match filter.operator {
        Operator::Null => return format!("{column} IS NULL"),
        Operator::NotNull => return format!("{column} IS NOT NULL"),
        Operator::Like => return like(filter, column, kind),
        // What no value of the type is was left out.
        Operator::In if filter.operands.is_empty() => return "false".to_owned(),
        _ => {}
    }
    match filter.kind {
        Type::Boolean => boolean(filter, column, kind),
        Type::Timestamp(_) | Type::Date => parts(filter, column, kind, stored),
        Type::Text | Type::Json => parts(filter, column, kind, stored),
        Type::Integer | Type::Real | Type::Decimal { .. } | Type::Blob => {
            values(filter, column, kind)
        }
    }
}

/// Comparisons to numbers or bytes.
fn values(filter: &Filter, column: &str, kind: &Kind) -> String {
    let column = match filter.kind {
        Type::Blob if *kind != Kind::Bytes => format!("convert_to({column}::text, 'UTF8')"),
        Type::Blob => column.to_owned(),
        of if kind.is_text() => number(of, column),
        _ => column.to_owned(),
    };
    let values: Vec<_> = filter
        .operands
        .iter()
        .map(|operand| value(filter.kind, operand))
        .collect();
    let first = values.first().map_or("NULL", String::as_str);
    let has_nan = kind.is_real() || *kind == Kind::Numeric;
    let is_number = if has_nan && filter.kind != Type::Blob {
        // To PostgreSQL it is greater than all.
        format!(" AND {column} <> 'NaN'")
    } else {
        String::new()
    };
    match filter.operator {
        Operator::In => format!("{column} IN ({})", values.join(", ")),
        Operator::NotEqual => format!("{column} <> {first}"),
        Operator::Greater => format!("{column} > {first}{is_number}"),
        Operator::GreaterOrEqual => format!("{column} >= {first}{is_number}"),
        Operator::Less => format!("{column} < {first}"),
        Operator::LessOrEqual => format!("{column} <= {first}"),
        _ => format!("{column} = {first}"),
    }
}

/// The number that a text stands for; null where it stands for none.
fn number(kind: Type, column: &str) -> String {
    let text = format!("{column}::text");
    let (pattern, bounds, cast) = match kind {
        Type::Integer => (
            "[+-]?[0-9]{1,30}",
            format!(" AND {text}::numeric BETWEEN {} AND {}", i64::MIN, i64::MAX),
            "numeric",
        ),
        // Of more digits the exponent is none of a float8, and no error is to come of it.
        Type::Real => (
            "[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]{1,3})?",
            format!(
                " AND ({text}::numeric = 0 OR abs({text}::numeric) BETWEEN 1e-307 AND 1.7976931348623157e308)"
            ),
            "float8",
        ),
        _ => ("-?(0|[1-9][0-9]*)(\\.[0-9]+)?", String::new(), "numeric"),
    };
    // Only CASE says what is computed first.
    let is_number = format!("{text} ~ '^{pattern}$'");
    match bounds.as_str() {
        "" => format!("CASE WHEN {is_number} THEN {text}::{cast} END"),
        bounds => {
            format!("CASE WHEN {is_number} THEN CASE WHEN true{bounds} THEN {text}::{cast} END END")
        }
    }
}

fn value(kind: Type, operand: &Operand) -> String {
    match operand {
        Operand::Integer(integer) => whole(*integer),
        Operand::Real(number) => real(*number),
        Operand::Text(text) => literal(text),
        Operand::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{digits}'::bytea")
        }
        Operand::Decimal(number) => {
            let scale = match kind {
                Type::Decimal { scale, .. } => scale,
                _ => 0,
            };
            format!("'{number}e-{scale}'::numeric")
        }
    }
}

/// Comparisons to instants, days or texts.
fn parts(filter: &Filter, column: &str, kind: &Kind, stored: Stored) -> String {
    let kind = match kind {
        Kind::Json | Kind::Jsonb => &Kind::Other(String::new()),
        kind => kind,
    };
    let compared = Compared::new(column, kind, filter.kind, stored);
    let part = |operand: &Operand| match operand {
        Operand::Integer(integer) => Part::Integer(*integer),
        Operand::Text(text) => Part::Text(text.clone()),
        // Filters of these types have no others.
        _ => Part::End,
    };
    let to = |operand: &Operand| compared.compared(How::of(filter.operator), &part(operand));
    match filter.operator {
        Operator::In if *kind == Kind::Text && filter.kind == Type::Text => {
            let texts = filter.operands.iter().filter_map(|operand| match operand {
                Operand::Text(text) if !text.contains('\0') => Some(literal(text)),
                _ => None,
            });
            let list = texts.collect::<Vec<_>>().join(", ");
            if list.is_empty() {
                return "false".to_owned();
            }
            format!("{column} IN ({list}) AND {} IN ({list})", compared.sql)
        }
        Operator::In if *kind == Kind::Uuid => {
            let texts = filter.operands.iter().filter_map(|operand| match operand {
                Operand::Text(text) if is_uuid(text) => Some(format!("{}::uuid", literal(text))),
                _ => None,
            });
            let list = texts.collect::<Vec<_>>().join(", ");
            if list.is_empty() {
                return "false".to_owned();
            }
            format!("{column} IN ({list})")
        }
        Operator::In => {
            let each: Vec<_> = filter
                .operands
                .iter()
                .map(|operand| format!("({})", to(operand)))
                .collect();
            format!("({})", each.join(" OR "))
        }
        Operator::NotEqual => {
            let equal = filter.operands.first().map(to).unwrap_or_default();
            format!("{column} IS NOT NULL AND NOT ({equal})")
        }
        _ => filter.operands.first().map(to).unwrap_or_default(),
    }
}

/// Of all values that stand for booleans, those that match.
fn boolean(filter: &Filter, column: &str, kind: &Kind) -> String {
    let matching = |spelled: [&[&str]; 2]| {
        let of = |boolean: usize| {
            let matches = filter.lets_boolean(i64::from(boolean == 1));
            spelled[boolean].iter().filter(move |_| matches).copied()
        };
        of(0).chain(of(1)).collect::<Vec<_>>().join(", ")
    };
    let (column, list) = if *kind == Kind::Bool {
        (column.to_owned(), matching([&["false"], &["true"]]))
    } else if kind.is_integer() {
        (column.to_owned(), matching([&["0"], &["1"]]))
    } else {
        let texts: [&[&str]; 2] = [&["'0'", "'false'", "'f'"], &["'1'", "'true'", "'t'"]];
        (format!("{column}::text COLLATE \"C\""), matching(texts))
    };
    match list.as_str() {
        "" => "false".to_owned(),
        list => format!("{column} IN ({list})"),
    }
}

/// `*` stands for any characters, `?` for one.
fn like(filter: &Filter, column: &str, kind: &Kind) -> String {
    let Some(Operand::Text(pattern)) = filter.operands.first() else {
        return "false".to_owned();
    };
    if pattern.contains('\0') {
        return "false".to_owned();
    }
    let mut written = String::new();
    for c in pattern.chars() {
        match c {
            '*' => written.push('%'),
            '?' => written.push('_'),
            '%' | '_' | '\\' => {
                written.push('\\');
                written.push(c);
            }
            c => written.push(c),
        }
    }
    let text = if *kind == Kind::Text { "" } else { "::text" };
    format!("{column}{text} COLLATE \"C\" LIKE {}", literal(&written))
}
