//! The chunks of a checkpoint, made as they are asked for.
//!
//! **Invariant:** a chunk holds a bounded number of bytes, whatever the size of its rows; the place that comes with it
//! lies behind rows that have been given whole.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use lakesync_proto::{
    ColumnChange, Notes, Op, PullPage, RowDelta, RowId, RowState, SchemaNote, SeqDelta, TableName,
    TableSchema, Value, encode_chunk, limits, page_checksum, row_deltas,
};
use lakesync_providers::{ReadView, RowWithState, row_states};
use tokio::sync::OwnedSemaphorePermit;

use super::place::Place;
use super::{CheckpointForm, Chunk};
use crate::error::Result;
use crate::sight::{Sight, row_values};

/// Bytes of values after which a chunk ends: enough to compress well, little enough to send again.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of values that a chunk of more than one delta may hold: with every character escaped it is still below the
/// 16 MiB that legacy readers expect. A chunk of one delta holds what that has: at most one value of more than this.
const CHUNK_BYTES_MAX: usize = 2 << 20;

/// A delta of a row, and the row when it is the row's last.
struct Piece {
    delta: RowDelta,
    ends: Option<(TableName, RowId)>,
}

/// What is left of a checkpoint.
pub(super) struct Chunks {
    form: CheckpointForm,
    sight: Sight,
    /// Behind everything that has been given.
    place: Place,
    /// The tables that have not been begun.
    views: VecDeque<Arc<ReadView>>,
    rows: Option<Rows>,
    pieces: VecDeque<Piece>,
    ended: bool,
    /// What the last chunk says of the tables' versions.
    schemas: Option<SchemaNote>,
    _slot: OwnedSemaphorePermit,
}

/// The rows of the table that is being read.
struct Rows {
    schema: Arc<TableSchema>,
    pages: BoxStream<'static, lakesync_providers::Result<Vec<RowWithState>>>,
}

impl Chunks {
    /// The chunks of `views` behind `place`, in their order; those of tables before it are not among them.
    pub(super) fn new(
        form: CheckpointForm,
        sight: Sight,
        place: Place,
        views: Vec<Arc<ReadView>>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            form,
            sight,
            place,
            views: views.into(),
            rows: None,
            pieces: VecDeque::new(),
            ended: false,
            schemas: None,
            _slot: slot,
        }
    }

    /// The last native chunk tells the tables' versions.
    pub(super) fn with_schemas(mut self, schemas: Option<SchemaNote>) -> Self {
        self.schemas = schemas;
        self
    }

    /// The next chunk, unless the last has been given.
    pub(super) async fn next(mut self) -> Result<Option<(Chunk, Self)>> {
        if self.ended {
            return Ok(None);
        }
        let mut deltas = Vec::new();
        let mut held = 0;
        while held < CHUNK_BYTES && deltas.len() < limits::PULL_MAX {
            if self.pieces.is_empty() && !self.read().await? {
                self.ended = true;
                break;
            }
            let fits = |piece: &mut Piece| {
                deltas.is_empty() || held + piece.delta.bytes() <= CHUNK_BYTES_MAX
            };
            let Some(piece) = self.pieces.pop_front_if(fits) else {
                break;
            };
            held += piece.delta.bytes();
            if piece.ends.is_some() {
                self.place.last = piece.ends;
            }
            deltas.push(piece.delta);
        }
        if deltas.is_empty() && self.form == CheckpointForm::Legacy {
            return Ok(None);
        }
        let chunk = self.chunk(deltas);
        Ok(Some((chunk, self)))
    }

    /// Reads rows until there are pieces; false when there are no more.
    async fn read(&mut self) -> Result<bool> {
        while self.pieces.is_empty() {
            let Some(rows) = &mut self.rows else {
                let Some(view) = self.views.pop_front() else {
                    return Ok(false);
                };
                self.rows = Some(self.begin(&view));
                continue;
            };
            let Some(page) = rows.pages.try_next().await? else {
                self.rows = None;
                continue;
            };
            let schema = Arc::clone(&rows.schema);
            for (row_id, state) in self.sight.states(&schema, page)? {
                self.pieces
                    .extend(pieces(self.form, &schema, row_id, &state)?);
            }
        }
        Ok(true)
    }

    fn begin(&self, view: &Arc<ReadView>) -> Rows {
        let last = self.place.last.as_ref();
        let after = last.filter(|(table, _)| table == view.table());
        Rows {
            schema: Arc::clone(&view.schema),
            pages: row_states(view, None, after.map(|(_, row_id)| row_id)),
        }
    }

    fn chunk(&self, deltas: Vec<RowDelta>) -> Chunk {
        let cursor = &self.place.cursor;
        let deltas = deltas.into_iter().map(|delta| {
            Arc::new(SeqDelta {
                seq: cursor.seq,
                delta,
            })
        });
        let mut page = PullPage {
            deltas: deltas.collect(),
            cursor: cursor.seq,
            removed: Vec::new(),
            has_more: false,
            epoch: cursor.epoch.clone(),
            notes: Notes::default(),
        };
        if self.form == CheckpointForm::Native {
            page.has_more = !self.ended;
            page.notes.checksum = Some(page_checksum(&page));
            page.notes.next = self.ended.then(|| cursor.clone());
            page.notes.schemas = self.schemas.clone().filter(|_| self.ended);
            page.notes.resume = Some(self.place.to_string());
        }
        let bytes = encode_chunk(&page).expect("a chunk is smaller than readers bound it");
        Chunk {
            bytes: bytes.into(),
            resume: self.place.to_string(),
        }
    }
}

/// A row as the form has it, cut where it is too large for one chunk.
fn pieces(
    form: CheckpointForm,
    schema: &TableSchema,
    row_id: RowId,
    state: &RowState,
) -> Result<Vec<Piece>> {
    let deltas: Vec<RowDelta> = match form {
        CheckpointForm::Native => row_deltas(&schema.table, &row_id, state),
        CheckpointForm::Legacy => legacy_row(schema, &row_id, state)?.into_iter().collect(),
    };
    let part = |delta| Piece { delta, ends: None };
    let parts = deltas.into_iter().flat_map(cut);
    let mut pieces: Vec<Piece> = parts.map(part).collect();
    if let Some(last) = pieces.last_mut() {
        last.ends = Some((schema.table.clone(), row_id));
    }
    Ok(pieces)
}

/// A delta in parts of its columns that fit a chunk, an INSERT as one and UPDATEs: they merge to what it says, because
/// a merge goes by column.
fn cut(delta: RowDelta) -> Vec<RowDelta> {
    if delta.bytes() <= CHUNK_BYTES {
        return vec![delta];
    }
    let (mut part, mut parts) = (delta, Vec::new());
    for change in std::mem::take(&mut part.columns) {
        if !part.columns.is_empty() && part.bytes() + change.value.bytes() > CHUNK_BYTES {
            let columns = std::mem::take(&mut part.columns);
            parts.push(RowDelta {
                columns,
                ..part.clone()
            });
            part.op = Op::Update;
        }
        part.columns.push(change);
    }
    parts.push(part);
    parts
}

/// One INSERT of everything, stamped like the newest write; none for a row that does not exist.
fn legacy_row(schema: &TableSchema, row_id: &RowId, state: &RowState) -> Result<Option<RowDelta>> {
    let Some(written) = state.written.as_ref().filter(|_| state.exists()) else {
        return Ok(None);
    };
    let mut values = row_values(schema, row_id, state)?;
    let columns = schema.columns.iter().map(|column| ColumnChange {
        column: column.name.clone(),
        value: values.remove(&column.name).unwrap_or(Value::Null),
    });
    Ok(Some(RowDelta {
        op: Op::Insert,
        table: schema.table.clone(),
        row_id: row_id.clone(),
        client_id: written.client_id.clone(),
        columns: columns.collect(),
        hlc: written.hlc,
        delta_id: written.delta_id,
    }))
}

#[cfg(test)]
mod tests {
    use lakesync_proto::{ClientId, ColumnName, DeltaKey, Hlc};

    use super::*;

    #[test]
    fn a_large_delta_is_cut_by_columns_and_merges_to_itself() {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse("r").unwrap(),
            client_id: ClientId::parse("c").unwrap(),
            hlc: Hlc::new(1, 0).unwrap(),
        };
        let sizes = [
            10,
            CHUNK_BYTES / 2,
            CHUNK_BYTES / 2,
            3 * CHUNK_BYTES,
            10,
            10,
        ];
        let columns = sizes.iter().enumerate().map(|(nth, size)| ColumnChange {
            column: ColumnName::parse(&format!("c{nth}")).unwrap(),
            value: Value::String("x".repeat(*size)),
        });
        let delta = RowDelta::new(Op::Insert, key, columns.collect());
        let parts = cut(delta.clone());
        let shape: Vec<(Op, usize)> = parts.iter().map(|p| (p.op, p.columns.len())).collect();
        let update = Op::Update;
        assert_eq!(
            shape,
            [(Op::Insert, 2), (update, 1), (update, 1), (update, 2)]
        );
        let (mut whole, mut merged) = (RowState::default(), RowState::default());
        whole.apply(&delta);
        parts.iter().rev().for_each(|part| merged.apply(part));
        assert_eq!(merged, whole);
        assert_eq!(cut(parts[0].clone()).len(), 1);
    }
}
