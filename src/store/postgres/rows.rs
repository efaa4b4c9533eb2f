//! Rows of a binary copy, as records into a sink. PostgreSQL's documentation, COPY, "Binary Format".

use std::ops::Range;

use flows_formats::time::Unit;

use super::failure::Failure;
use super::kind::Wire;
use super::session::Copied;
use crate::store::reading::Held;
use crate::store::values::Decoder;
use crate::store::wrong_records::{STEP, WrongRecords};
use crate::store::{Cancel, Sink, StoreError};

/// What every copy begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// From the first day of 1970 to that of 2000.
const DAYS: i64 = 10_957;
const MICROSECONDS: i64 = DAYS * 86_400_000_000;

/// A scan on its way.
pub(super) struct Rows {
    pub(super) sink: Box<dyn Sink>,
    decoder: Decoder,
    cancel: Cancel,
    /// How many rows there were.
    pub(super) records: u64,
    /// Why the sink or the decoder ended the scan.
    pub(super) ended: Option<StoreError>,
    /// What is wrong with records that were taken just now, if that ends nothing.
    wrong: Option<Vec<StoreError>>,
    fields: Fields,
    /// What of a row has come, if not all of it.
    rest: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    /// The trailer was seen.
    Over,
}

/// Where in a row its values are.
struct Fields {
    wires: Vec<Wire>,
    /// Of each value, where it is; of those that travel in another form, where its text is.
    places: Vec<Option<Range<usize>>>,
    /// The texts that are made of values.
    texts: String,
}

impl Rows {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        decoder: Decoder,
        wires: &[Wire],
        cancel: &Cancel,
    ) -> Rows {
        Rows {
            sink,
            decoder,
            cancel: cancel.clone(),
            records: 0,
            ended: None,
            wrong: None,
            fields: Fields {
                wires: wires.to_vec(),
                places: vec![None; wires.len()],
                texts: String::new(),
            },
            rest: Vec::new(),
            state: State::Header,
        }
    }

    /// Takes all rows that are complete; how many bytes they are.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut at = 0;
        if self.state == State::Header {
            // The signature, flags, and the length of what may follow.
            let Some(extension) = bytes.get(15..19).and_then(|length| length.try_into().ok())
            else {
                return Ok(0);
            };
            let length = 19 + u32::from_be_bytes(extension) as usize;
            if !bytes.starts_with(SIGNATURE) {
                return Err(Failure::Lost("a copy does not begin as one".to_owned()));
            }
            if bytes.len() < length {
                return Ok(0);
            }
            at = length;
            self.state = State::Rows;
        }
        while self.state == State::Rows {
            let Some((count, rest)) = bytes[at..].split_first_chunk::<2>() else {
                break;
            };
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                self.state = State::Over;
                return Ok(at + 2);
            }
            if usize::try_from(count) != Ok(self.fields.wires.len()) {
                return Err(Failure::Lost(
                    "a row has other columns than were asked for".to_owned(),
                ));
            }
            let Some(length) = self.fields.find(rest)? else {
                break;
            };
            let fields = &self.fields;
            let value = |column: usize| fields.value(rest, column);
            match (self.decoder.record(value, &mut *self.sink), &mut self.wrong) {
                (Ok(()), _) => {}
                (Err(error @ StoreError::Value { .. }), Some(wrong)) => wrong.push(error),
                (Err(error), _) => {
                    self.ended = Some(error);
                    return Err(Failure::Stopped);
                }
            }
            self.records += 1;
            at += 2 + length;
        }
        Ok(at)
    }
}

impl Copied for Rows {
    fn begin(&mut self) {
        self.state = State::Header;
        self.rest.clear();
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.rest.is_empty() {
            let used = self.take(bytes)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let used = self.take(&rest)?;
        rest.drain(..used);
        self.rest = rest;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.state == State::Over && self.rest.is_empty() {
            Ok(())
        } else {
            Err(Failure::Lost("a copy ended without its trailer".to_owned()))
        }
    }

    fn tick(&mut self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() || self.sink.tick().is_err() {
            self.ended = Some(StoreError::Stopped);
            return Err(Failure::Stopped);
        }
        Ok(())
    }
}

/// Rows of which those that would break a stream are noted.
pub(super) struct Forgiving<'f> {
    rows: Rows,
    wrong: WrongRecords<'f>,
    progress: &'f mut dyn FnMut(u64, Option<u64>),
    told: u64,
}

impl<'f> Forgiving<'f> {
    /// Notes them here; tells `progress` again and again how many rows there were.
    pub(super) fn new(
        mut rows: Rows,
        wrong: WrongRecords<'f>,
        progress: &'f mut dyn FnMut(u64, Option<u64>),
    ) -> Forgiving<'f> {
        rows.wrong = Some(Vec::new());
        Forgiving {
            rows,
            wrong,
            progress,
            told: 0,
        }
    }

    /// Says what there was of all rows.
    pub(super) fn conclude(self) {
        (self.progress)(self.rows.records, None);
        self.wrong.end(self.rows.records);
    }
}

impl Copied for Forgiving<'_> {
    fn begin(&mut self) {
        self.rows.begin();
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let taken = self.rows.data(bytes);
        for error in self.rows.wrong.iter_mut().flat_map(|wrong| wrong.drain(..)) {
            self.wrong.add(&error);
        }
        taken?;
        if self.rows.records - self.told >= STEP {
            self.told = self.rows.records;
            (self.progress)(self.told, None);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.rows.end()
    }

    fn tick(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Fields {
    /// Finds the values of a row; how many bytes it has, if it is complete.
    #[inline]
    fn find(&mut self, row: &[u8]) -> Result<Option<usize>, Failure> {
        let mut at = 0;
        self.texts.clear();
        for (wire, place) in self.wires.iter().zip(&mut self.places) {
            let Some(length) = row.get(at..at + 4) else {
                return Ok(None);
            };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            at += 4;
            let Ok(length) = usize::try_from(length) else {
                *place = None;
                continue;
            };
            let Some(bytes) = row.get(at..at + length) else {
                return Ok(None);
            };
            *place = Some(match wire {
                Wire::Numeric | Wire::Uuid => {
                    let start = self.texts.len();
                    let written = match wire {
                        Wire::Numeric => numeric(bytes, &mut self.texts),
                        _ => uuid(bytes, &mut self.texts),
                    };
                    written.ok_or_else(wrong_length)?;
                    start..self.texts.len()
                }
                Wire::Timestamp(unit) => match eight(bytes)
                    .map(i64::from_be_bytes)
                    .ok_or_else(wrong_length)?
                {
                    micros if instant(micros, *unit).is_some() => at..at + length,
                    micros => {
                        let start = self.texts.len();
                        self.texts.push_str(&no_instant(micros));
                        // Beyond the row: a text.
                        row.len() + start..row.len() + self.texts.len()
                    }
                },
                Wire::Text | Wire::Bytes => at..at + length,
                Wire::Jsonb if length > 0 => at + 1..at + length,
                Wire::Bool if length == 1 => at..at + 1,
                Wire::Int2 if length == 2 => at..at + 2,
                Wire::Int4 | Wire::Float4 | Wire::Date if length == 4 => at..at + 4,
                Wire::Int8 | Wire::Float8 if length == 8 => at..at + 8,
                _ => return Err(wrong_length()),
            });
            at += length;
        }
        Ok(Some(at))
    }

    /// A value of the row that was found.
    #[inline]
    fn value<'r>(&'r self, row: &'r [u8], column: usize) -> Held<'r> {
        let Some(place) = &self.places[column] else {
            return Held::Null;
        };
        let wire = self.wires[column];
        if let Wire::Numeric | Wire::Uuid = wire {
            return Held::Text(&self.texts.as_bytes()[place.clone()]);
        }
        if place.end > row.len() {
            let place = place.start - row.len()..place.end - row.len();
            return Held::Text(&self.texts.as_bytes()[place]);
        }
        let bytes = &row[place.clone()];
        match (wire, bytes) {
            (Wire::Text | Wire::Jsonb, text) => Held::Text(text),
            (Wire::Bytes, bytes) => Held::Blob(bytes),
            (Wire::Bool, [value]) => Held::Integer((*value).into()),
            (Wire::Int2, &[a, b]) => Held::Integer(i16::from_be_bytes([a, b]).into()),
            (Wire::Int4, &[a, b, c, d]) => Held::Integer(i32::from_be_bytes([a, b, c, d]).into()),
            (Wire::Float4, &[a, b, c, d]) => Held::Real(f32::from_be_bytes([a, b, c, d]).into()),
            (Wire::Date, &[a, b, c, d]) => {
                Held::Integer(i64::from(i32::from_be_bytes([a, b, c, d])) + DAYS)
            }
            (Wire::Int8, bytes) => {
                eight(bytes).map_or(Held::Null, |it| Held::Integer(i64::from_be_bytes(it)))
            }
            (Wire::Float8, bytes) => {
                eight(bytes).map_or(Held::Null, |it| Held::Real(f64::from_be_bytes(it)))
            }
            (Wire::Timestamp(unit), bytes) => {
                let instant = eight(bytes).and_then(|it| instant(i64::from_be_bytes(it), unit));
                instant.map_or(Held::Null, Held::Integer)
            }
            // Their lengths were looked at.
            _ => Held::Null,
        }
    }
}

fn wrong_length() -> Failure {
    Failure::Lost("a value of a row has another length than its type".to_owned())
}

fn eight(bytes: &[u8]) -> Option<[u8; 8]> {
    bytes.try_into().ok()
}

/// Microseconds since 2000 as a number of a unit since 1970, if it is one.
#[inline]
fn instant(micros: i64, unit: Unit) -> Option<i64> {
    let micros = micros
        .checked_add(MICROSECONDS)
        .filter(|_| micros != i64::MIN)?;
    let per_second = unit.per_second();
    if per_second > 1_000_000 {
        return micros.checked_mul(per_second / 1_000_000);
    }
    let each = 1_000_000 / per_second;
    (micros % each == 0).then_some(micros / each)
}

/// How an instant is described that is none of the unit.
#[cold]
fn no_instant(micros: i64) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        micros => {
            let seconds = i128::from(micros) + i128::from(MICROSECONDS);
            format!("{} microseconds since 1970", seconds)
        }
    }
}

/// Writes a numeric as PostgreSQL does.
fn numeric(bytes: &[u8], out: &mut String) -> Option<()> {
    let short = |at: usize| Some(i16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let count = i32::from(short(0)?);
    let (weight, sign, scale) = (i32::from(short(2)?), short(4)? as u16, short(6)? as u16);
    match sign {
        0xC000 => {
            out.push_str("NaN");
            return Some(());
        }
        0xD000 => {
            out.push_str("Infinity");
            return Some(());
        }
        0xF000 => {
            out.push_str("-Infinity");
            return Some(());
        }
        0x4000 => out.push('-'),
        _ => {}
    }
    // Each digit is one of four in ten thousands; those that are not there are zeros.
    let digit = |at: i32| {
        if (0..count).contains(&at) {
            short(8 + 2 * usize::try_from(at).ok()?)
        } else {
            Some(0)
        }
    };
    use std::fmt::Write;
    if weight < 0 {
        out.push('0');
    }
    for at in 0..=weight {
        let digit = digit(at)?;
        let written = if at == 0 {
            write!(out, "{digit}")
        } else {
            write!(out, "{digit:04}")
        };
        written.ok()?;
    }
    if scale > 0 {
        out.push('.');
        let end = out.len() + usize::from(scale);
        let mut at = weight + 1;
        while out.len() < end {
            write!(out, "{:04}", digit(at)?).ok()?;
            at += 1;
        }
        out.truncate(end);
    }
    Some(())
}

/// Writes a UUID as PostgreSQL does (RFC 9562, section 4).
fn uuid(bytes: &[u8], out: &mut String) -> Option<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    for (at, byte) in bytes.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            out.push('-');
        }
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
    Some(())
}
