//! The folder that is pulled into: files, the state, the lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Pull, PullError};

/// The state's file. Hidden, so that `*` means the data.
const STATE: &str = ".flows-pull.json";

/// The lock's file.
const LOCK: &str = ".flows-pull.lock";

/// What a file is called behind its final name until it is whole.
const PART: &str = ".part";

/// What is kept from one run to the next.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct State {
    /// What is pulled: positions of anything else mean something else.
    source: String,
    /// Behind it, the next run goes on.
    position: Option<String>,
}

/// A folder that this run alone writes into.
pub(super) struct Folder {
    path: PathBuf,
    stream: String,
    extension: String,
    state: State,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Folder {
    /// Locks the folder, and tidies up behind a run that was killed.
    pub(super) fn open(pull: &Pull) -> Result<Folder, PullError> {
        let path = &pull.folder;
        let unusable = |path: &Path, reason| PullError::Folder {
            path: path.to_owned(),
            reason,
        };
        fs::create_dir_all(path).map_err(|reason| unusable(path, reason))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(|reason| unusable(&lock_path, reason))?;
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
            extension: pull.extension.clone(),
            state: State {
                source: source(pull),
                position: None,
            },
            _lock: lock,
        };
        let known = folder.read_state()?;
        folder.tidy(known)?;
        Ok(folder)
    }

    /// Where to go on, if anything was pulled.
    pub(super) fn position(&self) -> Option<&str> {
        self.state.position.as_deref()
    }

    /// Reads what was kept, if anything was pulled yet.
    fn read_state(&mut self) -> Result<bool, PullError> {
        let path = self.path.join(STATE);
        let failed = |reason: String| PullError::State {
            path: path.clone(),
            reason,
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error.to_string())),
        };
        let state: State =
            serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        if state.source != self.state.source && state.position.is_none() {
            // Nothing came of it.
            return Ok(false);
        }
        if state.source != self.state.source {
            return Err(PullError::Other {
                folder: self.path.clone(),
                found: state.source,
            });
        }
        self.state = state;
        Ok(true)
    }

    /// Removes files that are not whole, and notes the one that is whole but not noted yet.
    /// `known` says whether there was a state.
    fn tidy(&mut self, known: bool) -> Result<(), PullError> {
        let failed = |reason| write(&self.path, reason);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        let ours = |name: &String| name.starts_with(&format!("{}-", self.stream));
        for name in names.iter().filter(|name| ours(name)) {
            if name.ends_with(PART) {
                fs::remove_file(self.path.join(name)).map_err(failed)?;
            }
        }
        let _ = fs::remove_file(self.path.join(format!("{STATE}{PART}")));
        if !known {
            // The state comes before the first file, so that no file is taken for another pull's.
            if let Some(name) = names
                .iter()
                .find(|name| ours(name) && !name.ends_with(PART))
            {
                return Err(PullError::State {
                    path: self.path.join(STATE),
                    reason: format!("it is missing, but there is {name}"),
                });
            }
            return self.note(None);
        }
        // At most one: the state is noted before the next file is begun.
        let begun = format!("{}-{}-", self.stream, in_name(self.position()));
        let whole = names.iter().filter(|name| !name.ends_with(PART));
        let mut unnoted = whole.filter_map(|name| {
            let (to, _) = name.strip_prefix(&begun)?.split_once('.')?;
            Some(to.replace('_', ":"))
        });
        if let Some(position) = unnoted.next() {
            self.note(Some(&position))?;
            self.state.position = Some(position);
        }
        Ok(())
    }

    /// Notes where to go on, at once or not at all.
    pub(super) fn note(&self, position: Option<&str>) -> Result<(), PullError> {
        let state = State {
            source: self.state.source.clone(),
            position: position.map(str::to_owned),
        };
        let path = self.path.join(STATE);
        let part = self.path.join(format!("{STATE}{PART}"));
        let replace = || {
            let mut file = File::create(&part)?;
            // Texts are always JSON.
            file.write_all(&serde_json::to_vec(&state).unwrap_or_default())?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(&self.path)?.sync_all()
        };
        replace().map_err(|reason| write(&path, reason))
    }

    /// Begins the file of the records between two positions.
    pub(super) fn part(&self, after: Option<&str>, until: &str) -> Result<Part<'_>, PullError> {
        let (from, to) = (in_name(after), in_name(Some(until)));
        let whole = self
            .path
            .join(format!("{}-{from}-{to}.{}", self.stream, self.extension));
        let mut path = whole.clone().into_os_string();
        path.push(PART);
        let path = PathBuf::from(path);
        let file = File::create(&path).map_err(|reason| write(&path, reason))?;
        Ok(Part {
            folder: self,
            path,
            whole,
            file,
            bytes: 0,
        })
    }
}

/// A file that is not whole yet.
pub(super) struct Part<'f> {
    folder: &'f Folder,
    path: PathBuf,
    whole: PathBuf,
    file: File,
    /// How many bytes are written.
    pub(super) bytes: u64,
}

impl Part<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Throws it away; where it was.
    pub(super) fn abandon(self) -> PathBuf {
        // The next run throws away what cannot be now.
        let _ = fs::remove_file(&self.path);
        self.path
    }

    /// Gives it its final name, when all of it is on the disk.
    pub(super) fn finish(self) -> Result<(), PullError> {
        let finished = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.whole))
            .and_then(|()| File::open(&self.folder.path)?.sync_all());
        finished.map_err(|reason| write(&self.abandon(), reason))
    }
}

/// What is pulled, in words that `flows pull` understands.
fn source(pull: &Pull) -> String {
    let mut source = format!("{} with --order {}", pull.url, pull.order.name());
    if let Some(columns) = &pull.columns {
        source += &format!(" --columns {columns}");
    }
    for (column, filter) in &pull.filters {
        source += &format!(" --filter {column}={filter}");
    }
    source
}

/// A position in a file's name, where a colon is in the way of many a tool.
fn in_name(position: Option<&str>) -> String {
    position.map_or("start".to_owned(), |position| position.replace(':', "_"))
}

fn write(path: &Path, reason: io::Error) -> PullError {
    PullError::Write {
        path: path.to_owned(),
        reason,
    }
}
