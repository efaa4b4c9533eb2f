//! Streams time-stamped records out of a database over HTTP, in the format the client names.
//!
//! One request is one window of one table: it starts at once, holds a constant amount of memory,
//! and is either complete or visibly broken.
//!
//! # The map
//!
//! Arrows point one way: `main → http → stream → store → formats`.
//!
//! | module | what it holds |
//! |---|---|
//! | `main.rs` | the command line; `main/serve.rs`: serving until a signal, and what SIGHUP changes; `main/service.rs`: what a service manager passes and is told; `main/strangers.rs`: addresses that everybody can reach; `main/token.rs`: a new token |
//! | [`http`] | warp filters: path, parameters, connection, reply, problem; the accept loop |
//! | [`stream`] | the pump: records → encoder → bounded chunks, in slices at once where cores are idle |
//! | [`store`] | what a database must offer; [`store::sqlite`] reads a file, [`store::postgres`] asks a server |
//! | [`definition`] | what a stream is: a table or a query, and what of it is served |
//! | [`selection`] | which records a client asks for: windows, positions, ranges |
//! | [`config`] | file + environment + flags → one typed configuration |
//! | [`descriptors`] | how many files and sockets the process may open, and who gets how many |
//! | [`init`] | `flows init`: a configuration for a database that nobody has described |
//! | [`lanl`] | LANL's data set: its lines, made and loaded into a table |
//! | [`log`] | standard error, which no request waits for |
//! | [`listing`] | the registry of formats, in print |
//! | [`pull`] | `flows pull`: what is new of a stream, into files |
//! | [`suggest`] | "did you mean …?" |
//! | [`token`] | what a token looks like, what is kept of it, and how it stays out of the log |
//! | [`flows_formats`] | (package `formats/`) what a format is, and one file per format |
//!
//! # The path of a request
//!
//! 1. [`http::server`] accepts a connection and notes the request's id.
//! 2. Filters turn path and query into a [`selection::View`], a range of it and a format, refuse
//!    what they do not understand, and borrow a connection.
//! 3. [`stream::at_once`] writes a document that is small and found at once on the spot.
//! 4. For any other, [`stream::start`] runs the scan on a thread that may block: the store pushes
//!    each record into the encoder, whose bytes leave in chunks through a bounded channel.
//! 5. The reply's head waits for the first chunk, so that what fails early has a status. A document
//!    that fits into it is one write; any other is a chunked body, which a failure leaves without
//!    its end.

#![forbid(unsafe_code)]

pub mod config;
pub mod definition;
pub mod descriptors;
pub mod http;
pub mod init;
pub mod lanl;
pub mod listing;
pub mod log;
pub mod pull;
pub mod selection;
pub mod store;
pub mod stream;
pub mod suggest;
pub mod token;
