//! Reads and understands lines on a thread of its own, while another writes the flows before them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::ImportError;
use super::source::Source;
use crate::lanl::flow::{self, COLUMNS, Field};

/// Lines in a batch.
const LINES: u64 = 5_000;

/// Batches that wait to be written.
const WAITING: usize = 4;

/// Some lines, understood.
#[derive(Default)]
pub(super) struct Batch {
    /// The values of one flow after those of another.
    cells: Vec<Cell>,
    texts: String,
    /// The lines that are not flows: number, reason and line.
    pub(super) rejected: Vec<(u64, String, Vec<u8>)>,
}

/// A value of a flow; a string is so many of the batch's bytes.
enum Cell {
    Integer(i64),
    Text { start: usize, end: usize },
}

impl Batch {
    fn add(&mut self, fields: &[Field<'_>; COLUMNS.len()]) {
        for field in fields {
            self.cells.push(match *field {
                Field::Integer(integer) => Cell::Integer(integer),
                Field::Text(text) => {
                    let start = self.texts.len();
                    self.texts.push_str(text);
                    Cell::Text {
                        start,
                        end: self.texts.len(),
                    }
                }
            });
        }
    }

    /// The values of each flow, in the order of their lines.
    pub(super) fn flows(&self) -> impl ExactSizeIterator<Item = impl Iterator<Item = Field<'_>>> {
        self.cells.chunks_exact(COLUMNS.len()).map(|cells| {
            cells.iter().map(|cell| match *cell {
                Cell::Integer(integer) => Field::Integer(integer),
                Cell::Text { start, end } => Field::Text(&self.texts[start..end]),
            })
        })
    }
}

/// Reads a source to its end, or until the receiver is dropped. The thread may outlive that for as
/// long as it waits for the source.
pub(super) fn read(mut source: Source) -> Receiver<Result<Batch, ImportError>> {
    let (sender, receiver) = sync_channel(WAITING);
    thread::spawn(move || {
        if let Err(error) = read_into(&mut source, &sender) {
            // Without a receiver, nobody needs to know.
            let _ = sender.send(Err(error));
        }
    });
    receiver
}

fn read_into(
    source: &mut Source,
    sender: &SyncSender<Result<Batch, ImportError>>,
) -> Result<(), ImportError> {
    let mut batch = Batch::default();
    let mut number = 0;
    while let Some(complete) = source.read_line()? {
        number += 1;
        match complete.and_then(|()| flow::fields(source.line())) {
            Ok(fields) => batch.add(&fields),
            Err(reason) => batch
                .rejected
                .push((number, reason, source.line().to_owned())),
        }
        if number % LINES == 0 && sender.send(Ok(std::mem::take(&mut batch))).is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Ok(batch));
    Ok(())
}
