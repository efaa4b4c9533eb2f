//! Random requests of random tables, answered as Python answers them from what its sqlite3 reads.

use crate::harness::{is_long, python};

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn random_requests_of_random_tables_are_answered_by_the_rules() {
    let mut differential = python("differential.py");
    differential.arg(env!("CARGO_BIN_EXE_flows"));
    differential.args(["--seconds", if is_long() { "600" } else { "60" }]);
    if let Ok(seed) = std::env::var("DIFFERENTIAL_SEED") {
        differential.args(["--seed", &seed]);
    }
    // Its seed, and what differs, go where they are seen.
    assert!(differential.status().unwrap().success());
}
