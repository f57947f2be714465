//! Opening a gateway: everything that was acknowledged is there again before the first request.
//!
//! Steps: open the database → take fence and epoch → load the tables → overlay = flushed log above each
//! base seq, then the database above each table's max seq → feed and known deltas from the database →
//! the first new seq is above everything that the database or any summary names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use lakesync_proto::{ClientId, Epoch, GatewayId, Hlc, Seq, SeqDelta, TableName};
use lakesync_providers::lake::{Fence, Warehouse};
use lakesync_providers::{HotPush, Live, LogSnapshot, read_log, session};

use crate::config::GatewayConfig;
use crate::cursor;
use crate::dedup::Dedup;
use crate::durable::{DurableLog, StoredPush};
use crate::error::{Error, Result};
use crate::feed::Feed;
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
    pub(crate) newest: HashMap<ClientId, Hlc>,
    /// The greatest HLC of any accepted delta that is still known.
    pub(crate) max_hlc: Hlc,
    /// The greatest HLC that any table's log or base names.
    pub(crate) lake_max_hlc: Hlc,
    /// Whether deltas were accepted that the database does not hold.
    pub(crate) forgotten: bool,
}

/// Opens the gateway `id` whose database is at `path`.
pub(crate) async fn open(
    warehouse: Warehouse,
    id: &GatewayId,
    path: &Path,
    config: &GatewayConfig,
) -> Result<Opened> {
    let mut log = DurableLog::open(path)?;
    let (epoch, fence) = cursor::take(&warehouse, id, &mut log).await?;
    let live = Live::new(warehouse, id.clone(), Seq::ZERO);
    let flushed = load_tables(&live, id).await?;
    let (first, last) = log.span()?;
    let lake_to = flushed.values().copied().max().unwrap_or(Seq::ZERO);
    let seq = last.max(lake_to);
    // A database that is behind the lake (lost, or restored from a copy) has a gap above it that only the
    // flushed log fills: the feed then begins after the gap.
    let feed_from = match last >= lake_to && first > Seq::ZERO {
        true => Seq::from_u64(first.as_u64() - 1).unwrap_or(Seq::ZERO),
        false => seq,
    };
    let feed = Feed::new(feed_from, config.feed_bytes_max);
    let mut replay = Replay {
        live: &live,
        feed: (feed_from < seq).then_some(&feed),
        flushed: &flushed,
        dedup: Dedup::default(),
        max_hlc: Hlc::ZERO,
    };
    replay.run(&log, last)?;
    let (dedup, replayed_max) = (replay.dedup, replay.max_hlc);
    let newest = log.newest_by_client()?;
    let max_hlc = newest
        .values()
        .copied()
        .max()
        .unwrap_or(Hlc::ZERO)
        .max(replayed_max);
    let floor = match log.meta("floor")? {
        None => Hlc::ZERO,
        Some(text) => text.parse().map_err(|_| Error::Database {
            path: path.to_owned(),
            reason: format!(
                "the stored floor `{text}` is not a stamp; restore the file from a copy"
            ),
        })?,
    };
    live.append(
        &HotPush {
            arrived_ms: 0,
            deltas: Vec::new(),
        },
        seq,
    );
    let lake_max_hlc = newest_in_lake(&live);
    let (live, feed) = (Arc::new(live), Arc::new(feed));
    let writer = Writer {
        gateway: id.clone(),
        log,
        dedup,
        floor,
        seq,
        live: Arc::clone(&live),
        feed: Arc::clone(&feed),
        group_pushes_max: config.group_pushes_max,
        poisoned: None,
    };
    Ok(Opened {
        writer,
        live,
        feed,
        epoch,
        fence,
        newest,
        max_hlc,
        lake_max_hlc,
        forgotten: seq > Seq::ZERO && first.as_u64() != 1,
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
        live.put_table(pair, Vec::new())?;
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
    feed: Option<&'a Feed>,
    flushed: &'a HashMap<TableName, Seq>,
    dedup: Dedup,
    max_hlc: Hlc,
}

impl Replay<'_> {
    fn run(&mut self, log: &DurableLog, last: Seq) -> Result<()> {
        let mut at = Seq::ZERO;
        while at < last {
            for push in log.read(at, READ_DELTAS, self.live)? {
                at = self.push(push).unwrap_or(last);
            }
        }
        Ok(())
    }

    fn push(&mut self, push: StoredPush) -> Option<Seq> {
        self.dedup.extend(push.deltas.iter());
        let deltas: Vec<Arc<SeqDelta>> = push.deltas.into_iter().map(Arc::new).collect();
        let last = deltas.last()?.seq;
        if let Some(feed) = self.feed {
            feed.append(&deltas, last);
        }
        for delta in &deltas {
            self.max_hlc = self.max_hlc.max(delta.delta.hlc);
        }
        let unflushed = deltas.into_iter().filter(|delta| {
            let flushed = self.flushed.get(&delta.delta.table).copied();
            delta.seq > flushed.unwrap_or(Seq::ZERO)
        });
        let push = HotPush {
            arrived_ms: push.arrived_ms,
            deltas: unflushed.collect(),
        };
        self.live.recover(&push);
        Some(last)
    }
}
