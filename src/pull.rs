//! Pulls what is new of a stream into a folder: complete files, each record once.
//!
//! Each file is one complete reply, named after its number, so that names sort in the order of pulling, and
//! after the positions that it lies between. The next position is kept beside them, and is noted once a file
//! is complete, just before it gets its name. So the next run takes up from one that was killed at any moment:
//! the file that is noted gets its name, any other unfinished one is removed; files that have their names are
//! never looked at again.
//!
//! | file | what it holds |
//! |---|---|
//! | `pull/folder.rs` | the files, the state, the lock |
//! | `pull/server.rs` | requests, and which failures are worth retrying |
//! | `pull/bearer.rs` | the token that the server is shown |
//! | `pull/trust.rs` | whose certificates are trusted |
//! | `pull/unzstd.rs` | decompression, within bounds |

mod bearer;
mod folder;
mod server;
mod trust;
mod unzstd;

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use flows_formats::Format;
use indicatif::ProgressBar;

use crate::selection::Order;
pub use bearer::{Bearer, VARIABLE};
use folder::{Folder, Part};
use server::{Page, Server, broke_off};

/// The longest wait before a retry.
const LAST_DELAY: Duration = Duration::from_secs(8);

/// What is pulled, and where to.
#[derive(Clone, Debug)]
pub struct Pull {
    /// The stream's URL, without a query.
    pub url: String,
    /// The folder, which is created if there is none.
    pub folder: PathBuf,
    /// The format.
    pub format: &'static Format,
    /// The most records of a file, at least 1.
    pub max_rows: u64,
    /// The order of records.
    pub order: Order,
    /// The columns, as the parameter `columns` has them.
    pub columns: Option<String>,
    /// Filters: column, and what the parameter of its name says.
    pub filters: Vec<(String, String)>,
    /// The token that the server is shown.
    pub bearer: Option<Bearer>,
    /// A file of the certificates to trust in the place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// What was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// How many new files there are.
    pub files: u64,
    /// How many bytes they hold.
    pub bytes: u64,
    /// Where the next run continues.
    pub position: Option<String>,
}

/// Why a pull stopped early. The folder is as the last complete file left it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// Another run is pulling into the folder.
    #[error("another run is pulling into {}; it will get what is new", folder.display())]
    Running {
        /// The folder.
        folder: PathBuf,
    },
    /// The server could not be reached, was busy, or broke off, again and again.
    #[error("{url}: {reason}; the next run goes on where this one stopped")]
    TryLater {
        /// The URL that was asked for.
        url: String,
        /// What went wrong last.
        reason: String,
    },
    /// The server refused the request, or its reply makes no sense.
    #[error("{url}: {reason}")]
    Refused {
        /// The URL that was asked for.
        url: String,
        /// What the server said.
        reason: String,
    },
    /// The server lets nobody read who shows this token, or none; or it is not to be trusted itself.
    #[error("{url}: {reason}")]
    Denied {
        /// The URL that was asked for.
        url: String,
        /// What the server said, or is.
        reason: String,
    },
    /// What should be a token is none.
    #[error("{0}")]
    Token(String),
    /// There are no certificates to trust.
    #[error("{0}")]
    Trust(String),
    /// Others could read the token on its way.
    #[error(
        "{url}: the token would travel in the clear, where others can read it; ask for https:// ([server.tls] of the \
         server, or a proxy before it), or leave out --token-file and unset {VARIABLE}"
    )]
    InTheClear {
        /// The URL.
        url: String,
    },
    /// Where to go on is after the last record there is.
    #[error(
        "{} was pulled up to {position}, but the stream {end}: its database may have been restored from a \
         backup, its table emptied, or its ids may have begun again. What is written up to {position} would not \
         be pulled. Unless only records at the end were deleted, pull into another folder, or remove \
         all of this one", folder.display())]
    Beyond {
        /// The folder.
        folder: PathBuf,
        /// Where the run would go on.
        position: String,
        /// Where the stream ends, in words.
        end: String,
    },
    /// The folder cannot be used.
    #[error("cannot pull into {}: {reason}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}; the next run goes on where this one stopped", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The folder holds what was pulled from elsewhere, or with other options.
    #[error("{} holds what was pulled from {found}; --to names another folder", folder.display())]
    Other {
        /// The folder.
        folder: PathBuf,
        /// The URL and options of what it holds.
        found: String,
    },
    /// The state is not one, or cannot be read.
    #[error("{} is not a state of `flows pull`: {reason}; restore it, or pull into another folder", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl PullError {
    /// Whether whoever runs it has to change how.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            PullError::Denied { .. }
                | PullError::Token(_)
                | PullError::Trust(_)
                | PullError::InTheClear { .. }
        )
    }

    /// Whether a later run may succeed though nobody changes anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            PullError::Running { .. } | PullError::TryLater { .. } => true,
            // Space may be freed, and a file server come back; a permission does not appear by itself.
            PullError::Folder { reason, .. } | PullError::Write { reason, .. } => matches!(
                reason.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
                    | io::ErrorKind::StaleNetworkFileHandle
                    | io::ErrorKind::TimedOut
            ),
            _ => false,
        }
    }
}

impl Pull {
    /// Pulls file after file until nothing is new, and shows its progress in `bar`.
    ///
    /// # Errors
    /// Why it stopped early. What was pulled until then stays, and is not pulled again.
    pub fn run(&self, bar: &ProgressBar) -> Result<Pulled, PullError> {
        let server = Server::new(self)?;
        let folder = Folder::open(self)?;
        let mut pulled = Pulled {
            position: folder.position().map(str::to_owned),
            ..Pulled::default()
        };
        std::thread::scope(|scope| {
            let folder = &folder;
            let mut finishing = None;
            loop {
                let after = pulled.position.clone();
                let after = after.as_deref();
                let number = folder.files() + pulled.files + 1;
                let mut breaks = 0;
                let page = self.persistently(|| {
                    let page = server.next(after, None, self.max_rows)?;
                    if let Some(end) = &page.table_end {
                        return Err(self.beyond(after, end).into());
                    }
                    let until = page.position.clone();
                    let saved = saved(page, folder, number, after, bar);
                    if let Err(Failure::Passing { broke: true, .. }) = saved {
                        // Once it may be anything. Twice it may be a record, which no retry changes.
                        breaks += 1;
                        if breaks == 2 {
                            server.explain(after, until.as_deref())?;
                        }
                    }
                    saved
                });
                // Files get their names one after another, each while the next one is on its way.
                if let Some(finishing) = finishing.take() {
                    joined(finishing)?;
                }
                let Done {
                    position,
                    more,
                    part,
                } = page?;
                let Some(position) = position else {
                    return Ok(pulled);
                };
                pulled.position = Some(position.clone());
                if let Some(part) = &part {
                    pulled.files += 1;
                    pulled.bytes += part.bytes;
                }
                bar.set_message(format!("{} files, up to {position}", pulled.files));
                let finish = scope.spawn(move || match part {
                    Some(part) => part.finish(&position),
                    None => folder.note(Some(&position), None, number - 1),
                });
                if !more {
                    joined(finish)?;
                    return Ok(pulled);
                }
                finishing = Some(finish);
            }
        })
    }

    fn beyond(&self, after: Option<&str>, end: &str) -> PullError {
        PullError::Beyond {
            folder: self.folder.clone(),
            position: after.unwrap_or_default().to_owned(),
            end: match end {
                "none" => "has no record".to_owned(),
                end => format!("ends at {end}"),
            },
        }
    }

    /// Retries what may succeed later, after longer and longer waits.
    fn persistently<T>(
        &self,
        mut step: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, PullError> {
        let mut delay = Duration::from_millis(500);
        loop {
            let (url, reason, after) = match step() {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing {
                    url, reason, after, ..
                }) => (url, reason, after),
            };
            let wait = after.unwrap_or_default().max(delay);
            if delay >= LAST_DELAY || wait > LAST_DELAY {
                return Err(PullError::TryLater { url, reason });
            }
            thread::sleep(wait);
            delay *= 2;
        }
    }
}

/// Writes a page into the file of that number, if there is anything new.
fn saved<'f>(
    page: Page<'_>,
    folder: &'f Folder,
    number: u64,
    after: Option<&str>,
    bar: &ProgressBar,
) -> Result<Done<'f>, Failure> {
    let Page {
        position,
        more,
        empty,
        url,
        mut body,
        ..
    } = page;
    let Some(position) = position.filter(|position| Some(position.as_str()) != after) else {
        return Ok(Done::default());
    };
    let mut done = Done {
        position: None,
        more,
        part: None,
    };
    if !empty {
        let mut part = folder.part(number, after, &position)?;
        let mut piece = vec![0; 256 * 1024];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broke_off(&url, &error)),
            };
            bar.inc(read as u64);
            part.write(&piece[..read])?;
        }
        if part.bytes == 0 {
            // Something cut it off before its first byte, and says that this is all.
            let reason = format!("the reply is empty, and says that it ends at {position}");
            return Err(Failure::passing(&url, reason));
        }
        done.part = Some(part);
    }
    done.position = Some(position);
    Ok(done)
}

/// Waits for a thread, and returns what it returned.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// What came of a page.
#[derive(Default)]
struct Done<'f> {
    /// Where it ends; `None` if there was nothing new.
    position: Option<String>,
    /// Whether there is more after it.
    more: bool,
    /// Its file, complete but for its name; `None` if the page has no record.
    part: Option<Part<'f>>,
}

/// Why a step failed.
enum Failure {
    /// A retry may succeed, after that time if the server says so.
    Passing {
        url: String,
        reason: String,
        after: Option<Duration>,
        /// Whether a reply began, and broke off.
        broke: bool,
    },
    Final(PullError),
}

impl Failure {
    fn passing(url: &str, reason: String) -> Failure {
        Failure::Passing {
            url: url.to_owned(),
            reason,
            after: None,
            broke: false,
        }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Failure {
        Failure::Final(error)
    }
}
