//! Who may read: tokens, and what needs none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate};
use serde::{Deserialize, Deserializer};

use super::streams::{Wrong, wrong};
use super::values::whole;
use crate::definition::Stream;
use crate::suggest::nearest;
use crate::token::of_hex;

/// Who may read.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// `auth.anonymous`: the streams that may be read without a token.
    pub anonymous: Vec<String>,
    /// `[[auth.tokens]]`, of distinct names and hashes.
    pub tokens: Vec<Arc<Token>>,
}

impl Auth {
    /// Whether nothing says who may read, so that everybody may read everything.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.anonymous.is_empty()
    }
}

/// A token, and what its holder may do.
#[derive(Clone, Debug)]
pub struct Token {
    /// What the log calls it.
    pub name: String,
    /// The SHA-256 of its text.
    pub sha256: [u8; 32],
    /// The streams that it may read; none: all.
    pub streams: Option<Vec<String>>,
    /// The columns that it may read of a stream, where those are fewer than all.
    pub columns: BTreeMap<String, Vec<String>>,
    /// When it is of no use any more.
    pub expires: Option<Expiry>,
    /// How many requests it may send in a minute.
    pub requests_per_minute: Option<u32>,
    /// How many of its streams may run at once.
    pub streams_at_once: Option<u32>,
}

/// An instant, after which a token is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// As it is written.
    pub text: String,
    /// Seconds since 1970.
    at: i64,
}

impl Expiry {
    /// An instant (RFC 3339), or a day, whose midnight UTC it means.
    ///
    /// ```
    /// use flows::config::Expiry;
    /// assert!(Expiry::read("2026-12-31T12:00:00+01:00").is_some_and(|expiry| !expiry.is_over_at(0)));
    /// assert!(Expiry::read("2026-12-31").is_some_and(|expiry| expiry.is_over_at(1_798_675_200)));
    /// assert!(Expiry::read("2026-12-31").is_some_and(|expiry| !expiry.is_over_at(1_798_675_199)));
    /// assert!(["2026-13-01", "tomorrow", "2026-12-31T12:00:00"].into_iter().all(|text| Expiry::read(text).is_none()));
    /// ```
    pub fn read(text: &str) -> Option<Expiry> {
        let day = || {
            let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp())
        };
        let instant = DateTime::parse_from_rfc3339(text);
        Some(Expiry {
            text: text.to_owned(),
            at: instant.map_or_else(|_| day(), |at| Some(at.timestamp()))?,
        })
    }

    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.is_over_at(since.map_or(0, |since| since.as_secs().cast_signed()))
    }

    /// Whether it had passed so many seconds after 1970 began.
    pub fn is_over_at(&self, seconds: i64) -> bool {
        seconds >= self.at
    }
}

/// Whether a token may be called so.
pub fn is_token_name(name: &str) -> bool {
    let in_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (1..=100).contains(&name.len()) && name.chars().all(in_name)
}

/// What a token's name is made of.
pub const TOKEN_NAME: &str = "letters, digits, '_', '.' and '-', 1 to 100 of them";

/// What an expiry looks like.
pub const EXPIRY: &str = "a day such as 2026-12-31, whose midnight UTC it means, or an instant such as \
    2026-12-31T12:00:00Z (RFC 3339)";

/// The section `[auth]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub(super) struct RawAuth {
    anonymous: Vec<String>,
    #[serde(default)]
    tokens: Vec<RawToken>,
}

/// A section `[[auth.tokens]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
struct RawToken {
    name: String,
    sha256: String,
    streams: Option<Vec<String>>,
    #[serde(default)]
    columns: BTreeMap<String, Vec<String>>,
    expires: Option<String>,
    #[serde(default, deserialize_with = "number")]
    requests_per_minute: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    streams_at_once: Option<u32>,
}

fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    whole::<D, _, 1, 1_000_000>(value).map(Some)
}

/// Who may read, if all that it names is there.
pub(super) fn checked(raw: RawAuth, streams: &[Arc<Stream>]) -> Result<Auth, Wrong> {
    named("auth.anonymous", &raw.anonymous, streams)?;
    let mut tokens: Vec<Arc<Token>> = Vec::new();
    for (i, raw) in raw.tokens.into_iter().enumerate() {
        let key = format!("auth.tokens[{i}]");
        let token = token(&key, raw, streams)?;
        if tokens.iter().any(|other| other.name == token.name) {
            let found = format!("another token is called {:?}", token.name);
            return wrong(format!("{key}.name"), found, "a name of its own");
        }
        if let Some(other) = tokens.iter().find(|other| other.sha256 == token.sha256) {
            let found = format!("the token {:?} has the same", other.name);
            return wrong(format!("{key}.sha256"), found, "that of a token of its own");
        }
        tokens.push(Arc::new(token));
    }
    Ok(Auth {
        anonymous: raw.anonymous,
        tokens,
    })
}

fn token(key: &str, raw: RawToken, streams: &[Arc<Stream>]) -> Result<Token, Wrong> {
    let at = |field: &str| format!("{key}.{field}");
    if !is_token_name(&raw.name) {
        return wrong(at("name"), format!("{:?}", raw.name), TOKEN_NAME);
    }
    let Some(sha256) = of_hex(&raw.sha256) else {
        // It may be the token, which is to be kept nowhere.
        let allowed =
            "the 64 hexadecimal digits that `flows token new` prints, not the token itself";
        return wrong(at("sha256"), "not a hash", allowed);
    };
    if let Some(names) = &raw.streams {
        if names.is_empty() {
            return wrong(
                at("streams"),
                "empty",
                "at least one stream, or left out for all",
            );
        }
        named(&at("streams"), names, streams)?;
    }
    for (name, columns) in &raw.columns {
        let key = at(&format!("columns.{name}"));
        let stream = stream(&key, name, streams)?;
        if raw
            .streams
            .as_ref()
            .is_some_and(|names| !names.contains(name))
        {
            return wrong(key, "not among its streams", "one of these, or left out");
        }
        if columns.is_empty() {
            return wrong(key, "empty", "at least one column, or left out for all");
        }
        let known = stream.schema.columns.iter();
        let known: Vec<_> = known.map(|column| column.name.as_str()).collect();
        for (i, column) in columns.iter().enumerate() {
            let key = format!("{key}[{i}]");
            if !known.contains(&column.as_str()) {
                let found = format!("the stream {name} has no column {column:?}");
                return missing(key, found, column, &known);
            }
            if columns[..i].contains(column) {
                return wrong(key, format!("{column:?} is listed already"), "listed once");
            }
        }
    }
    let expires = match raw.expires {
        None => None,
        Some(text) => match Expiry::read(&text) {
            None => return wrong(at("expires"), format!("{text:?}"), EXPIRY),
            expiry => expiry,
        },
    };
    Ok(Token {
        name: raw.name,
        sha256,
        streams: raw.streams,
        columns: raw.columns,
        expires,
        requests_per_minute: raw.requests_per_minute,
        streams_at_once: raw.streams_at_once,
    })
}

/// Each of a list of streams must be there, once.
fn named(key: &str, names: &[String], streams: &[Arc<Stream>]) -> Result<(), Wrong> {
    for (i, name) in names.iter().enumerate() {
        let key = format!("{key}[{i}]");
        stream(&key, name, streams)?;
        if names[..i].contains(name) {
            return wrong(key, format!("{name:?} is listed already"), "listed once");
        }
    }
    Ok(())
}

fn stream<'s>(key: &str, name: &str, streams: &'s [Arc<Stream>]) -> Result<&'s Stream, Wrong> {
    let found = streams.iter().find(|stream| stream.name == name);
    found.map(|stream| &**stream).map_or_else(
        || {
            let known: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
            let found = format!("there is no stream {name:?}");
            missing(key.to_owned(), found, name, &known)
        },
        Ok,
    )
}

/// A name that is none of those known.
fn missing<T>(key: String, found: String, name: &str, known: &[&str]) -> Result<T, Wrong> {
    let meant = nearest(name, known).map(|meant| format!("; did you mean {meant}?"));
    let found = found + &meant.unwrap_or_default();
    wrong(key, found, format!("one of {}", known.join(", ")))
}
