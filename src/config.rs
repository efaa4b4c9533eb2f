//! File, environment and flags, made into one typed [`Config`].
//!
//! `config/flows.toml` holds every key at its default and is compiled in; what a file or the
//! environment may say is measured against it (`layers.rs`).

mod layers;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flows_formats::{Column, Format, Registry, Schema, Type};
use serde::Deserialize;

use crate::definition::Stream;
use crate::selection::PARAMETERS;
use layers::Layers;

/// The text of `config/flows.toml`: every key, commented, at its default.
pub const DEFAULTS: &str = include_str!("../config/flows.toml");

/// Where the configuration is looked for when no file is named, from the working directory.
pub const DEFAULT_FILE: &str = "config/flows.toml";

/// The format of streams whose configuration names none.
const DEFAULT_FORMAT: &str = "json";

/// What an address to listen on looks like.
pub const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:5000 or [::1]:5000";

/// The whole configuration. Each field is explained in `config/flows.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[database]`
    pub database: Database,
    /// `[compression]`
    pub compression: Compression,
    /// `[[streams]]`, at least one, with distinct names.
    pub streams: Vec<Arc<Stream>>,
}

/// How the server listens and stops.
#[derive(Clone, Debug)]
pub struct Server {
    /// `server.listen`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `server.head_seconds`: the time a client may take to send the head of a request.
    pub head: Duration,
    /// `server.stall_seconds`: how long a client may take nothing of its reply before it is cut off.
    pub stall: Duration,
    /// `server.shutdown_seconds`: the time running streams get to finish when the server stops.
    pub shutdown: Duration,
}

/// The SQLite file and the pool of connections to it.
#[derive(Clone, Debug)]
pub struct Database {
    /// `database.path`
    pub path: PathBuf,
    /// `database.pool_size`: connections, and so streams at once.
    pub pool_size: u32,
    /// `database.wait_ms`: how long a request waits for a connection.
    pub wait: Duration,
    /// `database.busy_ms`: how long a connection waits for a lock.
    pub busy: Duration,
    /// `database.cache_kib`: the page cache of one connection, in KiB.
    pub cache_kib: u32,
    /// `database.mmap_mib`: how much of the file one connection maps, in MiB; 0 maps nothing.
    pub mmap_mib: u32,
    /// `database.page_reader`: whether clustered tables are read straight from their pages.
    pub page_reader: bool,
}

/// How replies are compressed for clients that accept it.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    /// `compression.zstd_level`: from -7, which is fastest, to 19, which is smallest.
    pub zstd_level: i32,
    /// `compression.gzip_level`: from 1, which is fastest, to 9, which is smallest.
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
    /// The file is not TOML, or a required key is missing.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The file, or the environment.
        origin: String,
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
    /// A value that is of the wrong type or impossible.
    #[error("{key} in {origin} is {found}; it must be {allowed}")]
    Value {
        /// The key, with its path.
        key: String,
        /// The file, or the environment.
        origin: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: String,
    },
}

/// The configuration as it is raw; [`Config`] is what it means.
#[derive(Deserialize)]
struct Raw {
    server: RawServer,
    database: RawDatabase,
    compression: RawCompression,
    streams: Vec<RawStream>,
}

#[derive(Deserialize)]
struct RawServer {
    listen: String,
    head_seconds: i64,
    stall_seconds: i64,
    shutdown_seconds: i64,
}

#[derive(Deserialize)]
struct RawDatabase {
    path: String,
    pool_size: i64,
    wait_ms: i64,
    busy_ms: i64,
    cache_kib: i64,
    mmap_mib: i64,
    page_reader: bool,
}

#[derive(Deserialize)]
struct RawCompression {
    zstd_level: i64,
    gzip_level: i64,
}

#[derive(Deserialize)]
struct RawStream {
    name: String,
    table: String,
    time: String,
    id: String,
    #[serde(default)]
    filters: Option<bool>,
    #[serde(default)]
    default_format: Option<String>,
    columns: Vec<RawColumn>,
}

#[derive(Deserialize)]
struct RawColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    nullable: bool,
}

impl Config {
    /// The defaults, overridden by the file if there is one, overridden by the environment.
    ///
    /// # Errors
    /// The first key that is unknown, of the wrong type or impossible.
    pub fn load(file: Option<&Path>, formats: &Registry) -> Result<Config, ConfigError> {
        let layers = Layers::read(file)?;
        let raw: Raw = layers.merged()?;
        let check = Check {
            layers: &layers,
            formats,
        };
        let server = Server {
            listen: check.address("server.listen", &raw.server.listen)?,
            head: check.seconds("server.head_seconds", raw.server.head_seconds, 1)?,
            stall: check.seconds("server.stall_seconds", raw.server.stall_seconds, 1)?,
            shutdown: check.seconds("server.shutdown_seconds", raw.server.shutdown_seconds, 0)?,
        };
        let database = raw.database;
        if database.path.is_empty() {
            return Err(check.value("database.path", "empty", "the path of an SQLite file"));
        }
        let kib = check.number("database.cache_kib", database.cache_kib, 64, 1 << 20)?;
        let mib = check.number("database.mmap_mib", database.mmap_mib, 0, 1 << 20)?;
        let database = Database {
            path: plain(database.path.into()),
            pool_size: check.number("database.pool_size", database.pool_size, 1, 1024)?,
            wait: check.millis("database.wait_ms", database.wait_ms)?,
            busy: check.millis("database.busy_ms", database.busy_ms)?,
            cache_kib: kib,
            mmap_mib: mib,
            page_reader: database.page_reader,
        };
        let compression = Compression {
            zstd_level: check.level(
                "compression.zstd_level",
                raw.compression.zstd_level,
                -7..=19,
            )?,
            gzip_level: check.number("compression.gzip_level", raw.compression.gzip_level, 1, 9)?,
        };
        let streams = check.streams(raw.streams)?;
        Ok(Config {
            server,
            database,
            compression,
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

/// Checks values and says where a wrong one stands.
struct Check<'a> {
    layers: &'a Layers,
    formats: &'a Registry,
}

impl Check<'_> {
    fn value(
        &self,
        key: &str,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            origin: self.layers.origin(key),
            found: found.into(),
            allowed: allowed.into(),
        }
    }

    fn number(&self, key: &str, value: i64, least: u32, most: u32) -> Result<u32, ConfigError> {
        u32::try_from(value)
            .ok()
            .filter(|value| (least..=most).contains(value))
            .ok_or_else(|| self.value(key, value.to_string(), format!("{least} to {most}")))
    }

    fn level(
        &self,
        key: &str,
        value: i64,
        levels: RangeInclusive<i32>,
    ) -> Result<i32, ConfigError> {
        let (least, most) = (levels.start(), levels.end());
        i32::try_from(value)
            .ok()
            .filter(|value| levels.contains(value))
            .ok_or_else(|| self.value(key, value.to_string(), format!("{least} to {most}")))
    }

    fn seconds(&self, key: &str, value: i64, least: u32) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(
            self.number(key, value, least, 3600)?.into(),
        ))
    }

    fn millis(&self, key: &str, value: i64) -> Result<Duration, ConfigError> {
        Ok(Duration::from_millis(
            self.number(key, value, 0, 60_000)?.into(),
        ))
    }

    fn address(&self, key: &str, value: &str) -> Result<SocketAddr, ConfigError> {
        value
            .parse()
            .map_err(|_| self.value(key, format!("{value:?}"), ADDRESS))
    }

    fn streams(&self, raw: Vec<RawStream>) -> Result<Vec<Arc<Stream>>, ConfigError> {
        if raw.is_empty() {
            return Err(self.value("streams", "empty", "at least one section [[streams]]"));
        }
        let mut streams: Vec<Arc<Stream>> = Vec::new();
        for (i, raw) in raw.into_iter().enumerate() {
            let key = format!("streams[{i}]");
            let stream = self.stream(&key, raw)?;
            if streams.iter().any(|other| other.name == stream.name) {
                let found = format!("{:?}, which another stream is called", stream.name);
                return Err(self.value(&format!("{key}.name"), found, "a name of its own"));
            }
            streams.push(Arc::new(stream));
        }
        Ok(streams)
    }

    fn stream(&self, key: &str, raw: RawStream) -> Result<Stream, ConfigError> {
        let RawStream {
            name,
            table,
            time,
            id,
            filters,
            default_format,
            columns,
        } = raw;
        let at = |field: &str| format!("{key}.{field}");
        let in_url = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(in_url) {
            let allowed = "letters, digits, '_' and '-', at least one";
            return Err(self.value(&at("name"), format!("{name:?}"), allowed));
        }
        self.not_a_parameter(&at("name"), &name)?;
        for (field, value) in [("table", &table), ("time", &time), ("id", &id)] {
            if value.is_empty() || value.contains('\0') {
                return Err(self.value(&at(field), format!("{value:?}"), "a name"));
            }
        }
        if time == id {
            let found = format!("{id:?}, which is the time column");
            return Err(self.value(&at("id"), found, "another column"));
        }
        let default_format = default_format.unwrap_or_else(|| DEFAULT_FORMAT.to_owned());
        if self.formats.get(&default_format).is_none() {
            let names: Vec<_> = self.formats.iter().map(|format| format.name).collect();
            let allowed = format!("one of {}", names.join(", "));
            let found = format!("{default_format:?}");
            return Err(self.value(&at("default_format"), found, allowed));
        }
        if columns.is_empty() {
            return Err(self.value(&at("columns"), "empty", "at least one column"));
        }
        let mut schema = Schema {
            name: name.clone(),
            columns: Vec::with_capacity(columns.len()),
        };
        for (i, raw) in columns.into_iter().enumerate() {
            let key = at(&format!("columns[{i}]"));
            let column = self.column(&key, raw, &schema.columns)?;
            if column.name == time || column.name == id {
                if column.kind != Type::Integer {
                    let allowed = "\"integer\", since it is the time or id column";
                    let found = format!("{:?}", column.kind.name());
                    return Err(self.value(&format!("{key}.type"), found, allowed));
                }
                if column.nullable {
                    let allowed = "false, since it is the time or id column";
                    return Err(self.value(&format!("{key}.nullable"), "true", allowed));
                }
            }
            schema.columns.push(column);
        }
        Ok(Stream {
            name,
            table,
            time,
            id,
            filters: filters.unwrap_or(true),
            default_format,
            schema,
        })
    }

    fn column(&self, key: &str, raw: RawColumn, before: &[Column]) -> Result<Column, ConfigError> {
        let RawColumn {
            name,
            kind,
            nullable,
        } = raw;
        let name_key = format!("{key}.name");
        if name.is_empty() || name.contains('\0') {
            return Err(self.value(&name_key, format!("{name:?}"), "a column's name"));
        }
        if before.iter().any(|other| other.name == name) {
            let found = format!("{name:?}, which is listed already");
            return Err(self.value(&name_key, found, "listed once"));
        }
        self.not_a_parameter(&name_key, &name)?;
        let Some(kind) = Type::ALL.into_iter().find(|known| known.name() == kind) else {
            let allowed = Type::ALL.map(Type::name).join(", ");
            let allowed = format!("one of {allowed}");
            return Err(self.value(&format!("{key}.type"), format!("{kind:?}"), allowed));
        };
        Ok(Column {
            name,
            kind,
            nullable,
        })
    }

    fn not_a_parameter(&self, key: &str, name: &str) -> Result<(), ConfigError> {
        let option = |format: &Format| {
            let option = name.strip_prefix(format.name)?.strip_prefix('.')?;
            format.options.iter().find(|known| known.name == option)
        };
        if !PARAMETERS.contains(&name)
            && !self.formats.iter().any(|format| option(format).is_some())
        {
            return Ok(());
        }
        let found = format!("{name:?}, which is a parameter of the request");
        let allowed = format!(
            "none of {} (a view, `CREATE VIEW … AS SELECT …`, can call a column otherwise)",
            PARAMETERS.join(", ")
        );
        Err(self.value(key, found, allowed))
    }
}
