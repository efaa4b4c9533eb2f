//! Opening the database; or why it cannot be read, and the way out.

use std::fmt::Display;
use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::{Access, access};

use super::shell;
use crate::config::Database;
use crate::store::Finding;
use crate::store::sqlite::file;
use crate::store::sqlite::functions;

/// Opens the database, or says why it cannot be read. `imports` says that an import would make it.
pub(in crate::store::sqlite) fn open(
    database: &Database,
    imports: bool,
    findings: &mut Vec<Finding>,
) -> Result<Connection, String> {
    let path = database.path.display();
    let path_key = database.path_key();
    let quoted = shell(&database.path.to_string_lossy());
    let cannot = |error: &dyn Display| format!("the database {path} cannot be read: {error}");
    let metadata = match std::fs::metadata(&database.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let import = if imports {
                match database.name {
                    None => format!("make one with `flows import SOURCE --database {quoted}`, or "),
                    Some(_) => "make one with `flows import SOURCE`, or ".to_owned(),
                }
            } else {
                String::new()
            };
            return Err(format!(
                "there is no database {path}; {import}name another with {path_key}"
            ));
        }
        Err(error) => return Err(cannot(&error)),
        Ok(metadata) => metadata,
    };
    if !metadata.is_file() {
        // Opening a pipe would wait for its other end.
        return Err(cannot(&"not a file"));
    }
    access(&database.path, Access::READ_OK).map_err(|error| cannot(&io::Error::from(error)))?;
    // SQLite writes beside the file that a link leads to.
    let file = database
        .path
        .canonicalize()
        .unwrap_or_else(|_| database.path.clone());
    let folder = file.parent().unwrap_or(Path::new("/"));
    if database.immutable
        && let Some(beside) = file::pending(&file)
    {
        return Err(format!(
            "{path} is not immutable: {} has what is not in it; `sqlite3 {quoted} 'SELECT count(*) FROM \
             sqlite_schema'` by who may write it brings them together unless a writer has it open, and then {} \
             must be left out",
            beside.display(),
            database.key("immutable")
        ));
    }
    let writable = access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let opened = file::open(database).and_then(|connection| {
        functions::register(&connection)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        Ok((connection, mode))
    });
    match opened {
        Err(error) => Err(match error.sqlite_error_code() {
            _ if file::is_unfinished(&error) => format!(
                "a writer of {path} was killed in the middle of a transaction, and {path}-journal has \
                 to be rolled back, which readers cannot do; \
                 `sqlite3 {quoted} 'SELECT count(*) FROM sqlite_schema'` does it"
            ),
            // In no other mode do readers need anything beside the file.
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if !writable => format!(
                "{path} is in write-ahead-log mode, its readers need a -wal and a -shm beside it, and this user \
                 cannot write the folder {}; allow that, or, if nobody changes it while it is served, set {} = \
                 true, or let its owner run `sqlite3 {quoted} 'PRAGMA journal_mode = DELETE'`, or serve a copy \
                 that `sqlite3 {quoted} \"VACUUM INTO 'copy.db'\"` makes",
                folder.display(),
                database.key("immutable")
            ),
            Some(ErrorCode::NotADatabase) => format!(
                "{path} is not an SQLite database (damaged or encrypted); name another with \
                 {path_key}"
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("the database {path} is locked by a writer; try again when it has finished")
            }
            _ => cannot(&error),
        }),
        Ok((connection, mode)) => {
            if database.immutable || metadata.len() == 0 {
                // It has no writer, or no mode yet.
            } else if mode != "wal" {
                findings.push(Finding::Warning(format!(
                    "{path} is in rollback-journal mode: a running stream keeps writers waiting; \
                     `sqlite3 {quoted} 'PRAGMA journal_mode = WAL'` fixes that"
                )));
            } else if !writable {
                findings.push(Finding::Warning(format!(
                    "{path} is in write-ahead-log mode, and read by the -wal and the -shm that a writer has made \
                     beside it: once it removes them, {path} cannot be opened, unless this user may write the \
                     folder {}",
                    folder.display()
                )));
            }
            Ok(connection)
        }
    }
}
