//! The sources of the configuration, one upon the other: defaults, file, environment.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use config::{Config, File, FileFormat};
use serde::Deserialize;
use serde_json::Value;

use super::auth::RawAuth;
use super::streams::RawStream;
use super::{Compression, ConfigError, DEFAULTS, Database, Log, Metrics, Server};
use crate::suggest::nearest;

const ENVIRONMENT: &str = "the environment";

/// Every key, with its value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) server: Server,
    pub(super) database: Database,
    #[serde(default)]
    pub(super) databases: BTreeMap<String, Database>,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    pub(super) compression: Compression,
    pub(super) auth: RawAuth,
    pub(super) streams: Vec<RawStream>,
}

/// Reads all sources. Each is checked after it was laid upon those before it, which were right, so
/// that what is wrong then is its own.
pub(super) fn read(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let origin = name(file);
    let text = file.map(std::fs::read_to_string).transpose();
    let text = text.map_err(|error| ConfigError::Unreadable {
        file: origin.clone(),
        reason: error.to_string(),
    })?;
    let (mut values, mut settings) = laid(text.as_deref(), &origin)?;
    for (variable, text) in env::vars_os() {
        let Some(variable) = variable.to_str().filter(|name| is_ours(name)) else {
            continue;
        };
        let value = value_of(variable, &mut values)?;
        let text = text.to_str().ok_or_else(|| ConfigError::Value {
            key: variable.to_owned(),
            origin: ENVIRONMENT.to_owned(),
            reason: format!("{text:?} is not UTF-8"),
        })?;
        *value = typed(text, value);
        settings = checked(&values, variable)?;
    }
    Ok(settings)
}

/// The defaults, and a file's text upon them.
pub(super) fn laid(text: Option<&str>, origin: &str) -> Result<(Value, Settings), ConfigError> {
    let merged = |texts: &[&str]| {
        let mut sources = Config::builder();
        for text in texts {
            sources = sources.add_source(File::from_str(text, FileFormat::Toml));
        }
        // Into JSON, which keeps types apart: `config` would make a number of a string by itself.
        let merged = sources.build().and_then(Config::try_deserialize);
        merged.map_err(|error| syntax(origin, &error))
    };
    let defaults: Value = merged(&[DEFAULTS])?;
    let mut values = match text {
        Some(text) => merged(&[DEFAULTS, text])?,
        None => defaults.clone(),
    };
    complete_databases(&mut values, &defaults);
    let settings = checked(&values, origin)?;
    Ok((values, settings))
}

/// Gives each section `[databases.NAME]` the defaults of `[database]`, but for the file's path, unless it has a URL.
fn complete_databases(values: &mut Value, defaults: &Value) {
    let sections = values.get_mut("databases").and_then(Value::as_object_mut);
    for (_, section) in sections.into_iter().flatten() {
        let defaults = defaults.get("database").and_then(Value::as_object);
        let (Some(section), Some(defaults)) = (section.as_object_mut(), defaults) else {
            continue;
        };
        let has_url = section.get("url").is_some_and(|url| url != "");
        for (key, value) in defaults.iter().filter(|(key, _)| has_url || *key != "path") {
            section.entry(key).or_insert_with(|| value.clone());
        }
    }
}

/// What errors call the file, if there is one.
pub(super) fn name(file: Option<&Path>) -> String {
    let name = file.map(|file| file.display().to_string());
    name.unwrap_or_else(|| "the defaults".to_owned())
}

fn syntax(file: &str, error: &config::ConfigError) -> ConfigError {
    // A parser's message spans lines; ours are one line each.
    let text = error.to_string();
    let words: Vec<_> = text.split_whitespace().collect();
    ConfigError::Syntax {
        file: file.to_owned(),
        reason: words.join(" "),
    }
}

/// What the values mean, or what is wrong with the source that came last.
fn checked(values: &Value, origin: &str) -> Result<Settings, ConfigError> {
    serde_path_to_error::deserialize(values).map_err(|error| {
        let (key, reason) = (error.path().to_string(), error.inner().to_string());
        if reason.starts_with("unknown field") {
            // "unknown field `this`, expected one of `that`, `another`"
            let mut names = reason.split('`').skip(1).step_by(2).map(str::to_owned);
            let unknown = names.next().unwrap_or_default();
            return self::unknown(key, &unknown, origin, names.collect());
        }
        let origin = origin.to_owned();
        ConfigError::Value {
            key,
            origin,
            reason,
        }
    })
}

fn unknown(key: String, name: &str, origin: &str, allowed: Vec<String>) -> ConfigError {
    ConfigError::UnknownKey {
        key,
        origin: origin.to_owned(),
        suggestion: nearest(name, &allowed).map(str::to_owned),
        allowed,
    }
}

/// Whether a variable of the environment is meant for us.
fn is_ours(name: &str) -> bool {
    // Kubernetes tells all containers where a service is: one called `flows` in these.
    let is_link = env::var_os("FLOWS_SERVICE_HOST").is_some()
        && (name.starts_with("FLOWS_SERVICE_") || name.starts_with("FLOWS_PORT"));
    // That one is for `flows pull`, but may be there for all.
    name.starts_with("FLOWS_") && !is_link && name != crate::pull::VARIABLE
}

/// The name of the variable that replaces a key's value. No shell takes a hyphen in one.
pub(super) fn variable(key: &str) -> String {
    let name = key.replace('.', "__").replace('-', "_");
    format!("FLOWS__{}", name.to_uppercase())
}

/// The value that a variable replaces.
fn value_of<'a>(variable: &str, values: &'a mut Value) -> Result<&'a mut Value, ConfigError> {
    let sections = values.as_object_mut().into_iter().flatten();
    let keys = sections.flat_map(|(section, keys)| {
        let keys = keys.as_object_mut().into_iter().flatten();
        keys.flat_map(move |(key, value)| {
            let name = format!("{section}.{key}");
            match value {
                // A section [databases.NAME].
                Value::Object(keys) => {
                    let named = |(key, value)| (self::variable(&format!("{name}.{key}")), value);
                    keys.iter_mut().map(named).collect()
                }
                // Sections [[auth.tokens]].
                Value::Array(values) if values.iter().any(Value::is_object) => Vec::new(),
                value => vec![(self::variable(&name), value)],
            }
        })
    });
    let mut names = Vec::new();
    for (name, value) in keys {
        if name == variable {
            return Ok(value);
        }
        names.push(name);
    }
    Err(unknown(variable.to_owned(), variable, ENVIRONMENT, names))
}

/// A variable's text, as a value of the type of the one that it replaces if it can be one.
fn typed(text: &str, value: &Value) -> Value {
    let typed = match value {
        Value::Number(_) => text.parse::<i64>().ok().map(Value::from),
        Value::Bool(_) => text.parse::<bool>().ok().map(Value::from),
        // With commas between them.
        Value::Array(_) => Some(text.split(',').filter(|name| !name.is_empty()).collect()),
        _ => None,
    };
    typed.unwrap_or_else(|| text.into())
}
