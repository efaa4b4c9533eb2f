//! Records into a table, by a binary copy, in one transaction: all of them, or none.

use flows_formats::Column;

use super::failure::Failure;
use super::kind::Kind;
use super::relation::Relation;
use super::session::{Session, Watch};
use crate::config::Database;
use crate::definition::Stream;
use crate::store::quoted;

/// The least bytes that are sent at once.
const TOGETHER: usize = 256 * 1024;

/// What comes before the first row and after the last.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// A table that is being filled.
pub(crate) struct Load {
    session: Session,
    /// The table in SQL.
    table: String,
    is_new: bool,
    /// Where records are first, if parts of the table are on other servers, to which a copy sends them one by one.
    staged: bool,
    kinds: Vec<Kind>,
    /// What sets the sequence of the ids.
    sequence: Option<u32>,
    /// A message of the protocol, of which the length is not known yet.
    message: Vec<u8>,
    at: usize,
}

/// Why a table is not filled.
#[derive(Debug)]
pub(crate) enum NoLoad {
    Failed(Failure),
    /// There are records.
    NotEmpty,
    /// It cannot take these.
    OtherTable(String),
}

impl From<Failure> for NoLoad {
    fn from(failure: Failure) -> NoLoad {
        NoLoad::Failed(failure)
    }
}

impl Load {
    /// Finds the table of a stream or makes it, keeps all other writers away, and begins to fill these columns; also
    /// the largest id there is.
    pub(crate) fn begin(
        database: &Database,
        stream: &Stream,
        columns: &[&str],
        append: bool,
    ) -> Result<(Load, i64), NoLoad> {
        // It says nothing while it takes what it was sent.
        let database = Database {
            silence: database.statement,
            ..database.clone()
        };
        let mut session = Session::open(&database)?;
        let table = quoted(&stream.relation());
        session.ask(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = warning",
            Watch::default(),
        )?;
        let found = Relation::look(&mut session, &stream.source, Watch::default());
        let (relation, is_new) = match found {
            Ok(relation) => (relation, false),
            Err(Some(failure)) => return Err(failure.into()),
            Err(None) => {
                let column = |column: &Column| {
                    let kind = match column.kind {
                        flows_formats::Type::Text => "text COLLATE \"C\"",
                        _ => "bigint",
                    };
                    format!("{} {kind} NOT NULL", quoted(&column.name))
                };
                let columns: Vec<_> = stream.schema.columns.iter().map(column).collect();
                let sql = format!("CREATE TABLE {table} ({})", columns.join(", "));
                session.ask(&sql, Watch::default())?;
                let made = Relation::look(&mut session, &stream.source, Watch::default());
                let made = made.map_err(|failure| {
                    failure.map_or_else(
                        || NoLoad::OtherTable("was made, and is gone".to_owned()),
                        NoLoad::Failed,
                    )
                })?;
                (made, true)
            }
        };
        if relation.is_view {
            return Err(NoLoad::OtherTable("is a view".to_owned()));
        }
        let mut kinds = Vec::new();
        for name in columns {
            let column = relation.column(name);
            let column =
                column.ok_or_else(|| NoLoad::OtherTable(format!("has no column {name}")))?;
            if !column.kind.is_integer() && column.kind != Kind::Text {
                let kind = column.kind.name();
                return Err(NoLoad::OtherTable(format!(
                    "has the column {name} as {kind}, and not as bigint or text"
                )));
            }
            kinds.push(column.kind.clone());
        }
        let table = relation.sql.clone();
        let id = quoted(&stream.id);
        // Readers go on.
        let asked = session.ask(
            &format!(
                "LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE; SELECT EXISTS (SELECT FROM {table}), \
                 coalesce((SELECT max({id}) FROM {table}), 0)"
            ),
            Watch::default(),
        )?;
        if asked.value(0) == Some("t") && !append {
            return Err(NoLoad::NotEmpty);
        }
        let last = asked.value(1).and_then(|id| id.parse().ok()).unwrap_or(0);
        let staged = relation.is_foreign;
        let names: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
        let names = names.join(", ");
        let into = if staged {
            session.ask(
                &format!("CREATE TEMP TABLE staged (LIKE {table}) ON COMMIT DROP"),
                Watch::default(),
            )?;
            "staged"
        } else {
            table.as_str()
        };
        session.begin_copy_in(&format!("COPY {into} ({names}) FROM STDIN (FORMAT binary)"))?;
        let sequence = relation
            .sequences
            .iter()
            .find(|sequence| sequence.column == stream.id);
        let mut load = Load {
            session,
            sequence: sequence.map(|sequence| sequence.oid),
            table,
            is_new,
            staged,
            kinds,
            message: Vec::new(),
            at: 0,
        };
        load.begin_message();
        load.message.extend_from_slice(HEADER);
        Ok((load, last))
    }

    fn begin_message(&mut self) {
        self.message.clear();
        self.message.extend_from_slice(b"d\0\0\0\0");
    }

    fn send(&mut self) -> Result<(), Failure> {
        // It is far from 2 GiB.
        let length = u32::try_from(self.message.len() - 1).unwrap_or(u32::MAX);
        self.message[1..5].copy_from_slice(&length.to_be_bytes());
        self.session.copy_in(&self.message)?;
        self.begin_message();
        Ok(())
    }

    fn begin_value(&mut self) -> &Kind {
        let at = self.at % self.kinds.len();
        self.at += 1;
        if at == 0 {
            let columns = i16::try_from(self.kinds.len()).unwrap_or(i16::MAX);
            self.message.extend_from_slice(&columns.to_be_bytes());
        }
        &self.kinds[at]
    }

    /// Adds the next value of a record.
    pub(crate) fn integer(&mut self, integer: i64) -> Result<(), NoLoad> {
        let beyond = |_| {
            NoLoad::OtherTable(format!(
                "has a column of integers that are too small for {integer}"
            ))
        };
        match self.begin_value() {
            Kind::Int2 => {
                let small = i16::try_from(integer).map_err(beyond)?;
                self.value(&small.to_be_bytes());
            }
            Kind::Int4 => {
                let small = i32::try_from(integer).map_err(beyond)?;
                self.value(&small.to_be_bytes());
            }
            Kind::Int8 => self.value(&integer.to_be_bytes()),
            _ => self.value(integer.to_string().as_bytes()),
        }
        Ok(())
    }

    /// Adds the next value of a record.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), NoLoad> {
        if *self.begin_value() != Kind::Text {
            return Err(NoLoad::OtherTable(format!(
                "has a column of integers for {text:?}"
            )));
        }
        self.value(text.as_bytes());
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) {
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        self.message.extend_from_slice(&length.to_be_bytes());
        self.message.extend_from_slice(bytes);
    }

    /// Sends what there is, if that is enough to be worth it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.message.len() < TOGETHER {
            Ok(())
        } else {
            self.send()
        }
    }

    /// Ends what is sent: the server has all of it then, the largest id among it, and nobody else has.
    pub(crate) fn complete(&mut self, last: i64) -> Result<(), Failure> {
        self.message.extend_from_slice(TRAILER);
        self.send()?;
        self.session.end_copy_in(Watch::default())?;
        let Load {
            table,
            staged,
            is_new,
            ..
        } = self;
        let mut rest = String::new();
        if *staged {
            rest.push_str(&format!("INSERT INTO {table} SELECT * FROM staged; "));
        }
        if *is_new {
            // To make an index of all costs less than to add each.
            rest.push_str(&format!(
                "ALTER TABLE {table} ADD PRIMARY KEY (\"time\", \"id\"); CREATE UNIQUE INDEX ON {table} (\"id\"); "
            ));
        }
        if let Some(sequence) = self.sequence.filter(|_| last > 0) {
            rest.push_str(&format!("SELECT setval({sequence}::regclass, {last}); "));
        }
        if !rest.is_empty() {
            self.session.ask(&rest, Watch::default())?;
        }
        Ok(())
    }

    /// Commits.
    pub(crate) fn commit(mut self) -> Result<(), Failure> {
        self.session.ask("COMMIT", Watch::default())?;
        // What the planner knows of the table has changed; without it, it is slower for a while.
        let analysed = self
            .session
            .ask(&format!("ANALYZE {}", self.table), Watch::default());
        if let Err(failure) = analysed {
            tracing::debug!(%failure, "the table was filled, and not analysed");
        }
        Ok(())
    }
}
