//! Names: which ones a stream may have, which ones columns may be sent by, and which ones are of secrets.

use std::collections::HashSet;

use flows_formats::Registry;

use crate::config::is_parameter;
use crate::store::description::{Table, words};

/// The names that were given.
pub(super) struct Names<'a> {
    formats: &'a Registry,
    streams: HashSet<String>,
}

impl Names<'_> {
    pub(super) fn new(formats: &Registry) -> Names<'_> {
        Names {
            formats,
            streams: HashSet::new(),
        }
    }

    /// A name for the stream of a table, which no other has.
    pub(super) fn of_stream(&mut self, table: &str) -> String {
        let in_url = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut name: String = table
            .chars()
            .map(|c| if in_url(c) { c } else { '_' })
            .collect();
        if name.chars().all(|c| c == '_') {
            name = "table".to_owned();
        }
        if self.is_parameter(&name) {
            name.push_str("_table");
        }
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        // Some number is free.
        let name = names.find(|name| !self.streams.contains(name));
        let name = name.unwrap_or_default();
        self.streams.insert(name.clone());
        name
    }

    /// The name by which a column of a table is sent: another one, where a parameter of requests is called
    /// so.
    pub(super) fn of_column(&self, name: &str, table: &Table) -> String {
        let mut sent = name.to_owned();
        let is_taken = |sent: &str| {
            let others = table.columns.iter().filter(|column| column.name != name);
            others
                .map(|column| &column.name)
                .any(|other| other.eq_ignore_ascii_case(sent))
        };
        while self.is_parameter(&sent) || (sent != name && is_taken(&sent)) {
            sent.push('_');
        }
        sent
    }

    fn is_parameter(&self, name: &str) -> bool {
        is_parameter(name, self.formats)
    }
}

/// Whether a column seems to hold what is nobody's business.
pub(super) fn is_secret(column: &str) -> bool {
    const ANYWHERE: [&str; 16] = [
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "secret",
        "token",
        "apikey",
        "privatekey",
        "sessionkey",
        "sessiondata",
        "sessionid",
        "credential",
        "cardnumber",
        "creditcard",
        "hash",
        "encrypted",
    ];
    const WORDS: [&str; 11] = [
        "salt", "ssn", "pwd", "pass", "pin", "otp", "cvv", "cvc", "iban", "cookie", "privkey",
    ];
    let words = words(column);
    let together = words.concat();
    ANYWHERE.iter().any(|secret| together.contains(secret))
        || words.iter().any(|word| WORDS.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use flows_formats::Registry;

    use super::{Names, is_secret};

    #[test]
    fn stream_names_are_allowed_and_differ() {
        let formats = Registry::load().unwrap();
        let mut names = Names::new(&formats);
        for (table, name) in [
            ("app_log", "app_log"),
            ("app log", "app_log_2"),
            ("app/log", "app_log_3"),
            ("app_log_2", "app_log_2_2"),
            ("日本", "table"),
            ("", "table_2"),
            ("limit", "limit_table"),
        ] {
            assert_eq!(names.of_stream(table), name);
        }
    }

    #[test]
    fn secrets() {
        for name in [
            "password",
            "passwordHash",
            "API_KEY",
            "auth-token",
            "salt",
            "SSN",
            "private_key",
            "session_key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["passenger", "key", "salted_caramel", "spin", "compass"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
