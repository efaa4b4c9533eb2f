//! A stream's columns in the languages that describe data: JSON Schema, BigQuery; Avro's is in
//! `avro.rs`.

use serde_json::{Value, json};

use crate::{Column, Schema, Type, avro};

/// A language that a schema can be written in.
#[derive(Debug)]
pub struct Dialect {
    /// What the client writes in `dialect=`.
    pub name: &'static str,
    /// The media type of what is written.
    pub media_type: &'static str,
    /// Writes a schema.
    pub write: fn(&Schema) -> Value,
}

/// Every dialect, by name.
pub const DIALECTS: [Dialect; 3] = [
    Dialect {
        name: "avro",
        media_type: "application/json",
        write: avro::schema,
    },
    Dialect {
        name: "bigquery",
        media_type: "application/json",
        write: bigquery,
    },
    Dialect {
        name: "jsonschema",
        media_type: "application/schema+json",
        write: json_schema,
    },
];

/// The array of fields that a BigQuery load job takes.
///
/// ```
/// use flows_formats::{Column, Schema, Type, dialects::bigquery};
/// let column = Column { name: "time".into(), kind: Type::Integer, nullable: false };
/// let schema = Schema { name: "flows".into(), columns: vec![column] };
/// assert_eq!(
///     bigquery(&schema).to_string(),
///     r#"[{"mode":"REQUIRED","name":"time","type":"INTEGER"}]"#
/// );
/// ```
pub fn bigquery(schema: &Schema) -> Value {
    let field = |column: &Column| {
        let kind = match column.kind {
            Type::Integer => "INTEGER",
            Type::Real => "FLOAT",
            Type::Text => "STRING",
            Type::Blob => "BYTES",
            Type::Timestamp(_) => "TIMESTAMP",
            Type::Date => "DATE",
            Type::Boolean => "BOOL",
            // It has 29 digits before the point, and 9 after it.
            Type::Decimal { precision, scale }
                if scale <= 9 && precision.saturating_sub(scale) <= 29 =>
            {
                "NUMERIC"
            }
            Type::Decimal { .. } => "BIGNUMERIC",
            Type::Json => "JSON",
        };
        let mode = if column.nullable {
            "NULLABLE"
        } else {
            "REQUIRED"
        };
        let mut field = json!({ "name": column.name, "type": kind, "mode": mode });
        if let Type::Decimal { precision, scale } = column.kind {
            // BigQuery's API has 64-bit integers as strings.
            field["precision"] = json!(precision.to_string());
            field["scale"] = json!(scale.to_string());
        }
        field
    };
    schema.columns.iter().map(field).collect()
}

/// The JSON Schema (draft 2020-12) of one record, as `ndjson` writes it on a line that nobody asked
/// options of.
///
/// ```
/// use flows_formats::{Column, Schema, Type, dialects::json_schema};
/// let column = Column { name: "user".into(), kind: Type::Text, nullable: true };
/// let schema = Schema { name: "logins".into(), columns: vec![column] };
/// assert_eq!(json_schema(&schema)["properties"]["user"]["type"], serde_json::json!(["string", "null"]));
/// ```
pub fn json_schema(schema: &Schema) -> Value {
    let property = |column: &Column| {
        // JSON has neither NaN nor infinities: a real that is one is null.
        let nullable = column.nullable || column.kind == Type::Real;
        let kind = match column.kind {
            Type::Integer => "integer",
            Type::Real | Type::Decimal { .. } => "number",
            Type::Boolean => "boolean",
            Type::Text | Type::Blob | Type::Timestamp(_) | Type::Date => "string",
            // Any value, null too.
            Type::Json => return (column.name.clone(), json!({})),
        };
        let mut property = json!({ "type": kind });
        if nullable {
            property["type"] = json!([kind, "null"]);
        }
        match column.kind {
            Type::Integer => {
                property["minimum"] = json!(i64::MIN);
                property["maximum"] = json!(i64::MAX);
            }
            Type::Blob => property["contentEncoding"] = json!("base64"),
            Type::Timestamp(_) => property["format"] = json!("date-time"),
            Type::Date => property["format"] = json!("date"),
            _ => {}
        }
        (column.name.clone(), property)
    };
    let names: Vec<_> = schema.columns.iter().map(|column| &column.name).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": schema.name,
        "type": "object",
        "properties": schema.columns.iter().map(property).collect::<serde_json::Map<_, _>>(),
        "required": names,
        "additionalProperties": false,
    })
}
