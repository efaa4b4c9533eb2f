//! `Authorization` (RFC 6750) → a token. What is sent there is never repeated, be it no token at all.

use warp::http::HeaderMap;
use warp::http::header::AUTHORIZATION;

/// The longest token that is looked at; ours have 49 bytes.
const MOST: usize = 512;

/// The token that a request shows, if it shows one; or what is wrong with what it shows.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("there is more than one Authorization header; send one, Bearer TOKEN");
    }
    let Ok(value) = value.to_str() else {
        return Err("Authorization has characters that no token has; it must be Bearer TOKEN");
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("Authorization has another scheme; it must be Bearer TOKEN");
    }
    if token.is_empty() {
        return Err("Authorization has no token after Bearer; it must be Bearer TOKEN");
    }
    if token.len() > MOST {
        return Err("the token is longer than any that may read here");
    }
    Ok(Some(token))
}
