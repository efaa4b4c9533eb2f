//! What a column is declared to be, as the configuration writes it.

use flows_formats::Type;

use super::{Spelling, Stored};

/// The keys of a column that say its type, in TOML.
///
/// ```
/// use flows::definition::{Stored, declaration};
/// use flows_formats::{Type, time::Unit};
/// let keys = declaration(Type::Timestamp(Unit::Second), Stored::EpochReal);
/// assert_eq!(keys, r#"type = "timestamp", unit = "s", stored = "epoch_real""#);
/// ```
pub fn declaration(kind: Type, stored: Stored) -> String {
    let name = kind.name();
    match (kind, stored) {
        (Type::Timestamp(unit), stored) => {
            let stored = match stored {
                Stored::Plain => "\"epoch\"".to_owned(),
                Stored::EpochReal => "\"epoch_real\"".to_owned(),
                Stored::Iso8601(spelling) => format!("\"iso8601\", spelling = \"{spelling}\""),
            };
            let unit = unit.name();
            format!("type = \"{name}\", unit = \"{unit}\", stored = {stored}")
        }
        (Type::Date, Stored::Iso8601(Spelling::DAY)) => format!("type = \"{name}\""),
        (Type::Date, _) => format!("type = \"{name}\", stored = \"days\""),
        (Type::Decimal { precision, scale }, _) => {
            format!("type = \"{name}\", precision = {precision}, scale = {scale}")
        }
        _ => format!("type = \"{name}\""),
    }
}
