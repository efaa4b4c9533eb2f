//! The file: which one a path names, and how it is opened.
//!
//! After `mv new.db flows.db` the same path is another database, and connections to the old one still
//! read the old one.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, OpenFlags, ffi};

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
        let reason = "the file was replaced while it was opened".to_owned();
        Err(Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_CANTOPEN),
            Some(reason),
        ))
    }
}

/// Each connection is used by one thread at a time, so that SQLite's own mutexes are not needed.
pub(super) const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_EXRESCODE);

/// Opens a connection as the pool does.
pub(super) fn open(database: &Database) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(&database.path, READ_ONLY)?;
    prepare(&mut connection, database)?;
    Ok(connection)
}

/// Sets what the configuration says, and that this connection never writes.
pub(super) fn prepare(connection: &mut Connection, database: &Database) -> rusqlite::Result<()> {
    connection.busy_timeout(database.busy)?;
    // The plan that was looked at is the one that runs, whatever bounds are.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(&format!(
        "PRAGMA query_only = 1; PRAGMA cache_size = -{}; PRAGMA mmap_size = {};",
        database.cache_kib,
        u64::from(database.mmap_mib) << 20
    ))
}

/// Whether a killed writer left a journal that has to be rolled back, which no read-only connection can.
pub(super) fn is_unfinished(error: &Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_ROLLBACK)
}

/// How a database keeps a transaction apart until it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalMode {
    /// An empty file is an empty database, whose mode is not decided.
    Undecided,
    Rollback,
    Wal,
}

/// The mode that the header of an SQLite database states; `None` when the file is none.
pub(super) fn journal_mode(path: &Path) -> std::io::Result<Option<JournalMode>> {
    use std::io::Read;
    let mut header = [0; 20];
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for its other end.
        return Err(std::io::Error::other("not a file"));
    }
    let mut file = std::fs::File::open(path)?;
    if metadata.len() == 0 {
        return Ok(Some(JournalMode::Undecided));
    }
    match file.read_exact(&mut header) {
        Ok(()) if header.starts_with(b"SQLite format 3\0") => Ok(Some(if header[18] == 2 {
            JournalMode::Wal
        } else {
            JournalMode::Rollback
        })),
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
