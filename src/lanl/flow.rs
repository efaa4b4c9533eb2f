//! LANL's nine columns: `time,duration,src_comp,src_port,dst_comp,dst_port,protocol,packet_count,
//! byte_count`, one flow to a line, without a header.

use flows_formats::Type;

/// The columns of a line, in order, with the type that each value must fit.
pub const COLUMNS: [(&str, Type); 9] = [
    ("time", Type::Integer),
    ("duration", Type::Integer),
    ("src_comp", Type::Text),
    ("src_port", Type::Text),
    ("dst_comp", Type::Text),
    ("dst_port", Type::Text),
    ("protocol", Type::Integer),
    ("packet_count", Type::Integer),
    ("byte_count", Type::Integer),
];

/// A value of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'l> {
    /// A 64-bit integer.
    Integer(i64),
    /// A string that is not empty.
    Text(&'l str),
}

/// Reads one line, without its line end.
///
/// # Errors
/// Why the line is not a flow, for the one who has to fix it.
///
/// ```
/// use flows::lanl::flow::{Field, fields};
/// let flow = fields(b"1,0,C1065,389,C3799,N10451,6,10,5323").unwrap();
/// assert_eq!(flow[3], Field::Text("389"));
/// assert_eq!(flow[8], Field::Integer(5323));
/// assert_eq!(fields(b"1,0,C1065").unwrap_err(), "3 fields instead of 9");
/// ```
pub fn fields(line: &[u8]) -> Result<[Field<'_>; COLUMNS.len()], String> {
    let line = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let mut texts = [""; COLUMNS.len()];
    let mut count = 0;
    let mut start = 0;
    for (at, byte) in line.bytes().chain([b',']).enumerate() {
        // Fields are short: a search for each comma would cost more than a look at each byte.
        if byte == b',' {
            if let Some(text) = texts.get_mut(count) {
                *text = &line[start..at];
            }
            count += 1;
            start = at + 1;
        }
    }
    if count != COLUMNS.len() {
        return Err(format!("{count} fields instead of {}", COLUMNS.len()));
    }
    let mut fields = [Field::Integer(0); COLUMNS.len()];
    for ((field, (name, kind)), text) in fields.iter_mut().zip(COLUMNS).zip(texts) {
        *field = match kind {
            Type::Integer => match text.parse() {
                Ok(integer) => Field::Integer(integer),
                Err(_) => return Err(format!("{name} is {text:?}, not a 64-bit integer")),
            },
            _ if text.is_empty() => return Err(format!("{name} is empty")),
            _ => Field::Text(text),
        };
    }
    Ok(fields)
}
