//! The folder that is pulled into: files, the state, the lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Pull, PullError};

/// The state's file. Hidden, so that `*` means the data.
const STATE: &str = ".flows-pull.json";

/// The lock's file.
const LOCK: &str = ".flows-pull.lock";

/// What follows a file's name until it is complete.
const PART: &str = ".part";

/// How many digits a file's number has, at least, so that names sort in the order of pulling: enough for a
/// file a second for three centuries.
const DIGITS: usize = 10;

/// The most bytes that a file's name may have in the file systems there are.
const LONGEST_NAME: usize = 255;

/// What one run leaves to the next.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct State {
    /// What is pulled: a position means nothing in another stream or order.
    source: String,
    /// The next run continues after it.
    position: Option<String>,
    /// The file that ends there. It is complete, but its name may still end in `.part`.
    #[serde(alias = "whole")]
    complete: Option<String>,
    /// How many files there were so far. The version before did not number them.
    #[serde(default)]
    files: u64,
}

/// A folder that only this run writes into.
pub(super) struct Folder {
    path: PathBuf,
    stream: String,
    extension: &'static str,
    state: State,
    /// Holds the lock while it is open.
    _lock: File,
}

impl Folder {
    /// Locks the folder, and finishes what a run that was killed left.
    pub(super) fn open(pull: &Pull) -> Result<Folder, PullError> {
        let path = &pull.folder;
        let unusable = |path: &Path, reason| PullError::Folder {
            path: path.to_owned(),
            reason,
        };
        fs::create_dir_all(path).map_err(|reason| unusable(path, reason))?;
        let lock_path = path.join(LOCK);
        let lock = itself(OpenOptions::new().write(true).create(true), &lock_path)
            .map_err(|reason| unusable(&lock_path, reason))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PullError::Running {
                    folder: path.clone(),
                });
            }
            Err(TryLockError::Error(reason)) => return Err(unusable(&lock_path, reason)),
        }
        let name = pull.url.rsplit('/').next().unwrap_or_default();
        let mut folder = Folder {
            path: path.clone(),
            stream: name.to_owned(),
            extension: pull.format.extension(),
            state: State {
                source: source(pull),
                position: None,
                complete: None,
                files: 0,
            },
            _lock: lock,
        };
        let known = folder.read_state(pull)?;
        folder.tidy(known)?;
        Ok(folder)
    }

    /// Where to continue, if anything was pulled.
    pub(super) fn position(&self) -> Option<&str> {
        self.state.position.as_deref()
    }

    /// How many files there were before this run.
    pub(super) fn files(&self) -> u64 {
        self.state.files
    }

    /// Reads what the last run left; whether there was one.
    fn read_state(&mut self, pull: &Pull) -> Result<bool, PullError> {
        let path = self.path.join(STATE);
        let failed = |reason: String| PullError::State {
            path: path.clone(),
            reason,
        };
        let mut file = match itself(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error.to_string())),
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .map_err(|error| failed(error.to_string()))?;
        let state: State =
            serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        if state.source != self.state.source && state.position.is_none() {
            // That run got nothing.
            return Ok(false);
        }
        if state.source != self.state.source {
            return Err(PullError::Other {
                folder: self.path.clone(),
                found: state.source,
            });
        }
        let position = state.position.as_deref();
        if position.is_some_and(|position| pull.order.any_position(position).is_none()) {
            return Err(failed(format!("its position is {position:?}")));
        }
        let complete = state.complete.as_deref();
        if complete.is_some_and(|complete| !self.is_ours(complete)) {
            return Err(failed(format!("its file is {complete:?}")));
        }
        self.state = state;
        Ok(true)
    }

    /// Gives the noted file its name, and removes those that are not complete. `known` says whether
    /// there was a state.
    fn tidy(&mut self, known: bool) -> Result<(), PullError> {
        let failed = |reason| write(&self.path, reason);
        if let Some(complete) = &self.state.complete {
            match fs::rename(
                self.path.join(format!("{complete}{PART}")),
                self.path.join(complete),
            ) {
                Ok(()) => self.sync().map_err(failed)?,
                // It already has its name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let _ = fs::remove_file(self.path.join(format!("{STATE}{PART}")));
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else {
                continue;
            };
            match name.strip_suffix(PART) {
                Some(complete) if self.is_ours(complete) => {
                    fs::remove_file(self.path.join(&name)).map_err(failed)?;
                }
                None if !known && self.is_ours(&name) => {
                    return Err(PullError::State {
                        path: self.path.join(STATE),
                        reason: format!("it is missing, but there is {name}"),
                    });
                }
                _ => {}
            }
        }
        if known {
            return Ok(());
        }
        // The state comes before the first file, so that no file is mistaken for another pull's.
        self.note(None, None, 0)
    }

    /// Whether a file of that name is one of this stream, between two positions.
    fn is_ours(&self, name: &str) -> bool {
        let between = || {
            let after = name.strip_prefix(self.stream.as_str())?.strip_prefix('-')?;
            after.strip_suffix(self.extension)?.strip_suffix('.')
        };
        between().is_some_and(|between| {
            let is_numbered = between.split_once('-').is_some_and(|(number, positions)| {
                number.len() >= DIGITS
                    && number.bytes().all(|byte| byte.is_ascii_digit())
                    && !positions.is_empty()
                    && positions.chars().all(is_in_name)
            });
            // The version before had no numbers, and no ids that are strings.
            let positions = between.strip_prefix("start").unwrap_or(between);
            let part_of_one = |letter| matches!(letter, '0'..='9' | '-' | '_');
            is_numbered || positions.contains('-') && positions.chars().all(part_of_one)
        })
    }

    /// Makes sure that the names of files are on the disk.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Notes where to continue, the file that ends there, and how many there are, atomically.
    pub(super) fn note(
        &self,
        position: Option<&str>,
        complete: Option<&str>,
        files: u64,
    ) -> Result<(), PullError> {
        let state = State {
            source: self.state.source.clone(),
            position: position.map(str::to_owned),
            complete: complete.map(str::to_owned),
            files,
        };
        let path = self.path.join(STATE);
        let part = self.path.join(format!("{STATE}{PART}"));
        let replace = || {
            let mut file = new(&part)?;
            // Strings are always JSON.
            file.write_all(&serde_json::to_vec(&state).unwrap_or_default())?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            self.sync()
        };
        replace().map_err(|reason| {
            let _ = fs::remove_file(&part);
            write(&path, reason)
        })
    }

    /// Starts the file of that number, of the records between two positions.
    pub(super) fn part(
        &self,
        number: u64,
        after: Option<&str>,
        until: &str,
    ) -> Result<Part<'_>, PullError> {
        let (before, extension) = (
            format!("{}-{number:0DIGITS$}-", self.stream),
            self.extension,
        );
        // Two positions, and a hyphen and a full stop, share what is left.
        let others = before.len() + extension.len() + PART.len() + 2;
        let length = LONGEST_NAME.saturating_sub(others) / 2;
        let (from, to) = (in_name(after, length), in_name(Some(until), length));
        let complete = format!("{before}{from}-{to}.{extension}");
        let path = self.path.join(format!("{complete}{PART}"));
        let file = new(&path).map_err(|reason| write(&path, reason))?;
        Ok(Part {
            folder: self,
            path,
            complete,
            number,
            file,
            bytes: 0,
            noted: false,
        })
    }
}

/// A file that does not have its name yet. Dropping it removes it.
pub(super) struct Part<'f> {
    folder: &'f Folder,
    path: PathBuf,
    /// Its name when it is complete.
    complete: String,
    number: u64,
    file: File,
    /// How many bytes are written.
    pub(super) bytes: u64,
    /// Whether the state may say that it is complete.
    noted: bool,
}

impl Part<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|reason| write(&self.path, reason))
    }

    /// Makes sure that all of it is on the disk, notes that it ends at `position`, and gives it its name.
    pub(super) fn finish(mut self, position: &str) -> Result<(), PullError> {
        let failed = |reason| write(&self.path, reason);
        self.file.sync_all().map_err(failed)?;
        self.noted = true;
        self.folder
            .note(Some(position), Some(&self.complete), self.number)?;
        fs::rename(&self.path, self.folder.path.join(&self.complete))
            .and_then(|()| self.folder.sync())
            .map_err(failed)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.noted {
            // The next run removes what cannot be removed now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What is pulled, in words that `flows pull` understands.
fn source(pull: &Pull) -> String {
    let (format, order) = (pull.format.name, pull.order.name());
    let mut source = format!("{} with --format {format} --order {order}", pull.url);
    if let Some(columns) = &pull.columns {
        source += &format!(" --columns {columns}");
    }
    for (column, filter) in &pull.filters {
        source += &format!(" --filter {column}={filter}");
    }
    source
}

/// A position in a file's name, where many tools cannot take a colon or a percent sign. A name is told from
/// others by its number, so that a long position may be cut off.
fn in_name(position: Option<&str>, length: usize) -> String {
    let letters = position.unwrap_or("start").chars().take(length);
    let replaced = letters.map(|letter| if is_in_name(letter) { letter } else { '_' });
    replaced.collect()
}

fn is_in_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
}

/// Opens a file, and not what a symbolic link in its place leads to.
fn itself(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path);
    file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => {
            io::Error::other("it is a symbolic link, which is not followed; remove it")
        }
        _ => error,
    })
}

/// Makes a file, in place of what a killed run left there, or of a symbolic link.
fn new(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

fn write(path: &Path, reason: io::Error) -> PullError {
    PullError::Write {
        path: path.to_owned(),
        reason,
    }
}
