//! "Did you mean …?": the nearest valid name to one that is not.

/// The candidate nearest to `given`, if one is near enough to be what was meant.
///
/// ```
/// use flows::suggest::nearest;
/// assert_eq!(nearest("scaned_after", &["scanned_after", "limit"]), Some("scanned_after"));
/// assert_eq!(nearest("colour", &["scanned_after", "limit"]), None);
/// ```
pub fn nearest<'a>(given: &str, candidates: &'a [impl AsRef<str>]) -> Option<&'a str> {
    // What a client sends may be long; nothing that long is near to a name of ours.
    if given.len() > 100 {
        return None;
    }
    candidates
        .iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(given, candidate.as_ref()),
                candidate.as_ref(),
            )
        })
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
