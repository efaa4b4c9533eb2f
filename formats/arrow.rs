//! `arrow`: an Apache Arrow IPC stream, its record batches not compressed.
//!
//! The schema, the batches, and the end-of-stream mark. Each slice ends its own batch.

use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use flows_formats::{Error, Format, Record, RecordEncoder, Type};

use crate::columns::{Columns, schema};

inventory::submit! {
    Format {
        name: "arrow",
        media_types: &["application/vnd.apache.arrow.stream"],
        aliases: &[],
        extensions: &["arrows", "arrow"],
        summary: "An Apache Arrow IPC stream of record batches",
        compressed: false,
        raw: true,
        options: &[],
        encoder: |columns, _| Ok(Box::new(Arrow::new(&schema(columns)).map_err(error)?)),
    }
}

struct Arrow {
    schema: SchemaRef,
    columns: Columns,
    /// What it writes to is empty, but for the schema until the document begins.
    writer: StreamWriter<Vec<u8>>,
}

impl Arrow {
    fn new(schema: &SchemaRef) -> Result<Arrow, ArrowError> {
        Ok(Arrow {
            schema: SchemaRef::clone(schema),
            columns: Columns::new(SchemaRef::clone(schema)),
            writer: StreamWriter::try_new(Vec::new(), schema)?,
        })
    }

    /// Has the writer append to `out`.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut StreamWriter<Vec<u8>>) -> Result<(), ArrowError>,
    ) -> Result<(), Error> {
        std::mem::swap(self.writer.get_mut(), out);
        let written = write(&mut self.writer);
        std::mem::swap(self.writer.get_mut(), out);
        written.map_err(error)
    }
}

impl RecordEncoder for Arrow {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.append(self.writer.get_mut());
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.columns.push(record).map_err(error)? {
            self.flush(out)?;
        }
        Ok(())
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self.columns.take().map_err(error)? {
            Some(batch) => self.write(out, |writer| writer.write(&batch)),
            None => Ok(()),
        }
    }

    fn end(&mut self, _records: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(out, StreamWriter::finish)
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        // It was made once with this schema.
        Arrow::new(&self.schema)
            .ok()
            .map(|arrow| Box::new(arrow) as _)
    }
}

fn error(error: ArrowError) -> Error {
    Error::new("arrow", error)
}
