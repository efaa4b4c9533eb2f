//! What a column's values are: the type to declare, of a sample and of what the schema says. A type is
//! one only where every sampled value is read as it.
//!
//! | file | what it sees |
//! |---|---|
//! | `guess/spelled.rs` | how texts are spelled that seem to be times |
//! | `guess/values.rs` | nulls, values that can be ids, values that grow |

mod spelled;
mod values;

use std::ops::RangeInclusive;

use flows_formats::Type;
use flows_formats::time::Unit;
use rusqlite::types::{Value, ValueRef};

use super::quoted;
use super::sqlite::held;
use crate::definition::{Spelling, Stored};
use crate::store::description::{Found, is_named_like_a_time};
use crate::store::reading::{Reading, as_integer};
use spelled::Look;
pub(super) use values::{can_be_ids, differ, grows, is_read, nulls, thousands};
use values::{number, text};

/// Seconds since 1970 that times of today and of our lives are: from 1990 to 2100.
const PLAUSIBLE: RangeInclusive<i64> = 631_152_000..=4_102_444_800;

/// The Julian days of the same years.
const JULIAN: RangeInclusive<f64> = 2_447_892.0..=2_488_070.0;

/// A column, as the schema has it.
pub(super) struct Known<'a> {
    pub(super) table: &'a str,
    pub(super) view: bool,
    pub(super) name: &'a str,
    /// The declared type.
    pub(super) declared: &'a str,
    /// Whether a constraint says that it holds JSON.
    pub(super) is_json: bool,
}

/// What the values are.
pub(super) fn guess(known: &Known<'_>, values: &[Value]) -> Found {
    let values: Vec<_> = values.iter().filter(|v| **v != Value::Null).collect();
    let declared = known.declared.to_ascii_uppercase();
    Guess {
        says: |word: &str| declared.contains(word),
        is_time: ["TIME", "DATE"]
            .into_iter()
            .any(|word| declared.contains(word))
            || is_named_like_a_time(known.name),
        decimal: decimal(&declared),
        known,
        values,
    }
    .found()
}

struct Guess<'a, S> {
    known: &'a Known<'a>,
    /// Whether the declared type has this word.
    says: S,
    /// Whether the declared type or the name are those of times.
    is_time: bool,
    /// The decimal that is declared.
    decimal: Option<Type>,
    /// The values that are not null.
    values: Vec<&'a Value>,
}

impl<S: Fn(&str) -> bool> Guess<'_, S> {
    fn found(&self) -> Found {
        if self.values.is_empty() {
            return self.by_declaration();
        }
        let fits = |kind| self.fits(kind, Stored::Plain);
        if (self.says)("BOOL") && fits(Type::Boolean) {
            return certain(Type::Boolean);
        }
        if self.is_json() && fits(Type::Json) {
            return certain(Type::Json);
        }
        if let Some(decimal) = self.decimal.filter(|kind| fits(*kind)) {
            return self.declared_decimal(decimal);
        }
        let are = |is: fn(&Value) -> bool| self.values.iter().all(|value| is(value));
        if are(|value| matches!(value, Value::Text(_))) {
            self.texts()
        } else if are(|value| matches!(value, Value::Integer(_))) {
            self.integers()
        } else if are(|value| matches!(value, Value::Integer(_) | Value::Real(_))) {
            self.numbers()
        } else if are(|value| !matches!(value, Value::Blob(_))) {
            self.mixed(Type::Text)
        } else if are(|value| matches!(value, Value::Blob(_))) {
            certain(Type::Blob)
        } else {
            self.mixed(Type::Blob)
        }
    }

    /// What a column without values is declared to hold.
    fn by_declaration(&self) -> Found {
        let says = |words: &[&str]| words.iter().any(|word| (self.says)(word));
        let usual = Stored::Iso8601(Spelling::USUAL);
        let (kind, stored) = if says(&["BOOL"]) {
            (Type::Boolean, Stored::Plain)
        } else if self.is_json() {
            (Type::Json, Stored::Plain)
        } else if says(&["DATETIME", "TIMESTAMP"]) {
            (Type::Timestamp(Unit::Microsecond), usual)
        } else if says(&["DATE"]) {
            (Type::Date, Stored::Iso8601(Spelling::DAY))
        } else if let Some(decimal) = self.decimal {
            (decimal, Stored::Plain)
        } else if says(&["INT"]) {
            (Type::Integer, Stored::Plain)
        } else if says(&["CHAR", "CLOB", "TEXT"]) {
            (Type::Text, Stored::Plain)
        } else if says(&["BLOB"]) {
            (Type::Blob, Stored::Plain)
        } else if says(&["REAL", "FLOA", "DOUB", "NUM", "DEC"]) {
            (Type::Real, Stored::Plain)
        } else {
            (Type::Text, Stored::Plain)
        };
        if self.decimal == Some(kind) {
            return self.declared_decimal(kind);
        }
        let declared = match self.known.declared {
            "" => "without a declared type".to_owned(),
            declared => format!("declared {declared}"),
        };
        Found {
            guessed: Some(format!("{declared}, and no sampled value is there to see")),
            stored,
            ..certain(kind)
        }
    }

    fn declared_decimal(&self, kind: Type) -> Found {
        let guessed = (!self.known.declared.contains('(')).then(|| {
            let declared = self.known.declared;
            format!("declared {declared} without digits, and these hold all that are usual")
        });
        Found {
            guessed,
            ..certain(kind)
        }
    }

    fn is_json(&self) -> bool {
        self.known.is_json || (self.says)("JSON")
    }

    fn fits(&self, kind: Type, stored: Stored) -> bool {
        let mut reading = Reading::new(kind, stored);
        self.values.iter().all(|value| is_read(&mut reading, value))
    }

    /// "3,000 of 3,000 sampled values are …".
    fn all(&self, are: &str) -> Option<String> {
        let count = thousands(self.values.len());
        Some(format!("{count} of {count} sampled values {are}"))
    }

    fn texts(&self) -> Found {
        let texts: Vec<&str> = self.values.iter().filter_map(|v| text(v)).collect();
        let fits = |kind, stored| self.fits(kind, stored);
        let example = texts.first().copied().unwrap_or_default();
        if fits(Type::Date, Stored::Iso8601(Spelling::DAY)) {
            return Found {
                stored: Stored::Iso8601(Spelling::DAY),
                guessed: self.all(&format!("are dates, such as {example:?}")),
                ..certain(Type::Date)
            };
        }
        match Look::at(&texts).map(|look| look.spelling()) {
            Some(Ok((unit, spelling)))
                if fits(Type::Timestamp(unit), Stored::Iso8601(spelling)) =>
            {
                return Found {
                    stored: Stored::Iso8601(spelling),
                    guessed: self.all(&format!("are spelled so, such as {example:?}")),
                    ..certain(Type::Timestamp(unit))
                };
            }
            Some(Err(why)) => return self.no_time(Type::Text, why.to_owned(), "julianday(…)"),
            _ => {}
        }
        if texts.iter().all(|text| ["true", "false"].contains(text)) {
            return Found {
                guessed: self.all("are 'true' or 'false'"),
                ..certain(Type::Boolean)
            };
        }
        let is_tree = |text: &&str| text.starts_with(['{', '[']);
        if texts.iter().all(is_tree) && fits(Type::Json, Stored::Plain) {
            return Found {
                guessed: self.all("are JSON"),
                ..certain(Type::Json)
            };
        }
        if self.is_time && fits(Type::Integer, Stored::Plain) {
            let found = self.integers();
            let guessed = found.guessed.or_else(|| self.all("are integers"));
            return Found {
                guessed: guessed.map(|why| format!("{why}, as texts")),
                ..found
            };
        }
        if self.is_time {
            let why = self.all(&format!(
                "are text, but not times of one spelling that sorts as time does, such as {example:?}"
            ));
            return self.no_time(Type::Text, why.unwrap_or_default(), "julianday(…)");
        }
        certain(Type::Text)
    }

    fn integers(&self) -> Found {
        let integers = self.values.iter();
        let integers = integers.filter_map(|value| as_integer(held(ValueRef::from(*value))));
        let within = |least: i64, most: i64| integers.clone().all(|i| (least..=most).contains(&i));
        let (first, last) = (*PLAUSIBLE.start(), *PLAUSIBLE.end());
        for unit in Unit::ALL.into_iter().filter(|_| self.is_time) {
            let per_second = unit.per_second();
            if within(first * per_second, last * per_second) {
                return Found {
                    guessed: self.all(&format!(
                        "are {} since 1970 of the years 1990 to 2100",
                        plural(unit)
                    )),
                    ..certain(Type::Timestamp(unit))
                };
            }
        }
        self.or_julian(Type::Integer)
    }

    fn numbers(&self) -> Found {
        let (first, last) = (*PLAUSIBLE.start() as f64, *PLAUSIBLE.end() as f64);
        let is_within = |value: f64| value >= first && value <= last;
        let kind = Type::Timestamp(Unit::Microsecond);
        let numbers = || self.values.iter().filter_map(|value| number(value));
        if self.is_time && numbers().all(is_within) && self.fits(kind, Stored::EpochReal) {
            return Found {
                stored: Stored::EpochReal,
                guessed: self.all("are seconds since 1970 of the years 1990 to 2100"),
                ..certain(kind)
            };
        }
        if self.fits(Type::Real, Stored::Plain) {
            let is_ms = |value: f64| is_within(value / 1000.0);
            if self.is_time && numbers().all(is_ms) {
                let why = self.all("are milliseconds since 1970, as reals");
                let days = "… / 86400000.0 + 2440587.5";
                return self.no_time(Type::Real, why.unwrap_or_default(), days);
            }
            self.or_julian(Type::Real)
        } else {
            self.mixed(Type::Text)
        }
    }

    /// Numbers, which may be Julian days.
    fn or_julian(&self, kind: Type) -> Found {
        let is_julian = |value: &&Value| number(value).is_some_and(|days| JULIAN.contains(&days));
        if self.is_time && self.values.iter().all(is_julian) {
            let why = self.all("are Julian days").unwrap_or_default();
            return self.no_time(kind, why, "…");
        }
        certain(kind)
    }

    /// Values of several kinds.
    fn mixed(&self, kind: Type) -> Found {
        let texts = self
            .values
            .iter()
            .filter(|value| text(value).is_some())
            .count();
        let blobs = |value: &&&Value| matches!(value, Value::Blob(_));
        let blobs = self.values.iter().filter(blobs).count();
        let numbers = self.values.len() - texts - blobs;
        let parts = [(numbers, "numbers"), (texts, "texts"), (blobs, "blobs")];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, what)| format!("{what}: {}", thousands(count)))
            .collect();
        let count = thousands(self.values.len());
        let parts = parts.join(", ");
        let why =
            format!("{count} sampled values are of several kinds ({parts}), which {kind} holds");
        if self.is_time {
            return self.no_time(kind, why, "julianday(…)");
        }
        Found {
            guessed: Some(why),
            ..certain(kind)
        }
    }

    /// Values that seem to be times and cannot be declared so; `days` makes Julian days of one.
    fn no_time(&self, kind: Type, why: String, days: &str) -> Found {
        let Known { table, name, .. } = self.known;
        let days = days.replace('…', &quoted(name));
        let ms = quoted(&format!("{name}_ms"));
        let made = format!("CAST(round(({days} - 2440587.5) * 86400000) AS INTEGER)");
        let help = if self.known.view {
            format!("SELECT {made} AS {ms} in the view helps")
        } else {
            format!(
                "`ALTER TABLE {} ADD COLUMN {ms} INTEGER AS ({made})` gives a column of milliseconds since \
                 1970 that does",
                quoted(table)
            )
        };
        Found {
            no_time: Some(format!("{why}, which cannot serve as a time; {help}")),
            ..certain(kind)
        }
    }
}

/// A type that needs no evidence.
fn certain(kind: Type) -> Found {
    Found {
        kind,
        stored: Stored::Plain,
        guessed: None,
        no_time: None,
    }
}

fn plural(unit: Unit) -> &'static str {
    match unit {
        Unit::Second => "seconds",
        Unit::Millisecond => "milliseconds",
        Unit::Microsecond => "microseconds",
        Unit::Nanosecond => "nanoseconds",
    }
}

/// The type of `DECIMAL(10, 2)`; and of `decimal` alone, which Django writes, the most that BigQuery's
/// `NUMERIC` holds.
fn decimal(declared: &str) -> Option<Type> {
    if declared == "DECIMAL" {
        return Some(Type::Decimal {
            precision: 38,
            scale: 9,
        });
    }
    let (name, digits) = declared.split_once('(')?;
    let (precision, scale) = digits.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let is = name.contains("DEC") || name.contains("NUM");
    (is && (1..=38).contains(&precision) && scale <= precision)
        .then_some(Type::Decimal { precision, scale })
}
