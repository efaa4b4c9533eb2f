//! Black-box tests: the real command, the real database, real TCP.
//!
//! | module | what it tests |
//! |---|---|
//! | `harness` | starts the command, speaks HTTP, makes databases |
//! | `postgres` | starts PostgreSQL servers, alone and sharded, and copies SQLite files into them |
//! | `store` | makes of one test two, on SQLite and on PostgreSQL |
//! | `endpoint` | what a request may say, and what comes back |
//! | `abuse` | clients that mean harm, beside one that does not |
//! | `broken` | failures before and after the head |
//! | `files` | the file under a running server: replaced, gone, back |
//! | `read_only` | databases and folders that can only be read |
//! | `clients` | clients that leave, are slow, are many; stopping |
//! | `reader` | starts readers and clients that are not ours |
//! | `conditions` | `ETag`, conditions and ranges of documents that are known before their head |
//! | `negotiation` | `Accept`, `Accept-Encoding`, options of formats, what clients can learn |
//! | `foreign` | every format and coding, read by readers that are not ours |
//! | `instants` | the same instants to five tools |
//! | `positions` | `after`, `Flows-Position`, `Link`, `order`, `count` |
//! | `proxy` | a proxy that breaks replies |
//! | `pull` | `flows pull` |
//! | `pull_tls` | `flows pull` over TLS and with a token |
//! | `queries` | streams of a query in the place of a table |
//! | `selecting` | `columns`, filters |
//! | `lists` | filters by `in.` lists |
//! | `times` | instants in windows, positions and filters, whatever the database holds |
//! | `ids` | ids that are strings, and rowids |
//! | `differential` | random requests of random tables, against Python's sqlite3 |
//! | `slices` | slices of one stream at once |
//! | `values` | declared types against what SQLite holds |
//! | `commands` | `generate`, `formats`, `demo`, `--help`; what `serve` survives |
//! | `import` | `flows import` |
//! | `check` | `flows check` |
//! | `init` | `flows init` |
//! | `configuration` | file, environment, flags |
//! | `reload` | SIGHUP |
//! | `operations` | what docs/operations.md prints |
//! | `service` | under a service manager: what it is told, the sockets that it passes |
//! | `databases` | several databases behind one server |
//! | `access` | tokens: who may read what |
//! | `cors` | pages of other origins |
//! | `strangers` | addresses that more than this machine can reach |
//! | `descriptors` | how many files and sockets the process may open |
//! | `limits` | how much of anything a client may have, and what it gets that wants more |
//! | `log` | what a line of the log says; a standard error that cannot be written |
//! | `tls` | what is served over TLS; `certificates` makes the certificates |
//! | `health` | whether the server lives, and is ready |
//! | `metrics` | `/metrics`: each ending, provoked |
//! | `tools` | with sqlite3, awk, gzip and curl; ignored unless `tests/run` has installed them |

mod abuse;
mod access;
mod broken;
mod certificates;
mod check;
mod clients;
mod commands;
mod conditions;
mod configuration;
mod cors;
mod databases;
mod descriptors;
mod differential;
mod endpoint;
mod files;
mod foreign;
mod harness;
mod health;
mod ids;
mod import;
mod init;
mod instants;
mod limits;
mod lists;
mod log;
mod metrics;
mod negotiation;
mod operations;
mod positions;
mod postgres;
mod proxy;
mod pull;
mod pull_tls;
mod queries;
mod read_only;
#[path = "../foreign/mod.rs"]
mod reader;
mod reload;
mod selecting;
mod service;
mod slices;
mod store;
mod strangers;
mod times;
mod tls;
mod tools;
mod values;
