//! The merge rule, by row: per column, the last write wins.
//!
//! Invariant: [`RowState`] is a join-semilattice. Applying deltas and merging states is commutative, associative and
//! idempotent, so any order, any duplication and any batching of the same deltas gives the same state.
//!
//! ```text
//! stamp = (hlc, client id bytewise, delta id bytewise)          the total order of writes
//! cell    (table, row, column)   the write with the greatest stamp; an explicit null is a value
//! row     one delete clock       the greatest stamp of its DELETEs
//! a cell is visible, a row exists    when written above the delete clock
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::LazyLock;

use crate::delta::{Op, RowDelta};
use crate::delta_id::DeltaId;
use crate::hlc::Hlc;
use crate::id::{ClientId, ColumnName, IdError};
use crate::value::Value;

/// A delta's place in the total order of writes: HLC, then client id, then delta id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When, first in the order.
    pub hlc: Hlc,
    /// Who, second.
    pub client_id: ClientId,
    /// What, last.
    pub delta_id: DeltaId,
}

/// The client id of what is settled. No gateway accepts a delta stamped HLC 0, so no client's write has this stamp.
static SETTLED_CLIENT: LazyLock<ClientId> =
    LazyLock::new(|| ClientId::parse("settled").expect("a short plain word is a client id"));

impl Stamp {
    /// The stamp of a value whose clock is forgotten: HLC 0, client `settled`, a delta id of zeros. Everything that may
    /// still be accepted is newer.
    pub fn settled() -> Stamp {
        Stamp {
            hlc: Hlc::ZERO,
            client_id: SETTLED_CLIENT.clone(),
            delta_id: DeltaId::from_bytes([0; 32]),
        }
    }

    /// Whether this is [`Stamp::settled`].
    pub fn is_settled(&self) -> bool {
        self.hlc == Hlc::ZERO
    }

    /// A key whose bytewise order is the stamp's order: the HLC's 8 bytes big-endian, the client id, a zero byte
    /// (a client id has none), the delta id's 32 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let client = self.client_id.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(8 + client.len() + 1 + 32);
        bytes.extend_from_slice(&self.hlc.as_u64().to_be_bytes());
        bytes.extend_from_slice(client);
        bytes.push(0);
        bytes.extend_from_slice(self.delta_id.as_bytes());
        bytes
    }

    /// Reads what [`Stamp::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`IdError`] on anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Stamp, IdError> {
        let refused =
            |reason: &str| IdError::new("stamp", &format!("{} bytes", bytes.len()), reason);
        let (hlc, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| refused("it is too short"))?;
        let (rest, delta_id) = rest
            .split_last_chunk()
            .ok_or_else(|| refused("it is too short"))?;
        let (zero, client) = rest
            .split_last()
            .ok_or_else(|| refused("it is too short"))?;
        if *zero != 0 {
            return Err(refused("a zero byte must end the client id"));
        }
        let client =
            std::str::from_utf8(client).map_err(|_| refused("the client id is no UTF-8"))?;
        Ok(Stamp {
            hlc: Hlc::from_u64(u64::from_be_bytes(*hlc)).map_err(|e| refused(&e.to_string()))?,
            client_id: ClientId::parse(client)?,
            delta_id: DeltaId::from_bytes(*delta_id),
        })
    }
}

/// One column of a row: its latest write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// When it was written, and by whom.
    pub stamp: Stamp,
    /// What was written.
    pub value: Value,
}

/// All that a set of deltas says about one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowState {
    /// The delete clock: the greatest stamp of a DELETE.
    pub deleted: Option<Stamp>,
    /// The greatest stamp of an INSERT or UPDATE, with columns or without.
    pub written: Option<Stamp>,
    /// The latest write of each column, hidden ones among them.
    pub cells: BTreeMap<ColumnName, Cell>,
}

impl RowState {
    /// Adds one delta of this row. Adding it again changes nothing.
    pub fn apply(&mut self, delta: &RowDelta) {
        let stamp = delta.stamp();
        if delta.op == Op::Delete {
            raise(&mut self.deleted, stamp);
            return;
        }
        for change in &delta.columns {
            match self.cells.entry(change.column.clone()) {
                Entry::Occupied(mut entry) => {
                    if stamp > entry.get().stamp {
                        entry.insert(Cell {
                            stamp: stamp.clone(),
                            value: change.value.clone(),
                        });
                    }
                }
                Entry::Vacant(entry) => {
                    entry.insert(Cell {
                        stamp: stamp.clone(),
                        value: change.value.clone(),
                    });
                }
            }
        }
        raise(&mut self.written, stamp);
    }

    /// Adds all that `other` says about the same row.
    pub fn merge(&mut self, other: RowState) {
        other
            .deleted
            .into_iter()
            .for_each(|stamp| raise(&mut self.deleted, stamp));
        other
            .written
            .into_iter()
            .for_each(|stamp| raise(&mut self.written, stamp));
        for (column, cell) in other.cells {
            match self.cells.entry(column) {
                Entry::Occupied(mut entry) => {
                    if cell.stamp > entry.get().stamp {
                        entry.insert(cell);
                    }
                }
                Entry::Vacant(entry) => {
                    entry.insert(cell);
                }
            }
        }
    }

    /// Whether the row exists: written above its delete clock.
    pub fn exists(&self) -> bool {
        self.written > self.deleted
    }

    /// A column's value; none when the column was never written or its write is below the delete clock. An explicit
    /// null is `Some(&Value::Null)`.
    pub fn visible(&self, column: &ColumnName) -> Option<&Value> {
        let cell = self.cells.get(column)?;
        self.shows(cell).then_some(&cell.value)
    }

    /// The visible cells, by column name.
    pub fn visible_cells(&self) -> impl Iterator<Item = (&ColumnName, &Cell)> {
        self.cells.iter().filter(|(_, cell)| self.shows(cell))
    }

    fn shows(&self, cell: &Cell) -> bool {
        self.deleted
            .as_ref()
            .is_none_or(|deleted| cell.stamp > *deleted)
    }
}

/// Keeps the greater stamp; none is below every stamp.
fn raise(clock: &mut Option<Stamp>, stamp: Stamp) {
    if clock.as_ref().is_none_or(|current| stamp > *current) {
        *clock = Some(stamp);
    }
}
