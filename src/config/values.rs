//! Values that must lie within bounds, or look like something.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

/// Milliseconds, up to a minute.
pub(super) fn millis<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    whole::<D, _, 0, 60_000>(value).map(Duration::from_millis)
}

/// An address to listen on.
pub(super) fn address<'de, D: Deserializer<'de>>(value: D) -> Result<SocketAddr, D::Error> {
    read(value, |value| value.as_str()?.parse().ok(), ADDRESS)
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
