//! How texts are spelled that seem to be times.

use flows_formats::time::Unit;

use crate::definition::Spelling;

/// How texts are spelled that all seem to be times.
pub(super) struct Look {
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
    pub(super) fn at(texts: &[&str]) -> Option<Look> {
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
    pub(super) fn spelling(&self) -> Result<(Unit, Spelling), &'static str> {
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
