//! What is wrong with a database, and how to fix it.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flows_formats::{Record, Type};

use super::arrivals;
use super::connection::{Begun, PostgresConnection};
use super::failure::Failure;
use super::kind::Kind;
use super::plan::{Known, Memory, explain};
use super::query::{Query, copied};
use super::session::{Session, Watch};
use crate::config::Database;
use crate::definition::{Source, Stream};
use crate::selection::{Position, View};
use crate::store::wrong_records::WrongRecords;
use crate::store::{Cancel, Connection, Finding, Sink, Stop, StoreError};

/// How long looking at some records may take.
const SAMPLING: Duration = Duration::from_secs(1);

/// Whether a view can be read now, as far as its schema says.
pub(super) fn probe(
    session: &mut Session,
    database: &Database,
    memory: &Memory,
    view: &View,
) -> Result<(), StoreError> {
    let of_stream = |failure: Failure| failure.of_stream(&view.stream, &database.place());
    let (known, query) = memory
        .query(session, view, Watch::default())
        .map_err(|begun| begun.told(view, database))?;
    // What is known may be old.
    let answer = session.ask(&query.types(), Watch::default());
    if !known.has(&answer.map_err(of_stream)?.columns) {
        memory.forget(view);
    }
    Ok(())
}

/// Looks at the database and at every stream in it, and changes nothing.
pub(super) fn check(database: &Database, memory: &Memory, streams: &[Arc<Stream>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut session = match Session::open(database) {
        Ok(session) => session,
        Err(failure) => {
            let (key, place) = (database.path_key(), database.place());
            let text = format!("the database {place} cannot be reached: {failure}; {key} names it");
            return vec![Finding::Error(text)];
        }
    };
    let told = session.ask(
        "SELECT current_setting('server_version'), current_user",
        Watch::default(),
    );
    if let Ok(told) = told
        && let (Some(version), Some(user)) = (told.value(0), told.value(1))
    {
        findings.push(Finding::Fine(format!("PostgreSQL {version}, as {user}")));
    }
    for stream in streams {
        if let Err(error) = look(&mut session, database, memory, stream, &mut findings) {
            findings.push(Finding::Error(match error {
                StoreError::Database { stream, reason } => format!("stream {stream}: {reason}"),
                error => error.to_string(),
            }));
        }
    }
    findings
}

/// Looks at a stream.
fn look(
    session: &mut Session,
    database: &Database,
    memory: &Memory,
    stream: &Arc<Stream>,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let of_stream = |failure: Failure| failure.of_stream(stream, &database.place());
    let fine = |text: String| Finding::Fine(text);
    let warning = |text: String| Finding::Warning(format!("stream {}: {text}", stream.name));
    let view = View::all(Arc::clone(stream));
    memory.forget(&view);
    let known = memory.query(session, &view, Watch::default());
    let (known, query) = known.map_err(|begun| begun.told(&view, database))?;
    let relation = &known.relation;
    let what = match &stream.source {
        Source::Query(_) => "a query".to_owned(),
        Source::Table(name) if relation.is_view => format!("view {name}"),
        Source::Table(name) if relation.is_foreign => {
            format!("table {name}, of which other servers have parts")
        }
        Source::Table(name) => format!("table {name}"),
    };
    findings.push(fine(format!(
        "stream {}: {what}, ordered by ({}, {})",
        stream.name, stream.time, stream.id
    )));
    for column in &stream.schema.columns {
        let nullable = if column.nullable { ", nullable" } else { "" };
        let held = relation.column(&column.name).map(|held| &held.kind);
        let cast = match (column.kind, held) {
            (Type::Text, Some(Kind::Other(name))) => format!(" ({name}, cast to text)"),
            (_, Some(kind)) => format!(" ({})", kind.name()),
            (_, None) => String::new(),
        };
        findings.push(fine(format!(
            "  {} {}{nullable}{cast}",
            column.name, column.kind
        )));
    }
    let view = Arc::new(view);
    sampled(session, database, &view, &query)?;
    let (in_order, _) = explain(session, &query, false, Watch::default()).map_err(of_stream)?;
    if in_order {
        findings.push(fine(format!(
            "  order: {}",
            served_by(&known, &[&stream.time, &stream.id])
        )));
    } else {
        let fix = match relation.is_view {
            true => format!(
                "index the tables behind it by ({}, {})",
                stream.time, stream.id
            ),
            false => format!("`{}` fixes that", query.index(relation)),
        };
        findings.push(warning(format!(
            "no index gives ({}, {}) order: the server sorts each window first, and says nothing meanwhile \
             (silence_seconds); {fix}",
            stream.time, stream.id
        )));
    }
    for column in stream.schema.columns.iter().filter(|_| stream.filters) {
        let begins = |(_, columns): &&(String, Vec<String>)| columns.first() == Some(&column.name);
        let indexes = relation
            .indexes
            .iter()
            .filter(begins)
            .map(|(name, _)| name.as_str());
        let indexes: Vec<_> = indexes.collect();
        if !indexes.is_empty() {
            findings.push(fine(format!(
                "  filters by {}: {}",
                column.name,
                indexes.join(", ")
            )));
        }
    }
    if relation.is_foreign {
        findings.push(fine(
            "  slices begin with a new time; each of the other servers has a snapshot of its own"
                .to_owned(),
        ));
    } else if !known.is_unique(&view) {
        findings.push(warning(format!(
            "nothing says that no two records have the same ({}, {}), and `after` skips those that have; a unique \
             index does",
            stream.time, stream.id
        )));
    }
    match no_arrivals(&known, &stream.id) {
        Some(why) => findings.push(warning(format!(
            "order=id promises nothing, since {why}: a record may appear behind what was sent"
        ))),
        None => {
            findings.push(fine("  order=id: stays behind those who write".to_owned()));
            let holders =
                arrivals::holders(session, &known, Watch::default()).map_err(of_stream)?;
            findings.extend(
                holders
                    .iter()
                    .map(|holder| warning(format!("order=id waits at this moment for {holder}"))),
            );
        }
    }
    Ok(())
}

/// Why in the order of ids a record may appear that comes before others that were sent.
fn no_arrivals(known: &Known, id: &str) -> Option<String> {
    let relation = &known.relation;
    if !known.ids_can_grow(id) {
        return Some("only integers of a table can be promised to grow".to_owned());
    }
    let drawn: Vec<_> = relation
        .sequences
        .iter()
        .filter(|sequence| sequence.column == id)
        .collect();
    if drawn.is_empty() && relation.is_foreign {
        return Some(format!(
            "{id} is not drawn from a sequence here, and others may write to the shards themselves"
        ));
    }
    match drawn.iter().find(|sequence| sequence.cache > 1) {
        Some(sequence) => Some(format!(
            "each writer draws {} values of {id} at once (CACHE)",
            sequence.cache
        )),
        None if drawn.is_empty() => Some(format!("{id} is not drawn from a sequence")),
        None => None,
    }
}

/// The index that begins with these columns, or what else gives the order.
fn served_by(known: &Known, columns: &[&String]) -> String {
    let begins = |(_, indexed): &&(String, Vec<String>)| {
        indexed.iter().zip(columns).all(|(a, b)| a == *b) && indexed.len() >= columns.len()
    };
    match known.relation.indexes.iter().find(begins) {
        Some((name, _)) => format!("index {name}"),
        None => "by the server's indexes, one after another or merged".to_owned(),
    }
}

/// Whether the first records and the last are as they are declared.
fn sampled(
    session: &mut Session,
    database: &Database,
    view: &Arc<View>,
    query: &Query,
) -> Result<(), StoreError> {
    for sql in query.samples() {
        let mut rows = query.rows(
            view,
            Box::new(Nothing::within(SAMPLING)),
            &Cancel::default(),
        );
        let taken = session.copy_out(&copied(&sql), &mut rows);
        match (rows.ended, taken) {
            // A view may have to look long for its first record.
            (Some(StoreError::Stopped), _) | (None, Err(Failure::Stopped)) => {}
            (Some(error), _) => return Err(error),
            (None, taken) => {
                taken.map_err(|failure| failure.of_stream(&view.stream, &database.place()))?;
            }
        }
    }
    Ok(())
}

/// Reads every record of a stream, and goes on after those that would break it. `progress` is told how many were
/// read.
pub(super) fn all_rows(
    connection: Result<Box<dyn Connection>, StoreError>,
    stream: &Arc<Stream>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Vec<Finding> {
    let view = Arc::new(View::all(Arc::clone(stream)));
    let name = &stream.name;
    let mut findings = Vec::new();
    let read = connection.and_then(|mut connection| {
        connection.snapshot(&view, &Cancel::default())?;
        let connection: &mut dyn Any = &mut *connection;
        let connection = connection.downcast_mut::<PostgresConnection>();
        let connection = connection.expect("a store lends its own connections");
        connection.read_all(WrongRecords::new(name, &mut findings), progress)
    });
    if let Err(error) = read {
        let text = format!("stream {name}: reading its records ended with: {error}");
        findings.push(Finding::Error(text));
    }
    findings
}

/// Takes every record, for as long as it may.
#[derive(Default)]
pub(super) struct Nothing(Option<Instant>);

impl Nothing {
    pub(super) fn within(time: Duration) -> Nothing {
        Nothing(Some(Instant::now() + time))
    }
}

impl Sink for Nothing {
    fn record(&mut self, _: &Record<'_>, _: &Position) -> Result<(), Stop> {
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Stop> {
        let is_late = self.0.is_some_and(|deadline| Instant::now() > deadline);
        if is_late { Err(Stop) } else { Ok(()) }
    }

    fn replaced(&mut self) {}
}

impl Begun {
    /// What it is to whoever asked.
    pub(super) fn told(self, view: &View, database: &Database) -> StoreError {
        match self {
            Begun::Failed(failure) => failure.of_stream(&view.stream, &database.place()),
            Begun::Altered => StoreError::Busy {
                stream: view.stream.name.clone(),
            },
            Begun::Unfit(error) => error,
        }
    }
}
