//! A client's token: its text, what is kept of it, and keeping it out of what is written down.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::parse;
use sha2::{Digest, Sha256};

/// How each token begins, so that whoever looks for secrets knows one.
pub const PREFIX: &str = "flows_";

/// The characters after it: 256 bits in base64.
const SECRET: usize = 43;

/// What stands where a token was.
const REDACTED: &str = "[redacted]";

/// A new token, of 256 random bits.
///
/// # Errors
/// The system has no random bits to give.
pub fn new() -> Result<String, getrandom::Error> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// What is kept of a token. There is so much chance in it that no slow hash is needed.
pub fn sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A hash, in hexadecimal digits.
///
/// ```
/// use flows::token::{hex, of_hex, sha256};
/// let text = hex(&sha256("abc"));
/// assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
/// assert_eq!(of_hex(&text), Some(sha256("abc")));
/// assert_eq!(of_hex(&text.replace('b', "+")), None);
/// assert_eq!(of_hex("ba"), None);
/// ```
pub fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash that 64 hexadecimal digits say.
pub fn of_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let digits: Vec<_> = text
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(16 * pair[0] + pair[1]).ok()?;
    }
    Some(hash)
}

/// Whether there is a token anywhere in a URL, however often it was percent-encoded.
///
/// ```
/// use flows::token::is_in_url;
/// let token = flows::token::new().unwrap();
/// let encoded = token.replace('f', "%66").replace('_', "%255F");
/// assert!(is_in_url(&format!("/a?b={token}")) && is_in_url(&format!("/a/{encoded}/b")));
/// assert!(!is_in_url("/api/v1/stream/flows_of_2026?b=%20"));
/// ```
pub fn is_in_url(url: &str) -> bool {
    // Most have neither.
    (url.contains('%') || url.contains(PREFIX)) && !found(&decoded(url), false).is_empty()
}

/// A text without the tokens that are in it as they are.
pub fn redacted(text: &str) -> Cow<'_, str> {
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    without(text, found(&bytes(text), false))
}

/// A URL, or a line with one, without tokens and without the values of parameters that are called as tokens
/// are. What is cut off may end in a part of one.
///
/// ```
/// use flows::token::redacted_url;
/// let token = flows::token::new().unwrap();
/// let url = format!("/a?b={token}&Access-Token=x%20y&c=1");
/// assert_eq!(redacted_url(&url, false), "/a?b=[redacted]&Access-Token=[redacted]&c=1");
/// assert_eq!(redacted_url("/a?b=%66lows_x", false), "/a?b=%66lows_x");
/// assert_eq!(redacted_url("/a?b=%66lows_x", true), "/a?b=[redacted]");
/// ```
pub fn redacted_url(url: &str, is_cut: bool) -> String {
    let url = without(url, found(&decoded(url), is_cut));
    let Some((path, query)) = url.split_once('?') else {
        return url.into_owned();
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if has_secret_name(pair) => format!("{name}={REDACTED}"),
        _ => pair.to_owned(),
    };
    let pairs: Vec<_> = query.split('&').map(pair).collect();
    format!("{path}?{}", pairs.join("&"))
}

/// Whether a parameter of a URL, encoded, is called as tokens are elsewhere.
pub fn has_secret_name(pair: &str) -> bool {
    let name = parse(pair.as_bytes()).next().map(|(name, _)| name);
    name.is_some_and(|name| is_secret_name(&name))
}

/// Whether tokens are called so elsewhere.
pub fn is_secret_name(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "access_token",
        "api_key",
        "api_token",
        "apikey",
        "auth_token",
        "authorization",
        "bearer",
        "token",
    ];
    // Columns have all kinds of names, few of them so long.
    name.len() <= 16 && NAMES.contains(&name.to_ascii_lowercase().replace('-', "_").as_str())
}

/// A byte, and where it stands in the text, percent-encoded or not.
type Byte = (u8, Range<usize>);

fn bytes(text: &str) -> Vec<Byte> {
    let bytes = text.bytes().enumerate();
    bytes.map(|(at, byte)| (byte, at..at + 1)).collect()
}

/// The bytes of a text that may be percent-encoded, also what was encoded already.
fn decoded(text: &str) -> Vec<Byte> {
    let mut bytes = bytes(text);
    // Who decodes more often than this is not us, and not the next one.
    for _ in 0..4 {
        let before = bytes.len();
        bytes = decoded_once(bytes);
        if bytes.len() == before {
            break;
        }
    }
    bytes
}

fn decoded_once(bytes: Vec<Byte>) -> Vec<Byte> {
    let digit = |at: usize| {
        let (byte, _) = bytes.get(at)?;
        char::from(*byte).to_digit(16)
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some((byte, range)) = bytes.get(at) {
        let pair = (digit(at + 1), digit(at + 2));
        if let (b'%', (Some(high), Some(low))) = (byte, pair) {
            let byte = u8::try_from(16 * high + low).unwrap_or_default();
            decoded.push((byte, range.start..bytes[at + 2].1.end));
            at += 3;
        } else {
            decoded.push((*byte, range.clone()));
            at += 1;
        }
    }
    decoded
}

/// Where tokens are; `is_cut` when the last one may go on.
fn found(bytes: &[Byte], is_cut: bool) -> Vec<Range<usize>> {
    let in_secret = |(byte, _): &&Byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut found = Vec::new();
    let mut at = 0;
    while at + PREFIX.len() <= bytes.len() {
        let secret = at + PREFIX.len();
        let prefix = bytes[at..secret].iter().map(|(byte, _)| *byte);
        if !prefix.eq(PREFIX.bytes()) {
            at += 1;
            continue;
        }
        let end = secret + bytes[secret..].iter().take_while(in_secret).count();
        if end - secret >= SECRET || is_cut && end == bytes.len() {
            found.push(bytes[at].1.start..bytes[end - 1].1.end);
        }
        at = secret;
        if let Some(last) = found.last() {
            while bytes
                .get(at)
                .is_some_and(|(_, range)| range.end <= last.end)
            {
                at += 1;
            }
        }
    }
    found
}

fn without(text: &str, tokens: Vec<Range<usize>>) -> Cow<'_, str> {
    if tokens.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut text = text.to_owned();
    for token in tokens.into_iter().rev() {
        text.replace_range(token, REDACTED);
    }
    Cow::Owned(text)
}
