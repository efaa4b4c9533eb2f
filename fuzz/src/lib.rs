//! What the targets share.

pub mod readers;
pub mod server;
pub mod tokens;

use std::path::Path;
use std::sync::LazyLock;

use tempfile::TempDir;

/// A folder of this process in memory, where writing costs next to nothing.
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        made.unwrap()
    });
    FOLDER.path()
}
