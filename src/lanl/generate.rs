//! Makes flows of the shape of LANL's, the same ones for the same seed.

use std::io::{self, Read, Write};

/// The first and last second of LANL's 58 days.
const TIMES: (u64, u64) = (1, 5_011_199);

/// Bytes kept ready.
const READY: usize = 64 * 1024;

/// Synthetic lines, as a source of bytes. Times ascend from the first second of LANL's 58 days to the
/// last.
///
/// ```
/// use std::io::Read;
/// let mut lines = String::new();
/// flows::lanl::generate::Lines::new(2, 7).read_to_string(&mut lines)?;
/// assert!(lines.starts_with("1,") && lines.lines().nth(1).unwrap().starts_with("5011199,"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Lines {
    rows: u64,
    made: u64,
    random: fastrand::Rng,
    ready: Vec<u8>,
    read: usize,
}

impl Lines {
    /// `rows` lines, determined by `seed`.
    pub fn new(rows: u64, seed: u64) -> Lines {
        let random = fastrand::Rng::with_seed(seed);
        Lines {
            rows,
            made: 0,
            random,
            ready: Vec::with_capacity(READY + 128),
            read: 0,
        }
    }

    fn make(&mut self) {
        let (first, last) = TIMES;
        let steps = u128::from(self.rows.saturating_sub(1).max(1));
        let time = u128::from(first) + u128::from(self.made) * u128::from(last - first) / steps;
        let random = &mut self.random;
        // Most flows last no second; some last hours.
        let duration = if random.u8(..) < 150 {
            0
        } else {
            skewed(random, 14)
        };
        let packets = 1 + skewed(random, 16);
        let bytes = packets * (40 + random.u64(..1000));
        let protocol = [6, 6, 6, 6, 6, 6, 17, 17, 17, 1][random.usize(..10)];
        let (source, target) = (1 + skewed(random, 14), 1 + skewed(random, 14));
        let (from, to) = (Port::random(random), Port::random(random));
        // Writing to a Vec does not fail.
        let _ = writeln!(
            self.ready,
            "{time},{duration},C{source},{from},C{target},{to},{protocol},{packets},{bytes}"
        );
        self.made += 1;
    }
}

impl Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.ready.len() {
            self.ready.clear();
            self.read = 0;
            while self.made < self.rows && self.ready.len() < READY {
                self.make();
            }
        }
        let read = (&self.ready[self.read..]).read(out)?;
        self.read += read;
        Ok(read)
    }
}

/// A number below `2^bits`, each power of two as likely as the next.
fn skewed(random: &mut fastrand::Rng, bits: u32) -> u64 {
    let magnitude = random.u32(..=bits);
    random.u64(..1 << magnitude)
}

/// A port as LANL writes it: a well-known one as it is, any other by a number of its own.
enum Port {
    WellKnown(u16),
    Other(u64),
}

impl Port {
    fn random(random: &mut fastrand::Rng) -> Port {
        const WELL_KNOWN: [u16; 8] = [53, 80, 88, 123, 137, 389, 443, 445];
        if random.bool() {
            Port::WellKnown(WELL_KNOWN[random.usize(..WELL_KNOWN.len())])
        } else {
            Port::Other(1 + skewed(random, 16))
        }
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Port::WellKnown(port) => write!(f, "{port}"),
            Port::Other(number) => write!(f, "N{number}"),
        }
    }
}
