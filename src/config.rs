//! File, environment and flags, made into one typed [`Config`].
//!
//! | file | what it holds |
//! |---|---|
//! | `config/layers.rs` | the sources, one upon the other |
//! | `config/values.rs` | values that must lie within bounds, or look like something |
//! | `config/url.rs` | the URL of a PostgreSQL database |
//! | `config/databases.rs` | which databases there are, and which streams are in each |
//! | `config/streams.rs` | what a stream must be besides |
//! | `config/columns.rs` | what its columns must be |
//! | `config/auth.rs` | who may read: tokens, and what needs none |
//!
//! `config/flows.toml` holds every key at its default and is compiled in.

mod auth;
mod columns;
mod databases;
mod layers;
mod streams;
mod url;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flows_formats::Registry;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use tracing::level_filters::LevelFilter;

use crate::definition::Stream;
use crate::log::{self, FORMATS, LEVELS};
pub use auth::{Auth, EXPIRY, Expiry, TOKEN_NAME, Token, is_token_name};
pub use streams::is_name as is_stream_name;
pub(crate) use streams::is_parameter;
pub use url::{Host, PostgresUrl, Trust, is_url as is_postgres};
pub use values::is_address;
use values::{
    address, many_seconds, millis, named, networks, no_address, origins, path, seconds, whole,
};

/// The text of `config/flows.toml`: every key, commented, at its default.
pub const DEFAULTS: &str = include_str!("../config/flows.toml");

/// Where the configuration is looked for when no file is named, from the working directory.
pub const DEFAULT_FILE: &str = "config/flows.toml";

/// What an address to listen on looks like.
pub const ADDRESS: &str =
    "an address or a name and a port, such as 127.0.0.1:5000, [::1]:5000 or localhost:5000";

/// The complete configuration. Each field is explained in `config/flows.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[database]`
    pub database: Database,
    /// `[databases.NAME]`
    pub databases: Vec<Database>,
    /// `[log]`
    pub log: Log,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[compression]`
    pub compression: Compression,
    /// `[auth]`
    pub auth: Auth,
    /// `[[streams]]`, at least one, with distinct names.
    pub streams: Vec<Arc<Stream>>,
}

/// How the server listens and stops.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Server {
    /// `server.listen`, an [`is_address`]; port 0 takes a free one.
    #[serde(deserialize_with = "address")]
    pub listen: String,
    /// `server.connections`: how many clients may be connected at once.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub connections: usize,
    /// `server.connections_per_address`: how many of them may come from one address.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub connections_per_address: usize,
    /// `server.head_bytes`: the size of the head of a request.
    #[serde(deserialize_with = "whole::<_, _, 8192, 1_048_576>")]
    pub head_bytes: usize,
    /// `server.url_bytes`: the length of a URL.
    #[serde(deserialize_with = "whole::<_, _, 256, 65_534>")]
    pub url_bytes: usize,
    /// `server.parameter_bytes`: the size of what a request's filters compare with.
    #[serde(deserialize_with = "whole::<_, _, 256, 16_777_216>")]
    pub parameter_bytes: usize,
    /// `server.streams`: how many streams may run at once, over all databases.
    #[serde(deserialize_with = "whole::<_, _, 1, 65_536>")]
    pub streams: usize,
    /// `server.records`: how many records a request may ask for; 0 is any number.
    #[serde(deserialize_with = "whole::<_, _, 0, { i64::MAX }>")]
    pub records: u64,
    /// `server.idle_seconds`: how long a connection may be without a request.
    #[serde(rename = "idle_seconds", deserialize_with = "seconds::<_, 1>")]
    pub idle: Duration,
    /// `server.insecure`: whether everybody may read who can reach an address that is not a loopback one.
    pub insecure: bool,
    /// `server.cors_origins`: whose pages may read replies; `*` is every one.
    #[serde(deserialize_with = "origins")]
    pub cors_origins: Vec<String>,
    /// `server.head_seconds`: the time a client may take to send the head of a request.
    #[serde(rename = "head_seconds", deserialize_with = "seconds::<_, 1>")]
    pub head: Duration,
    /// `server.stall_seconds`: how long a client may take nothing of its reply before it is cut off.
    #[serde(rename = "stall_seconds", deserialize_with = "seconds::<_, 1>")]
    pub stall: Duration,
    /// `server.stream_seconds`: how long a reply may take in all.
    #[serde(rename = "stream_seconds", deserialize_with = "many_seconds")]
    pub stream: Duration,
    /// `server.shutdown_seconds`: the time running streams get to finish when the server stops.
    #[serde(rename = "shutdown_seconds", deserialize_with = "seconds::<_, 0>")]
    pub shutdown: Duration,
    /// `server.proxies`: who is believed about the address of the client that it speaks for.
    #[serde(deserialize_with = "networks")]
    pub proxies: Vec<IpNet>,
    /// `[server.tls]`: with it `https` is spoken, and nothing else.
    pub tls: Option<Tls>,
}

/// What the server proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Tls {
    /// `server.tls.cert`: the server's certificate, and those between it and one that clients trust; PEM.
    #[serde(deserialize_with = "path")]
    pub cert: PathBuf,
    /// `server.tls.key`: the private key of the server's certificate; PEM.
    #[serde(deserialize_with = "path")]
    pub key: PathBuf,
}

/// What the log says, and how.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Log {
    /// `log.level`, one of [`LEVELS`].
    #[serde(deserialize_with = "level")]
    pub level: LevelFilter,
    /// `log.format`, one of [`FORMATS`].
    #[serde(deserialize_with = "format")]
    pub format: log::Format,
}

/// Where the server can be watched.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Metrics {
    /// `metrics.listen`, an [`is_address`]; none is where streams are.
    #[serde(deserialize_with = "no_address")]
    pub listen: Option<String>,
}

fn level<'de, D: Deserializer<'de>>(value: D) -> Result<LevelFilter, D::Error> {
    named(value, &LEVELS)
}

fn format<'de, D: Deserializer<'de>>(value: D) -> Result<log::Format, D::Error> {
    named(value, &FORMATS)
}

/// The SQLite file, or the PostgreSQL server, and the pool of connections to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Database {
    /// The NAME of `[databases.NAME]`; none is `[database]`.
    #[serde(skip)]
    pub name: Option<String>,
    /// `database.path`: the SQLite file, where there is no URL.
    #[serde(deserialize_with = "path")]
    pub path: PathBuf,
    /// `database.url`: the PostgreSQL database, in the place of the file.
    #[serde(deserialize_with = "url::no_url")]
    pub url: Option<PostgresUrl>,
    /// `database.pool_size`: connections, and so streams at once.
    #[serde(deserialize_with = "whole::<_, _, 1, 1024>")]
    pub pool_size: u32,
    /// `database.wait_ms`: how long a request waits for a connection.
    #[serde(rename = "wait_ms", deserialize_with = "millis")]
    pub wait: Duration,
    /// `database.busy_ms`: how long a connection waits for a lock.
    #[serde(rename = "busy_ms", deserialize_with = "millis")]
    pub busy: Duration,
    /// `database.cache_kib`: the page cache of one connection, in KiB.
    #[serde(deserialize_with = "whole::<_, _, 64, 1_048_576>")]
    pub cache_kib: u32,
    /// `database.mmap_mib`: how much of the file one connection maps, in MiB; 0 maps nothing.
    #[serde(deserialize_with = "whole::<_, _, 0, 1_048_576>")]
    pub mmap_mib: u32,
    /// `database.page_reader`: whether tables are read straight from their pages where they can be.
    pub page_reader: bool,
    /// `database.immutable`: whether nobody changes the file while it is served.
    pub immutable: bool,
    /// `database.connect_seconds`: how long a server may take to let a connection in.
    #[serde(rename = "connect_seconds", deserialize_with = "seconds::<_, 1>")]
    pub connect: Duration,
    /// `database.silence_seconds`: how long a server may say nothing while it is asked.
    #[serde(rename = "silence_seconds", deserialize_with = "seconds::<_, 1>")]
    pub silence: Duration,
    /// `database.statement_seconds`: how long a server may work for one statement, a stream among them.
    #[serde(rename = "statement_seconds", deserialize_with = "many_seconds")]
    pub statement: Duration,
    /// `database.idle_transaction_seconds`: how long a server keeps a snapshot of which nothing is asked.
    #[serde(
        rename = "idle_transaction_seconds",
        deserialize_with = "seconds::<_, 1>"
    )]
    pub idle_transaction: Duration,
    /// `database.keepalive_seconds`: how long a connection is silent before TCP looks whether its other end lives.
    #[serde(rename = "keepalive_seconds", deserialize_with = "seconds::<_, 1>")]
    pub keepalive: Duration,
}

/// How replies are compressed for clients that accept it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Compression {
    /// `compression.zstd_level`: from -7, which is fastest, to 19, which is smallest.
    #[serde(deserialize_with = "whole::<_, _, -7, 19>")]
    pub zstd_level: i32,
    /// `compression.gzip_level`: from 1, which is fastest, to 9, which is smallest.
    #[serde(deserialize_with = "whole::<_, _, 1, 9>")]
    pub gzip_level: u32,
}

/// What is wrong with the configuration: the key, where it stands, and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {reason}; --config names another file")]
    Unreadable {
        /// The file's path.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{file}: {reason}")]
    Syntax {
        /// The file's path.
        file: String,
        /// What the parser said, on one line.
        reason: String,
    },
    /// A key that means nothing.
    #[error("unknown key {key} in {origin}; {}allowed here: {}", suggestion.as_ref().map(|s| format!("did you mean {s}? ")).unwrap_or_default(), allowed.join(", "))]
    UnknownKey {
        /// The key, with its path.
        key: String,
        /// The file, or the environment.
        origin: String,
        /// The nearest valid key.
        suggestion: Option<String>,
        /// Every key that may stand there.
        allowed: Vec<String>,
    },
    /// A value that is missing, of the wrong type or impossible.
    #[error("{key} in {origin}: {reason}")]
    Value {
        /// The key, with its path.
        key: String,
        /// The file, or the environment's variable.
        origin: String,
        /// What stands there, and what may.
        reason: String,
    },
}

impl Config {
    /// The defaults, overridden by the file if there is one, overridden by the environment.
    ///
    /// # Errors
    /// The first key that is unknown, of the wrong type or impossible.
    pub fn load(file: Option<&Path>, formats: &Registry) -> Result<Config, ConfigError> {
        // The environment has no streams.
        Config::checked(layers::read(file)?, layers::name(file), formats)
    }

    /// The defaults, overridden by a file of this text, whatever the environment says.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, formats: &Registry) -> Result<Config, ConfigError> {
        let origin = "the text";
        let (_, settings) = layers::laid(Some(text), origin)?;
        Config::checked(settings, origin.to_owned(), formats)
    }

    fn checked(
        settings: layers::Settings,
        origin: String,
        formats: &Registry,
    ) -> Result<Config, ConfigError> {
        let layers::Settings {
            server,
            database,
            databases,
            log,
            metrics,
            compression,
            auth,
            streams,
        } = settings;
        let value = |(key, reason)| ConfigError::Value {
            key,
            origin,
            reason,
        };
        let checked = || {
            let databases = databases::checked(databases)?;
            let names = databases.iter().filter_map(|known| known.name.as_deref());
            let names: Vec<_> = names.collect();
            let streams = streams::checked(streams, &names, formats)?;
            let auth = auth::checked(auth, &streams)?;
            Ok((databases, streams, auth))
        };
        let (databases, streams, auth) = checked().map_err(value)?;
        Ok(Config {
            server,
            database,
            databases,
            log,
            metrics,
            compression,
            auth,
            streams,
        })
    }

    /// The stream of that name.
    pub fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}

/// The path of a file, also to SQLite, which takes `file:…` for a URI and `:memory:` for none.
///
/// ```
/// use flows::config::plain;
/// assert_eq!(plain("file:a.db".into()), std::path::Path::new("./file:a.db"));
/// assert_eq!(plain("a.db".into()), std::path::Path::new("a.db"));
/// ```
pub fn plain(path: PathBuf) -> PathBuf {
    let start = path.as_os_str().as_encoded_bytes();
    if start.starts_with(b"file:") || start.starts_with(b":") {
        return Path::new(".").join(path);
    }
    path
}
