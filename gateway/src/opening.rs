//! Opening a gateway: everything that was acknowledged is there again before the first request.
//!
//! Steps: open the database → take fence and epoch → load the tables → overlay = flushed log above each
//! base seq, then the database above each table's max seq → feed and known deltas from the database →
//! the first new seq is above everything that the database or any summary names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lakesync_proto::{Epoch, GatewayId, Hlc, Seq, SeqDelta, TableName};
use lakesync_providers::lake::{Fence, Warehouse};
use lakesync_providers::{HotPush, Live, LogSnapshot, read_log, session};

use crate::config::GatewayConfig;
use crate::dedup::Dedup;
use crate::durable::{DurableLog, StoredPush};
use crate::error::{Error, Result};
use crate::feed::Feed;
use crate::fence;
use crate::rules::ledger::Ledger;
use crate::sent::Sent;
use crate::upkeep::Upkeep;
use crate::writer::Writer;

/// How many stored deltas are decoded at a time.
const READ_DELTAS: usize = 10_000;

/// A gateway's parts, ready to run.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) live: Arc<Live>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) epoch: Epoch,
    pub(crate) fence: Fence,
    pub(crate) sent: Arc<Sent>,
    /// The greatest HLC of any accepted delta that is still known.
    pub(crate) max_hlc: Hlc,
    pub(crate) waiting_bytes: Arc<AtomicUsize>,
    pub(crate) upkeep: Upkeep,
}

/// Opens the gateway `id` whose database is at `path`.
pub(crate) async fn open(
    warehouse: Warehouse,
    id: &GatewayId,
    path: &Path,
    config: &GatewayConfig,
) -> Result<Opened> {
    let mut log = DurableLog::open(path)?;
    let (epoch, fence) = fence::take(&warehouse, id, &mut log).await?;
    let live = Live::new(warehouse, id.clone(), Seq::ZERO);
    let flushed = load_tables(&live, id).await?;
    let (first, last) = log.span()?;
    let lake_to = flushed.values().copied().max().unwrap_or(Seq::ZERO);
    refuse_a_hole(path, first, lake_to)?;
    let seq = last.max(lake_to);
    let feed = Feed::new(before(first), config.feed_bytes_max);
    let mut replay = Replay {
        live: &live,
        feed: &feed,
        flushed: &flushed,
        dedup: Dedup::default(),
        max_hlc: Hlc::ZERO,
        at: before(first),
        gap: false,
    };
    replay.run(&log, last)?;
    let (dedup, replayed_max, gap) = (replay.dedup, replay.max_hlc, replay.gap);
    if last < seq {
        // The lake is ahead of a database that was lost or restored: only the flushed log has the rest.
        feed.begin_at(seq);
    }
    let forgotten = seq > Seq::ZERO && (first.as_u64() != 1 || gap || last < lake_to);
    let newest = log.newest_by_client()?;
    let max_hlc = newest
        .values()
        .copied()
        .max()
        .unwrap_or(Hlc::ZERO)
        .max(replayed_max);
    let floor = stored_floor(path, &log)?;
    live.append(
        &HotPush {
            arrived_ms: 0,
            deltas: Vec::new(),
        },
        seq,
    );
    let lake_max_hlc = newest_in_lake(&live);
    let (live, feed) = (Arc::new(live), Arc::new(feed));
    let sent = Arc::new(Sent::new(newest, lake_max_hlc, forgotten));
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let upkeep = Upkeep::new(id, path, config, &waiting_bytes);
    let writer = Writer {
        gateway: id.clone(),
        log,
        dedup,
        floor,
        delta_ids: config.delta_ids,
        ledger: Ledger::default(),
        seq,
        live: Arc::clone(&live),
        feed: Arc::clone(&feed),
        sent: Arc::clone(&sent),
        stats: Arc::clone(&upkeep.stats),
        waiting_bytes: Arc::clone(&waiting_bytes),
        group_pushes_max: config.group_pushes_max,
        group_bytes_max: config.group_bytes_max,
        poisoned: None,
    };
    Ok(Opened {
        writer,
        live,
        feed,
        epoch,
        fence,
        sent,
        max_hlc: max_hlc.max(lake_max_hlc),
        waiting_bytes,
        upkeep,
    })
}

fn stored_floor(path: &Path, log: &DurableLog) -> Result<Hlc> {
    let Some(text) = log.meta("floor")? else {
        return Ok(Hlc::ZERO);
    };
    text.parse().map_err(|_| Error::Database {
        path: path.to_owned(),
        reason: format!("the stored floor `{text}` is not a stamp; restore the file from a copy"),
    })
}

/// The last seq before `first`; zero when nothing is stored.
fn before(first: Seq) -> Seq {
    Seq::from_u64(first.as_u64().saturating_sub(1)).unwrap_or(Seq::ZERO)
}

/// The database forgets only what the lake has: a hole between them means that the catalog is an older copy.
fn refuse_a_hole(path: &Path, first: Seq, lake_to: Seq) -> Result<()> {
    if before(first) <= lake_to {
        return Ok(());
    }
    Err(Error::Database {
        path: path.to_owned(),
        reason: format!(
            "it begins at seq {first}, and the lake ends at {lake_to}: the deltas between are in neither. catalog.db is \
             an older copy; restore the newest one"
        ),
    })
}

fn newest_in_lake(live: &Live) -> Hlc {
    let views = live.views();
    let newest = views
        .tables
        .values()
        .map(|view| view.log.max_hlc.max(view.base.max_hlc));
    newest.max().unwrap_or(Hlc::ZERO)
}

/// Loads every table with the flushed deltas above its base seq; gives each table's flushed seq.
async fn load_tables(live: &Live, id: &GatewayId) -> Result<HashMap<TableName, Seq>> {
    let warehouse = live.warehouse();
    let ctx = session(warehouse);
    let mut flushed = HashMap::new();
    for table in warehouse.tables(id).await? {
        let pair = warehouse.load(id, &table).await?;
        let schema = Arc::clone(&pair.schema);
        live.put_table(pair)?;
        let view = live
            .view(table.as_ref())
            .expect("the table was put just now");
        let (base_seq, log): (Seq, &LogSnapshot) = (view.base.base_seq, &view.log);
        let deltas = read_log(&ctx, warehouse, (log, &schema), (base_seq, log.max_seq)).await?;
        flushed.insert(table, log.max_seq.max(base_seq));
        if !deltas.is_empty() {
            let push = HotPush {
                arrived_ms: 0,
                deltas,
            };
            live.recover(&push);
        }
    }
    Ok(flushed)
}

/// Reads the database once, oldest first.
struct Replay<'a> {
    live: &'a Live,
    feed: &'a Feed,
    flushed: &'a HashMap<TableName, Seq>,
    dedup: Dedup,
    max_hlc: Hlc,
    /// The last seq that was read.
    at: Seq,
    /// Whether seqs are missing in between, as in a copy that was restored and written on.
    gap: bool,
}

impl Replay<'_> {
    fn run(&mut self, log: &DurableLog, last: Seq) -> Result<()> {
        while self.at < last {
            for push in log.read(self.at, READ_DELTAS, self.live)? {
                self.push(push);
            }
        }
        Ok(())
    }

    fn push(&mut self, push: StoredPush) {
        self.dedup.extend(push.deltas.iter());
        let deltas: Vec<Arc<SeqDelta>> = push.deltas.into_iter().map(Arc::new).collect();
        let (Some(first), Some(last)) = (deltas.first(), deltas.last()) else {
            return;
        };
        if first.seq != self.at.next() {
            // The feed is contiguous: what is below the gap is read from SQLite, the gap from the lake.
            self.gap = true;
            self.feed.begin_at(before(first.seq));
        }
        self.at = last.seq;
        self.feed.append(&deltas, &push.moved, self.at);
        for delta in &deltas {
            self.max_hlc = self.max_hlc.max(delta.delta.hlc);
        }
        let unflushed = deltas.into_iter().filter(|delta| {
            let flushed = self.flushed.get(&delta.delta.table).copied();
            delta.seq > flushed.unwrap_or(Seq::ZERO)
        });
        self.live.recover(&HotPush {
            arrived_ms: push.arrived_ms,
            deltas: unflushed.collect(),
        });
    }
}
