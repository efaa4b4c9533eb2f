//! Which columns are a table's time and id.

use flows_formats::Type;

use super::names::is_secret;
use crate::store::description::{Column, Table, is_named_like_a_time, words};
use crate::store::quoted;

/// The time and the id.
pub(super) struct Choice {
    pub(super) time: String,
    /// Why it is that one.
    pub(super) why_time: String,
    pub(super) id: String,
    pub(super) why_id: String,
}

/// Chooses them; or says why there are none, and what would help.
pub(super) fn choose(table: &Table) -> Result<Choice, String> {
    if let Some(why) = &table.unfit {
        return Err(why.clone());
    }
    let (time, why_time) = time(table)?;
    let (id, why_id) = id(table, &time)?;
    Ok(Choice {
        time,
        why_time,
        id,
        why_id,
    })
}

fn time(table: &Table) -> Result<(String, String), String> {
    let marked = table.columns.iter().filter_map(|column| {
        let (marks, why) = marks(table, column)?;
        Some((marks, column, why))
    });
    let mut marked: Vec<_> = marked.collect();
    // The first of those that are equal.
    marked.sort_by_key(|(marks, ..)| -marks);
    if let Some((_, column, why)) = marked.first() {
        return Ok((column.name.clone(), why.join(", ")));
    }
    let reasons = table.columns.iter().filter_map(|column| {
        let Column { name, nulls, found, .. } = column;
        if let Some(why) = &found.no_time {
            return Some(format!("{name}: {why}"));
        }
        let is_null = is_time(column) && *nulls > 0;
        is_null.then(|| {
            format!(
                "{name}: {nulls} of {} sampled values are null; with \
                 `query = 'SELECT * FROM {} WHERE {} IS NOT NULL'` in the place of `table`, a stream has the others",
                table.sampled,
                quoted(&table.name),
                quoted(name)
            )
        })
    });
    let reasons: Vec<_> = reasons.collect();
    Err(if reasons.is_empty() {
        "no column seems to hold the time of a record; a column of times that is filled from now on, and an \
         index on it and the id, would help"
            .to_owned()
    } else {
        format!("it has no time that can serve; {}", reasons.join("; "))
    })
}

/// Whether a column's values are times, or numbers that are called so.
fn is_time(column: &Column) -> bool {
    match column.found.kind {
        Type::Timestamp(_) | Type::Date => true,
        Type::Integer => is_named_like_a_time(&column.name) && column.found.no_time.is_none(),
        _ => false,
    }
}

/// How much says that a column is the record's time, and what; `None` if it cannot be.
fn marks(table: &Table, column: &Column) -> Option<(i32, Vec<String>)> {
    if !is_time(column) || column.nulls > 0 || is_secret(&column.name) || column.name.is_empty() {
        return None;
    }
    let (mut marks, mut why) = (0, Vec::new());
    let mut mark = |by: i32, is: bool, reason: &str| {
        if is {
            marks += by;
            why.push(reason.to_owned());
        }
    };
    let words = words(&column.name);
    let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    let declared = column.declared.to_ascii_uppercase();
    let is_instant = matches!(column.found.kind, Type::Timestamp(_));
    mark(6, is_instant, "its values are times");
    let says = declared.contains("TIME");
    mark(3, says, &format!("declared {}", column.declared));
    mark(
        5,
        table.indexed.contains(&column.name),
        "an index begins with it",
    );
    let is_plain = ["time", "timestamp", "ts", "datetime", "at", "date", "when"]
        .contains(&words.concat().as_str());
    mark(4, is_plain, "named so");
    let is_birth = has(&[
        "created", "inserted", "received", "logged", "recorded", "occurred", "observed",
        "measured", "added", "joined", "event",
    ]);
    mark(3, is_birth, "named like the time at which a record is made");
    mark(2, column.not_null, "never null");
    mark(2, column.grows, "in the sample it grows as the table does");
    let is_later = has(&[
        "updated", "modified", "changed", "expires", "expire", "expiry", "deleted", "ended", "end",
        "until", "finished", "last", "due", "birth", "birthday",
    ]);
    if is_later {
        marks -= 6;
    }
    if why.is_empty() {
        why.push("it is the only one".to_owned());
    }
    Some((marks, why))
}

fn id(table: &Table, time: &str) -> Result<(String, String), String> {
    let column = |name: &str| table.columns.iter().find(|column| column.name == name);
    let can_be = |name: &&String| {
        *name != time
            && !is_secret(name)
            && !name.is_empty()
            && column(name).is_some_and(|column| {
                matches!(column.found.kind, Type::Integer | Type::Text) && column.ids
            })
    };
    let alone = |kind: Type| {
        let single = table.unique.iter().filter(|set| set.len() == 1).flatten();
        single.into_iter().find(|name| {
            can_be(name)
                && column(name).is_some_and(|column| column.distinct && column.found.kind == kind)
        })
    };
    if let Some(name) = alone(Type::Integer) {
        return Ok((name.clone(), "an integer that is unique".to_owned()));
    }
    // The rest of a key that begins or ends with the time.
    let beside = table.unique.iter().filter(|set| set.len() == 2);
    let mut beside = beside
        .filter(|set| set.iter().any(|name| name == time))
        .flatten();
    if let Some(name) = beside.find(can_be) {
        let why = "together with the time it is unique".to_owned();
        return Ok((name.clone(), why));
    }
    if let Some(name) = alone(Type::Text) {
        return Ok((name.clone(), "a string that is unique".to_owned()));
    }
    if let Some(number) = table.number {
        let why =
            "no other column is an integer or a string that is unique, and no secret".to_owned();
        return Ok((number.to_owned(), why));
    }
    // A view says nothing of what is unique.
    let named = table.columns.iter().find(|column| {
        let is_named = ["id", "uuid", "rowid", "pk", "ulid"]
            .contains(&column.name.to_ascii_lowercase().as_str());
        table.view && is_named && column.distinct && can_be(&&column.name)
    });
    if let Some(column) = named {
        let why = format!(
            "named so, and {0} of {0} sampled values differ",
            table.sampled
        );
        return Ok((column.name.clone(), why));
    }
    Err(if table.view {
        "no column is called id and has integers or strings that differ; a view that selects one AS id can \
         be streamed"
    } else {
        "no column is an integer or a string that is unique, and the table is WITHOUT ROWID; a view that makes \
         one of its key, `SELECT a || ':' || b AS id, …`, can be streamed"
    }
    .to_owned())
}
