//! The live tables of one gateway: the one owner that mutates, from which readers take views.
//!
//! **Invariant:** all tables of a gateway change under one lock, and a set of views is taken under the same
//! lock, so a statement that reads two tables sees both at one seq. The lock is short and never held
//! across an await.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iceberg::table::Table;
use lakesync_proto::{GatewayId, Hlc, Schemas, Seq, SeqDelta, TableName, TableSchema};
use tokio::sync::OnceCell;

use crate::error::Result;
use crate::hot_pushes::{HotPush, HotPushes};
use crate::hot_size::{HotSize, TableSize};
use crate::lake::{TablePair, Warehouse};
use crate::overlay::Overlay;
use crate::view::{BaseSnapshot, LogSnapshot, ReadView};

/// The tables of one gateway as they are now.
#[derive(Debug)]
pub struct Live {
    gateway: GatewayId,
    warehouse: Warehouse,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seq: Seq,
    floor: Hlc,
    tables: BTreeMap<TableName, LiveTable>,
}

#[derive(Debug)]
struct LiveTable {
    schema: Arc<TableSchema>,
    base: Arc<BaseSnapshot>,
    log: Arc<LogSnapshot>,
    hot: HotPushes,
    /// What views make of the hot deltas, as long as base and schema stay.
    overlay: Arc<Overlay>,
    size: HotSize,
    /// The last view given out, until something changes.
    view: Option<Arc<ReadView>>,
}

/// The views of all tables of one gateway at one moment.
#[derive(Clone, Debug)]
pub struct Views {
    /// The gateway (SQL schema).
    pub gateway: GatewayId,
    /// Every view holds the deltas up to this seq.
    pub seq: Seq,
    /// The gateway's floor: what the log has forgotten is stamped below it.
    pub floor: Hlc,
    /// The views by table name.
    pub tables: BTreeMap<TableName, Arc<ReadView>>,
}

impl Live {
    /// A gateway without tables, at `seq`.
    #[must_use]
    pub fn new(warehouse: Warehouse, gateway: GatewayId, seq: Seq) -> Self {
        Self {
            gateway,
            warehouse,
            inner: Mutex::new(Inner {
                seq,
                floor: Hlc::ZERO,
                tables: BTreeMap::new(),
            }),
        }
    }

    /// The gateway's name.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// The lake that the tables are in.
    #[must_use]
    pub fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// The seq up to which everything is visible.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.lock().seq
    }

    /// Says what the floor is now; it never sinks.
    pub fn raise_floor(&self, floor: Hlc) {
        let mut inner = self.lock();
        inner.floor = inner.floor.max(floor);
    }

    /// Adds a table, or gives a known one its schema and snapshots as they are now.
    ///
    /// # Errors
    /// When a snapshot summary of the pair cannot be read.
    pub fn put_table(&self, pair: TablePair) -> Result<()> {
        let base = Arc::new(BaseSnapshot::current(pair.base)?);
        let log = Arc::new(LogSnapshot::current(pair.log)?);
        let mut inner = self.lock();
        let name = pair.schema.table.clone();
        let table = inner.tables.entry(name).or_insert_with(|| LiveTable {
            schema: Arc::clone(&pair.schema),
            base: Arc::clone(&base),
            log: Arc::clone(&log),
            hot: HotPushes::default(),
            overlay: Arc::default(),
            size: HotSize::default(),
            view: None,
        });
        table.set_schema(pair.schema);
        table.set_log(log);
        // A base that another program changed is not published over a good one: its rows cannot be read.
        if base.foreign.is_none() {
            table.follow_with(base);
        }
        Ok(())
    }

    /// Makes the durable deltas up to `seq` visible, all of them at once.
    ///
    /// # Panics
    /// When `seq` sinks, or a delta is of a table that was never put.
    pub fn append(&self, push: &HotPush, seq: Seq) {
        let mut inner = self.lock();
        assert!(seq >= inner.seq, "the visible seq only grows");
        inner.seq = seq;
        inner.add(push);
        // A view is of a seq: every table's last one has become old.
        for table in inner.tables.values_mut() {
            table.view = None;
        }
    }

    /// Gives back deltas that were visible before the process began; [`Live::append`] moves the seq later.
    ///
    /// # Panics
    /// When a delta is of a table that was never put.
    pub fn recover(&self, push: &HotPush) {
        let mut inner = self.lock();
        inner.add(push);
        // An overlay takes deltas in the order of their seqs, and these may be below what it knows.
        for table in inner.tables.values_mut() {
            if table.overlay.is_begun() {
                table.overlay = Arc::default();
            }
        }
    }

    /// Publishes the log after a flush or another commit to it. One that is older than what is published stays
    /// unpublished: a job's commit and a flush may be told in another order than they were made.
    ///
    /// # Errors
    /// When the new snapshot's summary cannot be read.
    pub fn flushed(&self, name: &TableName, log: Table) -> Result<()> {
        let log = Arc::new(LogSnapshot::current(log)?);
        let made = |log: &LogSnapshot| log.table.metadata().last_sequence_number();
        if let Some(table) = self.lock().tables.get_mut(name)
            && made(&log) >= made(&table.log)
        {
            table.set_log(log);
        }
        Ok(())
    }

    /// Publishes the base after a compaction: what it covers leaves the hot deltas. One that is older than the published
    /// one, because another compaction was told first, changes nothing.
    ///
    /// # Errors
    /// When the new snapshot's summary cannot be read.
    pub fn compacted(&self, name: &TableName, base: Table) -> Result<()> {
        let base = Arc::new(BaseSnapshot::current(base)?);
        if let Some(table) = self.lock().tables.get_mut(name) {
            table.follow_with(base);
        }
        Ok(())
    }

    /// Publishes a base that went back, or forth, to another snapshot of ours, with the flushed `deltas` that it lacks and
    /// the present one covers: they are hot again, so no answer changes.
    ///
    /// # Errors
    /// When the snapshot's summary cannot be read.
    pub fn rolled_back(
        &self,
        name: &TableName,
        base: Table,
        deltas: Vec<Arc<SeqDelta>>,
    ) -> Result<()> {
        let base = Arc::new(BaseSnapshot::current(base)?);
        if let Some(table) = self.lock().tables.get_mut(name) {
            table.go_back(base, deltas);
        }
        Ok(())
    }

    /// The view of one table now.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<Arc<ReadView>> {
        self.views().tables.get(name).map(Arc::clone)
    }

    /// The views of all tables at one moment.
    #[must_use]
    pub fn views(&self) -> Views {
        let mut inner = self.lock();
        let (seq, floor) = (inner.seq, inner.floor);
        let tables = inner
            .tables
            .iter_mut()
            .map(|(name, table)| {
                (
                    name.clone(),
                    table.view(&self.warehouse, &self.gateway, seq),
                )
            })
            .collect();
        Views {
            gateway: self.gateway.clone(),
            seq,
            floor,
            tables,
        }
    }

    /// The schemas of all tables, by name.
    #[must_use]
    pub fn schemas(&self) -> Vec<Arc<TableSchema>> {
        let inner = self.lock();
        inner
            .tables
            .values()
            .map(|table| Arc::clone(&table.schema))
            .collect()
    }

    /// How much every table holds in memory, by name.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSize> {
        let inner = self.lock();
        let sizes = inner.tables.iter().map(|(name, table)| TableSize {
            table: name.clone(),
            hot: table.size,
            flushed: table.log.max_seq,
            base: table.base.base_seq,
        });
        sizes.collect()
    }

    /// How much all tables hold in memory. It reads no delta.
    #[must_use]
    pub fn hot(&self) -> HotSize {
        let inner = self.lock();
        let sizes = inner.tables.values().map(|table| table.size);
        sizes.fold(HotSize::default(), HotSize::plus)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, push: &HotPush) {
        let mut by_table: BTreeMap<&TableName, Vec<Arc<SeqDelta>>> = BTreeMap::new();
        for delta in &push.deltas {
            by_table
                .entry(&delta.delta.table)
                .or_default()
                .push(Arc::clone(delta));
        }
        for (name, deltas) in by_table {
            let table = self
                .tables
                .get_mut(name)
                .expect("admission let only known tables through, and tables are never dropped");
            table.view = None;
            let push = HotPush {
                arrived_ms: push.arrived_ms,
                deltas,
            };
            table.size.add(&push, table.log.max_seq);
            table.hot.push(Arc::new(push));
        }
    }
}

impl Schemas for Live {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        let inner = self.lock();
        inner
            .tables
            .get(table)
            .map(|table| Arc::clone(&table.schema))
    }
}

impl LiveTable {
    fn set_schema(&mut self, schema: Arc<TableSchema>) {
        if self.schema != schema {
            self.overlay = Arc::default();
        }
        self.schema = schema;
        self.view = None;
    }

    fn set_log(&mut self, log: Arc<LogSnapshot>) {
        self.size.recount_unflushed(&self.hot, log.max_seq);
        self.log = log;
        self.view = None;
    }

    /// Takes a base unless it is older than the one that is there, or rolled back: the deltas that it lacks have left
    /// memory.
    fn follow_with(&mut self, base: Arc<BaseSnapshot>) {
        if base.follows(&self.base) {
            self.set_base(base);
        }
    }

    fn set_base(&mut self, base: Arc<BaseSnapshot>) {
        if base.snapshot_id != self.base.snapshot_id
            || base.table.metadata().current_schema_id()
                != self.base.table.metadata().current_schema_id()
        {
            self.overlay = Arc::default();
        }
        for push in self.hot.take_up_to(base.base_seq) {
            self.size.remove(&push);
        }
        self.size.recount_unflushed(&self.hot, self.log.max_seq);
        self.base = base;
        self.view = None;
    }

    fn go_back(&mut self, base: Arc<BaseSnapshot>, mut deltas: Vec<Arc<SeqDelta>>) {
        let covered = self.base.base_seq;
        deltas.retain(|delta| base.base_seq < delta.seq && delta.seq <= covered);
        deltas.sort_by_key(|delta| delta.seq);
        let covered = covered.max(base.base_seq);
        let mut hot = HotPushes::default();
        hot.push(Arc::new(HotPush {
            arrived_ms: 0,
            deltas,
        }));
        for push in self.hot.after(covered) {
            // The part of a push that a base covers is among the deltas, or in the base.
            let above = push.deltas.partition_point(|delta| delta.seq <= covered);
            hot.push(match above {
                0 => Arc::clone(push),
                above => Arc::new(HotPush {
                    arrived_ms: push.arrived_ms,
                    deltas: push.deltas[above..].to_vec(),
                }),
            });
        }
        self.size = HotSize::default();
        for push in hot.iter() {
            self.size.add(push, self.log.max_seq);
        }
        self.hot = hot;
        self.overlay = Arc::default();
        self.base = base;
        self.view = None;
    }

    fn view(&mut self, warehouse: &Warehouse, gateway: &GatewayId, seq: Seq) -> Arc<ReadView> {
        let view = self.view.take().unwrap_or_else(|| {
            Arc::new(ReadView {
                warehouse: warehouse.clone(),
                gateway: gateway.clone(),
                schema: Arc::clone(&self.schema),
                base: Arc::clone(&self.base),
                log: Arc::clone(&self.log),
                seq,
                hot: self.hot.clone(),
                overlay: Arc::clone(&self.overlay),
                resolved: OnceCell::new(),
            })
        });
        self.view = Some(Arc::clone(&view));
        view
    }
}
