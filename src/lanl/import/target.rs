//! The database that an import writes. A new one is built beside its place and put there when it is
//! complete; one that exists is written in one transaction.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::remains::{self, sync_folder};
use super::{ImportError, Interrupt};

/// How many instructions of SQLite's virtual machine pass between two looks for an interrupt.
const INSTRUCTIONS: i32 = 10_000;

/// An open database, and what is to be done when the import is complete.
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
    pub(super) fn open(path: &Path, interrupt: &Interrupt) -> Result<Target, ImportError> {
        let building = match (path.exists(), path.symlink_metadata()) {
            (true, _) => None,
            (false, Ok(_)) => {
                return Err(ImportError::Dangling {
                    path: path.to_owned(),
                });
            }
            (false, Err(_)) => {
                remains::refuse_while_written(path)?;
                Some(Building::begin(path)?)
            }
        };
        let failed = |reason| ImportError::Database {
            path: path.to_owned(),
            reason,
        };
        let open_at = building.as_ref().map_or(path, |building| &building.path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(open_at, flags).map_err(failed)?;
        let interrupt = interrupt.clone();
        let interrupted = move || interrupt.is_interrupted();
        connection
            .progress_handler(INSTRUCTIONS, Some(interrupted))
            .map_err(failed)?;
        let target = Target {
            path: path.to_owned(),
            connection: Some(connection),
            building,
        };
        target.prepare().map_err(failed)?;
        Ok(target)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        // For lines that are not in the order of time, which are written all over the table.
        connection.execute_batch("PRAGMA cache_size = -65536")?;
        if self.building.is_some() {
            // Whatever goes wrong, the file is thrown away: no journal is needed.
            return connection.execute_batch(
                "PRAGMA page_size = 8192; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF",
            );
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
        // Before the file has its name: killed in between, there is no database, and no log either.
        remains::remove(&self.path)?;
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
        let open = |options: &mut OpenOptions| {
            let file = options
                .read(true)
                .write(true)
                .open(&beside)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(TryLockError::WouldBlock) => Err(ImportError::Running {
                    path: beside.clone(),
                }),
                Err(TryLockError::Error(error)) => Err(failed(error)),
            }
        };
        let left_behind = open(OpenOptions::new().create(true).truncate(false))?;
        // It is removed and not emptied: killed at the very end, an import leaves its finished
        // database under both names.
        fs::remove_file(&beside).map_err(failed)?;
        let file = open(OpenOptions::new().create_new(true))?;
        drop(left_behind);
        Ok(Building { path: beside, file })
    }

    fn publish(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        // Unlike a rename, a link replaces nothing that came to be there in the meantime.
        match fs::hard_link(&self.path, path) {
            Err(_) if path.symlink_metadata().is_err() => {
                // Some file systems have no links.
                fs::rename(&self.path, path)?;
            }
            linked => linked?,
        }
        sync_folder(path)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // Published or not, the file is not needed under this name. When it cannot be removed, the
        // next import takes it over.
        let _ = fs::remove_file(&self.path);
    }
}
