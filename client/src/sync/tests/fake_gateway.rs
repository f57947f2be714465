//! A gateway in memory: dense seqs, duplicates recognised, rules that hide rows, checkpoints in chunks, and answers that
//! went through the real codec. What it refuses, it is told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lakesync_proto::{
    ColumnName, Cursor, DeltaId, Epoch, Notes, Outcome, PullPage, Push, PushAck, Removed, RowDelta,
    RowId, RowState, SchemaNote, Schemas, Seq, SeqDelta, TableName, TableSchema, Value,
    cell_digest, check_drift, decode_page_protobuf, encode_page_protobuf, page_checksum,
    row_deltas, schemas_hash,
};
use serde_json::json;

use crate::digest::{GatewayDigest, TableDigest};
use crate::sync::step::{CheckpointRequest, Pull};
use crate::transport::{Refusal, TransportError};

/// One arrival.
#[derive(Clone)]
enum Arrival {
    Delta(Arc<SeqDelta>),
    Removed(Removed),
}

/// A checkpoint that is being streamed.
pub(super) struct Opened {
    epoch: u32,
    /// The rules that it was opened under, whatever they are now.
    rules: u64,
    place: (Seq, Vec<TableName>, usize),
    schemas: Arc<dyn Schemas + Send + Sync>,
}

#[derive(Default)]
pub(super) struct FakeGateway {
    pub(super) now_ms: u64,
    arrivals: Vec<Arrival>,
    seqs: BTreeMap<DeltaId, Seq>,
    epoch: u32,
    /// The rules' version, and when each table was last changed by one.
    rules: (u64, BTreeMap<TableName, u64>),
    hidden: BTreeSet<(TableName, RowId)>,
    pub(super) schemas: Vec<TableSchema>,
    /// Refuses the next pushes.
    pub(super) refusals: VecDeque<Refusal>,
    /// Refuses every push that has such a delta, by its place.
    pub(super) condemned: BTreeMap<RowId, Refusal>,
    /// Wrong checksums on the next answers.
    pub(super) garbled: u32,
    /// Everything up to here is in the warehouse.
    pub(super) durable: Seq,
    pub(super) pushes: Vec<Push>,
    pub(super) checkpoints: u32,
    /// Deltas of a chunk.
    pub(super) chunk_deltas: usize,
    snapshots: BTreeMap<Seq, Vec<RowDelta>>,
}

impl FakeGateway {
    pub(super) fn last_seq(&self) -> Seq {
        Seq::from_u64(u64::try_from(self.arrivals.len()).unwrap()).unwrap()
    }

    fn epoch(&self) -> Epoch {
        Epoch::parse(&format!("00000000-0000-4000-8000-{:012}", self.epoch)).unwrap()
    }

    fn cursor(&self, seq: Seq) -> Cursor {
        Cursor {
            epoch: self.epoch(),
            seq,
            rules: self.rules.0,
            claims: 0,
        }
    }

    /// The deltas that arrived, in order.
    pub(super) fn deltas(&self) -> impl Iterator<Item = &RowDelta> {
        self.arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Delta(delta) => Some(&delta.delta),
            Arrival::Removed(_) => None,
        })
    }

    /// A new log with what the old one had up to `kept`.
    pub(super) fn lose_log(&mut self, kept: usize) {
        self.epoch += 1;
        self.arrivals.truncate(kept);
        self.arrivals
            .retain(|arrival| matches!(arrival, Arrival::Delta(_)));
        let old: Vec<RowDelta> = self.deltas().cloned().collect();
        self.arrivals.clear();
        self.seqs.clear();
        self.snapshots.clear();
        self.durable = Seq::ZERO;
        for delta in old {
            self.arrive(delta);
        }
    }

    /// The row leaves everybody's sight with an arrival of its own.
    pub(super) fn withdraw(&mut self, table: &str, row_id: &str) {
        let row = (
            TableName::parse(table).unwrap(),
            RowId::parse(row_id).unwrap(),
        );
        self.arrivals.push(Arrival::Removed(Removed {
            seq: self.last_seq().next(),
            table: row.0.clone(),
            row_id: row.1.clone(),
        }));
        self.hidden.insert(row);
    }

    /// The row leaves everybody's sight by a change of the rules.
    pub(super) fn hide(&mut self, table: &str, row_id: &str) {
        let row = (
            TableName::parse(table).unwrap(),
            RowId::parse(row_id).unwrap(),
        );
        self.rules.0 += 1;
        self.rules.1.insert(row.0.clone(), self.rules.0);
        self.hidden.insert(row);
    }

    pub(super) fn arrive(&mut self, delta: RowDelta) -> Outcome {
        if let Some(seq) = self.seqs.get(&delta.delta_id) {
            return Outcome::Duplicate(*seq);
        }
        let seq = self.last_seq().next();
        self.seqs.insert(delta.delta_id, seq);
        self.arrivals
            .push(Arrival::Delta(Arc::new(SeqDelta { seq, delta })));
        Outcome::Accepted(seq)
    }

    /// The merged rows that anybody sees.
    pub(super) fn merged(&self) -> BTreeMap<(TableName, RowId), RowState> {
        let mut states: BTreeMap<(TableName, RowId), RowState> = BTreeMap::new();
        for delta in self.deltas() {
            let row = (delta.table.clone(), delta.row_id.clone());
            states.entry(row).or_default().apply(delta);
        }
        states.retain(|row, _| !self.hidden.contains(row));
        states
    }

    fn notes(&self, seq: Seq, known: Option<u64>) -> Notes {
        let hash = schemas_hash(&self.schemas);
        Notes {
            next: Some(self.cursor(seq)),
            checksum: None,
            durable: Some(self.durable),
            schemas: (known != Some(hash)).then(|| SchemaNote {
                hash,
                changed: known.is_some(),
                tables: Vec::new(),
            }),
            resume: None,
        }
    }

    pub(super) fn push(&mut self, push: &Push) -> Result<PushAck, TransportError> {
        self.pushes.push(push.clone());
        if let Some(refusal) = self.refusals.pop_front() {
            return Err(TransportError::Refused(Box::new(refusal)));
        }
        for (index, delta) in push.deltas.iter().enumerate() {
            if self.seqs.contains_key(&delta.delta_id) {
                continue;
            }
            if let Err(refused) = self.admit(delta) {
                let refusal = Refusal {
                    index: refused.index.map(|_| index),
                    ..*refused
                };
                return Err(TransportError::Refused(Box::new(refusal)));
            }
        }
        let outcomes: Vec<Outcome> = push
            .deltas
            .iter()
            .map(|delta| self.arrive(delta.clone()))
            .collect();
        Ok(PushAck {
            accepted: u32::try_from(outcomes.len()).unwrap(),
            // The trap: above deltas of others that the client was never given.
            cursor: self.last_seq(),
            outcomes,
            ignored: BTreeMap::new(),
            epoch: self.epoch(),
            notes: self.notes(self.last_seq(), push.schemas),
        })
    }

    fn admit(&self, delta: &RowDelta) -> Result<(), Box<Refusal>> {
        if let Some(refusal) = self.condemned.get(&delta.row_id) {
            return Err(Box::new(refusal.clone()));
        }
        let ahead_ms = delta.hlc.wall_ms().saturating_sub(self.now_ms);
        if check_drift(delta.hlc, self.now_ms).is_err() {
            let mut refusal = refusal(409, "CLOCK_DRIFT");
            refusal.details.insert("skewMs".to_owned(), json!(ahead_ms));
            return Err(Box::new(refusal));
        }
        let table = self
            .schemas
            .iter()
            .find(|schema| schema.table == delta.table);
        let Some(table) = table else {
            return Err(Box::new(refusal(422, "UNKNOWN_TABLE")));
        };
        match table.check(delta) {
            Ok(()) => Ok(()),
            Err(_) => Err(Box::new(refusal(422, "SCHEMA_ERROR"))),
        }
    }

    pub(super) fn pull(&mut self, pull: &Pull) -> Result<PullPage, TransportError> {
        let from = self.place(&pull.cursor)?;
        let limit = usize::try_from(pull.limit).unwrap();
        let page = self.page(from, limit, pull.schemas_hash);
        self.sent(&page, pull.schemas.as_ref())
    }

    /// Where a cursor stands, if it can be gone on from.
    pub(super) fn place(&self, cursor: &str) -> Result<Seq, TransportError> {
        if cursor.is_empty() {
            return Ok(Seq::ZERO);
        }
        let cursor: Cursor = cursor.parse().unwrap();
        let mut expired = refusal(410, "CURSOR_EXPIRED");
        expired.index = None;
        if cursor.epoch != self.epoch() {
            return Err(TransportError::Refused(Box::new(expired)));
        }
        if cursor.rules != self.rules.0 {
            let changed = self.rules.1.iter().filter(|(_, at)| **at > cursor.rules);
            let tables: Vec<&str> = changed.map(|(table, _)| table.as_str()).collect();
            expired.details.insert("tables".to_owned(), json!(tables));
            let next = self.cursor(cursor.seq).to_string();
            expired.details.insert("cursor".to_owned(), json!(next));
            return Err(TransportError::Refused(Box::new(expired)));
        }
        Ok(cursor.seq)
    }

    /// What arrived behind a seq. A hidden row's deltas are for nobody.
    pub(super) fn page(&self, from: Seq, limit: usize, known: Option<u64>) -> PullPage {
        let first = usize::try_from(from.as_u64()).unwrap();
        let behind = self.arrivals.get(first..).unwrap_or_default();
        let taken = &behind[..behind.len().min(limit)];
        let mut page = PullPage {
            deltas: Vec::new(),
            cursor: from,
            removed: Vec::new(),
            has_more: taken.len() < behind.len(),
            epoch: self.epoch(),
            notes: Notes::default(),
        };
        for arrival in taken {
            page.cursor = page.cursor.next();
            match arrival {
                Arrival::Delta(delta) => {
                    let row = (delta.delta.table.clone(), delta.delta.row_id.clone());
                    if !self.hidden.contains(&row) {
                        page.deltas.push(Arc::clone(delta));
                    }
                }
                Arrival::Removed(removed) => page.removed.push(removed.clone()),
            }
        }
        page.notes = self.notes(page.cursor, known);
        page.notes.checksum = Some(page_checksum(&page));
        page
    }

    /// A page as the client reads it.
    pub(super) fn sent(
        &mut self,
        page: &PullPage,
        schemas: &dyn Schemas,
    ) -> Result<PullPage, TransportError> {
        let mut page = page.clone();
        if self.garbled > 0 {
            self.garbled -= 1;
            page.notes.checksum = page.notes.checksum.map(|checksum| checksum ^ 1);
        }
        Ok(decode_page_protobuf(&encode_page_protobuf(&page), schemas)?)
    }

    pub(super) fn checkpoint(
        &mut self,
        request: &CheckpointRequest,
    ) -> Result<Opened, TransportError> {
        self.checkpoints += 1;
        let (seq, at) = match &request.resume {
            None => (self.last_seq(), 0),
            Some(resume) => {
                let parts: Vec<u64> = resume.split('.').map(|n| n.parse().unwrap()).collect();
                if parts[0] != u64::from(self.epoch) || parts[1] != self.rules.0 {
                    return Err(TransportError::Refused(Box::new(refusal(
                        410,
                        "CURSOR_EXPIRED",
                    ))));
                }
                let at = usize::try_from(parts[3]).unwrap();
                (Seq::from_u64(parts[2]).unwrap(), at)
            }
        };
        if let Some(unknown) = request
            .tables
            .iter()
            .find(|table| !self.schemas.iter().any(|schema| schema.table == **table))
        {
            return Err(TransportError::Refused(Box::new(Refusal {
                message: unknown.to_string(),
                ..refusal(404, "UNKNOWN_TABLE")
            })));
        }
        if at == 0 {
            let merged = self.merged();
            let deltas = merged
                .iter()
                .flat_map(|((table, row_id), state)| row_deltas(table, row_id, state));
            self.snapshots.insert(seq, deltas.collect());
        }
        Ok(Opened {
            epoch: self.epoch,
            rules: self.rules.0,
            place: (seq, request.tables.clone(), at),
            schemas: Arc::clone(&request.schemas),
        })
    }

    pub(super) fn chunk(
        &mut self,
        opened: &mut Opened,
    ) -> Result<Option<PullPage>, TransportError> {
        if opened.epoch != self.epoch {
            return Err(super::world::lost());
        }
        let (seq, tables, at) = &mut opened.place;
        let all = self.snapshots[seq].iter();
        let all: Vec<&RowDelta> = all
            .filter(|delta| tables.is_empty() || tables.contains(&delta.table))
            .collect();
        if *at > all.len() {
            return Ok(None);
        }
        let end = (*at + self.chunk_deltas).min(all.len());
        let deltas = all[*at..end].iter().map(|delta| {
            Arc::new(SeqDelta {
                seq: *seq,
                delta: (*delta).clone(),
            })
        });
        let has_more = end < all.len();
        let mut page = PullPage {
            deltas: deltas.collect(),
            cursor: *seq,
            removed: Vec::new(),
            has_more,
            epoch: self.epoch(),
            notes: Notes::default(),
        };
        page.notes.checksum = Some(page_checksum(&page));
        let rules = opened.rules;
        page.notes.resume = Some(format!("{}.{rules}.{}.{end}", self.epoch, seq.as_u64()));
        if !has_more {
            let notes = self.notes(*seq, None);
            page.notes.schemas = notes.schemas;
            page.notes.next = Some(Cursor {
                rules,
                ..self.cursor(*seq)
            });
        }
        *at = if has_more { end } else { all.len() + 1 };
        let schemas = Arc::clone(&opened.schemas);
        self.sent(&page, schemas.as_ref()).map(Some)
    }

    pub(super) fn digest(&self) -> GatewayDigest {
        let merged = self.merged();
        let tables = self.schemas.iter().map(|schema| {
            let mut digest = TableDigest {
                table: schema.table.clone(),
                rows: 0,
                cells: 0,
                hash: 0,
            };
            let rows = merged
                .iter()
                .filter(|((table, _), _)| *table == schema.table);
            for ((table, row_id), state) in rows.filter(|(_, state)| state.exists()) {
                digest.rows += 1;
                for (column, value) in shown(schema, row_id, state) {
                    if value != Value::Null {
                        digest.cells += 1;
                        let cell = cell_digest(table, row_id, &column, &value);
                        digest.hash = digest.hash.wrapping_add(cell);
                    }
                }
            }
            digest
        });
        GatewayDigest {
            cursor: self.cursor(self.last_seq()).to_string(),
            tables: tables.collect(),
        }
    }
}

/// The values that a row shows, its key's included.
pub(super) fn shown(
    schema: &TableSchema,
    row_id: &RowId,
    state: &RowState,
) -> BTreeMap<ColumnName, Value> {
    let living = |column: &ColumnName| schema.column(column.as_str()).is_some();
    let cells = state
        .visible_cells()
        .map(|(column, cell)| (column.clone(), cell.value.clone()));
    cells
        .chain(schema.key_values(row_id).unwrap())
        .filter(|(column, _)| living(column))
        .collect()
}

/// A refusal that names a delta.
pub(super) fn refusal(status: u16, code: &str) -> Refusal {
    Refusal {
        status,
        code: code.to_owned(),
        message: format!("refused as {code}"),
        index: Some(0),
        request_id: Some("req-1".to_owned()),
        retry_after: None,
        details: serde_json::Map::new(),
    }
}
