//! Opening a gateway: everything that was acknowledged is there again before the first request.
//!
//! Steps: open the database → take fence and epoch → load the tables → a new epoch: join the database to the lake
//! (`rejoin.rs`) → overlay = flushed log above each base seq, then the database above each table's max seq → feed and
//! known deltas from the database, above the flushed mark when it holds → the first new seq is above everything that the
//! database or any summary names → mark how far the lake holds everything, for the next opening.
//!
//! **Invariant:** with the mark or without it the gateway answers the same. What lies below it is found where a
//! trimmed delta is: pulls read SQLite by seq, duplicates are looked up in the flushed log.

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
use crate::fence::{self, Taken};
use crate::flushed_mark::{self, FlushedMark};
use crate::rejoin::rejoin;
use crate::rules::ledger::Ledger;
use crate::sent::{Memory, Sent};
use crate::upkeep::Upkeep;
use crate::writer::Writer;

/// How many stored deltas are decoded at a time.
pub(crate) const READ_DELTAS: usize = 10_000;

/// The key in `meta` of what was lost before the epoch: `<after> <to> <epoch>`.
const EPOCH_START: &str = "epoch_start";
/// How far above everything known a new epoch begins: more than a gateway accepts between two flushes.
const EPOCH_STEP: u64 = 1 << 32;

/// A gateway's parts, ready to run.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) live: Arc<Live>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) epoch: Epoch,
    pub(crate) lost: Lost,
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
    let taken = fence::take(&warehouse, id, &mut log).await?;
    let live = Live::new(warehouse, id.clone(), Seq::ZERO);
    let flushed = load_tables(&live, id).await?;
    let lost = begin_epoch((&mut log, path), &live, &taken, &flushed).await?;
    let recovered = recover(&log, &live, (&taken, lost), (&flushed, config))?;
    // The lake has it too, for a database that is an older copy.
    let floor = stored_floor(path, &log)?.max(lake_floor(&live));
    live.raise_floor(floor);
    let mark = FlushedMark::of(&live.views(), &taken.fence);
    log.set_meta(flushed_mark::KEY, &mark.to_text())?;
    let (live, feed) = (Arc::new(live), Arc::new(recovered.feed));
    let sent = Arc::new(recovered.sent);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let upkeep = Upkeep::new(id, path, config, &waiting_bytes);
    let writer = Writer {
        gateway: id.clone(),
        log,
        dedup: recovered.dedup,
        floor,
        delta_ids: config.delta_ids,
        ledger: Ledger::default(),
        seq: recovered.seq,
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
        epoch: taken.epoch,
        lost,
        fence: taken.fence,
        sent,
        max_hlc: recovered.max_hlc,
        waiting_bytes,
        upkeep,
    })
}

/// What the database gave.
#[derive(Debug)]
struct Recovered {
    feed: Feed,
    dedup: Dedup,
    sent: Sent,
    /// The last seq given.
    seq: Seq,
    max_hlc: Hlc,
}

/// Finds what the epoch began with. A new one begins by joining the database to the lake; an opening that ends in
/// between does so again.
async fn begin_epoch(
    (log, path): (&mut DurableLog, &Path),
    live: &Live,
    taken: &Taken,
    flushed: &HashMap<TableName, Seq>,
) -> Result<Lost> {
    let lake_to = lake_to(flushed);
    let (first, last) = log.span()?;
    let stored = Lost::stored(log)?;
    let stored_to = stored.as_ref().map_or(Seq::ZERO, |(lost, _)| lost.to);
    refuse_a_hole(path, first, lake_to.max(stored_to))?;
    if let Some((lost, _)) = stored.filter(|(_, epoch)| *epoch == taken.epoch.as_str()) {
        return Ok(lost);
    }
    let lost = Lost::before(last.max(lake_to));
    rejoin(log, live, (lake_to, lost.to)).await?;
    lost.store(log, &taken.epoch)?;
    Ok(lost)
}

/// How far the lake is in the table that is the furthest.
fn lake_to(flushed: &HashMap<TableName, Seq>) -> Seq {
    flushed.values().copied().max().unwrap_or(Seq::ZERO)
}

/// Reads the database above what the lake is known to hold; `flushed` is how far each table of the lake is.
fn recover(
    log: &DurableLog,
    live: &Live,
    (taken, lost): (&Taken, Lost),
    (flushed, config): (&HashMap<TableName, Seq>, &GatewayConfig),
) -> Result<Recovered> {
    let (first, last) = log.span()?;
    let lake_to = lake_to(flushed);
    let seq = last.max(lake_to).max(lost.to);
    let marked = marked(log, taken, flushed)?;
    let begin = before(first).max(marked);
    let feed = Feed::new(begin, config.feed_bytes_max);
    let mut replay = Replay {
        live,
        feed: &feed,
        flushed,
        dedup: Dedup::default(),
        max_hlc: Hlc::ZERO,
        at: begin,
        gap: false,
    };
    replay.run(log, last)?;
    let (dedup, replayed_max, gap) = (replay.dedup, replay.max_hlc, replay.gap);
    if last < seq {
        // The lake is ahead of a database that was lost or restored: only the flushed log has the rest.
        feed.begin_at(seq);
    }
    live.append(
        &HotPush {
            arrived_ms: 0,
            deltas: Vec::new(),
        },
        seq,
    );
    let newest = log.newest_by_client()?;
    let lake_max = newest_in_lake(live);
    let away = log.forgotten_clients()?;
    let sent_max = newest.values().copied().fold(away, Hlc::max);
    let seen = Seen {
        database: last.max(marked),
        lake: lake_to,
    };
    let unknown = match seen.all_clients(log, &taken.epoch)? {
        true => away,
        false => away.max(lake_max),
    };
    let forgotten =
        seq > Seq::ZERO && (begin > Seq::ZERO || first == Seq::ZERO || gap || last < lake_to);
    let memory = match forgotten {
        true => Memory::Recent,
        false => Memory::Whole,
    };
    Ok(Recovered {
        feed,
        dedup,
        sent: Sent::new(newest, unknown, memory),
        seq,
        max_hlc: sent_max.max(replayed_max).max(lake_max),
    })
}

/// The seq up to which the database need not be read; zero without a mark that holds.
fn marked(log: &DurableLog, taken: &Taken, flushed: &HashMap<TableName, Seq>) -> Result<Seq> {
    let mark = log.meta(flushed_mark::KEY)?;
    let mark = mark.as_deref().and_then(FlushedMark::from_text);
    let seq = mark.and_then(|mark| mark.holds(taken.held_before.as_deref(), flushed));
    Ok(seq.unwrap_or(Seq::ZERO))
}

/// How far database and lake have seen this log.
struct Seen {
    database: Seq,
    lake: Seq,
}

impl Seen {
    /// Whether the database knows the newest stamp of every client. It does when it was there from the epoch's first
    /// delta on and was never behind the lake, as a copy is that was restored; an epoch that begins on a lake with
    /// deltas has lost some.
    fn all_clients(&self, log: &DurableLog, epoch: &Epoch) -> Result<bool> {
        let key = flushed_mark::CLIENTS_COMPLETE;
        if self.database.max(self.lake) == Seq::ZERO {
            log.set_meta(key, epoch.as_str())?;
            return Ok(true);
        }
        let complete = log.meta(key)?.as_deref() == Some(epoch.as_str());
        if complete && self.database < self.lake {
            log.set_meta(key, "")?;
            return Ok(false);
        }
        Ok(complete)
    }
}

/// The floor below which deltas have been dropped from the logs.
pub(crate) fn lake_floor(live: &Live) -> Hlc {
    let views = live.views();
    let floors = views.tables.values().map(|view| view.log.floor);
    floors.max().unwrap_or(Hlc::ZERO)
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
pub(crate) fn before(first: Seq) -> Seq {
    Seq::from_u64(first.as_u64().saturating_sub(1)).unwrap_or(Seq::ZERO)
}

/// The seqs that the log gave out and lost before this epoch: none of them names a delta any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Everything up to this seq was still known when the epoch began.
    after: Seq,
    /// The epoch's own deltas are above this seq.
    pub(crate) to: Seq,
}

impl Lost {
    /// Whether a cursor stands where deltas were given out that are gone.
    pub(crate) fn holds(self, cursor: Seq) -> bool {
        self.after < cursor && cursor < self.to
    }

    /// What was lost before an epoch that begins with everything up to `known_to`. It begins far above: a client may
    /// hold any cursor that the lost part gave out, and no seq must name two deltas to it.
    fn before(known_to: Seq) -> Self {
        let far_above = Seq::from_u64(known_to.as_u64().saturating_add(EPOCH_STEP));
        Self {
            after: known_to,
            to: match known_to {
                Seq::ZERO => Seq::ZERO,
                known_to => far_above.unwrap_or(known_to),
            },
        }
    }

    /// What the database says, and of which epoch: the one that it was in last.
    fn stored(log: &DurableLog) -> Result<Option<(Self, String)>> {
        let stored = log.meta(EPOCH_START)?;
        Ok(stored.as_deref().and_then(Self::from_text))
    }

    /// Written down before the first delta of the epoch, together with the epoch's name.
    fn store(self, log: &DurableLog, epoch: &Epoch) -> Result<()> {
        let text = format!("{} {} {epoch}", self.after, self.to);
        log.set_meta(EPOCH_START, &text)
    }

    fn from_text(text: &str) -> Option<(Self, String)> {
        let (after, rest) = text.split_once(' ')?;
        let (to, epoch) = rest.split_once(' ')?;
        let seq = |text: &str| Seq::from_u64(text.parse().ok()?).ok();
        let lost = Self {
            after: seq(after)?,
            to: seq(to)?,
        };
        Some((lost, epoch.to_owned()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Components, Gateway};
    use lakesync_proto::{
        ClientId, ColumnChange, ColumnName, DeltaKey, ManualClock, Op, Push, RowDelta, RowId, Value,
    };
    use std::path::PathBuf;
    use tempfile::TempDir;

    const NOW_MS: u64 = 1_700_000_000_000;

    struct World {
        folder: TempDir,
    }

    impl World {
        fn database(&self) -> PathBuf {
            self.folder.path().join("g.db")
        }

        async fn open(&self) -> Result<Arc<Gateway>> {
            let components = Components {
                warehouse: Warehouse::open_local(self.folder.path()).await?,
                database: self.database(),
                clock: Arc::new(ManualClock::new(NOW_MS)),
                lock: None,
            };
            let id = GatewayId::parse("g").unwrap();
            Gateway::open(id, components, GatewayConfig::default()).await
        }

        fn run(&self, sql: &str) {
            let db = rusqlite::Connection::open(self.database()).unwrap();
            db.execute_batch(sql).unwrap();
        }
    }

    async fn push_one(gateway: &Gateway, row: &str) {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse(row).unwrap(),
            client_id: ClientId::parse("ana").unwrap(),
            hlc: Hlc::new(NOW_MS, 0).unwrap(),
        };
        let change = ColumnChange {
            column: ColumnName::parse("v").unwrap(),
            value: Value::Long(1),
        };
        let push = Push {
            client_id: key.client_id.clone(),
            deltas: vec![RowDelta::new(Op::Insert, key, vec![change])],
            last_seen: Seq::ZERO,
            schemas: None,
        };
        gateway.push(push).await.unwrap();
    }

    /// Two deltas are flushed, one is not; the first two cannot be read from the database any more.
    async fn with_unreadable_flushed_pushes() -> World {
        let folder = tempfile::tempdir().unwrap();
        let world = World { folder };
        let gateway = world.open().await.unwrap();
        let table = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;
        let table = serde_json::from_str(table).unwrap();
        gateway.put_schema(&table).await.unwrap();
        push_one(&gateway, "r1").await;
        push_one(&gateway, "r2").await;
        gateway.flush(None).await.unwrap();
        push_one(&gateway, "r3").await;
        drop(gateway);
        world.run("update pushes set deltas = x'00' where last_seq <= 2");
        world
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_mark_covers_is_not_read_at_any_later_opening_either() {
        let world = with_unreadable_flushed_pushes().await;
        for _ in 0..2 {
            let gateway = world.open().await.unwrap();
            assert_eq!(gateway.metrics().hot.unflushed_deltas, 1);
            assert_eq!(gateway.metrics().visible, Seq::from_u64(3).unwrap());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_mark_or_under_another_fence_everything_is_read() {
        for lost in [
            "delete from meta where key = 'flushed_mark'",
            "update meta set value = 'nonsense' where key = 'flushed_mark'",
            "update meta set value = 'another' where key in ('fence', 'pending_fence')",
        ] {
            let world = with_unreadable_flushed_pushes().await;
            world.run(lost);
            let error = world.open().await.unwrap_err().to_string();
            assert!(error.contains("the push at seq 1"), "{lost}: {error}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_knows_all_clients_until_it_was_behind_the_lake() {
        let folder = tempfile::tempdir().unwrap();
        let log = DurableLog::open(&folder.path().join("g.db")).unwrap();
        let epoch = |n| Epoch::parse(&uuid::Uuid::from_u128(n).to_string()).unwrap();
        let (one, other) = (epoch(1), epoch(2));
        let seq = |number| Seq::from_u64(number).unwrap();
        let knows = |database, lake, epoch: &Epoch| {
            let (database, lake) = (seq(database), seq(lake));
            Seen { database, lake }.all_clients(&log, epoch).unwrap()
        };
        assert!(knows(0, 0, &one));
        assert!(knows(5, 3, &one) && knows(5, 5, &one));
        assert!(!knows(5, 5, &other), "the epoch began without it");
        assert!(!knows(5, 6, &one), "a copy was restored");
        assert!(!knows(9, 9, &one), "and never catches up");
    }
}
