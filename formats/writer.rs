//! Where text formats spend their time: literals, integers and short strings into a buffer.
//!
//! A call of `memcpy` for each of these few bytes would cost more than the bytes. The writer keeps
//! the buffer longer than what is written, so that it can copy in pieces of a fixed size, which are
//! single instructions, and take back what was too much.

use crate::text;

/// A string that stands in every record, such as a key: short ones are copied as one piece.
#[derive(Clone, Debug)]
pub struct Literal {
    bytes: Vec<u8>,
    padded: [u8; PIECE],
}

/// The size in bytes of the piece that a short literal is copied as, and of [`Writer::piece`].
pub const PIECE: usize = 32;

/// Room that a record gets at once. One that needs more gets it later.
const ROOM: usize = 512;

impl Literal {
    /// A literal of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Literal {
        let bytes = bytes.into();
        let mut padded = [0; PIECE];
        if bytes.len() <= PIECE {
            padded[..bytes.len()].copy_from_slice(&bytes);
        }
        Literal { bytes, padded }
    }
}

/// Writes after what a buffer holds, which it owns while it writes: the compiler can then keep the
/// buffer's address in a register, since no byte written may be part of it.
///
/// ```
/// use flows_formats::writer::{Literal, Writer, less_than};
/// let mut writer = Writer::new(b"[".to_vec());
/// writer.literal(&Literal::new("\"bytes\":"));
/// writer.integer(-5323);
/// assert!(writer.text("C17", |eight| less_than(eight, b' ')));
/// assert_eq!(writer.finish(), b"[\"bytes\":-5323C17");
/// ```
pub struct Writer {
    out: Vec<u8>,
    at: usize,
}

impl Writer {
    /// A writer that begins at the end of `out`.
    #[inline]
    pub fn new(mut out: Vec<u8>) -> Writer {
        let at = out.len();
        out.resize(at + ROOM, 0);
        Writer { out, at }
    }

    /// What was there and what was written.
    #[inline]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.truncate(self.at);
        self.out
    }

    /// The next `bytes` bytes of the buffer.
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.at + bytes;
        if end > self.out.len() {
            self.out = larger(std::mem::take(&mut self.out), end);
        }
        &mut self.out[self.at..end]
    }

    /// Writes one byte.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) {
        self.room(1)[0] = byte;
        self.at += 1;
    }

    /// Writes a literal.
    #[inline(always)]
    pub fn literal(&mut self, literal: &Literal) {
        if literal.bytes.len() <= PIECE {
            self.room(PIECE).copy_from_slice(&literal.padded);
        } else {
            self.room(literal.bytes.len())
                .copy_from_slice(&literal.bytes);
        }
        self.at += literal.bytes.len();
    }

    /// Writes what `fill` puts at the beginning of so many bytes; it returns its length.
    #[inline(always)]
    pub fn piece(&mut self, fill: impl FnOnce(&mut [u8; PIECE]) -> usize) {
        if let Some(piece) = self.room(PIECE).first_chunk_mut() {
            let length = fill(piece);
            self.at += length.min(PIECE);
        }
    }

    /// Writes what `write` appends to a vector: for whatever is rare.
    #[inline]
    pub fn with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut out = std::mem::take(&mut self.out);
        out.truncate(self.at);
        let written = write(&mut out);
        self.at = out.len();
        self.out = out;
        written
    }

    /// Writes a signed 64-bit integer in decimal.
    #[inline(always)]
    pub fn integer(&mut self, value: i64) {
        if !(0..100_000_000).contains(&value) {
            return self.with(|out| text::integer(value, out));
        }
        let eight = eight_digits(value as u64);
        // The first digit is the lowest byte; at least the last digit is written.
        let zeros = (eight | (1 << 56)).trailing_zeros() as usize / 8;
        let digits = (eight | (ONES * u64::from(b'0'))) >> (8 * zeros);
        self.room(8).copy_from_slice(&digits.to_le_bytes());
        self.at += 8 - zeros;
    }

    /// Writes a string, unless `suspect` finds a byte in it that may not be written as it is: then
    /// writes nothing and returns false. `suspect` is given eight bytes at a time, in any order,
    /// some of them twice, a short text filled up with `A`s; see [`less_than`] and [`equal_to`].
    #[inline(always)]
    pub fn text(&mut self, text: &str, suspect: impl Fn(u64) -> u64) -> bool {
        let text = text.as_bytes();
        let length = text.len();
        let room = self.room(length.max(8));
        let found = if length < 8 {
            let eight = up_to_eight(text);
            room[..8].copy_from_slice(&eight.to_le_bytes());
            suspect(eight)
        } else {
            let mut found = 0;
            let (pieces, rest) = text.as_chunks::<8>();
            for (piece, room) in pieces.iter().zip(room.chunks_exact_mut(8)) {
                room.copy_from_slice(piece);
                found |= suspect(u64::from_le_bytes(*piece));
            }
            if let (false, Some(last)) = (rest.is_empty(), text.last_chunk::<8>()) {
                room[length - 8..].copy_from_slice(last);
                found |= suspect(u64::from_le_bytes(*last));
            }
            found
        };
        if found == 0 {
            self.at += length;
        }
        found == 0
    }
}

/// The digits of a number below 100,000,000, the first in the lowest byte: in halves of four
/// digits, then of two, then of one, all of them at once.
#[inline]
pub(crate) fn eight_digits(number: u64) -> u64 {
    // Multiplying and shifting divides by 100 what is below 10,000, and by 10 what is below 100.
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    pairs_of_digits(hundreds | ((fours - 100 * hundreds) << 16))
}

/// The digits of four numbers below 100, each in 16 bits, the first in the lowest byte.
#[inline]
pub(crate) fn pairs_of_digits(twos: u64) -> u64 {
    let tens = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | ((twos - 10 * tens) << 8)
}

#[cold]
fn larger(mut out: Vec<u8>, end: usize) -> Vec<u8> {
    out.resize(end + ROOM, 0);
    out
}

/// Fewer than eight bytes, filled up with `A`s.
#[inline]
fn up_to_eight(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    // Two words of four, or three bytes, that may overlap: no loop, whose end is hard to predict.
    let eight = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(first), Some(last), _) => {
            let last = u64::from(u32::from_le_bytes(*last));
            u64::from(u32::from_le_bytes(*first)) | (last << (8 * (length - 4)))
        }
        (_, _, [first, .., last]) => {
            let middle = u64::from(bytes[length / 2]) << (8 * (length / 2));
            u64::from(*first) | middle | (u64::from(*last) << (8 * (length - 1)))
        }
        (_, _, [only]) => u64::from(*only),
        (_, _, []) => 0,
    };
    const FILL: u64 = u64::from_le_bytes([b'A'; 8]);
    eight | (FILL << (8 * length))
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// Not 0 if any of eight bytes is less than `bound`, which is at most 0x80.
///
/// ```
/// use flows_formats::writer::less_than;
/// assert_ne!(less_than(u64::from_le_bytes(*b"C17\n1234"), b' '), 0);
/// assert_eq!(less_than(u64::from_le_bytes("Größe!".as_bytes().try_into()?), b' '), 0);
/// # Ok::<(), std::array::TryFromSliceError>(())
/// ```
#[inline]
pub fn less_than(eight: u64, bound: u8) -> u64 {
    eight.wrapping_sub(ONES * u64::from(bound)) & !eight & HIGH
}

/// Not 0 if any of eight bytes is `byte`.
///
/// ```
/// use flows_formats::writer::equal_to;
/// assert_ne!(equal_to(u64::from_le_bytes(*b"say \"hi\""), b'"'), 0);
/// assert_eq!(equal_to(u64::from_le_bytes(*b"say 'hi'"), b'"'), 0);
/// ```
#[inline]
pub fn equal_to(eight: u64, byte: u8) -> u64 {
    less_than(eight ^ (ONES * u64::from(byte)), 1)
}

/// Not 0 if any of eight bytes is not ASCII.
///
/// ```
/// use flows_formats::writer::not_ascii;
/// assert_ne!(not_ascii(u64::from_le_bytes("Größe!".as_bytes().try_into()?)), 0);
/// assert_eq!(not_ascii(u64::from_le_bytes(*b"Groesse!")), 0);
/// # Ok::<(), std::array::TryFromSliceError>(())
/// ```
#[inline]
pub fn not_ascii(eight: u64) -> u64 {
    eight & HIGH
}

#[cfg(test)]
mod tests {
    use super::{Literal, Writer, equal_to, less_than};

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new(b"before ".to_vec());
        write(&mut writer);
        let written = String::from_utf8(writer.finish()).unwrap();
        written.strip_prefix("before ").unwrap().to_owned()
    }

    #[test]
    fn integers_are_those_of_the_standard_library() {
        let mut integers = vec![0, i64::MIN, i64::MIN + 1, i64::MAX];
        integers.extend((0..10_000).chain((0..20_000_000).step_by(997)));
        for exponent in 0..19 {
            let power = 10_i64.pow(exponent);
            integers.extend([
                power - 1,
                power,
                power + 1,
                -power,
                7 * (power / 3),
                1 - power,
            ]);
        }
        for integer in integers {
            assert_eq!(
                written(|writer| writer.integer(integer)),
                integer.to_string()
            );
        }
    }

    #[test]
    fn texts_of_every_length_with_a_suspect_byte_anywhere() {
        let suspect = |eight| less_than(eight, b' ') | equal_to(eight, b'"');
        for length in 0..40 {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let mut fine = false;
            assert_eq!(written(|writer| fine = writer.text(&text, suspect)), text);
            assert!(fine);
            for at in 0..length {
                for (byte, expected) in [("\"", false), ("\u{1f}", false), (" ", true), ("!", true)]
                {
                    let mut text = text.clone();
                    text.replace_range(at..at + 1, byte);
                    let mut fine = !expected;
                    let shown = written(|writer| fine = writer.text(&text, suspect));
                    assert_eq!(fine, expected, "{text:?}");
                    assert_eq!(shown, if expected { &text } else { "" });
                }
            }
        }
    }

    #[test]
    fn records_may_be_larger_than_the_room_they_get() {
        let long = "x".repeat(700);
        let text = written(|writer| {
            for _ in 0..3 {
                writer.literal(&Literal::new(long.as_str()));
                assert!(writer.text(&long, |_| 0));
                writer.with(|out| out.extend_from_slice(b"y"));
                writer.integer(7);
            }
        });
        assert_eq!(text, format!("{long}{long}y7").repeat(3));
    }
}
