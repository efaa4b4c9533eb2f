//! PostgreSQL servers for the tests.
//!
//! | module | what it has |
//! |---|---|
//! | `guard` | a folder in which servers run that are gone with this process |
//! | `cluster` | one server |
//! | `copy` | the tables of a SQLite file, copied into it |
//! | `sharded` | a table that is spread over several servers |
//! | `bouncer` | PgBouncer before a server |
//! | `differential` | the same requests to a file and to a server |
//! | `types` | what PostgreSQL has types of its own for |
//! | `faults` | servers that are down or hang, clients that leave |
//! | `arrivals` | the order of ids beside writers |
//! | `shards` | streams of a table that is spread |
//! | `tests` | that all this is what it says |

mod arrivals;
mod bouncer;
mod cluster;
mod copy;
mod differential;
mod faults;
mod guard;
mod sharded;
mod shards;
mod tests;
mod types;

use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

pub(crate) use bouncer::{Bouncer, Mode};
pub(crate) use cluster::Cluster;
pub(crate) use sharded::Sharded;

/// The server that the tests of this process share, started when the first one needs it. Those that stop or
/// hurt one start their own.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

/// Copies the tables of a SQLite file into a new database of the shared server: its name. It is dropped when
/// the thread ends that asked for it, and so with the test.
#[track_caller]
pub(crate) fn shared_copy(sqlite: &Path) -> String {
    thread_local! {
        static MINE: RefCell<Vec<Dropped>> = const { RefCell::new(Vec::new()) };
    }
    let name = shared().create();
    MINE.with_borrow_mut(|mine| mine.push(Dropped(name.clone())));
    shared().copy(sqlite, &name);
    name
}

/// The name of a database of the shared server, which is dropped with it.
struct Dropped(String);

impl Drop for Dropped {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.0);
        // A panic in here would end all tests; what is left goes with the server.
        let write = |psql: &mut dyn Write| psql.write_all(sql.as_bytes());
        let _ = shared().try_script("postgres", &[], write);
    }
}
