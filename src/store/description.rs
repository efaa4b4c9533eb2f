//! What a database holds that nobody has described: its tables, with what is known of their columns from
//! the schema and from a sample. In the terms of streams, not of one database.

use flows_formats::Type;

use crate::definition::Stored;

/// A table or a view.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Whether it is a view.
    pub view: bool,
    /// Why it cannot be streamed, if that is certain.
    pub unfit: Option<String>,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Sets of columns of which no two records have the same values; the primary key first.
    pub unique: Vec<Vec<String>>,
    /// The first column of each index.
    pub indexed: Vec<String>,
    /// The name of the number that the database itself gives every record, if it does.
    pub number: Option<&'static str>,
    /// How many records were looked at.
    pub sampled: usize,
}

impl Table {
    /// One that cannot be streamed, and why.
    pub(super) fn unfit(name: &str, view: bool, why: String) -> Table {
        Table {
            name: name.to_owned(),
            view,
            unfit: Some(why),
            columns: Vec::new(),
            unique: Vec::new(),
            indexed: Vec::new(),
            number: None,
            sampled: 0,
        }
    }
}

/// A column of one.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type that the schema declares, in the database's own words; may be empty.
    pub declared: String,
    /// Whether nulls cannot occur, and do not.
    pub not_null: bool,
    /// How many of the sampled values are null.
    pub nulls: usize,
    /// Whether the sampled values can be ids: they are all there, and such as positions can carry.
    pub ids: bool,
    /// Whether no two sampled values are the same.
    pub distinct: bool,
    /// Whether the sampled values never decrease, in the order in which the table has its records.
    pub grows: bool,
    /// What its values are.
    pub found: Found,
}

/// What a column's values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The type to declare.
    pub kind: Type,
    /// How the database holds them.
    pub stored: Stored,
    /// What says so, where the schema alone does not.
    pub guessed: Option<String>,
    /// Why values that seem to be times are not declared as such, and what would help.
    pub no_time: Option<String>,
}

/// The words of a name, in lower case: `createdAt` and `created_at` have two.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_numeric();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a name is one that people give to times.
///
/// ```
/// use flows::store::description::is_named_like_a_time;
/// assert!(["ts", "createdAt", "start_time", "date_joined"].into_iter().all(is_named_like_a_time));
/// assert!(!["format", "runtimes", "state"].into_iter().any(is_named_like_a_time));
/// ```
pub fn is_named_like_a_time(name: &str) -> bool {
    const TIMES: [&str; 30] = [
        "time",
        "times",
        "timestamp",
        "ts",
        "tstamp",
        "date",
        "datetime",
        "at",
        "when",
        "epoch",
        "created",
        "updated",
        "modified",
        "changed",
        "inserted",
        "added",
        "logged",
        "recorded",
        "received",
        "occurred",
        "observed",
        "measured",
        "seen",
        "joined",
        "started",
        "ended",
        "finished",
        "expires",
        "since",
        "until",
    ];
    const ENDS: [&str; 4] = ["time", "timestamp", "date", "utc"];
    let is_time = |word: &String| {
        // "starttime" and "eventdate" have no words to tell apart.
        let ends = |end: &str| word.ends_with(end) && word.len() > end.len();
        TIMES.contains(&word.as_str()) || (word != "runtime" && ENDS.into_iter().any(ends))
    };
    words(name).iter().any(is_time)
}
