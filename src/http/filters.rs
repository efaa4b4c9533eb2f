//! Filters: `COLUMN=VALUE`, `COLUMN=gt.VALUE`, `COLUMN=in.(A,B)` → [`Filter`].

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flows_formats::decimal::scaled;
use flows_formats::{Column, Type};

use super::instants::{self, Now};
use super::operators::{self, OPERATORS, lookalike};
use super::points::{Point, compared};
use super::problem::{Problem, shortened};
use crate::definition::Day;
use crate::selection::{Filter, Operand, Operator};

/// Reads a filter of a column; 400 when it is not one, or its value is not of the column's type.
pub(super) fn filter(column: &Column, text: &str, now: Now) -> Result<Filter, Problem> {
    let problem = |detail: String| Problem::bad_request(detail).about(&column.name, Some(text));
    let (operator, value) = match text {
        "is.null" => (Operator::Null, ""),
        "not.null" => (Operator::NotNull, ""),
        _ => split(text),
    };
    if operator == Operator::Equal && !text.starts_with("eq.") {
        if let Some(lookalike) = lookalike(column.kind, text) {
            let (written, name) = (shortened(&lookalike.written), &column.name);
            return Err(no_operator(name, text, &written, lookalike.suggestion));
        }
        let beginning = text.get(..4).unwrap_or(text).to_ascii_lowercase();
        if beginning.starts_with("is.") || beginning == "not." {
            let (name, text) = (&column.name, shortened(text));
            let detail = format!(
                "{name} is {text:?}; it must be is.null or not.null, or eq.{text} for that very string"
            );
            return Err(problem(detail).listing(["is.null", "not.null"]));
        }
    }
    let operand = |value: &str| {
        operand(column.kind, value, now).ok_or_else(|| {
            let (name, value, allowed) = (&column.name, shortened(value), allowed(column.kind));
            let detail = format!("{name} is compared to {value:?}; it must be {allowed}");
            problem(detail).allowing_only(&allowed)
        })
    };
    let points = match operator {
        Operator::Null | Operator::NotNull => Vec::new(),
        Operator::In => {
            let list = value
                .strip_prefix('(')
                .and_then(|list| list.strip_suffix(')'));
            let list = list.and_then(list_of).ok_or_else(|| {
                let (name, text) = (&column.name, shortened(text));
                let detail = format!(
                    "{name} is {text:?}; a list is in.(A,B), with values that have commas or quotes \
                     in quotes; eq.{text} means that very string"
                );
                problem(detail).allowing_only("in.(A,B)")
            })?;
            list.iter()
                .map(|value| operand(value))
                .collect::<Result<_, _>>()?
        }
        Operator::Like if !matches!(column.kind, Type::Text | Type::Json) => {
            let detail = format!("{} is not a string; like. is for strings", column.name);
            return Err(problem(detail).allowing_only("eq, ne, gt, gte, lt, lte, in, is, not"));
        }
        _ => vec![operand(value)?],
    };
    let (operator, operands) = compared(operator, points);
    Ok(Filter {
        column: column.name.clone(),
        kind: column.kind,
        operator,
        operands,
    })
}

/// What looks like an operator is not taken for a string: that would find nothing, without a word.
fn no_operator(column: &str, text: &str, written: &str, suggestion: Option<String>) -> Problem {
    let very = shortened(text);
    let detail = format!(
        "{column} is {very:?}, but there is no operator {written:?}; eq.{very} means that very value"
    );
    let problem = Problem::bad_request(detail).about(column, Some(text));
    problem.suggesting(suggestion, operators::listed())
}

/// What a value is compared by, and the value.
fn split(text: &str) -> (Operator, &str) {
    let found = OPERATORS
        .iter()
        .find_map(|(prefix, operator)| Some((*operator, text.strip_prefix(prefix)?)));
    found.unwrap_or((Operator::Equal, text))
}

/// A filter whose times were relative to now, with the instants that they stand for; `None` when there
/// are none.
pub(super) fn absolute(column: &Column, text: &str, now: Now) -> Option<String> {
    if !matches!(column.kind, Type::Timestamp(_)) {
        return None;
    }
    let (operator, value) = split(text);
    let before = &text[..text.len() - value.len()];
    let resolved = if operator == Operator::In {
        let list = list_of(value.strip_prefix('(')?.strip_suffix(')')?)?;
        let each = |value: &String| now.absolute(value).unwrap_or_else(|| value.clone());
        format!("({})", list.iter().map(each).collect::<Vec<_>>().join(","))
    } else {
        now.absolute(value)?
    };
    (resolved != value).then(|| format!("{before}{resolved}"))
}

/// What a column of the type is compared to, as errors say it.
fn allowed(kind: Type) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        Type::Integer => "an integer of 64 bits",
        Type::Real => "a number",
        Type::Text => "a string",
        Type::Blob => "bytes in base64",
        Type::Timestamp(unit) => return Cow::Owned(instants::allowed(unit)),
        Type::Date => "a day of the years 1 to 9999, such as 2026-01-01",
        Type::Boolean => "true or false (or 1, 0, t, f)",
        Type::Decimal { .. } => "a number without an exponent, such as -12.50",
        Type::Json => "a JSON text as the database holds it",
    })
}

/// Where a value lies among those of a column.
fn operand(kind: Type, value: &str, now: Now) -> Option<Point<Operand>> {
    let operand = match kind {
        Type::Integer => Operand::Integer(instants::integer(value)?),
        Type::Real => {
            let real: f64 = value.parse().ok().filter(|_| !value.starts_with('+'))?;
            (!real.is_nan()).then_some(Operand::Real(real))?
        }
        // A string of SQLite's may have any character.
        Type::Text | Type::Json => Operand::Text(value.to_owned()),
        Type::Blob => Operand::Blob(STANDARD.decode(value).ok()?),
        Type::Timestamp(unit) => return Some(now.point(value, unit)?.map(Operand::Integer)),
        Type::Date => Operand::Integer(Day::default().of(value.as_bytes().try_into().ok()?)?),
        Type::Boolean => match value {
            "false" | "f" | "0" => Operand::Integer(0),
            "true" | "t" | "1" => Operand::Integer(1),
            _ => return None,
        },
        Type::Decimal { scale, .. } => return Some(decimal(value, scale)?.map(Operand::Decimal)),
    };
    Some(Point::At(operand))
}

/// Where a number lies among the decimals of a scale.
fn decimal(text: &str, scale: u8) -> Option<Point<i128>> {
    let is_negative = text.starts_with('-');
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // Towards zero.
    let kept = &fraction[..fraction.len().min(usize::from(scale))];
    let is_exact = fraction[kept.len()..].bytes().all(|digit| digit == b'0');
    let sign = if is_negative { "-" } else { "" };
    // No column has decimals that are beyond these.
    Some(
        match scaled(&format!("{sign}{whole}.{kept}"), scale.into()) {
            Some(number) if is_exact => Point::At(number),
            Some(number) if is_negative => Point::After(number - 1),
            Some(number) => Point::After(number),
            None if is_negative => Point::BeforeAll,
            None => Point::AfterAll,
        },
    )
}

/// The parts of a list between commas. One in quotes may have commas, and quotes written twice.
/// `None` when the list is empty, or its quotes do not match.
pub(super) fn list_of(list: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = list;
    loop {
        let mut part = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (text, after) = quoted.split_once('"')?;
                part.push_str(text);
                match after.strip_prefix('"') {
                    Some(more) => {
                        part.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            if text.contains('"') {
                return None;
            }
            part.push_str(text);
            rest = after;
        }
        parts.push(part);
        if rest.is_empty() {
            let empty = parts.len() == 1 && list.is_empty();
            return (!empty).then_some(parts);
        }
        rest = rest.strip_prefix(',')?;
    }
}

#[cfg(test)]
mod tests {
    use flows_formats::{Column, Type};

    use super::{Now, filter, list_of};
    use crate::selection::{Operand, Operator};

    #[test]
    fn lists() {
        for (list, expected) in [
            ("a", Some(vec!["a"])),
            ("a,b", Some(vec!["a", "b"])),
            ("a,", Some(vec!["a", ""])),
            ("\"a,b\",c", Some(vec!["a,b", "c"])),
            ("\"say \"\"hi\"\"\",\"\"", Some(vec!["say \"hi\"", ""])),
            ("", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("a\"b", None),
        ] {
            let expected = expected.map(|parts| parts.into_iter().map(str::to_owned).collect());
            assert_eq!(list_of(list), expected, "{list:?}");
        }
    }

    #[test]
    fn filters() {
        let column = |kind| Column {
            name: "c".into(),
            kind,
            nullable: true,
        };
        let (integer, text) = (column(Type::Integer), column(Type::Text));
        let read = |column, text| {
            let filter = filter(column, text, Now::read()).unwrap();
            (filter.operator, filter.operands)
        };
        let texts = |texts: &[&str]| -> Vec<Operand> {
            texts
                .iter()
                .map(|text| Operand::Text((*text).into()))
                .collect()
        };
        assert_eq!(
            read(&integer, "-5"),
            (Operator::Equal, vec![Operand::Integer(-5)])
        );
        assert_eq!(
            read(&integer, "gte.7"),
            (Operator::GreaterOrEqual, vec![Operand::Integer(7)])
        );
        assert_eq!(read(&integer, "is.null"), (Operator::Null, vec![]));
        assert_eq!(read(&text, "eq.gt.5"), (Operator::Equal, texts(&["gt.5"])));
        assert_eq!(read(&text, ""), (Operator::Equal, texts(&[""])));
        assert_eq!(
            read(&text, "in.(a,\"b,c\")"),
            (Operator::In, texts(&["a", "b,c"]))
        );
        assert_eq!(read(&text, "like.C17*"), (Operator::Like, texts(&["C17*"])));
        for wrong in [
            "x", "+5", "gt.", "5.0", "like.5", "is.nul", "not.5", "in.5", "in.()", "in.(1,x)",
            "gtr.5", ">5",
        ] {
            assert!(filter(&integer, wrong, Now::read()).is_err(), "{wrong}");
        }
        for wrong in ["is.x", "IS.NULL", "in.a", "in.(\"a)", "ilike.a", "EQ.a"] {
            assert!(filter(&text, wrong, Now::read()).is_err(), "{wrong}");
        }
        assert!(filter(&column(Type::Real), "nan", Now::read()).is_err());
        assert!(filter(&column(Type::Blob), "A", Now::read()).is_err());
    }
}
