//! What the server knows of a stream's table or query: its columns, what is unique, where it is.

use std::collections::HashMap;

use super::failure::Failure;
use super::kind::Kind;
use super::session::{Session, Watch};
use crate::definition::Source;
use crate::store::quoted;

/// A table, a view or a query.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// What SQL reads from.
    pub(super) sql: String,
    /// Its columns, in order.
    pub(super) columns: Vec<Column>,
    /// Sets of columns of which no two records have the same values, the primary key first.
    pub(super) unique: Vec<Vec<String>>,
    /// The columns of each index, in order, each set with its name.
    pub(super) indexes: Vec<(String, Vec<String>)>,
    /// Whether some of it is on other servers.
    pub(super) is_foreign: bool,
    /// Whether it is a view, or a query.
    pub(super) is_view: bool,
    /// Itself, and what it is made of: partitions, and children that inherit.
    pub(super) tables: Vec<u32>,
    /// What the ids are drawn from.
    pub(super) sequences: Vec<Sequence>,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) oid: u32,
    pub(super) modifier: i32,
    /// Whether it may be null, for all that is known.
    pub(super) nullable: bool,
}

/// A sequence that a column's default draws from.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) oid: u32,
    pub(super) column: String,
    /// How many values a session draws at once.
    pub(super) cache: i64,
}

impl Relation {
    /// Looks at a stream's table. `Err(None)`: there is no such table.
    pub(super) fn look(
        session: &mut Session,
        source: &Source,
        watch: Watch<'_>,
    ) -> Result<Relation, Option<Failure>> {
        let (sql, oid) = match source {
            Source::Query(query) => {
                // What may end a statement is no part of one.
                let query = query.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
                (format!("({query}\n)"), None)
            }
            Source::Table(name) => {
                let (sql, oid) = find(session, name, watch)?.ok_or(None)?;
                (sql, Some(oid))
            }
        };
        let mut relation = Relation {
            columns: columns(session, &sql, watch)?,
            sql,
            unique: Vec::new(),
            indexes: Vec::new(),
            is_foreign: false,
            is_view: true,
            tables: Vec::new(),
            sequences: Vec::new(),
        };
        if let Some(oid) = oid {
            relation.look_closer(session, oid, watch)?;
        }
        Ok(relation)
    }

    fn look_closer(
        &mut self,
        session: &mut Session,
        oid: u32,
        watch: Watch<'_>,
    ) -> Result<(), Failure> {
        let indexes = session.ask(
            &format!(
                "SELECT c.relname, i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL, \
                 i.indpred IS NULL, a.attname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid, \
                 unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) LEFT JOIN pg_attribute AS a \
                 ON a.attrelid = {oid} AND a.attnum = k.number WHERE i.indrelid = {oid} AND i.indisvalid AND \
                 k.place <= i.indnkeyatts ORDER BY i.indisprimary DESC, i.indexrelid, k.place"
            ),
            watch,
        )?;
        let not_null = session.ask(
            &format!("SELECT attname FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND attnotnull"),
            watch,
        )?;
        for column in &mut self.columns {
            let is_it = |row: &Vec<Option<String>>| row[0].as_ref() == Some(&column.name);
            column.nullable = !not_null.rows.iter().any(is_it);
        }
        let mut unique = Vec::new();
        for row in indexes.rows {
            let [Some(index), is_unique, is_whole, column] = &row[..] else {
                continue;
            };
            if is_whole.as_deref() != Some("t") {
                continue;
            }
            if self.indexes.last().is_none_or(|(last, _)| last != index) {
                self.indexes.push((index.clone(), Vec::new()));
                unique.push(is_unique.as_deref() == Some("t"));
            }
            if let Some((_, columns)) = self.indexes.last_mut() {
                // An expression has no name.
                columns.push(column.clone().unwrap_or_default());
            }
        }
        let sets = self
            .indexes
            .iter()
            .zip(unique)
            .filter(|(_, unique)| *unique);
        self.unique = sets.map(|((_, columns), _)| columns.clone()).collect();
        let tables = session.ask(
            &format!(
                "WITH RECURSIVE tables (oid) AS (SELECT {oid}::oid UNION SELECT i.inhrelid FROM pg_inherits AS i \
                 JOIN tables AS t ON i.inhparent = t.oid) SELECT c.oid, c.relkind FROM tables JOIN pg_class AS c \
                 USING (oid)"
            ),
            watch,
        )?;
        self.is_view = false;
        for row in &tables.rows {
            let [Some(table), Some(kind)] = &row[..] else {
                continue;
            };
            self.is_foreign |= kind == "f";
            self.is_view |= kind == "v" || kind == "m";
            self.tables.extend(table.parse::<u32>());
        }
        let sequences = session.ask(
            &format!(
                "SELECT s.seqrelid, a.attname, s.seqcache FROM pg_attribute AS a JOIN (SELECT d.objid AS sequence, \
                 d.refobjsubid AS number FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.refclassid \
                 = 'pg_class'::regclass AND d.refobjid = {oid} AND d.deptype IN ('a', 'i') UNION SELECT d.refobjid, \
                 f.adnum FROM pg_attrdef AS f JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = \
                 f.oid AND d.refclassid = 'pg_class'::regclass WHERE f.adrelid = {oid}) AS drawn ON a.attnum = \
                 drawn.number JOIN pg_sequence AS s ON s.seqrelid = drawn.sequence WHERE a.attrelid = {oid}"
            ),
            watch,
        )?;
        for row in sequences.rows {
            if let [Some(oid), Some(column), Some(cache)] = &row[..]
                && let (Ok(oid), Ok(cache)) = (oid.parse(), cache.parse())
            {
                let column = column.clone();
                self.sequences.push(Sequence { oid, column, cache });
            }
        }
        Ok(())
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether no two records have the same values of these columns.
    pub(super) fn is_unique(&self, columns: &[&str]) -> bool {
        let among = |set: &Vec<String>| set.iter().all(|column| columns.contains(&column.as_str()));
        self.unique.iter().any(among)
    }
}

/// The SQL and the number of the relation of that name: a name, or with its schema.
fn find(
    session: &mut Session,
    name: &str,
    watch: Watch<'_>,
) -> Result<Option<(String, u32)>, Failure> {
    let mut names = vec![quoted(name)];
    if let Some((schema, name)) = name.split_once('.') {
        names.push(format!("{}.{}", quoted(schema), quoted(name)));
    }
    for name in names {
        let found = session.ask(
            &format!("SELECT to_regclass({})::oid", literal(&name)),
            watch,
        )?;
        if let Some(oid) = found.value(0).and_then(|oid| oid.parse().ok()) {
            return Ok(Some((name, oid)));
        }
    }
    Ok(None)
}

/// The columns of what SQL reads from. Domains are what they are of.
fn columns(session: &mut Session, sql: &str, watch: Watch<'_>) -> Result<Vec<Column>, Failure> {
    let described = session.ask(&format!("SELECT * FROM {sql} AS t WHERE false"), watch)?;
    let others = described.columns.iter().map(|(_, oid, _)| oid);
    let others = others.filter(|oid| Kind::of(**oid).is_none());
    let others: Vec<_> = others.map(ToString::to_string).collect();
    let mut kinds = HashMap::new();
    if !others.is_empty() {
        let others = others.join(", ");
        let sql = format!(
            "SELECT oid, typtype, format_type(oid, NULL) FROM pg_type WHERE oid IN ({others})"
        );
        for row in session.ask(&sql, watch)?.rows {
            if let [Some(oid), Some(kind), Some(name)] = &row[..]
                && let Ok(oid) = oid.parse::<u32>()
            {
                let kind = match kind.as_str() {
                    "e" => Kind::Enum,
                    _ => Kind::Other(name.clone()),
                };
                kinds.insert(oid, kind);
            }
        }
    }
    let column = |(name, oid, modifier)| Column {
        name,
        kind: Kind::of(oid)
            .or_else(|| kinds.get(&oid).cloned())
            .unwrap_or(Kind::Other("unknown".to_owned())),
        oid,
        modifier,
        nullable: true,
    };
    Ok(described.columns.into_iter().map(column).collect())
}

/// An SQL string. Has no NUL, which PostgreSQL does not know.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
