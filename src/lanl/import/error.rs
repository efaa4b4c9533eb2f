//! Why nothing was imported.

use std::io;
use std::path::PathBuf;

use super::table::expected_columns;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The stream is not LANL's.
    #[error(
        "the stream {stream} has other columns than LANL's lines ({}): import another way, or use the default configuration",
        expected_columns()
    )]
    OtherColumns {
        /// The stream's name.
        stream: String,
    },
    /// The stream has a query.
    #[error(
        "the stream {stream} has a query, and no table to import into: name one in the configuration"
    )]
    NoTable {
        /// The stream's name.
        stream: String,
    },
    /// The table has rows already.
    #[error("the table {table} of {place} has records already; --append adds to them")]
    NotEmpty {
        /// The table's name.
        table: String,
        /// The database.
        place: String,
    },
    /// The table cannot take LANL's records.
    #[error(
        "the table {table} of {place} {reason}; import into a new database, or name another table in the configuration"
    )]
    OtherTable {
        /// The table's name.
        table: String,
        /// The database.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No line was a flow.
    #[error("none of the {rejected} lines of {source_name} is a flow, see {}; nothing was imported", rejected_file.display())]
    NoFlows {
        /// The source's name.
        source_name: String,
        /// How many lines there were.
        rejected: u64,
        /// Where they are, with the reasons.
        rejected_file: PathBuf,
    },
    /// The table's ids leave no room.
    #[error("the table {table} has the id {id}, after which there are no more 64-bit integers")]
    NoIds {
        /// The table's name.
        table: String,
        /// The largest id.
        id: i64,
    },
    /// Another import into the same new database.
    #[error("another import is writing {}; wait until it has ended", path.display())]
    Running {
        /// The file that it writes.
        path: PathBuf,
    },
    /// A database of that name was removed while a process writes to it.
    #[error("a process still writes to the database that was {0}, and holds {0}-shm; end it first", path.display())]
    StillWritten {
        /// Where the database was.
        path: PathBuf,
    },
    /// The source cannot be read.
    #[error("cannot read {source_name}: {reason}; nothing was imported")]
    Source {
        /// The source's name.
        source_name: String,
        /// What the system, or the decompressor, said.
        reason: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}; nothing was imported", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The database's path is a symbolic link to nothing.
    #[error("{} is a symbolic link to nothing; name the file itself", path.display())]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// The database refuses.
    #[error("{}: {reason}; nothing was imported", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        reason: rusqlite::Error,
    },
    /// The server refuses, or is gone.
    #[error("{place}: {reason}; nothing was imported")]
    Server {
        /// The database, without a password.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// A signal came.
    #[error("interrupted; nothing was imported")]
    Interrupted,
}
