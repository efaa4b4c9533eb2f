//! Text made of tokens, so that bytes that a fuzzer changes become other words, and not only other letters.

use std::fmt::Write;

use arbitrary::{Result, Unstructured};

/// Text of at most so many tokens: of these words, numbers, and letters. Letters that a URL cannot have are
/// written as one has them, mostly.
pub fn text(u: &mut Unstructured<'_>, words: &[&str], most: usize) -> Result<String> {
    let mut text = String::new();
    for _ in 0..most {
        if u.is_empty() {
            break;
        }
        match u.arbitrary::<u8>()? {
            0..190 => text.push_str(u.choose(words)?),
            190..205 => write!(text, "{}", u.arbitrary::<i8>()?).unwrap(),
            205..212 => write!(text, "{}", u.arbitrary::<i64>()?).unwrap(),
            212..245 => {
                let mut letter = [0; 4];
                for byte in u.arbitrary::<char>()?.encode_utf8(&mut letter).bytes() {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                            text.push(byte.into())
                        }
                        byte => write!(text, "%{byte:02X}").unwrap(),
                    }
                }
            }
            // Nothing that ends a line, or the head of a request.
            245..252 => text.push(char::from(u.int_in_range(b'!'..=b'~')?)),
            _ => break,
        }
    }
    Ok(text)
}
