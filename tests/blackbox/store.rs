//! Tests that run on every kind of database.

use std::path::Path;

use rusqlite::Connection;

use crate::harness::Server;
use crate::postgres::{shared, shared_copy};

/// Makes of a function that takes a [`Store`] two tests: `NAME::sqlite` and `NAME::postgres`.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::store::Store;

            #[test]
            fn sqlite() {
                super::$name(Store::Sqlite);
            }

            #[test]
            #[ignore = "needs PostgreSQL, which tests/run installs"]
            fn postgres() {
                super::$name(Store::Postgres);
            }
        }
    )+};
}

pub(crate) use both;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    /// What a SQLite file holds, in a database of this kind that the test may change: what `--database` takes.
    #[track_caller]
    pub(crate) fn database(self, sqlite: &Path) -> String {
        match self {
            Store::Sqlite => sqlite.to_str().unwrap().to_owned(),
            Store::Postgres => shared().url(&shared_copy(sqlite)),
        }
    }

    /// Serves what a SQLite file holds, from a database of this kind.
    #[track_caller]
    pub(crate) fn serve(self, folder: &Path, sqlite: &Path, configuration: &str) -> Server {
        Server::with(folder, &self.database(sqlite), configuration)
    }

    /// Runs statements in a database that [`Store::database`] has told.
    #[track_caller]
    pub(crate) fn execute(self, database: &str, sql: &str) {
        match self {
            Store::Sqlite => Connection::open(database)
                .unwrap()
                .execute_batch(sql)
                .unwrap(),
            Store::Postgres => {
                let (_, name) = database.rsplit_once('/').unwrap();
                shared().sql(name, sql);
            }
        }
    }
}
