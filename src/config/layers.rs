//! The sources of the configuration, each measured against the defaults before they are merged.

use std::path::Path;

use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::{ConfigError, DEFAULTS};
use crate::suggest::nearest;

const ENVIRONMENT: &str = "the environment";

/// The defaults, the file and the environment, one upon the other.
pub(super) struct Layers {
    merged: Config,
    file: Option<String>,
}

impl Layers {
    /// Reads all sources. Every key must be one that the defaults have, with a value of the type
    /// that it has there.
    pub(super) fn read(file: Option<&Path>) -> Result<Layers, ConfigError> {
        // Parsing a string that is compiled in and tested.
        let mut defaults = parse(DEFAULTS, "the defaults")?;
        let mut builder = Config::builder();
        let name = file.map(|file| file.display().to_string());
        let mut written = None;
        if let (Some(file), Some(name)) = (file, &name) {
            let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
                file: name.clone(),
                reason: error.to_string(),
            })?;
            let layer = parse(&text, name)?;
            verify(&layer.cache, &defaults.cache, "", name, false)?;
            if let (ValueKind::Table(defaults), Some(_)) =
                (&mut defaults.cache.kind, child(&layer.cache, "streams"))
            {
                // A list would be merged element by element; a file's streams replace all.
                defaults.remove("streams");
            }
            written = Some(layer);
        }
        let environment = Environment::with_prefix("FLOWS")
            .prefix_separator("__")
            .separator("__");
        let environment = Config::builder()
            .add_source(environment)
            .build()
            .map_err(|error| syntax(ENVIRONMENT, error))?;
        verify(
            &environment.cache,
            &parse(DEFAULTS, "the defaults")?.cache,
            "",
            ENVIRONMENT,
            true,
        )?;

        builder = builder.add_source(defaults);
        if let Some(written) = written {
            builder = builder.add_source(written);
        }
        let merged = builder.add_source(environment).build();
        let merged = merged.map_err(|error| syntax("the configuration", error))?;
        Ok(Layers { merged, file: name })
    }

    /// What all layers say together.
    pub(super) fn merged<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let origin = self.file.as_deref().unwrap_or("the configuration");
        self.merged
            .clone()
            .try_deserialize()
            .map_err(|error| syntax(origin, error))
    }

    /// Where the value of a key stands: the file, the environment, or the defaults.
    pub(super) fn origin(&self, key: &str) -> String {
        let mut value = Some(&self.merged.cache);
        for part in key.split('.') {
            // Lists come from one source as a whole.
            let part = part.split('[').next().unwrap_or(part);
            value = match value {
                Some(Value {
                    kind: ValueKind::Array(_),
                    ..
                }) => break,
                Some(value) => child(value, part),
                None => break,
            };
        }
        let from_environment = value.and_then(Value::origin) == Some(ENVIRONMENT);
        match &self.file {
            _ if from_environment => ENVIRONMENT.to_owned(),
            Some(file) => file.clone(),
            None => "the defaults".to_owned(),
        }
    }
}

fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    let source = File::from_str(text, FileFormat::Toml);
    Config::builder()
        .add_source(source)
        .build()
        .map_err(|error| syntax(origin, error))
}

fn syntax(origin: &str, error: config::ConfigError) -> ConfigError {
    // A parser's message spans lines; ours are one line each.
    let text = error.to_string();
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    ConfigError::Syntax {
        origin: origin.to_owned(),
        reason: lines.join(" "),
    }
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

/// A key as it is written in its source.
fn written(path: &str, untyped: bool) -> String {
    if untyped {
        format!("FLOWS__{}", path.to_uppercase().replace('.', "__"))
    } else {
        path.to_owned()
    }
}

/// Refuses a key that the defaults lack and a value of another type than theirs. What comes from
/// the environment is a string, which may be a number's.
fn verify(
    value: &Value,
    default: &Value,
    path: &str,
    origin: &str,
    untyped: bool,
) -> Result<(), ConfigError> {
    use ValueKind::{Array, Boolean, I64, String, Table};
    match (&value.kind, &default.kind) {
        (Table(values), Table(defaults)) => {
            for (key, value) in values {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let Some(default) = defaults.get(key) else {
                    let mut allowed: Vec<_> = defaults.keys().cloned().collect();
                    allowed.sort();
                    return Err(ConfigError::UnknownKey {
                        suggestion: nearest(key, &allowed).map(str::to_owned),
                        key: written(&path, untyped),
                        origin: origin.to_owned(),
                        allowed,
                    });
                };
                verify(value, default, &path, origin, untyped)?;
            }
            Ok(())
        }
        (Array(values), Array(defaults)) => {
            // Every list of the defaults has an element.
            let default = &defaults[0];
            for (i, value) in values.iter().enumerate() {
                let path = format!("{path}[{i}]");
                complete(value, default, &path, origin)?;
                verify(value, default, &path, origin, untyped)?;
            }
            Ok(())
        }
        (String(_), String(_)) | (I64(_), I64(_)) | (Boolean(_), Boolean(_)) => Ok(()),
        (String(text), I64(_)) if untyped && text.parse::<i64>().is_ok() => Ok(()),
        (String(text), Boolean(_)) if untyped && text.parse::<bool>().is_ok() => Ok(()),
        (found, expected) => Err(ConfigError::Value {
            key: written(path, untyped),
            origin: origin.to_owned(),
            found: format!("{} ({value})", kind(found)),
            allowed: kind(expected).to_owned(),
        }),
    }
}

/// The keys of a list's element that may be left out: their defaults are not those of the element.
const OPTIONAL: [&str; 3] = ["default_format", "filters", "nullable"];

/// Refuses an element of a list that lacks a key.
fn complete(value: &Value, default: &Value, path: &str, origin: &str) -> Result<(), ConfigError> {
    let ValueKind::Table(defaults) = &default.kind else {
        return Ok(());
    };
    let missing = defaults
        .iter()
        .find(|(key, _)| !OPTIONAL.contains(&key.as_str()) && child(value, key).is_none());
    match missing {
        Some((key, default)) => Err(ConfigError::Value {
            key: format!("{path}.{key}"),
            origin: origin.to_owned(),
            found: "missing".to_owned(),
            allowed: kind(&default.kind).to_owned(),
        }),
        None => Ok(()),
    }
}

fn kind(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::Float(_) => "a number with a point",
        ValueKind::String(_) => "a string",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
        _ => "a whole number",
    }
}
