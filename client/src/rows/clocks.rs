//! The confirmed clocks of one row.
//!
//! ```text
//! nothing                                        C is empty: all that shows are own edits
//! 1 │ stamps │ written │ deleted │ rest │ runs   else
//!
//! stamps  = count, each: hlc (8 bytes BE) │ length of the client id │ client id │ delta id (32 bytes)
//! written, deleted = a stamp's place
//! rest    = 1 when every cell that no run names is settled, else 0
//! runs    = to the end: gap to the slot after the last run │ how many slots │ a stamp's place
//!
//! a stamp's place: 0 none, 1 settled, 2 the first of `stamps`, 3 the second, …
//! all numbers without a width are LEB128
//! ```
//! Invariant: the clocks are in their normal form: what a delete covers is not in them, nor is a settled cell by itself.
//! So two rows that mean the same have equal clocks, and equal bytes.

use std::collections::BTreeMap;

use lakesync_proto::limits::COLUMNS_MAX;
use lakesync_proto::{ClientId, DeltaId, Hlc, Stamp};

use crate::schema::Slot;

const VERSION: u8 = 1;
/// Slots in one row at most, dropped columns among them: more are in no row that this client wrote.
const SLOTS_MAX: usize = 64 * COLUMNS_MAX;

const NONE: u64 = 0;
const SETTLED: u64 = 1;
const FIRST: u64 = 2;

/// When the cells of a row were written, as the gateway's pages say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowClocks {
    /// The newest write, when it is above the newest delete.
    pub(crate) written: Option<Stamp>,
    /// The newest delete.
    pub(crate) deleted: Option<Stamp>,
    /// The writes of cells by slot, those that are above the newest delete and not settled.
    pub(crate) cells: BTreeMap<Slot, Stamp>,
    /// Whether the other cells are settled. Which of them are there tell their values: a settled null is no cell.
    pub(crate) rest_settled: bool,
}

impl RowClocks {
    /// Those of a row that the log has forgotten everything of.
    pub(crate) fn settled() -> RowClocks {
        RowClocks {
            written: Some(Stamp::settled()),
            rest_settled: true,
            ..RowClocks::default()
        }
    }

    /// Whether nothing was heard of the row.
    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_none() && self.deleted.is_none()
    }

    /// Whether this says no more than [`RowClocks::settled`].
    pub(crate) fn is_settled(&self) -> bool {
        let written = self.written.as_ref().is_some_and(Stamp::is_settled);
        written && self.deleted.is_none() && self.cells.is_empty()
    }

    /// Whether the confirmed row exists.
    pub(crate) fn exists(&self) -> bool {
        self.written.is_some()
    }

    /// Whether there may be a confirmed value in this slot.
    pub(crate) fn may_have(&self, slot: Slot) -> bool {
        self.rest_settled || self.cells.contains_key(&slot)
    }

    /// Whether a write of this stamp shows in this slot, above what is confirmed.
    pub(crate) fn takes(&self, slot: Slot, stamp: &Stamp) -> bool {
        self.is_above_delete(stamp) && self.cells.get(&slot).is_none_or(|known| stamp > known)
    }

    /// Whether a write of this stamp is not covered by a delete.
    pub(crate) fn is_above_delete(&self, stamp: &Stamp) -> bool {
        self.deleted.as_ref().is_none_or(|deleted| stamp > deleted)
    }

    /// The bytes for `_lakesync_rows`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut stamps: Vec<&Stamp> = Vec::with_capacity(2);
        let written = place(&mut stamps, self.written.as_ref());
        let deleted = place(&mut stamps, self.deleted.as_ref());
        let mut runs: Vec<(Slot, u32, u64)> = Vec::with_capacity(2);
        for (slot, stamp) in &self.cells {
            let at = place(&mut stamps, Some(stamp));
            match runs.last_mut() {
                Some((first, length, same)) if *same == at && *first + *length == *slot => {
                    *length += 1;
                }
                _ => runs.push((*slot, 1, at)),
            }
        }
        let mut bytes = Vec::with_capacity(16 + 80 * stamps.len());
        bytes.push(VERSION);
        push_number(&mut bytes, length(stamps.len()));
        for stamp in stamps {
            push_stamp(&mut bytes, stamp);
        }
        push_number(&mut bytes, written);
        push_number(&mut bytes, deleted);
        bytes.push(u8::from(self.rest_settled));
        let mut next = 0;
        for (first, length, at) in runs {
            push_number(&mut bytes, u64::from(first - next));
            push_number(&mut bytes, u64::from(length));
            push_number(&mut bytes, at);
            next = first + length;
        }
        bytes
    }

    /// Reads what [`RowClocks::encode`] wrote; none when it is something else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<RowClocks> {
        if bytes.is_empty() {
            return Some(RowClocks::default());
        }
        let mut reader = Reader { rest: bytes };
        if reader.byte()? != VERSION {
            return None;
        }
        let count = reader.number()?;
        let mut stamps = Vec::new();
        for _ in 0..count {
            stamps.push(reader.stamp()?);
        }
        let written = reader.place(&stamps)?;
        let deleted = reader.place(&stamps)?;
        let rest_settled = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut cells = BTreeMap::new();
        let mut slot: Slot = 0;
        while !reader.rest.is_empty() {
            slot = slot.checked_add(u32::try_from(reader.number()?).ok()?)?;
            let length = reader.number()?;
            let stamp = reader.place(&stamps)??;
            for _ in 0..length {
                cells.insert(slot, stamp.clone());
                slot = slot.checked_add(1)?;
                if cells.len() > SLOTS_MAX {
                    return None;
                }
            }
        }
        Some(RowClocks {
            written,
            deleted,
            cells,
            rest_settled,
        })
    }
}

/// The place of a stamp among those to be written; a new one goes to their end.
fn place<'s>(stamps: &mut Vec<&'s Stamp>, stamp: Option<&'s Stamp>) -> u64 {
    let Some(stamp) = stamp else {
        return NONE;
    };
    if stamp.is_settled() {
        return SETTLED;
    }
    // Nearly always it is the one before.
    let known = stamps.iter().rposition(|known| *known == stamp);
    let index = known.unwrap_or_else(|| {
        stamps.push(stamp);
        stamps.len() - 1
    });
    FIRST + length(index)
}

fn push_stamp(bytes: &mut Vec<u8>, stamp: &Stamp) {
    let client = stamp.client_id.as_str().as_bytes();
    bytes.extend(stamp.hlc.as_u64().to_be_bytes());
    push_number(bytes, length(client.len()));
    bytes.extend(client);
    bytes.extend(stamp.delta_id.as_bytes());
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn length(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let (hlc, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        let length = usize::try_from(self.number()?).ok()?;
        let (client, rest) = self.rest.split_at_checked(length)?;
        let (delta_id, rest) = rest.split_first_chunk()?;
        self.rest = rest;
        Some(Stamp {
            hlc: Hlc::from_u64(u64::from_be_bytes(*hlc)).ok()?,
            client_id: ClientId::parse(std::str::from_utf8(client).ok()?).ok()?,
            delta_id: DeltaId::from_bytes(*delta_id),
        })
    }

    /// A stamp by its place: none when the place is none of them, `Some(None)` when it says that there is none.
    fn place(&mut self, stamps: &[Stamp]) -> Option<Option<Stamp>> {
        match self.number()? {
            NONE => Some(None),
            SETTLED => Some(Some(Stamp::settled())),
            at => {
                let index = usize::try_from(at - FIRST).ok()?;
                stamps.get(index).cloned().map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests;
