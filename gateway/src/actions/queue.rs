//! The actions of one gateway: taken, delivered, retried, given up.
//!
//! **Invariant:** whoever waits for an action may go away at any time; its attempt goes on, and what came of it is
//! written down.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakesync_proto::{Action, ActionOutcome, ActionPush, ErrorCode, GatewayId, WallClock};
use serde_json::Value as Json;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};

use super::connector::{Webhook, Webhooks};
use super::dead_letters::DeadLetter;
use super::store::{Admitted, Job, Store};
use super::verdict::decide;
use super::webhook::{Delivery, deliver};
use crate::auth::Identity;
use crate::error::{Error, Refusal, Result};

/// How long a client waits for the first attempts of its actions; what has no answer by then is queued.
const INLINE_WAIT: Duration = Duration::from_secs(10);

/// Attempts of an action whose connector is no longer configured.
const ATTEMPTS_WITHOUT_CONNECTOR: u32 = 12;

/// The longest time between two looks at what is due.
const SWEEP_WAIT_MAX: Duration = Duration::from_secs(60);

/// The wait when something is due and all turns are taken, perhaps by other gateways, or when the disk failed.
const SWEEP_WAIT_BUSY: Duration = Duration::from_secs(1);

/// The actions of one gateway. Cheap to share; [`Actions::run`] must run for retries to happen.
#[derive(Debug)]
pub struct Actions {
    gateway: GatewayId,
    webhooks: Arc<Webhooks>,
    clock: Arc<dyn WallClock>,
    store: Arc<Mutex<Store>>,
    inline_wait: Duration,
    woken: Notify,
}

impl Actions {
    /// Opens the actions of `gateway` in the database at `path`, making it when there is none.
    ///
    /// # Errors
    /// [`Error::Database`] when the file cannot be used.
    pub fn open(
        path: &Path,
        gateway: GatewayId,
        webhooks: Arc<Webhooks>,
        clock: Arc<dyn WallClock>,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Self::with_store(
            Store::open(path)?,
            gateway,
            webhooks,
            clock,
        )))
    }

    /// Actions without a file, gone with the process: for a gateway without connectors, and for tests.
    ///
    /// # Errors
    /// [`Error::Database`] when SQLite has no memory.
    pub fn in_memory(
        gateway: GatewayId,
        webhooks: Arc<Webhooks>,
        clock: Arc<dyn WallClock>,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Self::with_store(
            Store::in_memory()?,
            gateway,
            webhooks,
            clock,
        )))
    }

    pub(super) fn with_store(
        store: Store,
        gateway: GatewayId,
        webhooks: Arc<Webhooks>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        Self {
            gateway,
            webhooks,
            clock,
            store: Arc::new(Mutex::new(store)),
            inline_wait: INLINE_WAIT,
            woken: Notify::new(),
        }
    }

    /// The same, but a client is told `queued` after `wait`.
    #[cfg(test)]
    pub(super) fn with_inline_wait(mut self, wait: Duration) -> Self {
        self.inline_wait = wait;
        self
    }

    /// What clients may ask for: `{"connectors":{name:[{actionType,description,paramsSchema?}]}}`.
    #[must_use]
    pub fn describe(&self) -> Json {
        self.webhooks.describe()
    }

    /// Stores the actions, makes their first attempts in order, and tells what became of each, in order. One that
    /// came before is answered as before. Safe to cancel: what is stored is delivered.
    ///
    /// # Errors
    /// A refusal of the whole when an action is of another client than `identity` may speak for, or when the disk
    /// takes nothing: then nothing was stored.
    pub async fn submit(
        self: &Arc<Self>,
        push: &ActionPush,
        identity: &Identity,
    ) -> Result<Vec<ActionOutcome>> {
        for (i, action) in push.actions.iter().enumerate() {
            let own = identity.check_client(&action.content.client_id);
            own.map_err(|refusal| refusal.at(i))?;
        }
        let deadline = Instant::now() + self.inline_wait;
        let supported: Vec<Result<&Action, ActionOutcome>> = push
            .actions
            .iter()
            .map(|action| self.supported(action))
            .collect();
        let wanted: Vec<Action> = supported
            .iter()
            .flatten()
            .map(|&action| action.clone())
            .collect();
        let now_ms = self.now_ms();
        let admitted = self.with(move |store| store.admit(&wanted, now_ms)).await?;

        let mut admitted = admitted.into_iter();
        let mut jobs = Vec::new();
        let places: Vec<Place> = supported
            .into_iter()
            .map(|supported| match supported {
                Err(outcome) => Place::Told(outcome),
                Ok(_) => match admitted.next() {
                    Some(Admitted::New(job)) => {
                        let number = job.number;
                        jobs.push(job);
                        Place::Stored(number)
                    }
                    Some(Admitted::Known(number)) => Place::Stored(number),
                    Some(Admitted::Full) | None => Place::Told(full()),
                },
            })
            .collect();
        self.wait_for_first(jobs, deadline).await;
        self.tell(places).await
    }

    async fn wait_for_first(self: &Arc<Self>, jobs: Vec<Job>, deadline: Instant) {
        if jobs.is_empty() {
            return;
        }
        let actions = Arc::clone(self);
        let attempts = tokio::spawn(async move { actions.first_attempts(jobs, deadline).await });
        if let Ok(Err(error)) = timeout_at(deadline, attempts).await {
            tracing::error!(%error, "the first attempts of actions ended early");
        }
    }

    /// One after the other until `deadline`; what has not begun by then is left to [`Actions::run`].
    async fn first_attempts(self: Arc<Self>, jobs: Vec<Job>, deadline: Instant) {
        for job in jobs {
            let webhook = self.webhooks.named(&job.connector);
            let turn = match webhook.filter(|_| Instant::now() < deadline) {
                Some(webhook) => timeout_at(deadline, self.turn(webhook))
                    .await
                    .ok()
                    .flatten(),
                None => None,
            };
            let Some(turn) = turn else {
                self.release(job.number).await;
                continue;
            };
            let actions = Arc::clone(&self);
            let attempt = tokio::spawn(async move { actions.attempt(job, Some(turn)).await });
            if let Ok(Err(error)) = timeout_at(deadline, attempt).await {
                tracing::error!(%error, "an attempt of an action ended early");
            }
        }
    }

    /// Starts an attempt of each action that is due, as far as there are turns.
    pub(super) async fn start_due(self: &Arc<Self>) -> Result<Vec<JoinHandle<()>>> {
        let now_ms = self.now_ms();
        let connectors = self.with(move |store| store.due_connectors(now_ms)).await?;
        let mut started = Vec::new();
        for connector in connectors {
            let webhook = self.webhooks.named(&connector).map(Arc::clone);
            let mut turns: Vec<Option<Turn>> = match &webhook {
                Some(webhook) => std::iter::from_fn(|| self.free_turn(webhook))
                    .map(Some)
                    .collect(),
                None => vec![None],
            };
            let jobs_max = turns.len();
            let claim = move |store: &mut Store| store.claim(&connector, now_ms, jobs_max);
            for job in self.with(claim).await? {
                let (actions, turn) = (Arc::clone(self), turns.pop().flatten());
                started.push(tokio::spawn(
                    async move { actions.attempt(job, turn).await },
                ));
            }
        }
        Ok(started)
    }

    /// Delivers what is due, again and again, until `stop` is ready; then waits for the attempts that it began.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut attempts = JoinSet::new();
        loop {
            let wait = self.sweep(&mut attempts).await.unwrap_or_else(|error| {
                tracing::warn!(gateway = %self.gateway, %error, "due actions cannot be read");
                SWEEP_WAIT_BUSY
            });
            tokio::select! {
                () = &mut stop => break,
                _ = timeout(wait, self.woken.notified()) => {}
            }
        }
        while attempts.join_next().await.is_some() {}
    }

    async fn sweep(self: &Arc<Self>, attempts: &mut JoinSet<()>) -> Result<Duration> {
        while attempts.try_join_next().is_some() {}
        for attempt in self.start_due().await? {
            attempts.spawn(async move {
                if let Err(error) = attempt.await {
                    tracing::error!(%error, "an attempt of an action ended early");
                }
            });
        }
        let now_ms = self.now_ms();
        self.with(move |store| {
            store.forget(now_ms)?;
            let left = !store.due_connectors(now_ms)?.is_empty();
            let next_ms = store
                .next_due(now_ms)?
                .map(|due_ms| due_ms.saturating_sub(now_ms));
            let next = next_ms.map_or(SWEEP_WAIT_MAX, |ms| {
                Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(SWEEP_WAIT_MAX)
            });
            Ok(if left {
                next.min(SWEEP_WAIT_BUSY)
            } else {
                next
            })
        })
        .await
    }

    /// Dead letters after a number (0: from the first), oldest first, up to a hundred.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_dead(&self, after: i64) -> Result<Vec<DeadLetter>> {
        self.with(move |store| store.list_dead(after)).await
    }

    /// Delivers a dead letter again, with all its attempts; whether there was one of this action id.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn retry(&self, action_id: &str) -> Result<bool> {
        let (action_id, now_ms) = (action_id.to_owned(), self.now_ms());
        let found = self
            .with(move |store| store.retry(&action_id, now_ms))
            .await?;
        self.woken.notify_one();
        Ok(found)
    }

    /// Gives a dead letter up for good; whether there was one of this action id.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn discard(&self, action_id: &str) -> Result<bool> {
        let (action_id, now_ms) = (action_id.to_owned(), self.now_ms());
        self.with(move |store| store.discard(&action_id, now_ms))
            .await
    }

    async fn attempt(self: &Arc<Self>, job: Job, turn: Option<Turn>) {
        let webhook = self.webhooks.named(&job.connector).map(Arc::clone);
        let attempts_max = webhook
            .as_ref()
            .map_or(ATTEMPTS_WITHOUT_CONNECTOR, |webhook| {
                webhook.connector.attempts_max
            });
        let delivery = match webhook {
            None => Delivery::Failed {
                reason: format!("the connector `{}` is not configured", job.connector),
                retry_after: None,
            },
            Some(webhook) => self.deliver(webhook, job.clone(), turn).await,
        };
        let verdict = decide(&job, delivery, attempts_max);
        let (number, now_ms) = (job.number, self.now_ms());
        let settled = self
            .with(move |store| store.settle(number, &verdict, now_ms))
            .await;
        if let Err(error) = settled {
            // It is still waiting on disk, so it will be delivered again: webhooks know it by its key.
            tracing::error!(action = job.action_id, %error, "what came of an action was not stored");
        }
        self.woken.notify_one();
    }

    async fn deliver(&self, webhook: Arc<Webhook>, job: Job, turn: Option<Turn>) -> Delivery {
        let (gateway, now_s) = (self.gateway.clone(), self.clock.now_ms() / 1_000);
        let delivery = spawn_blocking(move || {
            let delivery = deliver(&webhook, &gateway, &job, now_s);
            drop(turn);
            delivery
        });
        delivery.await.unwrap_or_else(|error| Delivery::Failed {
            reason: format!("the attempt ended early: {error}"),
            retry_after: None,
        })
    }

    async fn release(&self, number: i64) {
        if let Err(error) = self.with(move |store| store.release(number)).await {
            tracing::error!(%error, "an action that waits was not given back");
        }
        self.woken.notify_one();
    }

    async fn turn(&self, webhook: &Webhook) -> Option<Turn> {
        let own = Arc::clone(&webhook.turns).acquire_owned().await.ok()?;
        let shared = Arc::clone(&self.webhooks.turns)
            .acquire_owned()
            .await
            .ok()?;
        Some(Turn(own, shared))
    }

    fn free_turn(&self, webhook: &Webhook) -> Option<Turn> {
        let own = Arc::clone(&webhook.turns).try_acquire_owned().ok()?;
        let shared = Arc::clone(&self.webhooks.turns).try_acquire_owned().ok()?;
        Some(Turn(own, shared))
    }

    fn supported<'a>(&self, action: &'a Action) -> Result<&'a Action, ActionOutcome> {
        match self
            .webhooks
            .find(&action.content.connector, &action.content.action_type)
        {
            Ok(_) => Ok(action),
            Err(message) => Err(ActionOutcome::Failed {
                code: "ACTION_NOT_SUPPORTED".to_owned(),
                message,
                retryable: false,
            }),
        }
    }

    async fn tell(&self, places: Vec<Place>) -> Result<Vec<ActionOutcome>> {
        let numbers: Vec<i64> = places
            .iter()
            .filter_map(|place| match place {
                Place::Stored(number) => Some(*number),
                Place::Told(_) => None,
            })
            .collect();
        let outcomes = self.with(move |store| store.outcomes(&numbers)).await?;
        let mut outcomes = outcomes.into_iter();
        let told = places.into_iter().map(|place| match place {
            Place::Told(outcome) => outcome,
            Place::Stored(_) => outcomes.next().flatten().unwrap_or_else(forgotten),
        });
        Ok(told.collect())
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }

    /// Works on the database on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        let done = spawn_blocking(move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(&mut store);
            done.map_err(|error| unstored(&store, &error))
        });
        done.await.unwrap_or_else(|error| {
            let message = format!("the actions' database was left: {error}; send again");
            Err(Error::Refused(Refusal::new(
                ErrorCode::InternalError,
                message,
            )))
        })
    }
}

/// The right to make an attempt: one of the connector's, and one of the process's.
#[derive(Debug)]
struct Turn(
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
);

/// Where an action's answer comes from.
#[derive(Debug)]
enum Place {
    Told(ActionOutcome),
    Stored(i64),
}

fn full() -> ActionOutcome {
    ActionOutcome::Failed {
        code: ErrorCode::BackpressureError.as_str().to_owned(),
        message:
            "too many actions wait for their webhooks; nothing was stored, send it again later"
                .to_owned(),
        retryable: true,
    }
}

/// The answer was forgotten between its being written and being read: there were too many of them.
fn forgotten() -> ActionOutcome {
    ActionOutcome::Failed {
        code: ErrorCode::InternalError.as_str().to_owned(),
        message: "the action's answer is no longer remembered".to_owned(),
        retryable: false,
    }
}

fn unstored(store: &Store, error: &rusqlite::Error) -> Error {
    let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
    let code = match full {
        true => ErrorCode::StorageFull,
        false => ErrorCode::InternalError,
    };
    let path = store.path().display();
    tracing::error!(%path, %error, "the actions' database failed");
    let message =
        "the actions' database could not be used; nothing new was stored, send again later";
    Error::Refused(Refusal::new(code, message))
}
