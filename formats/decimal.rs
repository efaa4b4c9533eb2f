//! Exact numbers: a decimal as an integer.

/// A decimal, a JSON number (RFC 8259 section 6) without an exponent, times ten to the power of
/// `scale`; `None` if it is none, does not fit, or has more digits after the point than that, zeros at
/// the end not counted.
///
/// ```
/// use flows_formats::decimal::scaled;
/// assert_eq!(scaled("-12.5", 2), Some(-1250));
/// assert_eq!(scaled("0.125", 2), None);
/// ```
pub fn scaled(text: &str, scale: u32) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let zeros = scale.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    if whole.is_empty() {
        return None;
    }
    let mut number: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(i128::from(digit - b'0'))?;
    }
    let number = number.checked_mul(10_i128.checked_pow(zeros)?)?;
    Some(if text.starts_with('-') {
        -number
    } else {
        number
    })
}
