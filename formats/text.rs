//! Numbers, blobs and names as text, the same in every text format.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appends a signed 64-bit integer in decimal.
///
/// ```
/// let mut out = Vec::new();
/// flows_formats::text::integer(i64::MIN, &mut out);
/// assert_eq!(out, b"-9223372036854775808");
/// ```
pub fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a finite real: the fewest digits that are read back as the same number, always with a
/// point or an exponent, as JSON (RFC 8259), `xs:double` and CSV readers take it.
///
/// ```
/// let mut out = Vec::new();
/// flows_formats::text::real(0.1, &mut out);
/// out.push(b' ');
/// flows_formats::text::real(-1e300, &mut out);
/// assert_eq!(out, b"0.1 -1e300");
/// ```
pub fn real(value: f64, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "{value:?}");
}

/// Appends any real: as [`real`] does, or `NaN`, `Infinity` or `-Infinity`.
///
/// ```
/// let mut out = Vec::new();
/// flows_formats::text::any_real(f64::NEG_INFINITY, &mut out);
/// assert_eq!(out, b"-Infinity");
/// ```
pub fn any_real(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        real(value, out);
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        });
    }
}

/// Appends bytes in base64 (RFC 4648 section 4, with padding).
///
/// ```
/// let mut out = Vec::new();
/// flows_formats::text::base64(&[0, 255], &mut out);
/// assert_eq!(out, b"AP8=");
/// ```
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

/// A column's name where not every character is allowed, by the rule of SQL/XML (ISO/IEC 9075-14):
/// each that may not stand where it stands becomes `_xHHHH_`, its code point in hexadecimal; so does
/// the underscore of a literal `_x`. `starts` says what may stand first, `continues` what may
/// stand after it.
///
/// ```
/// use flows_formats::text::escaped_name;
/// let letter = |c: char| c.is_ascii_alphabetic();
/// assert_eq!(escaped_name("1 a", letter, letter), "_x0031__x0020_a");
/// ```
pub fn escaped_name(
    name: &str,
    starts: impl Fn(char) -> bool,
    continues: impl Fn(char) -> bool,
) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let allowed = if at == 0 { starts(c) } else { continues(c) };
        if allowed && !name[at..].starts_with("_x") {
            escaped.push(c);
        } else {
            // Code points above FFFF take six digits.
            let width = if u32::from(c) > 0xFFFF { 6 } else { 4 };
            escaped.push_str(&format!("_x{:0width$X}_", u32::from(c)));
        }
    }
    escaped
}
