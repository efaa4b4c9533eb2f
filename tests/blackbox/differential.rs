//! Random requests of random tables, answered as Python answers them from what its sqlite3 reads.

use crate::harness::{is_long, python};

/// Runs a script for so many seconds, or for ten times as many.
fn differs_nowhere(script: &str, seconds: u32) {
    let mut differential = python(script);
    differential.arg(env!("CARGO_BIN_EXE_flows"));
    let seconds = if is_long() { 10 * seconds } else { seconds };
    differential.args(["--seconds", &seconds.to_string()]);
    if let Ok(seed) = std::env::var("DIFFERENTIAL_SEED") {
        differential.args(["--seed", &seed]);
    }
    // Its seed, and what differs, go where they are seen.
    assert!(differential.status().unwrap().success());
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn random_requests_of_random_tables_are_answered_by_the_rules() {
    differs_nowhere("differential.py", 60);
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn random_requests_of_times_days_decimals_and_ids_that_are_strings_are_answered_by_the_rules() {
    differs_nowhere("typed_differential.py", 30);
}
