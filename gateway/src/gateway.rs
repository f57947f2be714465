//! ★ One gateway: push, pull, flush, schema. Each verb reads as its list of steps.

use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use lakesync_proto::{
    Epoch, ErrorCode, Evolution, GatewayId, Hlc, HlcClock, SchemaChange, Seq, TableDefinition,
    TableName, TableSchema, WallClock,
};
use lakesync_providers::Live;
use lakesync_providers::lake::{Fence, Warehouse};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::checkpoint;
use crate::config::GatewayConfig;
use crate::durable::DurableLog;
use crate::error::{Error, Refusal, Result};
use crate::feed::Feed;
use crate::fence;
use crate::jobs::TableLocks;
use crate::notes::SchemasHash;
use crate::opening::{self, Lost, Opened};
use crate::rules::ledger::Ruling;
use crate::sent::Sent;
use crate::steady::Steady;
use crate::upkeep::Upkeep;
use crate::writer::{Job, Task};

/// What a gateway is made of: the parts that a test or an embedder may exchange.
#[derive(Clone, Debug)]
pub struct Components {
    /// The lake that the gateway flushes to.
    pub warehouse: Warehouse,
    /// The gateway's SQLite database; its directory exists.
    pub database: PathBuf,
    /// The wall clock.
    pub clock: Arc<dyn WallClock>,
    /// The lock of the directory that the database is in, held as long as the gateway lives: a flush may outlive
    /// whoever opened it.
    pub lock: Option<Arc<File>>,
}

/// The sync server of one namespace.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) id: GatewayId,
    pub(crate) config: GatewayConfig,
    pub(crate) components: Components,
    pub(crate) live: Arc<Live>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) epoch: Epoch,
    /// What was visible when it was opened: of what came before, only the log knows who sent it.
    pub(crate) opened_at: Seq,
    pub(crate) lost: Lost,
    fence: Mutex<Fence>,
    pub(crate) clock: Mutex<HlcClock>,
    /// The durable log again, for pulls: a second connection that only reads.
    pub(crate) reader: Arc<Mutex<DurableLog>>,
    pub(crate) sent: Arc<Sent>,
    waiting_bytes: Arc<AtomicUsize>,
    pub(crate) upkeep: Upkeep,
    /// Who reads whole tables: checkpoints and digests.
    pub(crate) readers: Arc<Semaphore>,
    /// Held by an INSERT from its look at the rows that exist until its push is durable.
    pub(crate) inserting: tokio::sync::Mutex<()>,
    tasks: mpsc::Sender<Task>,
    /// Held while the lake changes: flush, schema.
    pub(crate) maintenance: tokio::sync::Mutex<()>,
    /// Held by jobs on one table; a schema change takes it before `changing_rules`.
    pub(crate) jobs: TableLocks,
    /// What is in force since when, as the writer says.
    pub(crate) rulings: watch::Receiver<Arc<Ruling>>,
    /// Held while the rules change, or a schema that they were compiled for; taken before `maintenance`.
    pub(crate) changing_rules: Arc<tokio::sync::Mutex<()>>,
    pub(crate) schemas_hash: SchemasHash,
    pub(crate) steady: Option<Steady>,
    opened: Instant,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Gateway {
    /// Opens the gateway `id`, recovering everything that was acknowledged.
    ///
    /// # Errors
    /// [`Error::Database`] when the database is damaged or too new; lake errors when the lake cannot be read.
    pub async fn open(
        id: GatewayId,
        components: Components,
        config: GatewayConfig,
    ) -> Result<Arc<Self>> {
        let warehouse = components.warehouse.clone();
        let opened = opening::open(warehouse, &id, &components.database, &config).await?;
        let Opened {
            writer,
            live,
            feed,
            epoch,
            lost,
            fence,
            sent,
            max_hlc,
            waiting_bytes,
            upkeep,
        } = opened;
        let reader = DurableLog::reader(&components.database)?;
        let rulings = writer.ledger.published.subscribe();
        let steady = config.clock_jump.map(Steady::new);
        let (tasks, queue) = mpsc::channel(config.queue_pushes_max);
        let thread = std::thread::Builder::new()
            .name(format!("lakesync-writer-{id}"))
            .spawn(move || writer.run(queue))
            .map_err(|error| Error::Database {
                path: components.database.clone(),
                reason: format!("the writer thread could not be started: {error}"),
            })?;
        let opened_at = *feed.visible().borrow();
        let gateway = Arc::new(Self {
            id,
            config,
            components,
            live,
            feed,
            epoch,
            opened_at,
            lost,
            fence: Mutex::new(fence),
            clock: Mutex::new(HlcClock::starting_at(max_hlc)),
            reader: Arc::new(Mutex::new(reader)),
            sent,
            waiting_bytes,
            upkeep,
            readers: checkpoint::reader_slots(),
            inserting: tokio::sync::Mutex::new(()),
            tasks,
            maintenance: tokio::sync::Mutex::new(()),
            jobs: TableLocks::default(),
            rulings,
            changing_rules: Arc::default(),
            schemas_hash: SchemasHash::default(),
            steady,
            opened: Instant::now(),
            thread: Mutex::new(Some(thread)),
        });
        gateway.restore_rules().await?;
        Ok(gateway)
    }

    /// The gateway's name.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.id
    }

    /// Its tables.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The epoch of its log.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// What its commits to the lake require.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The seq up to which everything is visible, as it grows.
    #[must_use]
    pub fn visible(&self) -> tokio::sync::watch::Receiver<Seq> {
        self.feed.visible()
    }

    /// Creates a table or evolves it; gives the schema that is now in force and whether it changed.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason when the change is not allowed; lake errors.
    pub async fn put_schema(
        self: &Arc<Self>,
        definition: &TableDefinition,
    ) -> Result<(Arc<TableSchema>, bool)> {
        let definition = definition.clone();
        let table = definition.table.clone();
        let (schema, changed) = self.change_table(&table, |_| Ok(Some(definition))).await?;
        let schema = schema.expect("what was defined is there");
        Ok((schema, changed))
    }

    /// Creates a table or evolves it into what `plan` makes of it as it is now, while nobody else can change it; without
    /// a definition nothing is done. Gives the schema that is now in force, if there is one, and whether it changed.
    ///
    /// # Errors
    /// [`Error::Refused`] with what `plan` says, or with the reason when the change is not allowed; lake errors.
    pub async fn change_table(
        self: &Arc<Self>,
        table: &TableName,
        plan: impl FnOnce(Option<&TableSchema>) -> Result<Option<TableDefinition>, String>
        + Send
        + 'static,
    ) -> Result<(Option<Arc<TableSchema>>, bool)> {
        let table = table.clone();
        let job = match self.live.view(table.as_ref()) {
            Some(_) => Some(self.jobs.lock(&table).await),
            None => None,
        };
        let held = Arc::clone(&self.changing_rules).lock_owned().await;
        self.maintain(|gateway| async move {
            // The rules and the schemas that they are compiled for change one at a time, and no job works on the table.
            let _held = (job, held);
            let schema = lakesync_proto::Schemas::schema(gateway.live.as_ref(), &table);
            let planned = plan(schema.as_deref())
                .map_err(|reason| Refusal::new(ErrorCode::SchemaConflict, reason))?;
            let Some(definition) = planned else {
                return Ok((schema, false));
            };
            let changed = gateway.change_schema(&definition).await;
            if changed.is_err() && gateway.live.view(definition.table.as_ref()).is_some() {
                // A change that failed between log and base is finished by the load, or is not there at all.
                gateway.reload(&definition.table).await?;
            }
            changed.map(|(schema, changed)| (Some(schema), changed))
        })
        .await
    }

    async fn change_schema(
        &self,
        definition: &TableDefinition,
    ) -> Result<(Arc<TableSchema>, bool)> {
        let warehouse = &self.components.warehouse;
        let name = definition.table.clone();
        let pair = match lakesync_proto::Schemas::schema(self.live.as_ref(), &name) {
            None => {
                let wanted = TableSchema::from_definition(definition)
                    .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
                warehouse.create_table(&self.id, &wanted).await?;
                warehouse.load(&self.id, &name).await?
            }
            Some(held) => {
                let evolution = evolve(&held, definition)?;
                self.refuse_ruled_drops(&name, &evolution)?;
                if evolution.changes.is_empty() {
                    if !self.rules().are_for(&held) {
                        // A change that failed half-way has left the rules behind.
                        self.recompile_rules(&held).await?;
                    }
                    return Ok((held, false));
                }
                warehouse
                    .evolve(&self.id, &evolution, Some(&self.fence()))
                    .await?
            }
        };
        let schema = Arc::clone(&pair.schema);
        // First the rules: a row of a new table that came in before them would be seen by nobody.
        self.recompile_rules(&schema).await?;
        self.live.put_table(pair)?;
        Ok((schema, true))
    }

    /// A column that decides who sees rows cannot go: rows would come into sight, or leave it, without a delta.
    fn refuse_ruled_drops(&self, table: &TableName, evolution: &Evolution) -> Result<()> {
        let rules = self.rules();
        for change in &evolution.changes {
            if let SchemaChange::DropColumn(column) = change
                && rules.columns(table).contains(column)
            {
                let text = format!(
                    "column `{column}` decides who sees the rows of `{table}`; set sync rules without it, then drop it"
                );
                return Err(Refusal::new(ErrorCode::SchemaConflict, text).into());
            }
        }
        Ok(())
    }

    /// Milliseconds since the gateway was opened, by a clock that nobody can set.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Raises the floor to `floor`, durably: deltas stamped below it are refused from now on.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn raise_floor(&self, floor: Hlc) -> Result<Hlc> {
        self.ask(|reply| Task::Floor(floor, Seq::MAX, reply)).await
    }

    /// How far the floor may rise: to the end of the late window, no further than `least`, the least stamp among the deltas
    /// that some kept base does not cover (none without any), and never above the newest stamp that was accepted: a wall
    /// clock that has jumped ahead must not make the gateway refuse what is written now. Zero without a late window.
    #[must_use]
    pub fn window_floor(&self, least: Option<Hlc>) -> Hlc {
        let views = self.live.views();
        let in_lake = views.tables.values();
        let in_lake = in_lake.map(|view| view.log.max_hlc.max(view.base.max_hlc));
        let newest = in_lake.fold(self.sent.newest(), Hlc::max);
        let window = self.oldest(self.components.clock.now_ms()).min(newest);
        least.map_or(window, |least| window.min(least))
    }

    /// Raises the floor as far as [`Gateway::window_floor`] allows, and the deltas above `seen`, which the writer looks at;
    /// gives the floor that is in force.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn raise_floor_to_window(&self, least: Option<Hlc>, seen: Seq) -> Result<Hlc> {
        let floor = self.window_floor(least);
        self.ask(|reply| Task::Floor(floor, seen, reply)).await
    }

    /// Takes no more pushes: another process has taken over the gateway.
    pub async fn yield_to_successor(&self) {
        let reason =
            "another process took it over; use that one, or restart this server to take it back";
        // A writer that is gone takes nothing more either.
        drop(self.tasks.send(Task::Close(reason.to_owned())).await);
    }

    /// Runs work that changes the lake: one at a time, and to its end even when the caller goes away. A commit
    /// whose publication was cut off would be done a second time.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Maintenance`] when it panicked.
    pub async fn maintain<T, E, F>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send,
    {
        let gateway = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _held = gateway.maintenance.lock().await;
            work(Arc::clone(&gateway)).await
        });
        task.await.unwrap_or_else(|error| {
            Err(E::from(Error::Maintenance {
                gateway: self.id.clone(),
                reason: error.to_string(),
            }))
        })
    }

    /// Gives the fence a new token, so that older copies of the database are told from it.
    pub(crate) async fn renew_fence(&self) -> Result<()> {
        let held = self.fence();
        let set_meta = |key, value| self.set_meta(key, value);
        let renewed = fence::renew(&self.components.warehouse, &held, set_meta).await?;
        *self.fence.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// Sets a key of the database's `meta`, durably.
    pub(crate) async fn set_meta(&self, key: &'static str, value: String) -> Result<()> {
        self.ask(|reply| Task::Meta(key, value, reply)).await
    }

    /// Publishes a table as it is in the catalog.
    pub(crate) async fn reload(&self, table: &TableName) -> Result<()> {
        let pair = self.components.warehouse.load(&self.id, table).await?;
        Ok(self.live.put_table(pair)?)
    }

    /// Waits for the writer to do something other than a push.
    pub(crate) async fn ask<T>(
        &self,
        task: impl FnOnce(oneshot::Sender<Result<T>>) -> Task,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.tasks.send(task(reply)).await;
        sent.map_err(|_| self.closed())?;
        answer.await.map_err(|_| self.closed())?
    }

    /// Puts a push into the queue, which is bounded by number and by bytes.
    pub(crate) fn enqueue(&self, job: Job) -> Result<()> {
        let busy = || Error::Busy {
            gateway: self.id.clone(),
            waiting: self.waiting(),
        };
        let bytes = job.bytes;
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        // The first push of an empty queue always fits.
        let fits = waiting == 0 || waiting + bytes <= self.config.queue_bytes_max;
        let sent = match fits {
            false => Err(busy()),
            true => self
                .tasks
                .try_send(Task::Push(job))
                .map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => busy(),
                    mpsc::error::TrySendError::Closed(_) => self.closed(),
                }),
        };
        if sent.is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        sent
    }

    /// How many pushes wait for the writer.
    pub(crate) fn waiting(&self) -> usize {
        self.tasks.max_capacity() - self.tasks.capacity()
    }

    pub(crate) fn closed(&self) -> Error {
        Error::Closed {
            gateway: self.id.clone(),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The writer's connection closes last: it brings the WAL into the file, so that a copy of the file is whole.
        let reader = self.reader.lock();
        reader.unwrap_or_else(PoisonError::into_inner).release();
        // The writer ends when the last sender is gone; replace ours, then wait for its last commit.
        let (closed, _) = mpsc::channel(1);
        self.tasks = closed;
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }
}

fn evolve(held: &TableSchema, definition: &TableDefinition) -> Result<Evolution> {
    let evolution = held
        .evolve(definition)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    for change in &evolution.changes {
        if let SchemaChange::AddColumn(column) = change
            && held.dropped_column(column.name.as_ref()).is_some()
        {
            // Data files are matched by name: the new column would show the old one's values.
            let text = format!(
                "column `{}` was dropped before; its name cannot come back, choose another",
                column.name
            );
            return Err(Refusal::new(ErrorCode::SchemaConflict, text).into());
        }
    }
    Ok(evolution)
}
