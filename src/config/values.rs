//! Values that must lie within bounds, or look like something.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ADDRESS, plain};

/// A number from `LEAST` to `MOST`.
pub(super) fn whole<'de, D, T, const LEAST: i64, const MOST: i64>(value: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    let number = |value: &Value| {
        value
            .as_i64()
            .filter(|number| (LEAST..=MOST).contains(number))
    };
    read(
        value,
        |value| T::try_from(number(value)?).ok(),
        format_args!("a whole number from {LEAST} to {MOST}"),
    )
}

/// Seconds, from `LEAST` to an hour.
pub(super) fn seconds<'de, D: Deserializer<'de>, const LEAST: i64>(
    value: D,
) -> Result<Duration, D::Error> {
    whole::<D, _, LEAST, 3600>(value).map(Duration::from_secs)
}

/// Seconds, up to a year.
pub(super) fn many_seconds<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    whole::<D, _, 1, 31_536_000>(value).map(Duration::from_secs)
}

/// Milliseconds, up to a minute.
pub(super) fn millis<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    whole::<D, _, 0, 60_000>(value).map(Duration::from_millis)
}

/// An address to listen on.
pub(super) fn address<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let address = |value: &Value| {
        value
            .as_str()
            .filter(|text| is_address(text))
            .map(Into::into)
    };
    read(value, address, ADDRESS)
}

/// An address to listen on, or an empty string.
pub(super) fn no_address<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let address = |value: &Value| {
        let text = value.as_str()?;
        (text.is_empty() || is_address(text)).then(|| (!text.is_empty()).then(|| text.to_owned()))
    };
    read(value, address, format_args!("{ADDRESS}, or \"\""))
}

/// Whether a server may listen there: an IP address, or the name of a host, and a port.
///
/// ```
/// use flows::config::is_address;
/// assert!(["127.0.0.1:0", "[::1]:5000", "localhost:5000"].into_iter().all(is_address));
/// assert!(!["localhost", ":5000", "::1:5000", "1.2.3:80", "a b:80", "a:65536"].into_iter().any(is_address));
/// ```
pub fn is_address(text: &str) -> bool {
    let is_name = |host: &str| {
        let in_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        // A resolver takes `1.2.3` for 1.2.0.3.
        let last = host
            .trim_end_matches('.')
            .rsplit('.')
            .next()
            .unwrap_or_default();
        host.chars().all(in_name) && last.contains(|c: char| c.is_ascii_alphabetic())
    };
    let of_host = |(host, port): (&str, &str)| is_name(host) && port.parse::<u16>().is_ok();
    text.parse::<SocketAddr>().is_ok() || text.rsplit_once(':').is_some_and(of_host)
}

/// Origins of pages.
pub(super) fn origins<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(value)?;
    match origins.iter().find(|text| !is_origin(text)) {
        None => Ok(origins),
        Some(wrong) => Err(D::Error::custom(format_args!(
            "{wrong:?} is not an origin as browsers write it, such as https://app.example or \
             http://localhost:3000 (in small letters, without the port that its scheme has, or anything after \
             it), or *"
        ))),
    }
}

/// Whether a browser writes a page's origin so.
fn is_origin(text: &str) -> bool {
    let in_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:[]".contains(c);
    let is_of = |scheme: &str, port: &str| {
        let host = text.strip_prefix(scheme);
        host.is_some_and(|host| {
            !host.is_empty() && host.chars().all(in_host) && !host.ends_with(port)
        })
    };
    text == "*" || is_of("https://", ":443") || is_of("http://", ":80")
}

/// Networks, or addresses: a list, or one string with commas in it, as in the environment.
pub(super) fn networks<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &str| {
        let text = text.trim();
        let address = text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or(address).ok()
    };
    let networks = |value: &Value| match value {
        Value::String(text) if text.trim().is_empty() => Some(Vec::new()),
        Value::String(text) => text.split(',').map(network).collect(),
        Value::Array(list) => list.iter().map(|text| network(text.as_str()?)).collect(),
        _ => None,
    };
    let allowed = "a list of addresses or networks, such as [\"127.0.0.1\", \"10.0.0.0/8\"]";
    read(value, networks, allowed)
}

/// One of these, by its name.
pub(super) fn named<'de, D: Deserializer<'de>, T: Copy>(
    value: D,
    all: &[(&str, T)],
) -> Result<T, D::Error> {
    let meant = |value: &Value| {
        let found = all.iter().find(|(name, _)| value.as_str() == Some(name));
        found.map(|(_, meant)| *meant)
    };
    let names: Vec<_> = all.iter().map(|(name, _)| format!("{name:?}")).collect();
    read(value, meant, names.join(" or "))
}

/// The path of a file.
pub(super) fn path<'de, D: Deserializer<'de>>(value: D) -> Result<PathBuf, D::Error> {
    let named = |value: &Value| {
        value
            .as_str()
            .filter(|path| !path.is_empty())
            .map(Into::into)
    };
    read(value, named, "the path of a file").map(plain)
}

/// Any value, as what it should be.
fn read<'de, D: Deserializer<'de>, T>(
    value: D,
    meaning: impl FnOnce(&Value) -> Option<T>,
    allowed: impl Display,
) -> Result<T, D::Error> {
    let value = Value::deserialize(value)?;
    meaning(&value).ok_or_else(|| D::Error::custom(format_args!("{value} is not {allowed}")))
}
