//! ★ The read view: what one query sees, immutable.
//!
//! ```text
//!   seq  1 ………………… base seq ………………… log max seq ………………… view seq
//!        └── in the base ──┘└───── hot deltas: above base seq ─────┘
//!        └────────── flushed log ───────────┘└── not yet flushed ──┘
//! ```
//! The overlay of a view is the fold of its hot deltas; it is resolved against the base once, and a later view over the
//! same base goes on from there, so that a query pays for what was pushed since the one before.

use std::sync::Arc;

use iceberg::table::Table;
use lakesync_proto::{GatewayId, Hlc, Seq, SeqDelta, TableName, TableSchema};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::files::ParquetTable;
pub(crate) use crate::hot_pushes::HotPush;
use crate::hot_pushes::HotPushes;
use crate::lake::{DataFileInfo, ForeignSnapshot, LakeError, Warehouse, live_files, summary};
use crate::overlay::{Overlay, Resolved};
use crate::pins::Pin;
use crate::scan::{Dead, Sorted};
use crate::session::session;

/// One snapshot of a base table, with what its summary says of it.
#[derive(Clone, Debug)]
pub struct BaseSnapshot {
    /// The Iceberg table as loaded.
    pub table: Table,
    /// The snapshot; `None` before the first compaction, when the base has no rows.
    pub snapshot_id: Option<i64>,
    /// Every delta with `seq` up to this one is in the snapshot.
    pub base_seq: Seq,
    /// The greatest HLC among those deltas: anything newer wins without looking at the log.
    pub max_hlc: Hlc,
    /// Set when another program changed the snapshot's rows: they cannot be read, and seq and HLC are those of the
    /// newest snapshot of ours below.
    pub foreign: Option<ForeignSnapshot>,
    pin: Option<Arc<Pin>>,
    files: OnceCell<ParquetTable>,
}

impl BaseSnapshot {
    /// The current snapshot of `table`.
    ///
    /// # Errors
    /// When the snapshot's summary holds a watermark that is not a number.
    pub fn current(table: Table) -> Result<Self> {
        let snapshot_id = table.metadata().current_snapshot_id();
        Self::at(table, snapshot_id)
    }

    /// The snapshot `snapshot_id` of `table`.
    ///
    /// # Errors
    /// As [`BaseSnapshot::current`].
    pub fn at(table: Table, snapshot_id: Option<i64>) -> Result<Self> {
        let marks = summary::settled(&table, snapshot_id)?;
        Ok(Self {
            base_seq: marks.base_seq.unwrap_or(Seq::ZERO),
            max_hlc: marks.max_hlc.unwrap_or(Hlc::ZERO),
            foreign: summary::foreign(&table, snapshot_id)?,
            pin: pin(&table, snapshot_id)?,
            snapshot_id,
            table,
            files: OnceCell::new(),
        })
    }

    /// What keeps the snapshot's files from expiry; none without a snapshot.
    #[must_use]
    pub fn pin(&self) -> Option<&Arc<Pin>> {
        self.pin.as_ref()
    }

    /// Whether it may be published after `other`: every delta that is in `other` is in it too, and its table has not
    /// fewer commits.
    pub(crate) fn follows(&self, other: &Self) -> bool {
        let commits = |base: &Self| base.table.metadata().last_sequence_number();
        self.base_seq >= other.base_seq && commits(self) >= commits(other)
    }

    /// The rows of the snapshot; its manifests and delete files are read once.
    ///
    /// # Errors
    /// [`LakeError::Foreign`] when another program changed them; when a manifest or a delete file cannot be read.
    pub async fn scan(&self, warehouse: &Warehouse) -> Result<ParquetTable> {
        refuse_foreign(self.foreign.as_ref())?;
        let list = || self.list(warehouse);
        self.files.get_or_try_init(list).await.cloned()
    }

    /// The data files of the snapshot, in the order by which they are numbered.
    ///
    /// # Errors
    /// As [`BaseSnapshot::scan`].
    pub async fn data_files(&self, warehouse: &Warehouse) -> Result<Arc<[DataFileInfo]>> {
        let table = self.scan(warehouse).await?;
        Ok(Arc::clone(table.shared_files()))
    }

    /// The rows of the data files that delete files take away: they are no rows of the snapshot.
    ///
    /// # Errors
    /// As [`BaseSnapshot::scan`].
    pub async fn dead(&self, warehouse: &Warehouse) -> Result<Arc<Dead>> {
        let table = self.scan(warehouse).await?;
        Ok(Arc::clone(table.dead()))
    }

    async fn list(&self, warehouse: &Warehouse) -> Result<ParquetTable> {
        let files = match self.snapshot_id {
            Some(_) => live_files(&self.table, self.snapshot_id).await?,
            None => Vec::new(),
        };
        let sorted = Sorted::out(&self.table.identifier().to_string(), files)?;
        let data = sorted.data.as_slice().into();
        let table = ParquetTable::open(warehouse, &self.table, data)?.pinned(self.pin.as_ref());
        if sorted.is_whole() {
            return Ok(table);
        }
        let task = session(warehouse).task_ctx();
        let dead = Box::pin(Dead::read(&task, &table, &sorted)).await?;
        Ok(table.without(dead))
    }
}

/// One snapshot of a log table.
#[derive(Clone, Debug)]
pub struct LogSnapshot {
    /// The Iceberg table as loaded.
    pub table: Table,
    /// The snapshot; `None` before the first flush.
    pub snapshot_id: Option<i64>,
    /// Every delta of the table with `seq` up to this one has been flushed.
    pub max_seq: Seq,
    /// The greatest HLC that any flush has written.
    pub max_hlc: Hlc,
    /// The log is whole above this seq; up to it deltas that are stamped below the floor may have been dropped.
    pub dropped_seq: Seq,
    /// The floor when they were.
    pub floor: Hlc,
    /// As [`BaseSnapshot::foreign`].
    pub foreign: Option<ForeignSnapshot>,
    pin: Option<Arc<Pin>>,
    files: OnceCell<ParquetTable>,
}

impl LogSnapshot {
    /// The current snapshot of `table`.
    ///
    /// # Errors
    /// When the snapshot's summary holds a watermark that is not a number.
    pub fn current(table: Table) -> Result<Self> {
        let snapshot_id = table.metadata().current_snapshot_id();
        Self::at(table, snapshot_id)
    }

    /// The snapshot `snapshot_id` of `table`.
    ///
    /// # Errors
    /// As [`LogSnapshot::current`].
    pub fn at(table: Table, snapshot_id: Option<i64>) -> Result<Self> {
        let marks = summary::settled(&table, snapshot_id)?;
        Ok(Self {
            max_seq: marks.max_seq.unwrap_or(Seq::ZERO),
            dropped_seq: marks.dropped_seq.unwrap_or(Seq::ZERO),
            floor: marks.floor.unwrap_or(Hlc::ZERO),
            max_hlc: marks.max_hlc.unwrap_or(Hlc::ZERO),
            foreign: summary::foreign(&table, snapshot_id)?,
            pin: pin(&table, snapshot_id)?,
            snapshot_id,
            table,
            files: OnceCell::new(),
        })
    }

    /// What keeps the snapshot's files from expiry; none without a snapshot.
    #[must_use]
    pub fn pin(&self) -> Option<&Arc<Pin>> {
        self.pin.as_ref()
    }

    /// The rows of the log; its manifests are read once.
    ///
    /// # Errors
    /// [`LakeError::Foreign`] when another program changed them, else as [`ParquetTable::open`].
    pub async fn scan(&self, warehouse: &Warehouse) -> Result<ParquetTable> {
        refuse_foreign(self.foreign.as_ref())?;
        let list = || self.list(warehouse);
        self.files.get_or_try_init(list).await.cloned()
    }

    async fn list(&self, warehouse: &Warehouse) -> Result<ParquetTable> {
        let files = match self.snapshot_id {
            Some(_) => live_files(&self.table, self.snapshot_id).await?.into(),
            None => Arc::new([]) as _,
        };
        let table = ParquetTable::open(warehouse, &self.table, files)?;
        Ok(table.pinned(self.pin.as_ref()))
    }
}

/// A pin on a snapshot.
fn pin(table: &Table, snapshot_id: Option<i64>) -> Result<Option<Arc<Pin>>> {
    let Some(snapshot) = snapshot_id else {
        return Ok(None);
    };
    match Pin::new(table.metadata().uuid(), snapshot) {
        Some(pin) => Ok(Some(pin)),
        None => Err(Error::SnapshotExpired {
            table: table.identifier().to_string(),
            snapshot,
        }),
    }
}

fn refuse_foreign(foreign: Option<&ForeignSnapshot>) -> Result<()> {
    match foreign {
        None => Ok(()),
        Some(foreign) => Err(LakeError::from(foreign.clone()).into()),
    }
}

/// What a query sees of one table.
#[derive(Debug)]
pub struct ReadView {
    /// The lake that the files are in.
    pub warehouse: Warehouse,
    /// The gateway (SQL schema) of the table.
    pub gateway: GatewayId,
    /// The schema of the view.
    pub schema: Arc<TableSchema>,
    /// The merged rows up to `base.base_seq`.
    pub base: Arc<BaseSnapshot>,
    /// The flushed deltas.
    pub log: Arc<LogSnapshot>,
    /// Every delta up to this one is in the view, and none above it.
    pub seq: Seq,
    /// The deltas above the base seq, by push, ascending by seq.
    pub hot: HotPushes,
    /// The overlay that this view shares with later ones.
    pub(crate) overlay: Arc<Overlay>,
    /// What it shows of this view, once somebody has asked for it.
    pub(crate) resolved: OnceCell<Arc<Resolved>>,
}

impl ReadView {
    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.schema.table
    }

    /// The deltas above the base seq, ascending by seq.
    pub fn hot_deltas(&self) -> impl Iterator<Item = &Arc<SeqDelta>> {
        self.arrivals(self.base.base_seq).map(|(delta, _)| delta)
    }

    /// The hot deltas above `seq` with the moment each was accepted (milliseconds since 1970).
    pub fn arrivals(&self, seq: Seq) -> impl Iterator<Item = (&Arc<SeqDelta>, u64)> {
        let deltas = self.hot.after(seq).flat_map(|push| {
            let arrived_ms = push.arrived_ms;
            push.deltas.iter().map(move |delta| (delta, arrived_ms))
        });
        deltas.filter(move |(delta, _)| delta.seq > seq)
    }

    /// What the hot deltas make of the rows they touch: asked once for a view, and begun where an earlier view of the
    /// same base ended.
    ///
    /// # Errors
    /// When the base or the log cannot be read.
    pub async fn resolved(&self) -> Result<&Resolved> {
        let resolve = || self.overlay.resolved(self);
        let resolved = self.resolved.get_or_try_init(resolve).await?;
        Ok(resolved)
    }

    /// The same view with an overlay of its own, of which nothing is made yet.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self {
            warehouse: self.warehouse.clone(),
            gateway: self.gateway.clone(),
            schema: Arc::clone(&self.schema),
            base: Arc::clone(&self.base),
            log: Arc::clone(&self.log),
            seq: self.seq,
            hot: self.hot.clone(),
            overlay: Arc::default(),
            resolved: OnceCell::new(),
        }
    }
}
