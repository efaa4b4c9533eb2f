//! The URL of a PostgreSQL database: what is connected to, and what may be said of it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// What a URL must look like.
const EXPECTED: &str = "a URL such as postgres://USER@HOST:5432/DATABASE, or \
                        postgres://USER@/DATABASE?host=/run/postgresql for a socket";

/// The URL of a PostgreSQL database. Written out, it has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// The servers that are tried, in order; one at least.
    pub hosts: Vec<Host>,
    /// Who connects, if the URL says so.
    pub user: Option<String>,
    /// Their password, if the URL has it.
    pub password: Option<String>,
    /// The database's name; that of the user, if the URL has none.
    pub database: Option<String>,
    /// What the server calls the connections in its own views.
    pub application: String,
    /// Command-line options for the server, such as `-csearch_path=app`.
    pub options: Option<String>,
    /// How the server proves who it is, if connections are encrypted.
    pub trust: Option<Trust>,
    /// The file of passwords in the place of the usual one.
    pub password_file: Option<PathBuf>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name or address; the folder of its socket, if it begins with a slash.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl Host {
    /// Whether it is reached by a socket in a folder.
    pub fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// Whether what is sent to it does not leave this machine.
    fn is_near(&self) -> bool {
        let is_loopback = |ip: IpAddr| ip.is_loopback();
        self.is_socket() || self.name == "localhost" || self.name.parse().is_ok_and(is_loopback)
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those in this file (PEM).
    File(PathBuf),
}

impl FromStr for PostgresUrl {
    type Err = String;

    /// libpq's form of a URL, of which `sslmode`, `sslrootcert` and `passfile` mean what they say there, but that a
    /// connection is either not encrypted, or to a server whose certificate and name are verified.
    fn from_str(text: &str) -> Result<PostgresUrl, String> {
        // No message cites what was given: a password may be in any part.
        let wrong = |what: &str| format!("{what}; it must be {EXPECTED}");
        let rest = text.strip_prefix("postgres://");
        let rest = rest
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or_else(|| format!("it must be {EXPECTED}"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, servers) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        let decoded = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            let decoded = decoded.map(|text| text.into_owned());
            decoded.map_err(|_| wrong("a part of it is not UTF-8"))
        };
        let given = |text: &str| -> Result<Option<String>, String> {
            let text = decoded(text)?;
            Ok((!text.is_empty()).then_some(text))
        };
        let mut url = PostgresUrl {
            hosts: Vec::new(),
            user: given(user)?,
            password: password.map(given).transpose()?.flatten(),
            database: given(database)?,
            application: "flows".to_owned(),
            options: None,
            trust: None,
            password_file: None,
        };
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for server in servers.split(',').filter(|server| !server.is_empty()) {
            let after = server.rfind(']').unwrap_or(0);
            let (name, port) = match server[after..].find(':') {
                Some(at) => (&server[..after + at], &server[after + at + 1..]),
                None => (server, ""),
            };
            names.push(decoded(name.trim_matches(['[', ']']))?);
            ports.push(port.to_owned());
        }
        let (mut mode, mut root) = (None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            let list = || value.split(',').map(str::to_owned).collect();
            match &*key {
                "host" => names = list(),
                "port" => ports = list(),
                "user" => url.user = Some(value),
                "password" => url.password = Some(value),
                "dbname" => url.database = Some(value),
                "application_name" => url.application = value,
                "options" => url.options = Some(value),
                "sslmode" => mode = Some(value),
                "sslrootcert" => root = Some(PathBuf::from(value)),
                "passfile" => url.password_file = Some(PathBuf::from(value)),
                _ => {
                    return Err(
                        "it has a parameter that is not known; known are host, port, user, password, dbname, \
                         application_name, options, sslmode, sslrootcert and passfile"
                            .to_owned(),
                    );
                }
            }
        }
        for (at, name) in names.into_iter().enumerate() {
            let port = match ports.get(at).or(ports.first()).map_or("", String::as_str) {
                "" => 5432,
                port => port.parse().map_err(|_| wrong("its port is not one"))?,
            };
            url.hosts.push(Host { name, port });
        }
        if url.hosts.is_empty() {
            return Err(wrong("it names no host"));
        }
        let encrypted = match mode.as_deref() {
            Some("disable") => false,
            Some("require" | "verify-full") => true,
            None => root.is_some() || !url.hosts.iter().all(Host::is_near),
            Some("allow" | "prefer" | "verify-ca") => {
                return Err(
                    "its sslmode would take any server for the right one; it must be verify-full (certificate \
                     and name are verified; sslrootcert=FILE names whom to trust), or disable"
                        .to_owned(),
                );
            }
            Some(_) => return Err("its sslmode must be verify-full, or disable".to_owned()),
        };
        url.trust = encrypted.then(|| root.map_or(Trust::System, Trust::File));
        Ok(url)
    }
}

/// Whether a text is meant for the URL of a PostgreSQL database.
///
/// ```
/// use flows::config::is_postgres;
/// assert!(is_postgres("postgres://db/flows") && is_postgres("postgresql://db"));
/// assert!(!is_postgres("flows.db"));
/// ```
pub fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        let named = self.hosts.iter().filter(|host| !host.is_socket());
        for (at, Host { name, port }) in named.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match name.contains(':') {
                true => write!(f, "{comma}[{name}]:{port}")?,
                false => write!(f, "{comma}{name}:{port}")?,
            }
        }
        if let Some(name) = &self.database {
            write!(f, "/{name}")?;
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(Host { name, port }) = self.hosts.iter().find(|host| host.is_socket()) {
            query
                .append_pair("host", name)
                .append_pair("port", &port.to_string());
        }
        match &self.trust {
            Some(Trust::File(file)) => {
                query.append_pair("sslrootcert", &file.to_string_lossy());
            }
            Some(Trust::System) if self.hosts.iter().all(Host::is_near) => {
                query.append_pair("sslmode", "verify-full");
            }
            None if !self.hosts.iter().all(Host::is_near) => {
                query.append_pair("sslmode", "disable");
            }
            _ => {}
        }
        let options = self.options.iter();
        query.extend_pairs(options.map(|options| ("options", options)));
        // A folder is read as it is.
        let query = query.finish().replace("%2F", "/");
        match query.as_str() {
            "" => Ok(()),
            query => write!(f, "?{query}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A URL, or an empty string.
pub(super) fn no_url<'de, D: Deserializer<'de>>(value: D) -> Result<Option<PostgresUrl>, D::Error> {
    let text = String::deserialize(value)
        .map_err(|_| D::Error::custom(format_args!("it must be {EXPECTED}")))?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::{PostgresUrl, Trust};

    #[test]
    fn a_url_is_written_without_its_password() {
        for (url, written) in [
            (
                "postgres://me:secret@db.example:6000/flows",
                "postgres://me@db.example:6000/flows",
            ),
            (
                "postgresql://me@localhost/flows?password=secret",
                "postgres://me@localhost:5432/flows",
            ),
            (
                "postgres://me:secret@/flows?host=/run/pg&port=6000",
                "postgres://me@/flows?host=/run/pg&port=6000",
            ),
            (
                "postgres://m%40e:s%3Aecret@[::1]:1,b/flows",
                "postgres://m@e@[::1]:1,b:5432/flows",
            ),
        ] {
            let url: PostgresUrl = url.parse().unwrap();
            assert_eq!(url.to_string(), written);
            assert!(!format!("{url:?}").contains("secret"));
            assert!(
                url.password
                    .is_some_and(|password| password.ends_with("ecret"))
            );
        }
    }

    #[test]
    fn what_is_far_is_encrypted_and_verified() {
        let trust = |url: &str| url.parse::<PostgresUrl>().map(|url| url.trust);
        assert_eq!(trust("postgres://127.0.0.1/flows"), Ok(None));
        assert_eq!(trust("postgres://db/flows"), Ok(Some(Trust::System)));
        assert_eq!(trust("postgres://db/flows?sslmode=disable"), Ok(None));
        let file = Trust::File("ca.pem".into());
        let verified = "postgres://db/flows?sslmode=verify-full&sslrootcert=ca.pem";
        assert_eq!(trust(verified), Ok(Some(file)));
        let prefers = trust("postgres://db/flows?sslmode=prefer").unwrap_err();
        assert!(prefers.contains("verify-full"));
        for wrong in [
            "postgres://me:secret@db:x/flows",
            "postgres://me:secret@/x?y=secret",
        ] {
            assert!(!trust(wrong).unwrap_err().contains("secret"));
        }
    }
}
