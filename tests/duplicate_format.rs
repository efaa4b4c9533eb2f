//! The registry refuses two formats of one name: a client could not tell them apart.

use flows_formats::{Format, Registry};

inventory::submit! {
    Format {
        name: "csv",
        media_types: &["text/x-other"],
        aliases: &[],
        extensions: &["other"],
        summary: "Another format that calls itself csv",
        compressed: false,
        raw: false,
        options: &[],
        encoder: |_, _| Err(flows_formats::Error::new("csv", "never used")),
    }
}

#[test]
fn two_formats_of_one_name_are_refused() {
    let error = Registry::load().unwrap_err().to_string();
    for part in [
        "name \"csv\"",
        "Another format that calls itself csv",
        "RFC 4180",
        "rename",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
