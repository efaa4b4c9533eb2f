//! The lines that were not kept, each with its number and the reason.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::ImportError;

/// A file that exists only when a line was rejected.
pub(super) struct Rejected {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Rejected {
    pub(super) fn new(path: PathBuf) -> Rejected {
        Rejected {
            path,
            file: None,
            count: 0,
        }
    }

    /// Writes `NUMBER<tab>REASON<tab>LINE`.
    pub(super) fn line(
        &mut self,
        number: u64,
        reason: &str,
        line: &[u8],
    ) -> Result<(), ImportError> {
        self.count += 1;
        self.write(number, reason, line)
            .map_err(|reason| self.failed(reason))
    }

    fn write(&mut self, number: u64, reason: &str, line: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(create(&self.path)?)),
        };
        write!(file, "{number}\t{reason}\t")?;
        file.write_all(line)?;
        file.write_all(b"\n")
    }

    /// Writes what is still in memory. Without a rejected line, the file of an earlier import of
    /// the same source goes, since it no longer says the truth.
    pub(super) fn finish(&mut self) -> Result<(), ImportError> {
        match &mut self.file {
            Some(file) => file.flush().map_err(|reason| self.failed(reason)),
            None => {
                // When there is one that cannot be removed, the records are fine all the same.
                let _ = fs::remove_file(&self.path);
                Ok(())
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn failed(&self, reason: io::Error) -> ImportError {
        ImportError::Write {
            path: self.path.clone(),
            reason,
        }
    }
}

/// Makes the file anew. What had the name goes, and is not written to: a symbolic link might lead
/// anywhere.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}
