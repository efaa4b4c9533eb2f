//! The sections of a configuration, with what was guessed in comments.

use std::fmt::Write;

use flows_formats::Type;
use flows_formats::time::Unit;

use super::choose::Choice;
use super::names::{Names, is_secret};
use crate::definition::declaration;
use crate::store::description::{Column, Table};
use crate::store::quoted;

/// The longest line of a comment, where words allow.
const WIDTH: usize = 100;

/// The section of a table's stream, with these warnings.
pub(super) fn section(
    table: &Table,
    choice: &Choice,
    name: &str,
    names: &Names<'_>,
    warnings: &[&str],
) -> String {
    let mut text = "\n".to_owned();
    for warning in warnings {
        text.push_str(&comment(warning));
    }
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("[[streams]]");
    line(&format!("name = {}", string(name)));
    let sent = |name: &str| names.of_column(name, table);
    match query(table, choice, &sent) {
        None => line(&format!("table = {}", string(&table.name))),
        Some(query) => {
            let why =
                "a query, since a column of the table is called as a parameter of requests is";
            line(&format!("# {why}"));
            line(&format!("query = {}", string(&query)));
        }
    }
    for (key, column, why) in [
        ("time", &choice.time, &choice.why_time),
        ("id", &choice.id, &choice.why_id),
    ] {
        let value = if is_listed(table, column) {
            string(&sent(column))
        } else {
            format!("{{ name = {}, type = \"integer\" }}", string(column))
        };
        line(comment(&format!("guessed: {why}")).trim_end());
        line(&format!("{key} = {value}"));
    }
    if table.sampled == 0 {
        line(
            "# guessed: there is no record to see, so that only the declared types say what these are",
        );
    }
    line("columns = [");
    for column in &table.columns {
        let is_position = [&choice.time, &choice.id].contains(&&column.name);
        let nullable = if column.not_null || is_position {
            ""
        } else {
            ", nullable = true"
        };
        let keys = keys(column, column.name == choice.time);
        let name = string(&sent(&column.name));
        let declared = format!("{{ name = {name}, {keys}{nullable} }},");
        if let Some(why) = hidden(column) {
            // Nor is a word said of its values.
            line(&format!("    # {declared} # {why}"));
            continue;
        }
        let guessed = column.found.guessed.iter();
        let mut notes: Vec<_> = guessed
            .filter(|_| table.sampled > 0)
            .map(|why| format!("guessed: {why}"))
            .collect();
        if is_position && !column.not_null {
            notes.push("not declared NOT NULL: a null breaks the stream".to_owned());
        }
        notes.extend(column.found.no_time.clone());
        for note in notes {
            for note in comment(&note).lines() {
                line(&format!("    {note}"));
            }
        }
        line(&format!("    {declared}"));
    }
    line("]");
    text
}

/// Whether a column is one of the table's own, and not the number that the database gives a record.
fn is_listed(table: &Table, column: &str) -> bool {
    table.columns.iter().any(|known| known.name == column)
}

/// The query that gives each column the name that it is sent by, if one has another.
fn query(table: &Table, choice: &Choice, sent: &impl Fn(&str) -> String) -> Option<String> {
    let columns = table.columns.iter();
    let shown = columns.filter(|column| hidden(column).is_none());
    let shown: Vec<_> = shown.map(|column| column.name.as_str()).collect();
    shown.iter().find(|name| sent(name) != **name)?;
    let number = Some(choice.id.as_str()).filter(|id| !is_listed(table, id));
    let selected = |name: &str| match (quoted(name), quoted(&sent(name))) {
        (name, sent) if name == sent => name,
        (name, sent) => format!("{name} AS {sent}"),
    };
    let selected: Vec<_> = number.into_iter().chain(shown).map(selected).collect();
    let table = quoted(&table.name);
    Some(format!("SELECT {} FROM {table}", selected.join(", ")))
}

/// Why a column is not sent, if it is not.
fn hidden(column: &Column) -> Option<&'static str> {
    if is_secret(&column.name) {
        Some("looks like a secret")
    } else if column.name.is_empty() {
        Some("it has no name")
    } else {
        None
    }
}

/// The keys that say what a column is. As a record's time, a date is the midnight that it begins with.
fn keys(column: &Column, is_time: bool) -> String {
    match column.found.kind {
        Type::Date if is_time => declaration(Type::Timestamp(Unit::Second), column.found.stored),
        kind => declaration(kind, column.found.stored),
    }
}

/// A TOML string.
pub(super) fn string(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Text that TOML allows in comments: no control characters but the tab.
fn printable(text: &str) -> String {
    let printable = |c: char| {
        if c.is_control() && c != '\t' {
            '\u{FFFD}'
        } else {
            c
        }
    };
    text.chars().map(printable).collect()
}

/// Lines, each of them a comment.
pub(super) fn commented_out(text: &str) -> String {
    let line = |line: &str| format!("# {}\n", printable(line));
    text.trim_start().lines().map(line).collect()
}

/// A comment, of lines that are not too long.
pub(super) fn comment(text: &str) -> String {
    let mut comment = String::new();
    for line in text.lines() {
        if line.is_empty() {
            comment.push('\n');
            continue;
        }
        let mut length = 0;
        // What is to be run stays on one line.
        let mut quoted = false;
        let words = line.split(|c| {
            quoted ^= c == '`';
            c == ' ' && !quoted
        });
        for word in words {
            if length > 0 && length + word.len() < WIDTH {
                comment.push(' ');
            } else {
                comment.push_str(if length > 0 { "\n# " } else { "# " });
                length = 1;
            }
            length += word.len() + 1;
            comment.push_str(&printable(word));
        }
        comment.push('\n');
    }
    comment
}
