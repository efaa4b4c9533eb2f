//! LANL's flows: the data set that `flows` grew up with, and all that knows its nine columns.
//!
//! The server itself serves any table; nothing outside this module and `main.rs` uses it.
//!
//! | file | what it does |
//! |---|---|
//! | `lanl/flow.rs` | a line's nine columns, and what they hold |
//! | `lanl/generate.rs` | makes lines of the same shape |
//! | `lanl/import.rs` | loads lines into a table |

pub mod flow;
pub mod generate;
pub mod import;
