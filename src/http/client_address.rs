//! Whose request it is: the peer's, or the client's that a configured proxy speaks for.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use warp::http::HeaderMap;
use warp::http::header::{FORWARDED, HeaderName};

/// The address of the client. What is malformed, or told in two ways, is not believed: then it is the peer's.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_of(proxies, peer) {
        return peer;
    }
    let forwarded = list(headers, &FORWARDED);
    let for_ = list(headers, &X_FORWARDED_FOR);
    let forwarded = forwarded.map(|list| last(elements(&list?)?.map(of_element), proxies));
    let for_ = for_.map(|list| last(list?.rsplit(',').map(node), proxies));
    let told = match (forwarded, for_) {
        // A proxy that sets one of them may let through what a client makes up in the other.
        (Some(one), Some(other)) if one != other => None,
        (Some(told), _) | (None, Some(told)) => told,
        (None, None) => None,
    };
    told.unwrap_or(peer)
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The last one that is not a proxy's; all are proxies': the first. `None` when one on the way is no address.
fn last(nodes: impl Iterator<Item = Option<IpAddr>>, proxies: &[IpNet]) -> Option<IpAddr> {
    let mut first = None;
    for node in nodes {
        let node = node?;
        if !is_of(proxies, node) {
            return Some(node);
        }
        first = Some(node);
    }
    first
}

pub(super) fn is_of(proxies: &[IpNet], address: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.contains(&address))
}

/// All lines of a header as one list (RFC 9110 section 5.3), if there are any; what is not ASCII is none.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<Option<String>> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().ok()).collect();
    let list = || Some(lines.iter().copied().collect::<Option<Vec<_>>>()?.join(","));
    (!lines.is_empty()).then(list)
}

/// The elements of `Forwarded`, the last one first; `None` when a quote has no end.
fn elements(list: &str) -> Option<impl Iterator<Item = &str>> {
    Some(split(list, b',')?.into_iter().rev())
}

/// Splits where no quotes are.
fn split(text: &str, at: u8) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted) = (Vec::new(), 0, false);
    let mut bytes = text.bytes().enumerate();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(bytes.next()),
            byte if byte == at && !quoted => {
                parts.push(&text[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// The address in an element, `for=192.0.2.60;proto=http` (RFC 7239 section 4).
fn of_element(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split(element, b';')? {
        let (name, value) = pair.split_once('=')?;
        if name.trim_ascii_start().eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?.trim_ascii_end();
    let quoted = value.strip_prefix('"').map(|value| value.strip_suffix('"'));
    node(quoted.unwrap_or(Some(value))?)
}

/// A node: an address, perhaps with a port. Others, `unknown` and `_hidden`, are no addresses.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_ascii();
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    Some(address.or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let proxies = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
        client(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn a_proxy_is_believed_about_the_last_address_that_is_not_a_proxys() {
        for (value, client) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:80\";proto=http;by=10.0.0.1", "192.0.2.1"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("proto=https;for=\"[2001:DB8::1]:4711\"", "2001:db8::1"),
            ("for=\"[::ffff:192.0.2.1]\"", "192.0.2.1"),
            ("for=6.6.6.6, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ("garbage, for=192.0.2.1", "192.0.2.1"),
            ("for=\"a,b\\\"\", for=192.0.2.1", "192.0.2.1"),
            ("for=10.0.0.3, for=10.0.0.2", "10.0.0.3"),
            // Malformed, or no address.
            ("for=\", for=192.0.2.1", "127.0.0.1"),
            ("for=unknown", "127.0.0.1"),
            ("for=_hidden, for=10.0.0.2", "127.0.0.1"),
            ("for=192.0.2.1;for=192.0.2.2", "127.0.0.1"),
            ("for=192.0.2.1;", "127.0.0.1"),
            ("for=192.0.2", "127.0.0.1"),
            ("for=192.0.2.1:99999", "127.0.0.1"),
            ("192.0.2.1", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(of("127.0.0.1", &[("forwarded", value)]), client, "{value}");
            assert_eq!(of("::ffff:127.0.0.1", &[("forwarded", value)]), client);
            // Who is no proxy is not believed.
            assert_eq!(of("192.0.2.9", &[("forwarded", value)]), "192.0.2.9");
        }
        for (value, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("garbage, 6.6.6.6 ,192.0.2.1 , 10.1.1.1", "192.0.2.1"),
            ("2001:db8::1, fd00::7", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("192.0.2.1, unknown", "127.0.0.1"),
            ("192.0.2.1,", "127.0.0.1"),
            ("192.0.2.1\u{e9}", "127.0.0.1"),
        ] {
            let lines = [("x-forwarded-for", value)];
            assert_eq!(of("127.0.0.1", &lines), client, "{value}");
        }
        let line = |value| ("x-forwarded-for", value);
        assert_eq!(
            of("10.9.9.9", &[line("6.6.6.6"), line("192.0.2.1")]),
            "192.0.2.1"
        );
        let both = |one| [("forwarded", one), line("192.0.2.1")];
        assert_eq!(of("127.0.0.1", &both("for=192.0.2.1")), "192.0.2.1");
        assert_eq!(of("127.0.0.1", &both("for=6.6.6.6")), "127.0.0.1");
    }
}
