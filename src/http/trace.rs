//! W3C Trace Context: `traceparent`, for the log.

use warp::http::HeaderMap;

/// The trace that a request is a part of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trace {
    /// Of the whole trace: 32 hexadecimal digits.
    pub(super) id: String,
    /// Of what the request was sent by: 16 hexadecimal digits.
    pub(super) parent: String,
}

impl Trace {
    /// What the one line `traceparent` says; `None` when it is malformed.
    pub(super) fn of(headers: &HeaderMap) -> Option<Trace> {
        let mut lines = headers.get_all("traceparent").iter();
        let (line, more) = (lines.next()?, lines.next());
        Trace::read(line.to_str().ok().filter(|_| more.is_none())?)
    }

    /// `VERSION-TRACE-PARENT-FLAGS`; a version after 00 may have more after another hyphen.
    fn read(text: &str) -> Option<Trace> {
        let mut parts = text.split('-');
        let mut digits = |length| {
            let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            let part = parts.next()?;
            (part.len() == length && part.bytes().all(is_hex)).then_some(part)
        };
        let (version, id, parent) = (digits(2)?, digits(32)?, digits(16)?);
        digits(2)?;
        let is_wrong = version == "00" && parts.next().is_some() || version == "ff";
        let is_zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
        (!is_wrong && !is_zero(id) && !is_zero(parent)).then(|| Trace {
            id: id.to_owned(),
            parent: parent.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn a_traceparent_is_read_strictly() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let parent = "b7ad6b7169203331";
        let right = format!("00-{id}-{parent}-01");
        let trace = Trace::read(&right).unwrap();
        assert_eq!((trace.id.as_str(), trace.parent.as_str()), (id, parent));
        for later in [
            format!("01-{id}-{parent}-01"),
            format!("cc-{id}-{parent}-01-what comes"),
            format!("cc-{id}-{parent}-ff-"),
        ] {
            assert_eq!(Trace::read(&later).as_ref(), Some(&trace), "{later}");
        }
        for wrong in [
            format!("ff-{id}-{parent}-01"),
            format!("{right}-"),
            format!("{right}-00"),
            format!("{right} "),
            format!("cc-{id}-{parent}-01."),
            format!("0-{id}-{parent}-01"),
            format!("00-{}-{parent}-01", id.to_uppercase()),
            format!("00-{id}0-{parent}-01"),
            format!("00-{id}-{parent}"),
            format!("00-{id}-{parent}-1"),
            format!("00-{id}-{parent}-0g"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            "é".repeat(28),
            String::new(),
        ] {
            assert_eq!(Trace::read(&wrong), None, "{wrong}");
        }
    }
}
