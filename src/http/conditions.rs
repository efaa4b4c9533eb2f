//! A document that is known before its head: its validator, what the client has of it already (RFC 9110 section 13),
//! and the part that it wants (section 14).

use std::fmt::Write;
use std::ops::Range;

use sha2::{Digest, Sha256};
use warp::http::HeaderMap;
use warp::http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

use super::problem::Problem;
use super::request::list;

/// What a request says of what its client has and wants.
pub(super) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_range: Option<String>,
    range: Option<String>,
}

/// What is sent of a document.
#[derive(Debug, PartialEq)]
pub(super) enum Sent {
    /// All of it.
    Whole,
    /// These bytes, at least one.
    Part(Range<usize>),
    /// Nothing: the client has it.
    Nothing,
}

/// The strong `ETag` of a document: other bytes have another one, and so have the same of another media type.
/// Records and coding are in the bytes, so that it holds whatever the database can tell of its versions.
pub(super) fn etag(media_type: &str, document: &[u8]) -> String {
    let hash = Sha256::new().chain_update(media_type).chain_update([0]);
    let hash = hash.chain_update(document).finalize();
    // Half of it is as good as unique.
    let mut etag = String::from("\"");
    for byte in &hash[..16] {
        // Writing to a string does not fail.
        let _ = write!(etag, "{byte:02x}");
    }
    etag + "\""
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Conditions {
        Conditions {
            if_match: list(headers, &IF_MATCH),
            if_none_match: list(headers, &IF_NONE_MATCH),
            if_range: list(headers, &IF_RANGE),
            range: list(headers, &RANGE),
        }
    }

    /// What is sent of a document of so many bytes, in the order of section 13.2.2; 412 when the client wants
    /// another one, 416 when the part that it wants is none.
    pub(super) fn sent(&self, etag: &str, length: usize, head: bool) -> Result<Sent, Problem> {
        if self.if_match.as_ref().is_some_and(|tags| !has(tags, etag)) {
            return Err(Problem::changed(etag));
        }
        // Weak or strong: a proxy that compresses makes it weak.
        let has_it = |tags: &String| has(tags, etag) || has(tags, &format!("W/{etag}"));
        if self.if_none_match.as_ref().is_some_and(has_it) {
            return Ok(Sent::Nothing);
        }
        let is_other = |tag: &String| tag != etag;
        match &self.range {
            Some(range) if !head && !self.if_range.as_ref().is_some_and(is_other) => {
                part(range, length).ok_or_else(|| Problem::no_such_part(length))
            }
            _ => Ok(Sent::Whole),
        }
    }
}

/// Whether a list of entity tags has that one, or means any. No tag has a quote in it, but for its own two, so that
/// commas within tags make no other one.
fn has(tags: &str, etag: &str) -> bool {
    tags.trim() == "*" || tags.split(',').any(|tag| tag.trim() == etag)
}

/// What `Range` asks for; `None` when the document has nothing of it. What is no range of bytes means nothing, and
/// several may be answered by all.
fn part(range: &str, length: usize) -> Option<Sent> {
    let bounds = range
        .split_once('=')
        .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
    let bounds = bounds.and_then(|(_, bounds)| bounds.trim().split_once('-'));
    let Some((first, last)) = bounds else {
        return Some(Sent::Whole);
    };
    // What is larger than any number here is as good as the largest.
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(usize::MAX))
    };
    let (from, to) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => (first, length),
        (None, Some(0)) if first.is_empty() => return None,
        (None, Some(_)) if first.is_empty() && length == 0 => return Some(Sent::Whole),
        (None, Some(last)) if first.is_empty() => (length.saturating_sub(last), length),
        _ => return Some(Sent::Whole),
    };
    (from < length).then_some(Sent::Part(from..to))
}
