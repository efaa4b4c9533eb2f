//! What stands before the value of a filter: our operators, and what looks like one but is not.

use flows_formats::Type;

use crate::selection::Operator;
use crate::suggest::nearest;

/// What stands before the value, for operators that have one.
pub(super) const OPERATORS: [(&str, Operator); 8] = [
    ("eq.", Operator::Equal),
    ("ne.", Operator::NotEqual),
    ("gt.", Operator::Greater),
    ("gte.", Operator::GreaterOrEqual),
    ("lt.", Operator::Less),
    ("lte.", Operator::LessOrEqual),
    ("in.", Operator::In),
    ("like.", Operator::Like),
];

/// What other APIs call their operators (PostgREST, Datasette, OData, Hasura, LoopBack, Django, Ransack),
/// and ours for it, with the value in place of `{}`; empty where we have none.
///
/// Names that strings may well begin with, such as PostgREST's `cs.` and `match.`, are left out.
const FOREIGN: [(&str, &[&str]); 15] = [
    ("eq.{}", &["equal", "equals", "exact", "iexact", "not.ne"]),
    (
        "ne.{}",
        &[
            "neq",
            "noteq",
            "not_eq",
            "not_equals",
            "isdistinct",
            "not.eq",
        ],
    ),
    ("gt.{}", &["not.lte"]),
    ("gte.{}", &["ge", "gteq", "not.lt"]),
    ("lt.{}", &["not.gte"]),
    ("lte.{}", &["le", "lteq", "not.gt"]),
    ("in.{}", &["inq"]),
    ("like.{}", &["ilike", "glob", "wildcard"]),
    ("like.*{}*", &["contains", "icontains", "substringof"]),
    (
        "like.{}*",
        &["startswith", "istartswith", "starts_with", "prefix"],
    ),
    (
        "like.*{}",
        &["endswith", "iendswith", "ends_with", "suffix"],
    ),
    ("is.null", &["isnull", "isblank"]),
    ("not.null", &["notnull", "isnotnull", "notblank", "not.is"]),
    (
        "",
        &[
            "nin",
            "notin",
            "not_in",
            "nlike",
            "notlike",
            "nilike",
            "notcontains",
            "between",
        ],
    ),
    (
        "",
        &[
            "regex", "iregex", "regexp", "imatch", "fts", "plfts", "phfts", "wfts",
        ],
    ),
];

/// Comparisons as programming languages write them.
const SYMBOLS: [(&str, &str); 12] = [
    (">=", "gte.{}"),
    ("=>", "gte.{}"),
    ("<=", "lte.{}"),
    ("=<", "lte.{}"),
    ("<>", "ne.{}"),
    ("!=", "ne.{}"),
    ("==", "eq.{}"),
    (">", "gt.{}"),
    ("<", "lt.{}"),
    ("!", "ne.{}"),
    ("=", "eq.{}"),
    ("~", "like.{}"),
];

/// What a filter's value may begin with, for those who got it wrong.
pub(super) fn listed() -> impl Iterator<Item = &'static str> {
    let prefixes = OPERATORS.iter().map(|(prefix, _)| *prefix);
    prefixes.chain(["is.null", "not.null"])
}

/// What looks like an operator, but is not one of ours.
#[derive(Debug, PartialEq)]
pub(super) struct Lookalike {
    /// As it was written.
    pub(super) written: String,
    /// What may have been meant.
    pub(super) suggestion: Option<String>,
}

/// What `text` begins with, if that is meant as an operator but is not one.
///
/// A string may be anything, so that only what strings hardly begin with counts in a column of
/// strings; in others nothing but an operator begins with letters.
pub(super) fn lookalike(kind: Type, text: &str) -> Option<Lookalike> {
    let found = |written: &str, meant: &str| {
        let value = text[written.len()..].trim_start_matches('.');
        Lookalike {
            written: written.to_owned(),
            suggestion: (!meant.is_empty()).then(|| meant.replace("{}", value)),
        }
    };
    if let Some((symbol, meant)) = SYMBOLS.iter().find(|(symbol, _)| text.starts_with(symbol)) {
        return Some(found(symbol, meant));
    }
    // Hasura's `_eq`, Strapi's `$eq`.
    let bare = text.trim_start_matches(['_', '$']);
    let marks = text.len() - bare.len();
    let begins_with = |name: &str| {
        let rest = bare.as_bytes().get(name.len()..);
        rest.is_some_and(|rest| rest.starts_with(b".") || rest.starts_with(b"("))
            && bare.as_bytes()[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    for (meant, names) in FOREIGN {
        if let Some(name) = names.iter().find(|name| begins_with(name)) {
            return Some(found(&text[..marks + name.len()], meant));
        }
    }
    let (word, _) = bare.split_once(['.', '('])?;
    let written = &text[..marks + word.len()];
    let ours = OPERATORS.map(|(prefix, _)| prefix.trim_end_matches('.'));
    let meant = if let Some(ours) = ours.iter().find(|ours| is_permuted(ours, word)) {
        ours
    } else {
        let is_word = word.bytes().all(|byte| byte.is_ascii_alphabetic());
        if matches!(kind, Type::Text | Type::Json) || !is_word || ["is", "not"].contains(&word) {
            return None;
        }
        nearest(word, &ours)?
    };
    Some(found(written, &format!("{meant}.{{}}")))
}

/// Whether this is our operator in capitals, or with its letters in another order, as in `liek`. Two
/// letters in either order may well begin a string.
fn is_permuted(ours: &str, word: &str) -> bool {
    let letters = |word: &str| {
        let mut letters = word.to_ascii_lowercase().into_bytes();
        letters.sort_unstable();
        letters
    };
    let permuted = || ours.len() > 2 && ours.len() == word.len() && letters(ours) == letters(word);
    ours.eq_ignore_ascii_case(word) || permuted()
}

#[cfg(test)]
mod tests {
    use flows_formats::Type;

    use super::lookalike;

    #[test]
    fn what_looks_like_an_operator() {
        for (text, written, suggestion) in [
            ("ilike.c1*", "ilike", Some("like.c1*")),
            ("ILIKE.c1*", "ILIKE", Some("like.c1*")),
            ("neq.C17", "neq", Some("ne.C17")),
            ("not.eq.C17", "not.eq", Some("ne.C17")),
            ("not.is.null", "not.is", Some("not.null")),
            ("EQ.C17", "EQ", Some("eq.C17")),
            ("_gt.C17", "_gt", Some("gt.C17")),
            ("$gte.C17", "$gte", Some("gte.C17")),
            ("liek.C1*", "liek", Some("like.C1*")),
            ("get.C1", "get", Some("gte.C1")),
            ("ge.C1", "ge", Some("gte.C1")),
            ("in(C1,C2)", "in", Some("in.(C1,C2)")),
            ("contains.17", "contains", Some("like.*17*")),
            ("startswith.C", "startswith", Some("like.C*")),
            ("between.1,2", "between", None),
            ("fts(english).x", "fts", None),
            (">C17", ">", Some("gt.C17")),
            (">=C17", ">=", Some("gte.C17")),
            ("<>C17", "<>", Some("ne.C17")),
            ("=C17", "=", Some("eq.C17")),
        ] {
            for kind in [Type::Text, Type::Integer] {
                let found = lookalike(kind, text).unwrap_or_else(|| panic!("{text}"));
                let suggested = found.suggestion.as_deref();
                assert_eq!((found.written.as_str(), suggested), (written, suggestion));
            }
        }
        let found = lookalike(Type::Integer, "gtr.5").unwrap();
        assert_eq!(found.suggestion.as_deref(), Some("gt.5"));
    }

    #[test]
    fn what_is_a_string() {
        for text in [
            "",
            "C17",
            "example.com",
            "C17.local",
            "en.wikipedia.org",
            "live.com",
            "gate.x",
            "nl.x",
            "cs.stanford.edu",
            "match.com",
            "_C17",
            "$",
            "a(b)",
            "ilike",
            "neq",
            "né.x",
            "-1.5",
            "…",
            "中.cn",
            ".",
            "(",
            "mailto:x@y.z",
            "10.0.0.1",
        ] {
            assert_eq!(lookalike(Type::Text, text), None, "{text}");
        }
        for text in ["1.5", "-1.5", "9e9", "inf", "x", ""] {
            assert_eq!(lookalike(Type::Real, text), None, "{text}");
        }
    }
}
