//! `flows init`: a configuration for a database that nobody has described.
//!
//! | file | what it does |
//! |---|---|
//! | `init/choose.rs` | which columns are a table's time and id |
//! | `init/names.rs` | names that streams and columns may have, and those of secrets |
//! | `init/write.rs` | the sections, with what was guessed in comments |

mod choose;
mod names;
mod write;

use flows_formats::Registry;

use crate::config::{Config, Database};
use crate::store::description::Table;
use crate::store::sqlite::{Sqlite, describe};
use crate::store::{Finding, Store};
use choose::choose;
use names::Names;
use write::{comment, commented_out, section, string};

/// A configuration.
#[derive(Debug)]
pub struct Written {
    /// Its text, in TOML.
    pub text: String,
    /// How many streams it has.
    pub streams: usize,
}

/// Writes the configuration that serves what there is in a database. Each of its streams has passed the
/// checks of `flows check`.
///
/// # Errors
/// Why the database cannot be read, and the way out.
pub fn configuration(database: &Database, formats: &Registry) -> Result<Written, String> {
    let path = database.path.to_str().ok_or_else(|| {
        let path = database.path.display();
        format!("{path} is not UTF-8, which a configuration is; give the file another name")
    })?;
    let (tables, findings) = describe(database)?;
    let store = Sqlite::new(database);
    let mut names = Names::new(formats);
    let (mut streams, mut sections, mut others) = (0, String::new(), String::new());
    for table in &tables {
        match stream(table, &store, &mut names, formats) {
            Ok(section) => {
                streams += 1;
                sections.push_str(&section);
            }
            Err(why) => others.push_str(&why),
        }
    }
    let mut text = comment(&format!(
        "Made by `flows init` from {path}: what was guessed says so, and what it was guessed from. Times without \
         an offset are taken for UTC. `flows check` says whether all is well, `flows check --all-rows` whether \
         every record is. Keys that are not here have their defaults."
    ));
    if streams == 0 {
        text.push('\n');
        text.push_str(&comment(
            "Nothing here can be streamed as it is: below is why, and what would help. Do that, and run \
             `flows init` again; or write sections [[streams]] in the place of this line.",
        ));
        text.push_str("streams = []\n");
    }
    text.push_str(&format!("\n[database]\npath = {}\n", string(path)));
    for finding in findings {
        if let Finding::Warning(warning) = finding {
            text.push_str(&comment(&warning));
        }
    }
    if tables.is_empty() {
        text.push_str(&comment("The database has no tables."));
    }
    text.push_str(&sections);
    text.push_str(&others);
    Ok(Written { text, streams })
}

/// The section of a table's stream; or the comment that says why there is none.
fn stream(
    table: &Table,
    store: &Sqlite,
    names: &mut Names<'_>,
    formats: &Registry,
) -> Result<String, String> {
    let refused = |why: &str, section: &str| {
        let title = format!("Not streamed: {} {}: {why}", kind(table), table.name);
        format!("\n{}{}", comment(&title), commented_out(section))
    };
    let choice = choose(table).map_err(|why| refused(&why, ""))?;
    let name = names.of_stream(&table.name);
    let bare = section(table, &choice, &name, names, &[]);
    // What is written is what will be read.
    let config =
        Config::parse(&bare, formats).map_err(|error| refused(&error.to_string(), &bare))?;
    let about = format!("stream {name}: ");
    let mut warnings = Vec::new();
    for finding in store.check(&config.streams) {
        match finding {
            Finding::Warning(text) => warnings.extend(text.strip_prefix(&about).map(str::to_owned)),
            Finding::Error(text) => return Err(refused(&text, &bare)),
            Finding::Fine(_) => {}
        }
    }
    Ok(section(table, &choice, &name, names, &warnings))
}

fn kind(table: &Table) -> &'static str {
    if table.view { "the view" } else { "the table" }
}
