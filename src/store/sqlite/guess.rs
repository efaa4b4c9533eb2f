//! What a column's values are: the type to declare, of a sample and of what the schema says. A type is
//! one only where every sampled value is read as it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use flows_formats::Type;
use flows_formats::time::Unit;
use rusqlite::types::{Value, ValueRef};

use super::query::quoted;
use super::reading::{Got, Reading};
use super::values::is_id;
use crate::definition::{Spelling, Stored};
use crate::store::description::{Found, is_named_like_a_time};

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
        if self.is_time {
            let why = self.all(&format!(
                "are text, but not times of one spelling that sorts as time does, such as {example:?}"
            ));
            return self.no_time(Type::Text, why.unwrap_or_default(), "julianday(…)");
        }
        certain(Type::Text)
    }

    fn integers(&self) -> Found {
        let integers = self.values.iter().filter_map(|value| match value {
            Value::Integer(integer) => Some(*integer),
            _ => None,
        });
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
        if self.is_time
            && self
                .values
                .iter()
                .all(|value| number(value).is_some_and(is_within))
            && self.fits(kind, Stored::EpochReal)
        {
            return Found {
                stored: Stored::EpochReal,
                guessed: self.all("are seconds since 1970 of the years 1990 to 2100"),
                ..certain(kind)
            };
        }
        if self.fits(Type::Real, Stored::Plain) {
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

/// Whether a value is one of the type that the reading is of.
pub(super) fn is_read(reading: &mut Reading, value: &Value) -> bool {
    !matches!(reading.read(ValueRef::from(value)), Got::Null | Got::Wrong)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(integer) => Some(*integer as f64),
        Value::Real(real) => Some(*real),
        _ => None,
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

/// A number with commas.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How texts are spelled that all seem to be times.
struct Look {
    separator: char,
    seconds: bool,
    suffix: &'static str,
    /// The fewest and the most digits of fractions.
    digits: (usize, usize),
    /// The most of them that are not zeros at the end.
    significant: usize,
    /// Whether separators, suffixes or seconds differ.
    differ: bool,
}

impl Look {
    /// `None` if a text is no time.
    fn at(texts: &[&str]) -> Option<Look> {
        let mut looks = texts.iter().map(|text| Look::at_one(text));
        let mut all = looks.next()??;
        for look in looks {
            let look = look?;
            let of = |look: &Look| (look.separator, look.seconds, look.suffix);
            all.differ |= of(&look) != of(&all);
            all.digits.0 = all.digits.0.min(look.digits.0);
            all.digits.1 = all.digits.1.max(look.digits.1);
            all.significant = all.significant.max(look.significant);
        }
        Some(all)
    }

    fn at_one(text: &str) -> Option<Look> {
        let (day, rest) = text.split_at_checked(10)?;
        let shape = |text: &str, pattern: &str| {
            text.len() == pattern.len()
                && text
                    .bytes()
                    .zip(pattern.bytes())
                    .all(|(byte, pattern)| match pattern {
                        b'0' => byte.is_ascii_digit(),
                        pattern => byte == pattern,
                    })
        };
        let separator = rest.chars().next().filter(|c| ['T', ' '].contains(c))?;
        let suffix = ["+00:00", "Z", ""].into_iter();
        let suffix = suffix.into_iter().find(|suffix| rest.ends_with(suffix))?;
        let time = &rest[1..rest.len() - suffix.len()];
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let seconds = time.len() > 5;
        let is = shape(day, "0000-00-00")
            && shape(time, if seconds { "00:00:00" } else { "00:00" })
            && fraction.bytes().all(|byte| byte.is_ascii_digit());
        is.then(|| Look {
            separator,
            seconds,
            suffix,
            digits: (fraction.len(), fraction.len()),
            significant: fraction.trim_end_matches('0').len(),
            differ: false,
        })
    }

    /// The spelling of them all, and the unit that holds them; or why there is none.
    fn spelling(&self) -> Result<(Unit, Spelling), &'static str> {
        if self.differ {
            return Err("times are spelled in several ways, whose text order is not their order");
        }
        let (fewest, most) = self.digits;
        // Python and Django leave the fraction out where it is 0, which may be rare.
        let varies = self.seconds && self.suffix != "Z";
        if !varies && fewest != most {
            return Err(
                "times have a trailing Z and fractions of various lengths, so that …10.5Z sorts before …10Z",
            );
        }
        let unit = match (varies, self.significant, most) {
            (true, ..=6, _) => Unit::Microsecond,
            (false, _, 0) => Unit::Second,
            (false, _, ..=3) => Unit::Millisecond,
            (false, _, ..=6) => Unit::Microsecond,
            _ => Unit::Nanosecond,
        };
        let fraction = match (varies, most) {
            (true, _) => ".f*".to_owned(),
            (false, 0) => String::new(),
            (false, digits) => format!(".{}", "f".repeat(digits)),
        };
        let seconds = if self.seconds { ":SS" } else { "" };
        let Look {
            separator, suffix, ..
        } = self;
        let pattern = format!("YYYY-MM-DD{separator}HH:MM{seconds}{fraction}{suffix}");
        let spelling = pattern.parse();
        spelling
            .map(|spelling| (unit, spelling))
            .map_err(|_| "times have more than nine digits of a second")
    }
}

/// How many values are null.
pub(super) fn nulls(values: &[Value]) -> usize {
    values.iter().filter(|value| **value == Value::Null).count()
}

/// Whether values can be ids: all of them integers, or all strings such as positions can carry, and no
/// two are the same.
pub(super) fn can_be_ids(values: &[Value]) -> bool {
    let mut integers = HashSet::new();
    let mut texts = HashSet::new();
    let all = values.iter().all(|value| match value {
        Value::Integer(integer) => integers.insert(*integer),
        // What begins so was not UTF-8.
        Value::Text(text) => is_id(text) && !text.starts_with('\u{FFFD}') && texts.insert(text),
        _ => false,
    });
    all && (integers.is_empty() || texts.is_empty())
}

/// Whether values never decrease.
pub(super) fn grows(values: &[Value]) -> bool {
    let order = |pair: &[Value]| match pair {
        [Value::Text(a), Value::Text(b)] => Some(a.cmp(b)),
        [a, b] => number(a)?.partial_cmp(&number(b)?),
        _ => None,
    };
    let is_before = |pair: &[Value]| order(pair).is_some_and(Ordering::is_le);
    values.len() > 1 && values.windows(2).all(is_before)
}
