//! The seal: every captured change becomes a delta with a stamp, in order, and goes into the outbox.
//!
//! Invariant: one transaction with what follows it, so a change is either still captured or an entry. Memory is bounded by
//! the rows that must be stored anew: those of dead letters, and those where something newer is confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakesync_proto::{DeltaKey, Op, RowDelta, RowId};
use rusqlite::params_from_iter;
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};

use super::change::{Change, Side};
use super::plan::{Cells, Draft, Normal, Plan, Writer, all, gone, plan};
use super::times::{Commits, Stamps, commits};
use super::written::{Written, WrittenRows};
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox;
use crate::rows::{self, Own};
use crate::schema::{self, LocalTable, TableNumber};
use crate::value::{copied, to_sqlite};

/// Rows that inserts have met and that nothing has been heard of since. An insert follows at once, but for what triggers of
/// the application do in between.
const MET_MAX: usize = 64;

/// Characters of a dead letter's values that are shown, each and together.
const SHOWN_CHARS_MAX: usize = 2_000;

/// Stamps every captured change, in order, and moves it into the outbox as a delta. Gives the number of entries.
pub(crate) fn seal(work: &mut Work<'_>) -> Result<u64, ClientError> {
    let tx = work.tx;
    if super::last_change(tx)? == 0 {
        return Ok(0);
    }
    let mut sealing = Sealing {
        stamps: Stamps::load(tx)?,
        inserted: WrittenRows::of(tx, work.registry)?,
        met: Vec::new(),
        restore: BTreeMap::new(),
        sealed: 0,
    };
    {
        let mut statement = commits(tx)?;
        let mut commits = Commits::of(&mut statement)?;
        // It waits for nothing that it reads: what a seal writes goes into other tables.
        let mut statement = tx.prepare("SELECT * FROM _lakesync_changes ORDER BY change")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let change = Change::read(row)?;
            let (writer, at_ms) = commits.maker(&change)?;
            sealing.change(work, change, (writer, at_ms))?;
        }
    }
    tx.execute_batch("DELETE FROM _lakesync_changes; DELETE FROM _lakesync_commits")?;
    sealing.inserted.forget()?;
    sealing.finish(work)
}

struct Sealing<'c> {
    stamps: Stamps,
    inserted: WrittenRows<'c>,
    /// Rows that inserts of other programs have met, with their values.
    met: Vec<(TableNumber, RowId, Cells)>,
    restore: BTreeMap<TableNumber, BTreeSet<RowId>>,
    sealed: u64,
}

impl Sealing<'_> {
    fn change(
        &mut self,
        work: &mut Work<'_>,
        mut change: Change<'_>,
        (writer, at_ms): (Writer, u64),
    ) -> Result<(), ClientError> {
        // A table that is not registered was dropped with its triggers.
        let Some(table) = work.registry.numbered(change.table_number).map(Arc::clone) else {
            return Ok(());
        };
        if change.kind == schema::MET {
            self.meet(&change, &table);
            return Ok(());
        }
        let replaced = self.replaced(&change, &table);
        let planned = match change.kind {
            schema::ADD => match self.inserted.written(&change, &table)? {
                Written::Values(cells) => {
                    change.written = cells;
                    plan(&change, &table, writer, replaced)
                }
                Written::Gone => gone(&change, &table, replaced),
                Written::Lost => return lost(work, &change, &table),
            },
            _ => plan(&change, &table, writer, replaced),
        };
        match &planned.unfit {
            Some(reason) => self.reject(work, (&change, &table), (&planned, reason, at_ms)),
            None => self.accept(work, (&change, &table), (planned, at_ms)),
        }
    }

    fn accept(
        &mut self,
        work: &mut Work<'_>,
        (change, table): (&Change<'_>, &LocalTable),
        (planned, at_ms): (Plan, u64),
    ) -> Result<(), ClientError> {
        for mut draft in planned.drafts {
            let before = draft.before.take();
            let delta = self.delta(work, table, draft, at_ms)?;
            if rows::hide_confirmed(work, table, &delta, before.as_deref())? == Own::Hidden {
                self.restore_later(table, &delta.row_id);
            }
            if delta.op != Op::Delete {
                normalise(work, (change, table), &delta.row_id, &planned.normal)?;
            }
            outbox::add(work, table, delta)?;
            self.sealed += 1;
        }
        Ok(())
    }

    /// The change becomes a dead letter, and its rows are what they were before it.
    fn reject(
        &mut self,
        work: &mut Work<'_>,
        (change, table): (&Change<'_>, &LocalTable),
        (planned, reason, at_ms): (&Plan, &str, u64),
    ) -> Result<(), ClientError> {
        let mut row_id = None;
        for draft in &planned.drafts {
            let delta = self.delta(work, table, draft.clone(), at_ms)?;
            rows::hide_confirmed(work, table, &delta, draft.before.as_deref())?;
            if delta.op != Op::Delete {
                normalise(work, (change, table), &delta.row_id, &planned.normal)?;
            }
            self.restore_later(table, &delta.row_id);
            row_id = Some(delta.row_id);
        }
        if planned.nameless {
            remove_nameless(work, change, table)?;
        }
        let shown = shown(change, table);
        let row_id = row_id.map_or_else(
            || nameless_text(change, table),
            |row_id| row_id.as_str().to_owned(),
        );
        outbox::add_rejected(work, table, &row_id, (&shown, reason))
    }

    fn delta(
        &mut self,
        work: &Work<'_>,
        table: &LocalTable,
        draft: Draft,
        at_ms: u64,
    ) -> Result<RowDelta, ClientError> {
        let key = DeltaKey {
            table: table.schema.table.clone(),
            row_id: draft.row_id,
            client_id: work.client_id.clone(),
            hlc: self.stamps.next(at_ms)?,
        };
        Ok(RowDelta::new(draft.op, key, draft.columns))
    }

    fn meet(&mut self, change: &Change<'_>, table: &LocalTable) {
        if let Some(Ok(row_id)) = change.old_row_id(table) {
            let same = |met: &(TableNumber, RowId, Cells)| met.0 == table.number && met.1 == row_id;
            self.met.retain(|met| !same(met));
            if self.met.len() == MET_MAX {
                self.met.remove(0);
            }
            self.met.push((table.number, row_id, all(change, table)));
        }
    }

    /// What an insert has replaced, when it has met a row that nothing else has taken away since.
    fn replaced(&mut self, change: &Change<'_>, table: &LocalTable) -> Option<Cells> {
        if self.met.is_empty() {
            return None;
        }
        let row_ids = [change.old_row_id(table), change.new_row_id(table)];
        let row_ids: Vec<RowId> = row_ids.into_iter().flatten().flatten().collect();
        let mut cells = None;
        self.met.retain_mut(|(number, row_id, met)| {
            let is_this = *number == table.number && row_ids.contains(row_id);
            if is_this {
                cells = Some(std::mem::take(met));
            }
            !is_this
        });
        cells.filter(|_| change.is_insert())
    }

    fn restore_later(&mut self, table: &LocalTable, row_id: &RowId) {
        let rows = self.restore.entry(table.number).or_default();
        rows.insert(row_id.clone());
    }

    fn finish(self, work: &mut Work<'_>) -> Result<u64, ClientError> {
        self.stamps.store(work.tx)?;
        for (number, row_ids) in self.restore {
            let Some(table) = work.registry.numbered(number).map(Arc::clone) else {
                continue;
            };
            for row_id in row_ids {
                rows::restore(work, &table, &row_id)?;
            }
        }
        Ok(self.sealed)
    }
}

/// An insert whose values nobody can tell becomes a dead letter of its key. Its table is not there to fall back.
fn lost(work: &mut Work<'_>, change: &Change<'_>, table: &LocalTable) -> Result<(), ClientError> {
    let row_id = match change.new_row_id(table) {
        Some(Ok(row_id)) => row_id.as_str().to_owned(),
        _ => nameless_text(change, table),
    };
    let reason = "another program has removed the table, or its key, before the row was read";
    outbox::add_rejected(work, table, &row_id, (&shown(change, table), reason))
}

/// Writes normal forms over what was written, where it still stands.
fn normalise(
    work: &Work<'_>,
    (change, table): (&Change<'_>, &LocalTable),
    row_id: &RowId,
    normal: &[Normal],
) -> Result<(), ClientError> {
    if normal.is_empty() {
        return Ok(());
    }
    let key = table.key(row_id)?;
    for Normal {
        column,
        slot,
        value,
    } in normal
    {
        let sql = format!(
            "UPDATE \"{}\" SET \"{column}\" = ?{} {} AND \"{column}\" IS ?{}",
            table.schema.table,
            key.len() + 1,
            table.where_row(),
            key.len() + 2,
        );
        let values = key.iter().cloned().chain([to_sqlite(value)]);
        let written = ToSqlOutput::Borrowed(change.value(Side::New, *slot));
        let values = values.map(ToSqlOutput::Owned).chain([written]);
        work.tx
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))?;
    }
    Ok(())
}

/// Takes a row out of `t` that can have no row id.
fn remove_nameless(
    work: &mut Work<'_>,
    change: &Change<'_>,
    table: &LocalTable,
) -> Result<(), ClientError> {
    let identity = change.identity(table, made_by(change));
    let sql = format!(
        "DELETE FROM \"{}\" {}",
        table.schema.table,
        table.where_row()
    );
    let values = identity.into_iter().map(ToSqlOutput::Borrowed);
    work.tx
        .prepare_cached(&sql)?
        .execute(params_from_iter(values))?;
    work.touched.many(&table.schema.table);
    Ok(())
}

/// Which side of a change names the row that stands in `t` after it.
fn made_by(change: &Change<'_>) -> Side {
    match change.kind {
        schema::INSERT | schema::ADD | schema::MOVE => Side::New,
        _ => Side::Old,
    }
}

fn nameless_text(change: &Change<'_>, table: &LocalTable) -> String {
    let identity = change.identity(table, made_by(change));
    let texts: Vec<String> = identity.into_iter().map(text).collect();
    texts.join(", ").chars().take(SHOWN_CHARS_MAX).collect()
}

/// The captured values, for a person.
fn shown(change: &Change<'_>, table: &LocalTable) -> String {
    let verb = match change.kind {
        schema::INSERT | schema::ADD => "INSERT",
        schema::DELETE => "DELETE",
        _ => "UPDATE",
    };
    let mut shown = verb.to_owned();
    for column in &table.columns {
        let value = change.value(Side::New, column.slot);
        if value != ValueRef::Null && shown.len() < SHOWN_CHARS_MAX {
            let value: String = text(value).chars().take(SHOWN_CHARS_MAX).collect();
            shown.push_str(&format!(" {}={value}", column.name));
        }
    }
    shown.chars().take(SHOWN_CHARS_MAX).collect()
}

fn text(value: ValueRef<'_>) -> String {
    match copied(value) {
        SqlValue::Null => "NULL".to_owned(),
        SqlValue::Integer(number) => number.to_string(),
        SqlValue::Real(number) => number.to_string(),
        SqlValue::Text(text) => format!("{text:?}"),
        SqlValue::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}
