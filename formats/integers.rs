//! What a column's integers stand for, as text: the one place that text formats, and those that do not
//! know a type, have it from.

use flows_formats::time::{Timestamps, date};
use flows_formats::writer::{PIECE, Writer};
use flows_formats::{Allowed, FormatOption, Options, Type};

/// What every text format asks of a client: `timestamps`.
pub(crate) const TIMESTAMPS: FormatOption = FormatOption {
    name: "timestamps",
    allowed: Allowed::OneOf(&["rfc3339", "epoch"]),
    default: "rfc3339",
    summary: "Timestamps as text with the unit's digits, or as integers in the unit since 1970",
};

/// How the integers of one column are written.
#[derive(Clone, Debug)]
pub(crate) struct Integers {
    meaning: Meaning,
    quoted: bool,
    /// Whether they are numbers, not in quotes.
    plain: bool,
}

/// What integers stand for.
#[derive(Clone, Debug)]
enum Meaning {
    Numbers,
    Instants(Timestamps),
    Days,
    Booleans,
}

impl Integers {
    /// As the text of that type.
    pub(crate) fn new(kind: Type) -> Integers {
        let meaning = match kind {
            Type::Timestamp(unit) => Meaning::Instants(Timestamps::new(unit)),
            Type::Date => Meaning::Days,
            Type::Boolean => Meaning::Booleans,
            _ => Meaning::Numbers,
        };
        Integers {
            plain: matches!(meaning, Meaning::Numbers),
            meaning,
            quoted: false,
        }
    }

    /// The same as the option [`TIMESTAMPS`] says.
    pub(crate) fn asked(kind: Type, options: &Options) -> Integers {
        match kind {
            Type::Timestamp(_) if options.get(TIMESTAMPS.name) == "epoch" => {
                Integers::new(Type::Integer)
            }
            kind => Integers::new(kind),
        }
    }

    /// The same in quotes where JSON needs them, and `numbers` too if that is asked for.
    pub(crate) fn in_json(self, numbers: bool) -> Integers {
        let quoted = match self.meaning {
            Meaning::Numbers => numbers,
            Meaning::Instants(_) | Meaning::Days => true,
            Meaning::Booleans => false,
        };
        Integers {
            quoted,
            plain: self.plain && !quoted,
            ..self
        }
    }

    /// Writes one.
    #[inline(always)]
    pub(crate) fn write(&mut self, value: i64, writer: &mut Writer) {
        if self.plain {
            writer.integer(value);
        } else {
            writer.piece(|piece| self.fill(value, piece));
        }
    }

    /// Writes one at the beginning of `out`, where the longest, nanoseconds in quotes, has room; returns
    /// its length.
    #[inline(never)]
    fn fill(&mut self, value: i64, out: &mut [u8; PIECE]) -> usize {
        let quote = usize::from(self.quoted);
        out[0] = b'"';
        let Some(text) = out[quote..].first_chunk_mut() else {
            return 0;
        };
        let length = match &mut self.meaning {
            Meaning::Instants(timestamps) => timestamps.write(value, text),
            Meaning::Numbers => {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(value).as_bytes();
                text[..digits.len()].copy_from_slice(digits);
                digits.len()
            }
            Meaning::Days => {
                text[..10].copy_from_slice(&date(value));
                10
            }
            Meaning::Booleans => {
                text[..5].copy_from_slice(if value == 0 { b"false" } else { b"true " });
                5 - usize::from(value != 0)
            }
        };
        // What is not in quotes ends before it.
        out[quote + length] = b'"';
        length + 2 * quote
    }
}
