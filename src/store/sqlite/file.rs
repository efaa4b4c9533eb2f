//! The file: which one a path names, and how it is opened.
//!
//! Nothing but SQLite opens it: when a process closes a file, it loses all the locks that it has on it
//! (<https://sqlite.org/howtocorrupt.html>, section 2.2), and writers would change what streams read.
//!
//! After `mv new.db flows.db` the same path is another database, and connections to the old one still
//! read the old one.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, ffi};

use crate::config::Database;

/// A file, whatever it is called: two names of one file have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that a path names, through symbolic links.
    pub(super) fn of(path: &Path) -> io::Result<FileId> {
        let metadata = std::fs::metadata(path)?;
        Ok(FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Makes sure that a new connection to a path is one to this file, and stays so.
    pub(super) fn verify(self, connection: &Connection, path: &Path) -> rusqlite::Result<()> {
        // SQLite opens the write-ahead log, which is found by name, at the first read. What that says
        // (a lock, a file that is not a database) is for the first request to say.
        let _ = connection.query_row("PRAGMA schema_version", [], |_| Ok(()));
        if FileId::of(path).is_ok_and(|file| file == self) {
            return Ok(());
        }
        Err(refused(
            "the file was replaced while it was opened".to_owned(),
        ))
    }
}

/// A connection that we do not take, as SQLite would say it.
fn refused(reason: String) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(reason))
}

/// Each connection is used by one thread at a time, so that SQLite's own mutexes are not needed.
const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_EXRESCODE);

/// What may stand in the path of a URI as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// What SQLite is told to open, and how.
pub(super) fn source(database: &Database) -> (Cow<'_, Path>, OpenFlags) {
    let path = &database.path;
    if !database.immutable {
        return (Cow::Borrowed(path), READ_ONLY);
    }
    // Of a path that begins with two slashes the first part would be a host, if there were none before.
    let host = if path.is_absolute() { "//" } else { "" };
    let encoded = percent_encode(path.as_os_str().as_encoded_bytes(), IN_PATH);
    let uri = format!("file:{host}{encoded}?immutable=1");
    let flags = READ_ONLY.union(OpenFlags::SQLITE_OPEN_URI);
    (Cow::Owned(uri.into()), flags)
}

/// Opens a connection as the pool does.
pub(super) fn open(database: &Database) -> rusqlite::Result<Connection> {
    let (path, flags) = source(database);
    let mut connection = Connection::open_with_flags(path, flags)?;
    prepare(&mut connection, database)?;
    Ok(connection)
}

/// The `-wal` or `-journal` beside a database of what is not yet, or only half, in it: who takes the
/// database for immutable looks at neither.
pub(super) fn pending(path: &Path) -> Option<PathBuf> {
    // SQLite writes beside the file that a link leads to.
    let file = path.canonicalize().ok()?;
    let beside = ["-wal", "-journal"].map(|end| {
        let mut name = file.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    });
    beside.into_iter().find(|beside| match File::open(beside) {
        Ok(mut file) => {
            // One that is done with is empty, or begins with zeros.
            let mut first = [0];
            file.read(&mut first).is_err() || first != [0]
        }
        Err(error) => error.kind() != ErrorKind::NotFound,
    })
}

/// Sets what the configuration says, and that this connection never writes.
pub(super) fn prepare(connection: &mut Connection, database: &Database) -> rusqlite::Result<()> {
    if database.immutable
        && let Some(beside) = pending(&database.path)
    {
        let beside = beside.display();
        return Err(refused(format!("it is not immutable: there is {beside}")));
    }
    connection.busy_timeout(database.busy)?;
    // The plan that was looked at is the one that runs, whatever bounds are.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(&format!(
        "PRAGMA query_only = 1; PRAGMA cache_size = -{}; PRAGMA mmap_size = {};",
        database.cache_kib,
        u64::from(database.mmap_mib) << 20
    ))
}

/// Whether SQLite opens the file, and says that it is no database.
pub(super) fn is_no_database(database: &Database) -> bool {
    // Opening a pipe would wait for its other end.
    let is_file = std::fs::metadata(&database.path).is_ok_and(|file| file.is_file());
    let read =
        |connection: Connection| connection.query_row("PRAGMA schema_version", [], |_| Ok(()));
    let says = |error: Error| error.sqlite_error_code() == Some(ErrorCode::NotADatabase);
    is_file && open(database).and_then(read).is_err_and(says)
}

/// Whether a killed writer left a journal that has to be rolled back, which no read-only connection can.
pub(super) fn is_unfinished(error: &Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_ROLLBACK)
}

/// Whether a sort was too large for memory, and there is no folder to put it into.
pub(super) fn has_no_temporary_folder(error: &Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_GETTEMPPATH)
}
