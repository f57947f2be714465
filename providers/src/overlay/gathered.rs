//! Rows that are gathered until they make a chunk, and their fold.
//!
//! **Invariant:** a chunk has at most [`CHUNK_ROWS`] rows, and no more bytes than a batch may hold unless one row has.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use tokio::task::{JoinError, spawn_blocking};

use super::budget::Budget;
use super::fold::{Home, Made, Pending, Rows, Shape, fold};
use super::held::{CHUNK_ROWS, Held};
use crate::columnar::BATCH_BYTES;
use crate::error::Result;
use crate::scan::Completion;

/// Up to so many rows are folded where the query runs: about a millisecond. More go to a thread that may block.
pub(super) const INLINE_ROWS: usize = 512;

/// What is kept of folded rows, and at whose cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All: the base does not have them.
    New,
    /// All: the row that they replace was kept whole.
    Whole,
    /// All if there is room, else what is decided.
    IfRoom,
    /// What is decided: nothing more is known.
    Decided,
}

/// Some rows and what is older of them.
#[derive(Debug)]
pub(super) struct Gathered {
    keep: Keep,
    pending: Vec<Pending>,
    older: Vec<Rows>,
    /// The number of a chunk → which of the older rows are its.
    chunks: HashMap<u32, usize>,
    bytes: usize,
}

impl Gathered {
    /// None yet.
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            pending: Vec::new(),
            older: Vec::new(),
            chunks: HashMap::new(),
            bytes: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether so much more makes no chunk too large; the first always has room.
    pub(super) fn has_room(&self, rows: usize, bytes: usize) -> bool {
        let fits = self.pending.len() + rows <= CHUNK_ROWS && self.bytes + bytes <= BATCH_BYTES;
        fits || self.pending.is_empty()
    }

    /// Adds a row that makes the chunk so many bytes larger.
    pub(super) fn push(&mut self, row: Pending, bytes: usize) {
        self.pending.push(row);
        self.bytes += bytes;
    }

    /// Rows of the base; which of the older ones they are.
    pub(super) fn base(&mut self, batch: RecordBatch) -> usize {
        self.older.push(Rows {
            batch,
            decided: Vec::new(),
        });
        self.older.len() - 1
    }

    /// Rows of a chunk of the overlay, likewise.
    pub(super) fn chunk(&mut self, number: u32, held: &Held) -> usize {
        let older = &mut self.older;
        *self.chunks.entry(number).or_insert_with(|| {
            older.push(Rows {
                batch: held.chunk().rows.clone(),
                decided: held.chunk().decided.clone(),
            });
            older.len() - 1
        })
    }

    /// Their fold; it does not hold up other tasks.
    ///
    /// # Errors
    /// As [`fold`].
    pub(super) async fn fold(self, shape: &Shape, budget: &Budget) -> Result<(Made, Completion)> {
        let (shape, budget) = (shape.clone(), budget.clone());
        let inline = self.pending.len() <= INLINE_ROWS;
        let work = move || {
            let made = fold(&shape, &self.pending, &self.older)?;
            complete(made, self.keep, &shape, &budget)
        };
        match inline {
            true => work(),
            false => unwind(spawn_blocking(work).await),
        }
    }
}

fn complete(made: Made, keep: Keep, shape: &Shape, budget: &Budget) -> Result<(Made, Completion)> {
    let bytes = bytes_of_base(&made);
    let reservation = match keep {
        Keep::New => None,
        Keep::Whole => Some(budget.replace(bytes)),
        Keep::IfRoom => match budget.reserve(bytes) {
            Some(reservation) => Some(reservation),
            None => {
                return Ok((
                    made.without_base_values(&shape.schema)?,
                    Completion::Decided,
                ));
            }
        },
        Keep::Decided => return Ok((made, Completion::Decided)),
    };
    Ok((made, Completion::Whole(reservation)))
}

/// About how many bytes its rows take that the base has too.
fn bytes_of_base(made: &Made) -> usize {
    let of_base = made.there.iter().filter(|(_, home)| *home != Home::Nowhere);
    let bytes = made.rows.get_array_memory_size();
    bytes / made.there.len().max(1) * of_base.count()
}

/// The result of a thread that blocked; its panic is ours.
pub(super) fn unwind<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
