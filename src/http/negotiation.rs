//! What a client would like: `Accept` → format, `Accept-Encoding` → coding (RFC 9110 section 12.5).

use flows_formats::Format;
use warp::http::HeaderValue;

use crate::stream::ContentCoding;

/// `Vary`: what a reply depends on besides its URL.
pub(super) const VARIES: HeaderValue = HeaderValue::from_static("accept, accept-encoding");

/// One item of a list with weights (RFC 9110 section 12.4.2), in lower case.
#[derive(Debug, PartialEq)]
struct Weighted {
    name: String,
    /// In thousandths; 0 means "not acceptable".
    weight: u16,
    /// Whether the list says it; it is 1 otherwise.
    weighed: bool,
}

/// The items of a list, in order. Parameters other than the weight are ignored, and so are items
/// whose weight is malformed.
fn weighted(list: &str) -> Vec<Weighted> {
    let item = |item: String| {
        let mut parts = split(&item, ';').into_iter();
        let name = parts.next()?.trim().to_ascii_lowercase();
        let (mut weight, mut weighed) = (1000, false);
        for parameter in parts {
            if let Some((key, value)) = parameter.split_once('=')
                && key.trim().eq_ignore_ascii_case("q")
            {
                (weight, weighed) = (self::weight(value.trim())?, true);
            }
        }
        (!name.is_empty()).then_some(Weighted {
            name,
            weight,
            weighed,
        })
    };
    split(list, ',').into_iter().filter_map(item).collect()
}

/// The parts of a string between separators that are not within quotes.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if c == separator && !quoted {
            parts.push(String::new());
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        let last = parts.len() - 1;
        parts[last].push(c);
    }
    parts
}

/// `0` to `1`, with at most three decimals.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// The format that `Accept` likes best, and the one of its media types that it means; `None` when
/// it accepts none.
///
/// Of each format the most specific range counts. Between formats it is the weight; then how
/// specific the range is, since who names a format means it; then the order of the list; then the
/// default, which stands first in `formats`. Aliases count where they are named.
///
/// Browsers name XML, for the sake of pages, and show JSON: whoever likes a page best gets that, unless they
/// name another format.
pub(super) fn format(
    accept: Option<&str>,
    formats: &[&'static Format],
) -> Option<(&'static Format, &'static str)> {
    let accept = accept.filter(|accept| !accept.trim().is_empty());
    let ranges = weighted(accept.unwrap_or("*/*"));
    // The most specific range that means a media type: its weight, how specific it is, and how early.
    let liked = |media_type: &str| {
        let all_of = media_type
            .split_once('/')
            .map(|(kind, _)| format!("{kind}/*"));
        let specific = [Some("*/*"), all_of.as_deref(), Some(media_type)];
        specific
            .into_iter()
            .enumerate()
            .rev()
            .find_map(|(specific, range)| {
                let at = ranges
                    .iter()
                    .position(|item| Some(item.name.as_str()) == range)?;
                Some((ranges[at].weight, specific, usize::MAX - at))
            })
    };
    let of_each = |format: &&'static Format| {
        let format = *format;
        let media_types = format
            .named_by()
            .map(move |media_type| (format, media_type));
        media_types.collect::<Vec<_>>()
    };
    let acceptable = || {
        let meant = formats.iter().flat_map(of_each);
        let liked = meant.filter_map(|meant| Some((liked(meant.1)?, meant)));
        liked.filter(|((weight, specific, _), (format, media_type))| {
            let is_own = format.media_types.contains(media_type);
            *weight > 0 && (is_own || *specific == NAMED)
        })
    };
    // The first of those that are equal.
    let ((weight, specific, _), meant) = acceptable().rev().max_by_key(|(key, _)| *key)?;
    let is_page = |range: &Weighted| range.name == "text/html" && range.weight > weight;
    if ranges.iter().any(is_page) && (specific != NAMED || meant.0.name == "xml") {
        let mut shown =
            acceptable().filter(|(_, (_, media_type))| *media_type == "application/json");
        return Some(shown.next().map_or(meant, |(_, json)| json));
    }
    Some(meant)
}

/// How specific a range is that is a media type.
const NAMED: usize = 2;

/// The coding that `Accept-Encoding` likes best; `None` when it accepts none.
///
/// Identity is acceptable unless it is excluded. At equal weight a named coding comes before one
/// that `*` stands for; of named ones the first of `codings`, which are best first, of others the
/// last. A format that is `compressed` by itself stays as it is wherever that is acceptable, and one that is read
/// `raw` unless the coding has a weight.
pub(super) fn coding(
    accept_encoding: Option<&str>,
    format: &Format,
    codings: &[ContentCoding],
) -> Option<ContentCoding> {
    let items = weighted(accept_encoding.unwrap_or(""));
    let named = |coding: &ContentCoding| {
        let alias = if coding.name() == "gzip" {
            "x-gzip"
        } else {
            coding.name()
        };
        let named = |name: &str| items.iter().find(|item| item.name == name);
        named(coding.name()).or_else(|| named(alias))
    };
    let liked = |coding: &ContentCoding| {
        if let Some(item) = named(coding) {
            return (item.weight, true);
        }
        // What is not excluded is acceptable as it is, though liked less than anything named.
        let otherwise = u16::from(*coding == ContentCoding::Identity);
        let all = items.iter().find(|item| item.name == "*");
        (all.map_or(otherwise, |all| all.weight), false)
    };
    let (_, best) = codings
        .iter()
        .enumerate()
        .map(|(at, coding)| {
            let (weight, named) = liked(coding);
            let place = if named { codings.len() - at } else { at };
            ((weight, named, place), coding)
        })
        .filter(|((weight, ..), _)| *weight > 0)
        .max_by_key(|(key, _)| *key)?;
    let stays = format.compressed || format.raw && !named(best).is_some_and(|item| item.weighed);
    if stays && liked(&ContentCoding::Identity).0 > 0 {
        return Some(ContentCoding::Identity);
    }
    Some(*best)
}

#[cfg(test)]
mod tests {
    use flows_formats::Registry;

    use super::{coding, format, weighted};
    use crate::stream::ContentCoding;

    fn chosen(accept: &str) -> Option<(&'static str, &'static str)> {
        let registry = Registry::load().unwrap();
        let mut formats: Vec<_> = registry.iter().collect();
        formats.sort_by_key(|format| format.name != "json");
        format(Some(accept), &formats).map(|(format, media_type)| (format.name, media_type))
    }

    #[test]
    fn accept() {
        for (accept, expected) in [
            ("*/*", ("json", "application/json")),
            ("", ("json", "application/json")),
            ("text/csv", ("csv", "text/csv")),
            ("TEXT/CSV ; charset=utf-8", ("csv", "text/csv")),
            ("text/csv, */*", ("csv", "text/csv")),
            ("*/*, text/csv", ("csv", "text/csv")),
            ("text/csv;q=0.5, */*;q=0.1", ("csv", "text/csv")),
            ("text/csv;q=0.1, */*;q=0.5", ("json", "application/json")),
            (
                "text/csv;q=0.1, text/*;q=0.5",
                ("tsv", "text/tab-separated-values"),
            ),
            ("text/xml", ("xml", "text/xml")),
            ("application/xml, text/csv", ("xml", "application/xml")),
            ("text/csv, application/xml", ("csv", "text/csv")),
            (
                "application/json;q=0, application/*",
                ("arrow", "application/vnd.apache.arrow.stream"),
            ),
            ("application/jsonl", ("ndjson", "application/jsonl")),
            ("application/csv", ("csv", "application/csv")),
            ("text/json", ("json", "text/json")),
            ("text/plain", ("csv", "text/plain")),
            ("text/*, text/csv;q=0", ("tsv", "text/tab-separated-values")),
            ("application/*", ("json", "application/json")),
            (
                "application/json, text/plain, */*",
                ("json", "application/json"),
            ),
            (
                "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",
                ("json", "application/json"),
            ),
            (
                "text/html, application/xml;q=0.9, */*;q=0.8, application/json;q=0",
                ("xml", "application/xml"),
            ),
            ("text/html, application/xml", ("xml", "application/xml")),
            (
                "text/html, application/pdf;q=0.9, */*;q=0.8",
                ("json", "application/json"),
            ),
            (
                "text/csv;note=\"a,b;q=0\";q=0.2, application/json;q=0.1",
                ("csv", "text/csv"),
            ),
            (", text/csv,", ("csv", "text/csv")),
        ] {
            assert_eq!(chosen(accept), Some(expected), "{accept:?}");
        }
        for accept in [
            "text/html",
            "*/*;q=0",
            "text/csv;q=0",
            "text/csv;q=2",
            "csv",
            ";;,",
        ] {
            assert_eq!(chosen(accept), None, "{accept:?}");
        }
    }

    #[test]
    fn accept_encoding() {
        let all = [
            ContentCoding::Zstd(1),
            ContentCoding::Gzip(1),
            ContentCoding::Identity,
        ];
        let chosen = |list, format: &str| {
            let registry = Registry::load().unwrap();
            coding(list, registry.get(format).unwrap(), &all).map(ContentCoding::name)
        };
        for (list, expected) in [
            (None, Some("identity")),
            (Some(""), Some("identity")),
            (Some("deflate, gzip, br, zstd"), Some("zstd")),
            (Some("gzip, deflate"), Some("gzip")),
            (Some("x-gzip"), Some("gzip")),
            (Some("zstd;q=0.5, gzip;q=0.8"), Some("gzip")),
            (Some("zstd;q=0.001"), Some("zstd")),
            (Some("identity, gzip;q=0.5"), Some("identity")),
            (Some("identity;q=0"), None),
            (Some("identity;q=0, gzip;q=0.1"), Some("gzip")),
            (Some("*;q=0"), None),
            (Some("*"), Some("identity")),
            (Some("gzip, *;q=0"), Some("gzip")),
            (Some("identity;q=0, *"), Some("gzip")),
            (Some("br"), Some("identity")),
        ] {
            assert_eq!(chosen(list, "json"), expected, "{list:?}");
        }
        for (list, of_arrow, of_parquet) in [
            ("gzip, deflate", "identity", "identity"),
            ("zstd;q=1.0", "zstd", "identity"),
            ("x-gzip;q=0.1", "gzip", "identity"),
            ("gzip;q=0", "identity", "identity"),
            ("identity;q=0.5, gzip", "identity", "identity"),
            ("zstd, identity;q=0", "zstd", "zstd"),
            ("identity;q=0, *", "gzip", "gzip"),
        ] {
            assert_eq!(chosen(Some(list), "arrow"), Some(of_arrow), "{list}");
            assert_eq!(chosen(Some(list), "parquet"), Some(of_parquet), "{list}");
        }
        assert_eq!(chosen(Some("identity;q=0"), "arrow"), None);
    }

    #[test]
    fn weights() {
        let weights = |list| {
            weighted(list)
                .iter()
                .map(|item| item.weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            weights("a;q=0, b;q=0.5, c; Q=1.000, d;q=0.001"),
            [0, 500, 1000, 1]
        );
        assert_eq!(
            weights("a;q=1.5, b;q=-1, c;q=0.1234, d;q=x, e;q="),
            [] as [u16; 0]
        );
    }
}
