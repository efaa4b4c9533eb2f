//! What a request reads, in words for the log: bounded, and with nothing in it that could be taken for more
//! than it is.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::parameters::StreamRequest;
use super::problem::shortened;
use crate::selection::{Filter, Operand, Operator, Order, Part, Position};

/// The most bytes of filters, and of columns.
const MOST_BYTES: usize = 1000;

/// The most values of a filter.
const MOST_VALUES: usize = 10;

/// The most characters of a value.
const MOST_CHARS: usize = 50;

/// What does not have to be encoded in a value.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*')
    .remove(b':');

/// `(AFTER..UNTIL] limit N by id`.
pub(super) fn window(asked: &StreamRequest) -> String {
    let StreamRequest { view, range, .. } = asked;
    // After all records of a second: the second says it.
    let bound = |bound: &Option<Position>| match bound {
        None => String::new(),
        Some(Position { key, id: Part::End }) => key.to_string(),
        Some(position) => shortened(&view.order.written(position, view.stream.ids())),
    };
    let mut window = format!("({}..{}]", bound(&range.after), bound(&range.until));
    if let Some(limit) = range.limit {
        window += &format!(" limit {limit}");
    }
    if view.order == Order::Id {
        window += " by id";
    }
    window
}

/// All filters as in a URL, `dst_port=eq.445&byte_count=gt.1000`, if there are any: times, dates and decimals
/// are the integers that are compared.
pub(super) fn filters(asked: &StreamRequest) -> Option<String> {
    bounded(asked.view.filters.iter().map(filter), "&")
}

/// The columns that are sent, if they are not all in their order.
pub(super) fn columns(asked: &StreamRequest) -> Option<String> {
    let StreamRequest { view, .. } = asked;
    if view.schema.columns == view.stream.schema.columns {
        return None;
    }
    let columns = view.schema.columns.iter();
    bounded(columns.map(|column| value(&column.name)), ",")
}

/// These, up to a length; `None` when there are none.
fn bounded(parts: impl ExactSizeIterator<Item = String>, between: &str) -> Option<String> {
    let all = parts.len();
    let mut text = String::new();
    for (at, part) in parts.enumerate() {
        if at > 0 {
            text.push_str(between);
        }
        if text.len() + part.len() > MOST_BYTES {
            text += &format!("…{} more", all - at);
            break;
        }
        text.push_str(&part);
    }
    (all > 0).then_some(text)
}

fn filter(filter: &Filter) -> String {
    let operator = match filter.operator {
        Operator::Equal => "eq.",
        Operator::NotEqual => "ne.",
        Operator::Greater => "gt.",
        Operator::GreaterOrEqual => "gte.",
        Operator::Less => "lt.",
        Operator::LessOrEqual => "lte.",
        Operator::In => "in.",
        Operator::Like => "like.",
        Operator::Null => "is.null",
        Operator::NotNull => "not.null",
    };
    let operands = filter.operands.iter().take(MOST_VALUES);
    let mut operands = operands.map(operand).collect::<Vec<_>>().join(",");
    if filter.operands.len() > MOST_VALUES {
        let more = filter.operands.len() - MOST_VALUES;
        operands += &format!(",…{more} more");
    }
    if filter.operator == Operator::In {
        operands = format!("({operands})");
    }
    format!("{}={operator}{operands}", value(&filter.column))
}

fn operand(operand: &Operand) -> String {
    match operand {
        Operand::Integer(integer) => integer.to_string(),
        Operand::Real(real) => real.to_string(),
        Operand::Decimal(decimal) => decimal.to_string(),
        Operand::Text(text) => value(text),
        Operand::Blob(bytes) => format!("{}-bytes", bytes.len()),
    }
}

/// A name or a value, percent-encoded.
fn value(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", utf8_percent_encode(&text[..end], VALUE)),
        None => utf8_percent_encode(text, VALUE).to_string(),
    }
}
