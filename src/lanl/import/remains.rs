//! What is left beside a database that was removed: `-wal`, `-shm` or `-journal`, of a process that
//! was killed, or that only read. SQLite would replay the log into whatever gets the file's name next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

use super::ImportError;

/// Refuses while a process is writing to the database that was at `path`: when it ends, it would
/// remove the new database's log by its name.
pub(super) fn refuse_while_written(path: &Path) -> Result<(), ImportError> {
    let locks = beside(path, "-shm");
    let file = match File::open(&locks) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(reason) => {
            return Err(ImportError::Write {
                path: locks,
                reason,
            });
        }
    };
    // Readers share their locks, a writer does not (https://sqlite.org/walformat.html, section 2.3).
    match fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(()),
        Err(_) => Err(ImportError::StillWritten {
            path: path.to_owned(),
        }),
    }
}

/// Removes it. If it was removed, it stays so when the power fails.
pub(super) fn remove(path: &Path) -> Result<(), ImportError> {
    refuse_while_written(path)?;
    if path.symlink_metadata().is_ok() {
        // Somebody has made a database in the meantime: these files are its own.
        return Ok(());
    }
    // The log comes first: without it, nothing is replayed.
    for suffix in ["-wal", "-journal", "-shm"] {
        let remain = beside(path, suffix);
        match fs::remove_file(&remain) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                return Err(ImportError::Write {
                    path: remain,
                    reason,
                });
            }
            _ => {}
        }
    }
    sync_folder(path).map_err(|reason| ImportError::Write {
        path: path.to_owned(),
        reason,
    })
}

/// Makes what was named and removed in the folder of `path` last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// The file that SQLite calls by the database's name and a suffix.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
