//! Whether some records are as the stream declares them, and what to declare instead.

use flows_formats::Type;
use rusqlite::types::{Value, ValueRef};

use super::StreamCheck;
use crate::definition::{Stored, declaration};
use crate::store::Finding;
use crate::store::guess::{Known, guess, is_read, nulls, thousands};
use crate::store::reading::{Reading, described, expected};
use crate::store::sqlite::held;
use crate::store::sqlite::query::Query;
use crate::store::sqlite::sample::sample;
use crate::store::sqlite::table::{Affinity, Table};
use crate::store::values::{part, position_must_be};

impl StreamCheck<'_> {
    /// Looks at records of both ends and of the middle, as a scan reads them: is every value of its columns
    /// what it must be? The error is what cannot work: a time or an id that is none.
    pub(super) fn sampled(
        &self,
        table: &Table,
        query: &Query,
        findings: &mut Vec<Finding>,
    ) -> Result<(), String> {
        let names = query.names();
        let kept = |name: &String| table.affinity(name).unwrap_or(Affinity::Blob);
        let columns = query.columns().iter().cloned();
        let expressions: Vec<_> = columns.zip(names.iter().map(kept)).collect();
        let sample = match sample(
            self.connection,
            &self.stream.relation(),
            table,
            &expressions,
        ) {
            Ok(sample) => sample,
            Err(error) => {
                // Others may be served up to it.
                let text = format!("some of its records cannot be read: {error}");
                findings.push(self.warning(text));
                return Ok(());
            }
        };
        for (name, values) in names.iter().zip(&sample.columns) {
            let column = Sampled {
                check: self,
                table,
                name,
                values,
            };
            if let Some(error) = column.position() {
                return Err(error);
            }
            findings.extend(column.value().map(|text| self.warning(text)));
        }
        Ok(())
    }
}

/// The sampled values of a column.
struct Sampled<'a> {
    check: &'a StreamCheck<'a>,
    table: &'a Table,
    name: &'a str,
    values: &'a [Value],
}

impl Sampled<'_> {
    fn declared(&self) -> (Type, Stored) {
        self.check.stream.declared(self.name)
    }

    /// What is wrong with a column of times or ids.
    fn position(&self) -> Option<String> {
        let stream = self.check.stream;
        let what = match self.name {
            name if name == stream.time => "time",
            name if name == stream.id => "id",
            _ => return None,
        };
        let is = |value: &Value| part(stream, self.name, held(ValueRef::from(value))).is_some();
        let wrong = self.values.iter().find(|value| !is(value))?;
        let instead = self.instead().unwrap_or_else(|| {
            "name a column that has no other values, such as a generated one".to_owned()
        });
        let (name, table) = (self.name, stream.origin());
        Some(format!(
            "the {what} column {name} of the {table} holds {}, but it must be {}, since records are ordered and \
             windows cut by it; {instead}",
            described(held(ValueRef::from(wrong))),
            position_must_be(stream, name),
        ))
    }

    /// What is wrong with a column of any values.
    fn value(&self) -> Option<String> {
        let (kind, stored) = self.declared();
        if [&self.check.stream.time, &self.check.stream.id].contains(&&self.name.to_owned()) {
            return None;
        }
        let columns = &self.check.stream.schema.columns;
        let nullable = columns
            .iter()
            .find(|column| column.name == self.name)?
            .nullable;
        let (name, all, nulls) = (self.name, self.values.len(), nulls(self.values));
        if nulls > 0 && !nullable {
            return Some(format!(
                "in the column {name}, which is not declared nullable, {} of {} sampled values are null, each \
                 of which breaks the stream; declare `nullable = true`",
                thousands(nulls),
                thousands(all)
            ));
        }
        let mut reading = Reading::new(kind, stored);
        let mut wrong = self
            .values
            .iter()
            .filter(|value| **value != Value::Null && !is_read(&mut reading, value));
        let first = described(held(ValueRef::from(wrong.next()?)));
        Some(format!(
            "in the column {name}, {} of {} sampled values are not {}, such as {first}, each of which breaks \
             the stream; {}",
            thousands(1 + wrong.count()),
            thousands(all),
            expected(kind, stored),
            self.instead().unwrap_or_else(|| "correct them".to_owned())
        ))
    }

    /// What to declare instead, or what would help.
    fn instead(&self) -> Option<String> {
        let (kind, stored) = self.declared();
        let known = Known {
            table: &self.check.stream.relation(),
            view: self.table.view,
            name: self.name,
            declared: match kind {
                Type::Timestamp(_) => "TIMESTAMP",
                _ => "",
            },
            is_json: false,
        };
        let found = guess(&known, self.values);
        if let Some(why) = found.no_time.filter(|_| self.name != self.check.stream.id) {
            return Some(why);
        }
        let is_other = (found.kind, found.stored) != (kind, stored);
        let keys = declaration(found.kind, found.stored);
        is_other.then(|| match found.guessed {
            Some(why) => format!("declare `{keys}` ({why})"),
            None => format!("declare `{keys}`"),
        })
    }
}
