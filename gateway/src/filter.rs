//! What of a run of deltas one audience hears, and the rows that it has to be given whole.
//!
//! Steps: read runs, decide by the memberships stored beside each delta → until the page is full, everything visible
//! has been looked at, or the bound of one answer is reached → look up the rows that came into sight as they are now →
//! put both together in seq order.
//!
//! **Invariant:** a page is made of whole seqs, and its cursor is the last seq that was looked at: a stretch without
//! anything to hear moves the cursor on and never stalls.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, PoisonError};

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Removed, RowDelta, RowId, RowState,
    Schemas, Seq, SeqDelta, TableName, Value, row_deltas,
};
use lakesync_providers::{Views, row_states_of};

use crate::error::{Error, Refusal, Result};
use crate::feed::Item;
use crate::gateway::Gateway;
use crate::pull::{PAGE_BYTES_MAX, Source, expired};
use crate::rules::ledger::{Ruling, covers, stored_row, values_of};
use crate::rules::moved::Heard;
use crate::rules::ruling::rules_changed;
use crate::rules::{Audience, Membership};

/// How many deltas one answer looks at: beyond them it tells the client to ask again, so that nobody waits for a long
/// stretch of others' rows.
pub(crate) const SCAN_DELTAS_MAX: usize = 100_000;
/// How many deltas are read at a time, at first: fewer are not worth a read.
const RUN_DELTAS_MIN: usize = 100;
/// How many deltas are read at a time at most: they are held in memory.
const RUN_DELTAS_MAX: usize = 10_000;
/// How many rows one answer gives whole: each is looked up in the tables and held in memory.
const ENTERING_MAX: usize = 1_000;
/// How many rows are looked up first: how large they are tells how many more may be looked up at once.
const LOOK_UP_ROWS_FIRST: usize = 16;
/// How many times as many rows are looked up next, when they are small.
const LOOK_UP_GROWTH: usize = 8;

type RowKey = (TableName, RowId);

/// Which shapes the client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Removed rows, and rows as several deltas with all their stamps.
    Native,
    /// DELETE deltas, and rows as one INSERT.
    Legacy,
}

/// Who asks, and how.
#[derive(Clone, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) audience: &'a Audience,
    pub(crate) ruling: Arc<Ruling>,
    pub(crate) form: Form,
    /// Its own id, if it is known: it is told of rows of its own that it may not see.
    pub(crate) client: Option<&'a ClientId>,
    /// How many deltas are looked at: [`SCAN_DELTAS_MAX`], but in tests.
    pub(crate) scan_deltas_max: usize,
}

/// Deltas of which something is heard.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) heard: Vec<(Arc<SeqDelta>, Heard)>,
    /// The size of those.
    bytes: usize,
    /// Rows that come into sight, with the first delta that brings each there.
    entering: Vec<(Seq, RowKey)>,
    entering_known: HashSet<RowKey>,
    complete_to: Seq,
    /// Up to here nothing tells what a delta did to who sees its row.
    untold: Seq,
}

/// Rows that came into sight, as they are now.
#[derive(Debug, Default)]
pub(crate) struct InSight {
    pub(crate) rows: BTreeMap<RowKey, RowState>,
    /// The first delta whose row was not looked up any more: the page ends before it.
    until: Option<Seq>,
}

/// What a page is made of.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) deltas: Vec<Arc<SeqDelta>>,
    pub(crate) removed: Vec<Removed>,
    /// The seqs whose deltas here are none of the log: a row whole, or the DELETE of a row that is gone from sight.
    pub(crate) made: BTreeSet<Seq>,
    pub(crate) complete_to: Seq,
    pub(crate) visible: Seq,
}

impl Gateway {
    /// The page above `since` for an audience that rules bind.
    pub(crate) async fn filtered(
        &self,
        asking: &Asking<'_>,
        since: Seq,
        limit: usize,
    ) -> Result<Content> {
        let (sifted, visible) = self.sift(asking, since, limit).await?;
        let known_from = asking.ruling.since.max(sifted.untold);
        if sifted.complete_to < known_from && sifted.complete_to < visible {
            return Err(self.below_rules().into());
        }
        let rows = self.rows_in_sight(asking, &sifted).await?;
        let mut content = self.put_together(asking, sifted, &rows);
        content.visible = visible;
        // The page may have been cut by its bytes.
        match content.complete_to < known_from && content.complete_to < visible {
            true => Err(self.below_rules().into()),
            false => Ok(content),
        }
    }

    fn below_rules(&self) -> Refusal {
        let text = "it is below what the gateway can filter by the sync rules";
        expired(self.id(), text)
    }

    pub(crate) async fn sift(
        &self,
        asking: &Asking<'_>,
        since: Seq,
        limit: usize,
    ) -> Result<(Sifted, Seq)> {
        let mut sifted = Sifted {
            complete_to: since,
            ..Sifted::default()
        };
        let run_deltas_max = RUN_DELTAS_MAX.min(asking.scan_deltas_max);
        // Most of what is read is heard, or there are many others: both are known soon.
        let mut run_deltas = limit.max(RUN_DELTAS_MIN);
        let mut looked_at = 0;
        loop {
            let run = self
                .run(sifted.complete_to, run_deltas.min(run_deltas_max))
                .await?;
            run_deltas = run_deltas.saturating_mul(2);
            if run.source == Source::Flushed {
                // Only who has no row yet misses nothing by what rows are now.
                if asking.form == Form::Native || since > Seq::ZERO {
                    return Err(self.below_rules().into());
                }
                sifted.untold = run.complete_to;
            }
            looked_at += run.items.len().max(1);
            let memberships = self.memberships_now(asking, &run.items).await?;
            for (delta, moved) in run.items {
                let heard = match moved.filter(|moved| moved.rules == asking.audience.rules()) {
                    Some(moved) if asking.client == Some(&delta.delta.client_id) => {
                        moved.heard_by_its_writer(delta.delta.op, asking.audience)
                    }
                    Some(moved) => moved.heard_by(asking.audience),
                    None => seen_now(asking, &delta, &memberships),
                };
                sifted.add(delta, heard);
                let full = sifted.heard.len() >= limit || sifted.bytes >= PAGE_BYTES_MAX;
                if full || sifted.entering.len() >= ENTERING_MAX {
                    return Ok((sifted, run.visible));
                }
            }
            sifted.complete_to = run.complete_to;
            if run.complete_to >= run.visible || looked_at >= asking.scan_deltas_max {
                return Ok((sifted, run.visible));
            }
        }
    }

    /// The memberships, as they are now, of the rows of deltas that came before the rules, or of which only the flushed
    /// log is left.
    async fn memberships_now(
        &self,
        asking: &Asking<'_>,
        items: &[Item],
    ) -> Result<BTreeMap<RowKey, Membership>> {
        let version = asking.audience.rules();
        let mut unknown: BTreeMap<TableName, BTreeSet<RowId>> = BTreeMap::new();
        for (delta, moved) in items {
            if moved.as_ref().is_some_and(|moved| moved.rules == version) {
                continue;
            }
            let newer = moved.as_ref().is_some_and(|moved| moved.rules > version);
            if newer {
                return Err(rules_changed().into());
            }
            // A native cursor lies above the rules' beginning, where every delta has a membership.
            if asking.form == Form::Native {
                let text = "what came in there cannot be filtered by the sync rules";
                return Err(expired(self.id(), text).into());
            }
            let delta = &delta.delta;
            if covers(&asking.ruling.rules, &delta.table) {
                let rows = unknown.entry(delta.table.clone()).or_default();
                rows.insert(delta.row_id.clone());
            }
        }
        if unknown.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (reader, live) = (Arc::clone(&self.reader), Arc::clone(&self.live));
        let rules = Arc::clone(&asking.ruling.rules);
        let read = tokio::task::spawn_blocking(move || {
            let log = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let mut found = BTreeMap::new();
            for (table, ids) in unknown {
                let mut rows = Vec::with_capacity(ids.len());
                for row_id in ids {
                    let key = (table.clone(), row_id);
                    let row = stored_row(&log, live.as_ref(), version, &key)?;
                    let state = row.unwrap_or_default().state;
                    let values = values_of(&rules, live.as_ref(), (&table, &key.1), &state);
                    rows.push((key.1, values));
                }
                let memberships = rules.memberships(&table, &rows);
                let keys = rows.into_iter().map(|(row_id, _)| (table.clone(), row_id));
                found.extend(keys.zip(memberships));
            }
            Ok::<_, Error>(found)
        });
        read.await.map_err(|_| self.closed())?
    }

    /// The states of those rows that the audience sees now, as many as one page holds; their membership is that of the
    /// very state that is given.
    pub(crate) async fn rows_in_sight(
        &self,
        asking: &Asking<'_>,
        sifted: &Sifted,
    ) -> Result<InSight> {
        let mut sight = InSight::default();
        let views = self.live.views();
        let mut rest = sifted.entering.as_slice();
        let (mut portion, mut bytes, mut looked_up) = (LOOK_UP_ROWS_FIRST, 0, 0);
        while let Some((first, _)) = rest.first() {
            if bytes >= PAGE_BYTES_MAX {
                sight.until = Some(*first);
                break;
            }
            let (now, later) = rest.split_at(portion.min(rest.len()));
            bytes += self.look_up(asking, (&views, now), &mut sight).await?;
            looked_up += now.len();
            // As many as fit when they are as large as those before.
            let fit = PAGE_BYTES_MAX.saturating_sub(bytes) / (bytes / looked_up).max(1) + 1;
            portion = fit.min(now.len() * LOOK_UP_GROWTH);
            rest = later;
        }
        Ok(sight)
    }

    /// Adds those of `entering` that are seen; gives the size of all of them.
    async fn look_up(
        &self,
        asking: &Asking<'_>,
        (views, entering): (&Views, &[(Seq, RowKey)]),
        sight: &mut InSight,
    ) -> Result<usize> {
        let mut by_table: BTreeMap<&TableName, Vec<RowId>> = BTreeMap::new();
        for (_, (table, row_id)) in entering {
            let ids = by_table.entry(table).or_default();
            ids.push(row_id.clone());
        }
        let rules = &asking.ruling.rules;
        let mut bytes = 0;
        for (table, ids) in by_table {
            let Some(view) = views.tables.get(table) else {
                continue;
            };
            let states = row_states_of(view, &ids).await?;
            bytes += states.values().map(state_bytes).sum::<usize>();
            let values = states.iter().map(|(row_id, state)| {
                let values = values_of(rules, self.live.as_ref(), (table, row_id), state);
                (row_id.clone(), values)
            });
            let values: Vec<_> = values.collect();
            let memberships = rules.memberships(table, &values);
            for ((row_id, state), membership) in states.into_iter().zip(&memberships) {
                if asking.audience.sees(membership) {
                    sight.rows.insert((table.clone(), row_id), state);
                }
            }
        }
        Ok(bytes)
    }

    fn put_together(&self, asking: &Asking<'_>, sifted: Sifted, sight: &InSight) -> Content {
        let mut content = Content::default();
        let (mut bytes, mut at) = (0, content.complete_to);
        // Rows that came into sight and are out of it by now: what they did in between is no news to anybody.
        let mut passing: HashSet<RowKey> = HashSet::new();
        for (delta, heard) in sifted.heard {
            let unknown = sight.until.is_some_and(|until| delta.seq >= until);
            if unknown || bytes >= PAGE_BYTES_MAX {
                content.complete_to = at;
                return content;
            }
            at = delta.seq;
            let key = (delta.delta.table.clone(), delta.delta.row_id.clone());
            let given = match heard {
                Heard::Nothing => continue,
                Heard::Delta if passing.contains(&key) => continue,
                Heard::Delta => vec![delta],
                Heard::Gone => {
                    passing.remove(&key);
                    match asking.form {
                        Form::Native => {
                            content.removed.push(Removed {
                                seq: delta.seq,
                                table: key.0,
                                row_id: key.1,
                            });
                            continue;
                        }
                        Form::Legacy => {
                            content.made.insert(delta.seq);
                            vec![Arc::new(deleted(&delta))]
                        }
                    }
                }
                Heard::Row => match sight.rows.get(&key) {
                    None => {
                        passing.insert(key);
                        continue;
                    }
                    Some(state) => {
                        passing.remove(&key);
                        content.made.insert(delta.seq);
                        self.whole(asking.form, delta.seq, (&key, state))
                    }
                },
            };
            bytes += given.iter().map(|delta| delta.delta.bytes()).sum::<usize>();
            content.deltas.extend(given);
        }
        content.complete_to = sifted.complete_to;
        content
    }

    /// A row whole, as deltas that arrived as `seq`.
    fn whole(
        &self,
        form: Form,
        seq: Seq,
        ((table, row_id), state): (&RowKey, &RowState),
    ) -> Vec<Arc<SeqDelta>> {
        let deltas = match form {
            Form::Native => row_deltas(table, row_id, state),
            Form::Legacy => {
                let keys = self.live.schema(table);
                let keys = keys.and_then(|schema| schema.key_values(row_id).ok());
                inserted(table, row_id, state, keys.unwrap_or_default())
            }
        };
        let deltas = deltas.into_iter();
        deltas
            .map(|delta| Arc::new(SeqDelta { seq, delta }))
            .collect()
    }
}

impl Sifted {
    fn add(&mut self, delta: Arc<SeqDelta>, heard: Heard) {
        self.complete_to = delta.seq;
        if heard == Heard::Row {
            let key = (delta.delta.table.clone(), delta.delta.row_id.clone());
            if self.entering_known.insert(key.clone()) {
                self.entering.push((delta.seq, key));
            }
        }
        if heard != Heard::Nothing {
            self.bytes += delta.delta.bytes();
            self.heard.push((delta, heard));
        }
    }
}

/// The size of a row's names and values.
fn state_bytes(state: &RowState) -> usize {
    let cells = state.cells.iter();
    cells
        .map(|(column, cell)| column.as_str().len() + cell.value.bytes())
        .sum()
}

/// What is heard of a delta that came before the rules, by a legacy client that has no row yet: the row as it is now
/// decides.
fn seen_now(
    asking: &Asking<'_>,
    delta: &SeqDelta,
    memberships: &BTreeMap<RowKey, Membership>,
) -> Heard {
    let key = (delta.delta.table.clone(), delta.delta.row_id.clone());
    let membership = memberships.get(&key);
    match membership.is_some_and(|membership| asking.audience.sees(membership)) {
        true => Heard::Delta,
        false => Heard::Nothing,
    }
}

/// What a legacy client is told of a row that is gone from its sight: a DELETE with the stamp of what took it away.
fn deleted(delta: &SeqDelta) -> SeqDelta {
    let RowDelta {
        table,
        row_id,
        client_id,
        hlc,
        delta_id,
        ..
    } = delta.delta.clone();
    SeqDelta {
        seq: delta.seq,
        delta: RowDelta {
            op: Op::Delete,
            table,
            row_id,
            client_id,
            columns: Vec::new(),
            hlc,
            delta_id,
        },
    }
}

/// A row as one INSERT with its newest stamp, behind a DELETE older than anything: a legacy client refuses to insert a
/// row that it has, and it has this one when it was given deltas from before the rules.
fn inserted(
    table: &TableName,
    row_id: &RowId,
    state: &RowState,
    keys: Vec<(ColumnName, Value)>,
) -> Vec<RowDelta> {
    let Some(stamp) = state.written.clone().filter(|_| state.exists()) else {
        return Vec::new();
    };
    let mut cells: BTreeMap<_, _> = state
        .visible_cells()
        .map(|(column, cell)| (column.clone(), cell.value.clone()))
        .collect();
    cells.extend(keys);
    let columns = cells.into_iter();
    let columns = columns.map(|(column, value)| ColumnChange { column, value });
    let insert = RowDelta {
        op: Op::Insert,
        table: table.clone(),
        row_id: row_id.clone(),
        client_id: stamp.client_id,
        columns: columns.collect(),
        hlc: stamp.hlc,
        delta_id: stamp.delta_id,
    };
    let key = DeltaKey {
        hlc: Hlc::new(0, 1).expect("the least stamp there is"),
        ..insert.key()
    };
    vec![RowDelta::new(Op::Delete, key, Vec::new()), insert]
}
