//! Lines out of a file, a gzip file or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

use super::ImportError;

/// The longest line that is looked at, in bytes. LANL's have about 40.
const LONGEST: u64 = 64 * 1024;

/// Where the rejected lines of standard input go.
const STDIN_REJECTED: &str = "stdin.rejected";

const BUFFER: usize = 256 * 1024;

/// Where lines come from. What begins like gzip is decompressed, whatever it is called.
pub struct Source {
    name: String,
    rejected: PathBuf,
    lines: Box<dyn BufRead + Send>,
    line: Vec<u8>,
}

impl Source {
    /// Opens a file, or standard input where the path is `-`. The bar counts the bytes read, of as
    /// many as the file has.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(path: &Path, bar: &ProgressBar) -> io::Result<Source> {
        if path == Path::new("-") {
            let input = bar.wrap_read(io::stdin());
            return Source::new("standard input", STDIN_REJECTED.into(), input);
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let name = path.display().to_string();
        if !metadata.is_file() {
            // A pipe has no folder to put a file into.
            return Source::new(&name, STDIN_REJECTED.into(), bar.wrap_read(file));
        }
        bar.set_length(metadata.len());
        let mut rejected = path.as_os_str().to_owned();
        rejected.push(".rejected");
        Source::new(&name, rejected.into(), bar.wrap_read(file))
    }

    /// Lines of `bytes`, which messages call `name`; those that are not flows go to `rejected`.
    ///
    /// # Errors
    /// When the first bytes cannot be read.
    pub fn new(
        name: &str,
        rejected: PathBuf,
        mut bytes: impl Read + Send + 'static,
    ) -> io::Result<Source> {
        let mut magic = Vec::with_capacity(2);
        bytes.by_ref().take(2).read_to_end(&mut magic)?;
        let gzip = magic == [0x1f, 0x8b];
        let bytes = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(bytes));
        let lines: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(bytes)))
        } else {
            Box::new(bytes)
        };
        Ok(Source {
            name: name.to_owned(),
            rejected,
            lines,
            line: Vec::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn rejected_path(&self) -> PathBuf {
        self.rejected.clone()
    }

    /// The line read last, or its beginning, without its end (`\n` or `\r\n`).
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Reads the next line: whether it is complete, or why it cannot be used. `None` after the last.
    pub(super) fn read_line(&mut self) -> Result<Option<Result<(), String>>, ImportError> {
        self.read().map_err(|reason| ImportError::Source {
            source_name: self.name.clone(),
            reason,
        })
    }

    fn read(&mut self) -> io::Result<Option<Result<(), String>>> {
        self.line.clear();
        let read = self
            .lines
            .by_ref()
            .take(LONGEST)
            .read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        let ended = self.line.pop_if(|byte| *byte == b'\n').is_some();
        self.line.pop_if(|byte| ended && *byte == b'\r');
        if !ended && read as u64 == LONGEST {
            self.lines.skip_until(b'\n')?;
            return Ok(Some(Err(format!("longer than {LONGEST} bytes"))));
        }
        Ok(Some(Ok(())))
    }
}
