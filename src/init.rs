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

use std::sync::Arc;

use flows_formats::Registry;

use crate::config::{Config, Database};
use crate::definition::Stream;
use crate::store::Finding;
use crate::store::description::Table;
use crate::store::{check_described, describe};
use choose::{Choice, choose};
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
    let (key, place) = match &database.url {
        Some(url) => ("url", url.to_string()),
        None => {
            let path = database.path.to_str().ok_or_else(|| {
                let path = database.path.display();
                format!("{path} is not UTF-8, which a configuration is; give the file another name")
            })?;
            ("path", path.to_owned())
        }
    };
    let (tables, about_the_file) = describe(database)?;
    let mut names = Names::new(formats);
    let drafts: Vec<_> = tables
        .iter()
        .map(|table| draft(table, &mut names, formats))
        .collect();
    let streams = drafts.iter().flatten().map(|draft| &draft.stream);
    let streams: Vec<_> = streams.cloned().collect();
    let findings = check_described(database, &streams);
    let (mut streams, mut sections) = (0, String::new());
    let mut others: Vec<(String, Vec<String>)> = Vec::new();
    for (table, draft) in tables.iter().zip(drafts) {
        match draft.and_then(|draft| draft.section(table, &names, &findings)) {
            Ok(section) => {
                streams += 1;
                sections.push_str(&section);
            }
            Err(why) => {
                let name = format!("the {} {}", kind(table), table.name);
                // Many tables of one database have the same reason.
                match others.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, names)) => names.push(name),
                    None => others.push((why, vec![name])),
                }
            }
        }
    }
    let mut text = comment(&format!(
        "Made by `flows init` from {place}: what was guessed says so, and what it was guessed from. Times without \
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
    text.push_str(&format!("\n[database]\n{key} = {}\n", string(&place)));
    for finding in about_the_file {
        if let Finding::Warning(warning) = finding {
            text.push_str(&comment(&warning));
        }
    }
    if tables.is_empty() {
        text.push_str(&comment("The database has no tables."));
    }
    text.push_str(&sections);
    for (why, names) in others {
        text.push_str(&comment(&format!("\nNot streamed: {}:", names.join(", "))));
        text.push_str(&why);
    }
    Ok(Written { text, streams })
}

/// The stream of a table, which nobody has checked.
struct Draft {
    choice: Choice,
    /// Its section, without warnings.
    text: String,
    stream: Arc<Stream>,
}

/// The stream of a table; or the comment that says why there is none.
fn draft(table: &Table, names: &mut Names<'_>, formats: &Registry) -> Result<Draft, String> {
    let choice = choose(table).map_err(|why| comment(&why))?;
    let name = names.of_stream(&table.name);
    let text = section(table, &choice, &name, names, &[]);
    // What is written is what will be read.
    let refused = |why: String| refused(&why, &text);
    let config = Config::parse(&text, formats).map_err(|error| refused(error.to_string()))?;
    let [stream] = &config.streams[..] else {
        return Err(refused("its section is not one stream".to_owned()));
    };
    Ok(Draft {
        choice,
        stream: Arc::clone(stream),
        text,
    })
}

impl Draft {
    /// The section, with what a check has found; or the comment that says why there is none.
    fn section(
        self,
        table: &Table,
        names: &Names<'_>,
        findings: &[Finding],
    ) -> Result<String, String> {
        let name = &self.stream.name;
        let about = format!("stream {name}: ");
        let mut warnings = Vec::new();
        for finding in findings {
            match finding {
                Finding::Warning(text) => warnings.extend(text.strip_prefix(&about)),
                Finding::Error(text) => {
                    if let Some(why) = text.strip_prefix(&about) {
                        return Err(refused(why, &self.text));
                    }
                }
                Finding::Fine(_) => {}
            }
        }
        Ok(section(table, &self.choice, name, names, &warnings))
    }
}

/// The comment that says why a table is not streamed, with the section that would be its.
fn refused(why: &str, section: &str) -> String {
    format!("{}{}", comment(why), commented_out(section))
}

fn kind(table: &Table) -> &'static str {
    if table.view { "view" } else { "table" }
}
