//! Which databases there are, and which streams are in each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layers::variable;
use super::streams::{Wrong, is_name, wrong};
use super::{Config, Database, is_postgres, plain};
use crate::definition::Stream;

/// The sections `[databases.NAME]`, each with its name.
pub(super) fn checked(sections: BTreeMap<String, Database>) -> Result<Vec<Database>, Wrong> {
    let mut databases: Vec<Database> = Vec::new();
    for (name, settings) in sections {
        let key = format!("databases.{name}");
        if !is_name(&name) {
            let allowed = "letters, digits, '_' and '-'";
            return wrong(key, format!("the name {name:?}"), allowed);
        }
        let same = |other: &&str| variable(other) == variable(&name);
        let mut names = databases.iter().filter_map(|known| known.name.as_deref());
        if let Some(other) = names.find(same) {
            let found = format!("the environment cannot tell it from databases.{other}");
            return wrong(key, found, "another name");
        }
        databases.push(Database {
            name: Some(name),
            ..settings
        });
    }
    Ok(databases)
}

impl Config {
    /// The databases that have a stream, each with its streams.
    pub fn served(&self) -> Vec<(&Database, Vec<Arc<Stream>>)> {
        let all = std::iter::once(&self.database).chain(&self.databases);
        let with_streams = all.map(|database| {
            let is_in = |stream: &&Arc<Stream>| stream.database == database.name;
            let streams = self.streams.iter().filter(is_in).cloned().collect();
            (database, streams)
        });
        with_streams
            .filter(|(_, streams): &(_, Vec<_>)| !streams.is_empty())
            .collect()
    }

    /// Takes over what only a restart can change: where the server listens, what a line of the log is, and the
    /// databases that are `open`.
    /// Says of which keys that was another value.
    pub fn keep<'a>(
        &mut self,
        running: &Config,
        open: impl IntoIterator<Item = &'a Database>,
    ) -> Vec<String> {
        let mut kept = Vec::new();
        if self.server.listen != running.server.listen {
            self.server.listen.clone_from(&running.server.listen);
            kept.push("server.listen".to_owned());
        }
        if self.metrics.listen != running.metrics.listen {
            self.metrics.listen.clone_from(&running.metrics.listen);
            kept.push("metrics.listen".to_owned());
        }
        if self.log.format != running.log.format {
            self.log.format = running.log.format;
            kept.push("log.format".to_owned());
        }
        for open in open {
            let mut all = std::iter::once(&mut self.database).chain(&mut self.databases);
            let Some(database) = all.find(|database| database.name == open.name) else {
                continue;
            };
            if database != open {
                database.clone_from(open);
                kept.push(match &open.name {
                    None => "[database]".to_owned(),
                    Some(name) => format!("[databases.{name}]"),
                });
            }
        }
        kept
    }

    /// The database that a stream is in.
    pub fn database_of(&self, stream: &Stream) -> &Database {
        let mut named = self.databases.iter();
        let named = named.find(|database| database.name == stream.database);
        // A stream's database is there: that was checked.
        named.unwrap_or(&self.database)
    }
}

impl Database {
    /// What is read, without a password: the path of a file, or a URL.
    pub fn place(&self) -> String {
        match &self.url {
            None => self.path.display().to_string(),
            Some(url) => url.to_string(),
        }
    }

    /// Reads this in the place of what it read: the path of a file, or a URL.
    ///
    /// # Errors
    /// What a URL must look like.
    pub fn replace(&mut self, place: &str) -> Result<(), String> {
        if is_postgres(place) {
            self.url = Some(place.parse()?);
        } else {
            (self.path, self.url) = (plain(place.into()), None);
        }
        Ok(())
    }

    /// Where the configuration names the file.
    pub(crate) fn path_key(&self) -> String {
        match &self.name {
            None if self.url.is_some() => "--database or database.url".to_owned(),
            None => "--database or database.path".to_owned(),
            Some(_) => self.key(if self.url.is_some() { "url" } else { "path" }),
        }
    }

    /// The key of that name in its section.
    pub(crate) fn key(&self, key: &str) -> String {
        match &self.name {
            None => format!("database.{key}"),
            Some(name) => format!("databases.{name}.{key}"),
        }
    }
}
