//! The token that a server is shown: where it comes from, and where it may go.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ureq::http::{HeaderValue, Uri};

use super::PullError;

/// The variable of the environment that may hold a token.
pub const VARIABLE: &str = "FLOWS_TOKEN";

/// The most bytes of a file that are looked at for a token.
const MOST: u64 = 4096;

/// A token, as the request shows it. It is never printed.
#[derive(Clone, Debug)]
pub struct Bearer(HeaderValue);

impl Bearer {
    /// The first line of a file; and a warning, if others than the file's owner may read it.
    ///
    /// # Errors
    /// The file cannot be read, or its first line is no token.
    pub fn of_file(path: &Path) -> Result<(Bearer, Option<String>), PullError> {
        let file = path.display();
        let wrong = |reason: String| PullError::Token(format!("--token-file {file}: {reason}"));
        let read = || {
            let opened = File::open(path)?;
            let found = opened.metadata()?;
            let mut line = Vec::new();
            BufReader::new(opened.take(MOST)).read_until(b'\n', &mut line)?;
            Ok((line, found))
        };
        let (line, found) = read().map_err(|error: std::io::Error| wrong(error.to_string()))?;
        let bearer =
            Bearer::of(&line).map_err(|reason| wrong(format!("its first line {reason}")))?;
        let mode = found.permissions().mode() & 0o777;
        let is_open = found.is_file() && mode & 0o077 != 0;
        let warning = format!(
            "{file} can be read by others than its owner (its mode is {mode:o}); `chmod 600 {file}` keeps the token \
             in it from them"
        );
        Ok((bearer, is_open.then_some(warning)))
    }

    /// The token in the environment, if there is one.
    ///
    /// # Errors
    /// What is there is no token.
    pub fn of_environment() -> Result<Option<Bearer>, PullError> {
        let token = env::var_os(VARIABLE);
        let bearer = token.map(|token| Bearer::of(token.as_encoded_bytes()));
        let wrong = |reason| PullError::Token(format!("{VARIABLE} in the environment {reason}"));
        bearer.transpose().map_err(wrong)
    }

    fn of(token: &[u8]) -> Result<Bearer, &'static str> {
        let token = token.trim_ascii();
        if token.is_empty() {
            return Err("is empty");
        }
        // Characters that are seen, and no space.
        let value = token.iter().all(u8::is_ascii_graphic);
        let value = value.then(|| HeaderValue::from_bytes(&[b"Bearer ", token].concat()));
        let Some(Ok(mut value)) = value else {
            return Err("has characters that no token has");
        };
        value.set_sensitive(true);
        Ok(Bearer(value))
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

/// Whether what is sent to a URL is encrypted, or stays on this machine.
pub(super) fn is_private(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let address = host.parse::<IpAddr>();
    url.scheme_str() == Some("https")
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_servers_only() {
        let bearer = Bearer::of(b" secret\r\n").unwrap();
        assert_eq!(bearer.header(), "Bearer secret");
        assert!(!format!("{bearer:?}").contains("secret"));
        for wrong in [&b""[..], b" \r\n", b"two words", b"\xff", b"a\0b"] {
            let Err(reason) = Bearer::of(wrong) else {
                panic!("{wrong:?} is a token");
            };
            assert!(!reason.contains("two"));
        }
    }

    #[test]
    fn a_token_goes_where_nobody_reads_it() {
        for private in [
            "https://example.com/x",
            "http://localhost:5000/x",
            "http://127.0.0.1:5000/x",
            "http://127.9.9.9/x",
            "http://[::1]:5000/x",
            "http://[::ffff:127.0.0.1]/x",
        ] {
            assert!(is_private(private), "{private}");
        }
        for public in [
            "http://example.com/x",
            "http://127.0.0.1.example.com/x",
            "http://localhost.example.com/x",
            "http://127.0.0.1@example.com/x",
            "http://10.0.0.1/x",
            "http://[2001:db8::1]/x",
            "http://0.0.0.0:5000/x",
            "nothing",
        ] {
            assert!(!is_private(public), "{public}");
        }
    }
}
