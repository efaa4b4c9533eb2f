//! Readers and clients that are not ours: `tests/readers.py` and `tests/clients.py`, each in a process
//! that answers one question after another; and what they are to answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flows_formats::Schema;
use flows_formats::time::Unit;
use serde_json::{Value as Json, json};

/// A value that owns its text.
#[derive(Clone, Debug)]
pub(crate) enum Owned {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    Timestamp(Unit, i64),
    Date(i64),
    Boolean(bool),
    Decimal(String),
    Json(String),
}

/// Whether a number's text is the number, NaN and infinities included.
pub(crate) fn is_real(text: &str, real: f64) -> bool {
    text.replace("INF", "inf")
        .parse::<f64>()
        .is_ok_and(|read| read.to_bits() == real.to_bits() || (read.is_nan() && real.is_nan()))
}

/// A script of `tests/`, running.
pub(crate) struct Script {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Script {
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Script {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        let mut child = Command::new(format!("{tests}/.venv/bin/python"))
            .arg(format!("{tests}/{script}"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/run makes tests/.venv");
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Script {
            child,
            questions,
            answers,
        }
    }

    /// The answer to a line, and what belongs to it.
    pub(crate) fn ask(&mut self, line: &Json, document: &[u8]) -> Json {
        writeln!(self.questions, "{line}").unwrap();
        self.questions.write_all(document).unwrap();
        self.questions.flush().unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A reader of `tests/readers.py`.
pub(crate) struct Reader(Script);

/// What a reader found.
pub(crate) struct Read {
    pub(crate) names: Vec<String>,
    pub(crate) records: Vec<Vec<Json>>,
}

impl Reader {
    pub(crate) fn start(name: &str) -> Reader {
        Reader(Script::start("readers.py", &[name]))
    }

    /// What it reads, or what it says is wrong.
    pub(crate) fn read(&mut self, schema: &Schema, document: &[u8]) -> Result<Read, String> {
        let columns = schema
            .columns
            .iter()
            .map(|c| json!([c.name, c.kind.name()]));
        let head = json!({ "bytes": document.len(), "columns": columns.collect::<Json>() });
        let answer = self.0.ask(&head, document);
        if let Some(error) = answer.as_str() {
            return Err(error.to_owned());
        }
        Ok(Read {
            names: serde_json::from_value(answer["names"].clone()).unwrap(),
            records: serde_json::from_value(answer["records"].clone()).unwrap(),
        })
    }
}

/// Undoes SQL/XML's `_xHHHH_`.
pub(crate) fn column_name(element: &str) -> String {
    let mut name = String::new();
    let mut rest = element;
    while let Some(at) = rest.find("_x") {
        let (before, escape) = rest.split_at(at);
        let (digits, after) = escape[2..].split_once('_').unwrap();
        name.push_str(before);
        name.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
        rest = after;
    }
    name + rest
}

pub(crate) fn bits(real: f64) -> Json {
    // All that is not a number is the same to a reader.
    let real = if real.is_nan() { f64::NAN } else { real };
    json!({ "real": format!("{:016x}", real.to_bits()) })
}

/// A value in a format that has types.
pub(crate) fn typed(value: &Owned) -> Json {
    match value {
        Owned::Null => Json::Null,
        Owned::Integer(integer) => json!({ "integer": integer.to_string() }),
        Owned::Real(real) => bits(*real),
        Owned::Text(text) => json!({ "text": text }),
        Owned::Blob(blob) => json!({ "blob": STANDARD.encode(blob) }),
        Owned::Timestamp(unit, value) => {
            let nanoseconds = 1_000_000_000 / i128::from(unit.per_second());
            json!({ "instant": (i128::from(*value) * nanoseconds).to_string() })
        }
        Owned::Date(days) => json!({ "date": days }),
        Owned::Boolean(boolean) => json!({ "boolean": boolean }),
        Owned::Decimal(text) => {
            // Readers do not tell zeros after the point, nor the sign of zero.
            let text = match text.split_once('.') {
                Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
                None => text,
            };
            json!({ "decimal": if text == "-0" { "0" } else { text } })
        }
        Owned::Json(text) => json!({ "json": serde_json::from_str::<Json>(text).unwrap() }),
    }
}

/// A value in JSON, which has neither NaN nor infinities nor blobs.
pub(crate) fn in_json(value: &Owned) -> Json {
    match value {
        Owned::Real(real) if !real.is_finite() => Json::Null,
        Owned::Blob(blob) => json!({ "text": STANDARD.encode(blob) }),
        // It is the same as none.
        Owned::Json(text) if text.trim() == "null" => Json::Null,
        value => typed(value),
    }
}

/// Whether DuckDB read this of a value in JSON, where it takes numbers with a point for doubles.
pub(crate) fn is_in_duckdbs_json(read: &Json, value: &Owned) -> bool {
    match value {
        Owned::Decimal(text) => {
            let read = read["decimal"].as_str().map(str::parse::<f64>);
            read == Some(text.parse())
        }
        value => *read == in_json(value),
    }
}

/// Whether a string is the value's.
pub(crate) fn is_text(read: &Json, value: &Owned) -> bool {
    match (value, read["text"].as_str()) {
        (Owned::Null, None) => *read == Json::Null,
        (Owned::Integer(integer), Some(text)) => text == integer.to_string(),
        (Owned::Real(real), Some(text)) => is_real(text, *real),
        (Owned::Text(expected), Some(text)) => text == expected,
        (Owned::Blob(blob), Some(text)) => text == STANDARD.encode(blob),
        // What the reader takes their text for.
        (_, None) => *read == typed(value),
        _ => false,
    }
}
