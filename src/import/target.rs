//! The database that an import writes. A new one is built beside its place and put there when it is
//! whole; one that exists is written in one transaction.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::ImportError;

/// An open database, and what is to be done when the import is whole.
pub(super) struct Target {
    path: PathBuf,
    connection: Option<Connection>,
    building: Option<Building>,
}

/// A database that is not in its place yet. The lock keeps other imports away; a file without a
/// lock was left behind by one that was killed.
struct Building {
    path: PathBuf,
    file: File,
}

impl Target {
    /// Opens the database at `path`, or begins a new one.
    pub(super) fn open(path: &Path) -> Result<Target, ImportError> {
        let building = if path.exists() {
            None
        } else {
            Some(Building::begin(path)?)
        };
        let open_at = building.as_ref().map_or(path, |building| &building.path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(open_at, flags);
        let target = |connection| Target {
            path: path.to_owned(),
            connection,
            building,
        };
        let failed = |reason| ImportError::Database {
            path: path.to_owned(),
            reason,
        };
        let connection = connection.map_err(failed)?;
        let target = target(Some(connection));
        target.prepare().map_err(failed)?;
        Ok(target)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        if self.building.is_some() {
            // Whatever goes wrong, the file is thrown away: no journal is needed.
            return connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF");
        }
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if pages == 0 {
            connection.execute_batch("PRAGMA journal_mode = WAL")?;
        }
        Ok(())
    }

    /// Begins the one transaction of the import.
    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, ImportError> {
        let path = &self.path;
        let connection = self
            .connection
            .as_mut()
            .expect("open until it is published");
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|reason| ImportError::Database {
                path: path.clone(),
                reason,
            })
    }

    /// Puts a new database into its place, in write-ahead-log mode.
    pub(super) fn publish(mut self) -> Result<(), ImportError> {
        let failed = |reason| ImportError::Database {
            path: self.path.clone(),
            reason,
        };
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let Some(building) = self.building.take() else {
            return connection.close().map_err(|(_, reason)| failed(reason));
        };
        connection
            .execute_batch("PRAGMA journal_mode = WAL")
            .map_err(failed)?;
        connection.close().map_err(|(_, reason)| failed(reason))?;
        building
            .publish(&self.path)
            .map_err(|reason| ImportError::Write {
                path: self.path.clone(),
                reason,
            })
    }
}

impl Building {
    fn begin(path: &Path) -> Result<Building, ImportError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".importing");
        let beside = PathBuf::from(beside);
        let failed = |reason| ImportError::Write {
            path: beside.clone(),
            reason,
        };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&beside).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ImportError::Running { path: beside }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        Ok(Building { path: beside, file })
    }

    fn publish(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        // Unlike a rename, a link replaces nothing that came to be there in the meantime.
        fs::hard_link(&self.path, path)?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // Published or not, the file is not needed under this name. When it cannot be removed, the
        // next import takes it over.
        let _ = fs::remove_file(&self.path);
    }
}
