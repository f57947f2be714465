//! The digest of what an audience sees: a client that computes the same over its own rows has converged.
//!
//! **Invariant:** the digest at a seq is one number whenever and wherever it is computed: see [`cell_digest`].

use std::sync::Arc;

use futures::TryStreamExt as _;
use lakesync_proto::{Cursor, ErrorCode, Seq, TableName, Value, cell_digest};
use lakesync_providers::{ReadView, view_at_seq, visible_rows};

use crate::error::{Refusal, Result};
use crate::gateway::Gateway;
use crate::rules::Audience;
use crate::sight::Sight;

/// The visible rows of some tables in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The seq that all of it is of.
    pub seq: Seq,
    /// The same as a client holds it: digests compare when the cursors are equal.
    pub cursor: Cursor,
    /// The tables, by name.
    pub tables: Vec<TableDigest>,
}

/// The visible rows of one table in three numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    /// The table.
    pub table: TableName,
    /// How many rows there are.
    pub rows: u64,
    /// How many cells of them are not null.
    pub cells: u64,
    /// The wrapping sum of the cells' [`cell_digest`].
    pub hash: u64,
}

impl Gateway {
    /// The digests of `tables`, or of all, as `audience` sees them at seq `at`, or now.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`] when the lake no longer has that seq, or not yet; [`ErrorCode::BackpressureError`]
    /// when too many whole tables are being read; [`ErrorCode::UnknownTable`]; else when the lake cannot be read.
    pub async fn digest(
        &self,
        tables: Option<Vec<TableName>>,
        at: Option<Seq>,
        audience: &Arc<Audience>,
    ) -> Result<Digest> {
        let _slot = self.reader_slot()?;
        let sight = self.sight(audience)?;
        let (now, mut views) = self.chosen_views(tables.as_deref())?;
        views.sort_by(|a, b| a.table().cmp(b.table()));
        views.dedup_by(|a, b| a.table() == b.table());
        let seq = at.unwrap_or(now);
        let mut digests = Vec::with_capacity(views.len());
        for view in &views {
            let then = view_at_seq(view, seq).await?;
            let then = then.ok_or_else(|| out_of_reach(seq, now))?;
            digests.push(table_digest(&then, &sight).await?);
        }
        Ok(Digest {
            seq,
            cursor: self.cursor_at(seq, sight.audience()),
            tables: digests,
        })
    }
}

async fn table_digest(view: &Arc<ReadView>, sight: &Sight) -> Result<TableDigest> {
    let table = view.table();
    let mut digest = TableDigest {
        table: table.clone(),
        rows: 0,
        cells: 0,
        hash: 0,
    };
    let mut pages = visible_rows(view);
    while let Some(page) = pages.try_next().await? {
        for (row_id, values) in sight.values(table, page) {
            digest.rows += 1;
            for (column, value) in &values {
                if *value != Value::Null {
                    digest.cells += 1;
                    let cell = cell_digest(table, &row_id, column, value);
                    digest.hash = digest.hash.wrapping_add(cell);
                }
            }
        }
    }
    Ok(digest)
}

fn out_of_reach(seq: Seq, now: Seq) -> Refusal {
    let text = format!(
        "there is no digest at seq {seq}: the log ends at {now}, and what is older than the oldest kept state is gone; \
         ask at a later seq"
    );
    Refusal::new(ErrorCode::CursorExpired, text)
}
