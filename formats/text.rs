//! Numbers and blobs as text, the same in every text format.

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
