//! `xml`: one XML 1.0 document, one `<record>` element to a line.
//!
//! `<?xml version='1.0' encoding='UTF-8'?><records>\n`, each record with one element per column,
//! `</records>\n`. Characters that XML 1.0 forbids (section 2.2) become U+FFFD, since escaping them
//! is forbidden too. Names that are no XML names (section 2.3) are written by SQL/XML's `_xHHHH_`
//! rule. A null is an empty element with `xsi:nil="true"`; it declares the namespace itself, so that
//! documents without nulls stay plain. Values are as XML Schema writes them: blobs `xs:base64Binary`; a
//! real `xs:double`, `NaN`, `INF` or `-INF` where it is not a number; a timestamp `xs:dateTime` (or, with
//! `timestamps=epoch`, an integer), a date `xs:date`, `true` and `false`, a decimal `xs:decimal` with
//! the digits that it comes with. JSON is text.

use std::borrow::Cow;

use flows_formats::writer::{Literal, Writer, equal_to, less_than, not_ascii};
use flows_formats::{Column, Error, Format, Options, Record, RecordEncoder, Type, Value, text};
use quick_xml::escape::partial_escape;

use crate::integers::{Integers, TIMESTAMPS};

inventory::submit! {
    Format {
        name: "xml",
        media_types: &["application/xml", "text/xml"],
        aliases: &[],
        extensions: &["xml"],
        summary: "One XML 1.0 document, one <record> element to a line",
        compressed: false,
        raw: false,
        options: &[TIMESTAMPS],
        encoder: |schema, options| {
            let elements = schema.columns.iter().map(|column| Element::new(column, options)).collect();
            let (open, close) = (Literal::new("<record>"), Literal::new("</record>\n"));
            Ok(Box::new(Xml { open, elements, close }))
        },
    }
}

/// A column: the three ways in which its element begins or ends, and what may stand in it.
#[derive(Clone)]
struct Element {
    open: Literal,
    close: Literal,
    null: String,
    integers: Integers,
}

impl Element {
    fn new(column: &Column, options: &Options) -> Element {
        let name = element_name(&column.name);
        let xsi = "http://www.w3.org/2001/XMLSchema-instance";
        Element {
            open: Literal::new(format!("<{name}>")),
            close: Literal::new(format!("</{name}>")),
            null: format!("<{name} xmlns:xsi=\"{xsi}\" xsi:nil=\"true\"/>"),
            integers: Integers::asked(column.kind, options),
        }
    }
}

#[derive(Clone)]
struct Xml {
    open: Literal,
    elements: Vec<Element>,
    close: Literal,
}

impl RecordEncoder for Xml {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(b"<?xml version='1.0' encoding='UTF-8'?><records>\n");
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer::new(std::mem::take(out));
        writer.literal(&self.open);
        for (element, value) in self.elements.iter_mut().zip(record.values) {
            if *value == Value::Null {
                writer.with(|out| out.extend_from_slice(element.null.as_bytes()));
                continue;
            }
            writer.literal(&element.open);
            match *value {
                Value::Null => {}
                Value::Integer(integer) => element.integers.write(integer, &mut writer),
                Value::Text(text) => {
                    if !writer.text(text, suspect) {
                        let escaped = partial_escape(allowed(text));
                        writer.with(|out| out.extend_from_slice(escaped.as_bytes()));
                    }
                }
                Value::Real(real) if real.is_finite() => writer.with(|out| text::real(real, out)),
                Value::Real(real) => {
                    let name = if real.is_nan() {
                        "NaN"
                    } else if real > 0.0 {
                        "INF"
                    } else {
                        "-INF"
                    };
                    writer.with(|out| out.extend_from_slice(name.as_bytes()));
                }
                Value::Blob(bytes) => writer.with(|out| text::base64(bytes, out)),
            }
            writer.literal(&element.close);
        }
        writer.literal(&self.close);
        *out = writer.finish();
        Ok(())
    }

    fn end(&mut self, _records: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(b"</records>\n");
        Ok(())
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(self.clone()))
    }
}

/// Finds what may need escaping or replacing: control characters, mark-up, what is not ASCII.
fn suspect(eight: u64) -> u64 {
    less_than(eight, b' ')
        | equal_to(eight, b'<')
        | equal_to(eight, b'>')
        | equal_to(eight, b'&')
        | not_ascii(eight)
}

/// The text with U+FFFD for each character outside XML 1.0's production 2, `Char`.
fn allowed(text: &str) -> Cow<'_, str> {
    let forbidden = |c: char| match c {
        '\t' | '\n' | '\r' => false,
        c => c < ' ' || c == '\u{FFFE}' || c == '\u{FFFF}',
    };
    if text.contains(forbidden) {
        Cow::Owned(text.replace(forbidden, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A column's name as an XML name; the first letter of one that begins with `xml` is escaped, too.
fn element_name(column: &str) -> String {
    let begins_with_xml = column
        .get(..3)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("xml"));
    let starts = |c| starts_name(c) && !begins_with_xml;
    text::escaped_name(column, starts, continues_name)
}

/// XML 1.0, fifth edition, production 4, `NameStartChar`, without the colon, which belongs to
/// namespaces.
fn starts_name(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z'
        | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}'
        | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

/// Production 4a, `NameChar`.
fn continues_name(c: char) -> bool {
    starts_name(c)
        || matches!(c,
            '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

#[cfg(test)]
mod tests {
    use super::element_name;

    #[test]
    fn names_follow_sql_xml() {
        for (column, element) in [
            ("src_comp", "src_comp"),
            ("byte count", "byte_x0020_count"),
            ("1st", "_x0031_st"),
            ("a:b", "a_x003A_b"),
            ("_x0020_", "_x005F_x0020_"),
            ("xmlns", "_x0078_mlns"),
            ("Größe", "Größe"),
            ("😀", "😀"),
            ("a\u{F0000}", "a_x0F0000_"),
        ] {
            assert_eq!(element_name(column), element, "{column:?}");
        }
    }
}
