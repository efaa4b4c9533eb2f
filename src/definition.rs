//! What a stream is: a table, and what of it is served. The configuration makes them; everything else
//! reads them.

use flows_formats::Schema;

/// One stream: a table, and what of it is served.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The name in the URL.
    pub name: String,
    /// The table or view.
    pub table: String,
    /// The column that holds a record's time.
    pub time: String,
    /// The column that holds a record's id.
    pub id: String,
    /// Whether clients may filter by the columns that are served.
    pub filters: bool,
    /// The name of the format when the client asks for none.
    pub default_format: String,
    /// The columns to send, in order.
    pub schema: Schema,
}
