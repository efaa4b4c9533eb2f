//! A table `flows` that is spread over several servers, as the README shows.

use std::io::Write;
use std::thread;

use super::cluster::Cluster;

/// The database of each server that has a part of the table, or leads to the parts.
const DATABASE: &str = "flows";

/// A server that leads to the table `flows`, and the servers that have its records.
pub(crate) struct Sharded {
    pub(crate) coordinator: Cluster,
    pub(crate) shards: Vec<Cluster>,
}

impl Sharded {
    /// The records before the first of these times are in the first shard, and so on, those from the last
    /// time on in one shard more.
    pub(crate) fn by_time(bounds: &[i64]) -> Sharded {
        let sharded = Sharded::start(bounds.len() + 1);
        let bound = |at: usize| bounds.get(at).map(i64::to_string);
        for number in 0..sharded.shards.len() {
            let from = number.checked_sub(1).and_then(bound);
            let from = from.unwrap_or_else(|| "MINVALUE".to_owned());
            let to = bound(number).unwrap_or_else(|| "MAXVALUE".to_owned());
            let bounds = [("from", from.as_str()), ("to", to.as_str())];
            sharded.add(
                number,
                include_str!("../../sql/sharded_by_time.sql"),
                &bounds,
            );
        }
        sharded
    }

    /// The records are in so many shards, each where the hash of its id says.
    pub(crate) fn by_hash(shards: usize) -> Sharded {
        let sharded = Sharded::start(shards);
        let shards = shards.to_string();
        for number in 0..sharded.shards.len() {
            let of = [("shards", shards.as_str()), ("number", &number.to_string())];
            sharded.add(number, include_str!("../../sql/sharded_by_hash.sql"), &of);
        }
        sharded
    }

    /// The URL of the database that leads to the table.
    pub(crate) fn url(&self) -> String {
        self.coordinator.url(DATABASE)
    }

    /// Runs a script where the whole table is seen.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.coordinator.sql(DATABASE, sql)
    }

    /// Runs a script in the shard of that number.
    #[track_caller]
    pub(crate) fn shard_sql(&self, number: usize, sql: &str) -> String {
        self.shards[number].sql(DATABASE, sql)
    }

    /// Servers with the shards' tables, that do not know of each other.
    fn start(shards: usize) -> Sharded {
        let start = |script: &'static str| {
            thread::spawn(move || {
                let cluster = Cluster::start();
                cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
                cluster.sql(DATABASE, script);
                cluster
            })
        };
        let coordinator = start("");
        let shards = (0..shards).map(|_| start(include_str!("../../sql/shard.sql")));
        let shards: Vec<_> = shards.collect();
        Sharded {
            coordinator: coordinator.join().unwrap(),
            shards: shards
                .into_iter()
                .map(|shard| shard.join().unwrap())
                .collect(),
        }
    }

    /// Adds the shard of that number to the table, by a script.
    fn add(&self, number: usize, script: &str, part: &[(&str, &str)]) {
        let shard = format!("shard_{number}");
        let port = self.shards[number].port().to_string();
        let place = [
            ("shard", shard.as_str()),
            ("host", "127.0.0.1"),
            ("port", port.as_str()),
            ("password", ""),
        ];
        let variables = [&place[..], part].concat();
        let write = |psql: &mut dyn Write| psql.write_all(script.as_bytes());
        self.coordinator.script(DATABASE, &variables, write);
    }
}
