//! "Did you mean …?": the nearest valid name to one that is not.

/// The candidate nearest to `given`, if one is near enough to be what was meant.
///
/// ```
/// use flows::suggest::nearest;
/// assert_eq!(nearest("scaned_after", &["scanned_after", "limit"]), Some("scanned_after"));
/// assert_eq!(nearest("cvs", &["csv", "xml"]), Some("csv"));
/// assert_eq!(nearest("colour", &["scanned_after", "limit"]), None);
/// ```
pub fn nearest<'a>(given: &str, candidates: &'a [impl AsRef<str>]) -> Option<&'a str> {
    // What a client sends may be long; nothing that long is near to a name of ours.
    if given.len() > 100 {
        return None;
    }
    candidates
        .iter()
        .map(AsRef::as_ref)
        .map(|candidate| (strsim::osa_distance(given, candidate), candidate))
        .filter(|(errors, candidate)| *errors <= candidate.len().div_ceil(3))
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}
