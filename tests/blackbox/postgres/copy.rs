//! The tables of a SQLite file, copied into PostgreSQL.

use std::io::{self, Write};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::cluster::Cluster;

impl Cluster {
    /// Copies all tables of a SQLite file into a database: their keys and indexes of plain columns, too, and
    /// the views. What PostgreSQL cannot hold is told by a panic.
    #[track_caller]
    pub(crate) fn copy(&self, sqlite: &Path, database: &str) {
        let sqlite = Connection::open(sqlite).unwrap();
        let of_type = "SELECT name, sql FROM sqlite_schema WHERE type = ?1 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let named = |kind: &str| -> Vec<(String, String)> {
            all(&sqlite, of_type, kind, |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.script(database, &[], |script| {
            for (name, _) in named("table") {
                Table::read(&sqlite, name).write(&sqlite, script)?;
            }
            writeln!(script, "ANALYZE;")
        });
        for (name, sql) in named("view") {
            let made = self.try_script(database, &[], |script| script.write_all(sql.as_bytes()));
            made.unwrap_or_else(|error| panic!("the view {name}: {error}"));
        }
    }
}

/// A table of SQLite, and what it is in PostgreSQL.
struct Table {
    name: String,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    kind: &'static str,
    not_null: bool,
    /// Its place in the primary key, from 1 on; 0 if it is not in it.
    key: i64,
}

/// The rows that a query with one parameter finds.
fn all<T>(
    sqlite: &Connection,
    sql: &str,
    parameter: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = sqlite.prepare(sql).unwrap();
    let rows = statement.query_map([parameter], read).unwrap();
    rows.map(Result::unwrap).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Table {
    fn read(sqlite: &Connection, name: String) -> Table {
        let sql = "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
        let columns = all(sqlite, sql, &name, |row| {
            let column: String = row.get(0)?;
            Ok(Column {
                kind: kind(sqlite, &name, &column, &row.get::<_, String>(1)?),
                name: column,
                not_null: row.get(2)?,
                key: row.get(3)?,
            })
        });
        Table { name, columns }
    }

    fn write(&self, sqlite: &Connection, script: &mut dyn Write) -> io::Result<()> {
        let table = quoted(&self.name);
        let mut parts: Vec<_> = self.columns.iter().map(Column::definition).collect();
        let mut key: Vec<_> = self
            .columns
            .iter()
            .filter(|column| column.key > 0)
            .collect();
        key.sort_by_key(|column| column.key);
        if !key.is_empty() {
            let names: Vec<_> = key.iter().map(|column| quoted(&column.name)).collect();
            parts.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        // In the transaction that makes the table, its records are not logged.
        writeln!(
            script,
            "BEGIN;\nCREATE TABLE {table} ({});",
            parts.join(", ")
        )?;
        writeln!(script, "COPY {table} FROM STDIN;")?;
        self.write_records(sqlite, script)?;
        writeln!(script, "\\.\nCOMMIT;")?;
        self.write_indexes(sqlite, script)
    }

    fn write_records(&self, sqlite: &Connection, script: &mut dyn Write) -> io::Result<()> {
        let names: Vec<_> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let sql = format!("SELECT {} FROM {}", names.join(", "), quoted(&self.name));
        let mut statement = sqlite.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for (at, column) in self.columns.iter().enumerate() {
                if at > 0 {
                    script.write_all(b"\t")?;
                }
                let refused = |what: &str| -> ! {
                    panic!(
                        "PostgreSQL cannot hold {what}: {}.{}",
                        self.name, column.name
                    )
                };
                match (row.get_ref(at).unwrap(), column.kind) {
                    (ValueRef::Null, _) => script.write_all(b"\\N")?,
                    (ValueRef::Integer(integer), _) => write!(script, "{integer}")?,
                    (ValueRef::Real(real), _) => write!(script, "{real}")?,
                    (ValueRef::Blob(bytes), "bytea") => {
                        script.write_all(b"\\\\x")?;
                        bytes
                            .iter()
                            .try_for_each(|byte| write!(script, "{byte:02x}"))?;
                    }
                    (ValueRef::Blob(_), _) => refused("a blob among others"),
                    (ValueRef::Text(_), "bytea") => refused("a text among blobs"),
                    (ValueRef::Text(text), _) if text.contains(&0) => refused("NUL in a text"),
                    (ValueRef::Text(text), _) if str::from_utf8(text).is_err() => {
                        refused("a text that is not UTF-8")
                    }
                    (ValueRef::Text(text), _) => write_text(script, text)?,
                }
            }
            script.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Indexes order texts as SQLite's do, byte by byte, although the columns do not.
    fn write_indexes(&self, sqlite: &Connection, script: &mut dyn Write) -> io::Result<()> {
        let table = quoted(&self.name);
        let sql = "SELECT name, \"unique\" FROM pragma_index_list(?1) WHERE NOT partial AND origin <> 'pk'";
        let indexes: Vec<(String, bool)> = all(sqlite, sql, &self.name, |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        for (index, is_unique) in indexes {
            let sql = "SELECT name, \"desc\" FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno";
            // An expression, and the rowid, have no name.
            let parts: Vec<Option<String>> = all(sqlite, sql, &index, |row| {
                let (name, descends): (Option<String>, bool) = (row.get(0)?, row.get(1)?);
                let column = self
                    .columns
                    .iter()
                    .find(|column| Some(&column.name) == name.as_ref());
                Ok(column.map(|column| column.in_index(descends)))
            });
            let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else {
                continue;
            };
            let unique = if is_unique { "UNIQUE " } else { "" };
            let (index, parts) = (quoted(&index), parts.join(", "));
            writeln!(script, "CREATE {unique}INDEX {index} ON {table} ({parts});")?;
        }
        Ok(())
    }
}

impl Column {
    fn definition(&self) -> String {
        let not_null = if self.not_null { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", quoted(&self.name), self.kind)
    }

    fn in_index(&self, descends: bool) -> String {
        let collation = if self.kind == "text" {
            " COLLATE \"C\""
        } else {
            ""
        };
        let order = if descends { " DESC" } else { "" };
        format!("{}{collation}{order}", quoted(&self.name))
    }
}

/// The type of a column in PostgreSQL: by its declaration, or else by what it holds.
fn kind(sqlite: &Connection, table: &str, column: &str, declared: &str) -> &'static str {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    let (table, column) = (quoted(table), quoted(column));
    if has(&["BOOL"]) {
        let others = format!(
            "SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} NOT IN (0, 1, 't', 'f', 'true', 'false'))"
        );
        let has_others: bool = sqlite.query_row(&others, [], |row| row.get(0)).unwrap();
        if !has_others {
            return "boolean";
        }
    }
    if has(&["INT"]) {
        return "int8";
    }
    if has(&["CHAR", "CLOB", "TEXT"]) {
        return "text";
    }
    if has(&["BLOB"]) {
        return "bytea";
    }
    if has(&["REAL", "FLOA", "DOUB"]) {
        return "float8";
    }
    if has(&["NUMERIC", "DECIMAL"]) {
        return "numeric";
    }
    let sql = format!(
        "SELECT DISTINCT typeof({column}) FROM {table} WHERE {column} IS NOT NULL ORDER BY 1"
    );
    let mut statement = sqlite.prepare(&sql).unwrap();
    let types = statement.query_map([], |row| row.get(0)).unwrap();
    let types: Vec<String> = types.map(Result::unwrap).collect();
    match types.join(" ").as_str() {
        "integer" => "int8",
        "real" | "integer real" => "float8",
        "blob" => "bytea",
        _ => "text",
    }
}

/// Writes a text in the way of COPY.
fn write_text(script: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
    for part in text.split_inclusive(is_special) {
        let (last, rest) = match part.split_last() {
            Some((last, rest)) if is_special(last) => (*last, rest),
            _ => {
                script.write_all(part)?;
                continue;
            }
        };
        script.write_all(rest)?;
        script.write_all(match last {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\\\",
        })?;
    }
    Ok(())
}
