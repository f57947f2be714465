//! Statements that came over HTTP run here: on threads of their own, so many at a time, each for so long.
//!
//! ```text
//! handler (the gateway's threads)          a task (SQL's threads)
//!   admit ── place ──────────────────────►  plan, run ── first batch ──► head
//!   answer ◄── head                         chunks ──► a channel of 2 ──► body
//!   body dropped or out of time ──────────► the task is aborted; its place is free when it has ended
//! ```
//! **Invariant:** no statement runs on the threads that answer other requests, and none outlives its answer by more than
//! one batch.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use lakesync_gateway::http::{error_answer, unavailable_answer};
use lakesync_proto::ErrorCode;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};

/// Chunks that wait for a slow reader: one is sent while the next is made.
const CHUNKS_AHEAD: usize = 2;
/// Plans are walked recursively; what the parser lets through fits this stack even in a debug build.
const THREAD_STACK_BYTES: usize = 16 << 20;

/// How many statements may run, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementLimits {
    /// At a time in the process (default 8).
    pub process: usize,
    /// At a time of one subject (default 4).
    pub subject: usize,
    /// How long one may take, its answer included (default 5 min).
    pub timeout: Duration,
}

impl Default for StatementLimits {
    fn default() -> Self {
        Self {
            process: 8,
            subject: 4,
            timeout: Duration::from_secs(5 * 60),
        }
    }
}

/// Rows of a statement as they go into the body.
pub(super) struct Rows {
    /// What they are written as.
    pub(super) content_type: &'static str,
    /// The body in parts; one that is an error ends it.
    pub(super) chunks: BoxStream<'static, std::io::Result<Bytes>>,
}

/// The statements of a process. Clones share them.
#[derive(Clone)]
pub(super) struct Statements(Arc<Inner>);

struct Inner {
    /// Taken when it is dropped: a runtime may not be waited for on a thread of another.
    runtime: Option<Runtime>,
    places: Arc<Semaphore>,
    subjects: Mutex<BTreeMap<String, usize>>,
    limits: StatementLimits,
}

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statements")
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether a statement has turned out to be maintenance, which takes as long as it takes: only its answer has a time
/// limit, for the work would go on anyhow.
#[derive(Clone, Debug, Default)]
pub(super) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    /// It is.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_it(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The right to run one statement.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    statements: Statements,
    subject: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut subjects = self.statements.subjects();
        if let Some(running) = subjects.get_mut(&self.subject) {
            *running -= 1;
            if *running == 0 {
                subjects.remove(&self.subject);
            }
        }
    }
}

/// Ends a task when its answer is no longer wanted.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Statements {
    pub(super) fn new(limits: StatementLimits) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("lakesync-sql")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| Error::Invalid(format!("no threads for SQL: {error}")))?;
        Ok(Self(Arc::new(Inner {
            runtime: Some(runtime),
            places: Arc::new(Semaphore::new(limits.process)),
            subjects: Mutex::default(),
            limits,
        })))
    }

    fn subjects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        let subjects = self.0.subjects.lock();
        subjects.unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a statement of `subject`.
    ///
    /// # Errors
    /// The answer to send: 503 when as many run as may.
    pub(super) fn admit(&self, subject: &str) -> Result<Place, Box<Response>> {
        let busy = |text: &str| Box::new(unavailable_answer(text));
        let place = Arc::clone(&self.0.places).try_acquire_owned();
        let place = place.map_err(|_| {
            busy(
                "as many statements run as this server runs at a time (sql.statements); send it again in a second",
            )
        })?;
        let mut subjects = self.subjects();
        let running = subjects.entry(subject.to_owned()).or_default();
        if *running >= self.0.limits.subject {
            return Err(busy(
                "as many of your statements run as one subject may run at a time (sql.statements_per_subject); send it \
                 again when one has ended",
            ));
        }
        *running += 1;
        drop(subjects);
        Ok(Place {
            _place: place,
            statements: self.clone(),
            subject: subject.to_owned(),
        })
    }

    /// Runs `work` and answers with its rows.
    pub(super) async fn run(
        &self,
        (place, lasting): (Place, Lasting),
        work: impl Future<Output = Result<Rows>> + Send + 'static,
        failed: fn(&Error) -> Response,
    ) -> Response {
        let mut deadline = Instant::now() + self.0.limits.timeout;
        let (head_in, mut head) = oneshot::channel();
        let (chunks_in, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let task = async move {
            let _place = place;
            match work.await {
                Err(error) => drop(head_in.send(Err(error))),
                Ok(rows) => {
                    if head_in.send(Ok(rows.content_type)).is_ok() {
                        pour(rows.chunks, chunks_in).await;
                    }
                }
            }
        };
        let runtime = self.0.runtime.as_ref();
        let runtime = runtime.expect("it is taken only when nobody has it");
        let abort = Abort(runtime.spawn(task).abort_handle());
        let mut answered = timeout_at(deadline, &mut head).await;
        if answered.is_err() && lasting.is_it() {
            answered = Ok(head.await);
            deadline = Instant::now() + self.0.limits.timeout;
        }
        match answered {
            Err(_) => self.too_long(),
            Ok(Err(_)) => failed(&Error::Invalid(
                "the statement was broken off inside the server; what it did last is in the server's log".to_owned(),
            )),
            Ok(Ok(Err(error))) => failed(&error),
            Ok(Ok(Ok(content_type))) => {
                let body = Body::from_stream(until(deadline, chunks, abort));
                let head = [(header::CONTENT_TYPE, content_type)];
                (StatusCode::OK, head, body).into_response()
            }
        }
    }

    fn too_long(&self) -> Response {
        let text = too_long(self.0.limits.timeout);
        error_answer(
            StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::InternalError,
            &text,
            None,
        )
    }
}

fn too_long(limit: Duration) -> String {
    format!(
        "the statement took longer than {} (sql.timeout) and was ended; ask for less at a time, or raise the setting",
        humantime::format_duration(limit)
    )
}

/// Sends chunks until they end, one fails, or nobody takes them.
async fn pour(
    mut chunks: BoxStream<'static, std::io::Result<Bytes>>,
    body: mpsc::Sender<std::io::Result<Bytes>>,
) {
    while let Some(chunk) = chunks.next().await {
        let failed = chunk.is_err();
        if body.send(chunk).await.is_err() || failed {
            return;
        }
    }
}

/// The chunks that come before the deadline; after it an error, which ends the body short.
fn until(
    deadline: Instant,
    chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    abort: Abort,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::unfold(Some((chunks, abort)), move |state| async move {
        let (mut chunks, abort) = state?;
        match timeout_at(deadline, chunks.recv()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((chunks, abort)))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((
                Err(std::io::Error::other(
                    "the statement took longer than sql.timeout",
                )),
                None,
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(process: usize, subject: usize) -> Statements {
        let timeout = Duration::from_millis(50);
        Statements::new(StatementLimits {
            process,
            subject,
            timeout,
        })
        .unwrap()
    }

    fn internal(_: &Error) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }

    fn endless() -> Rows {
        Rows {
            content_type: "text/plain",
            chunks: stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).boxed(),
        }
    }

    #[tokio::test]
    async fn places_are_counted_by_process_and_subject_and_come_back() {
        let statements = statements(3, 2);
        let held = [
            statements.admit("ada").unwrap(),
            statements.admit("ada").unwrap(),
        ];
        let refused = statements.admit("ada").err().unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        let other = statements.admit("ben").unwrap();
        assert!(statements.admit("cy").is_err(), "the process is full");
        drop(held);
        let again = statements.admit("ada").unwrap();
        drop((other, again));
        assert!(statements.subjects().is_empty());
        assert_eq!(statements.0.places.available_permits(), 3);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_answered_and_ended() {
        let statements = statements(1, 1);
        let place = statements.admit("ada").unwrap();
        let answer = statements
            .run(
                (place, Lasting::default()),
                std::future::pending(),
                internal,
            )
            .await;
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        let place = free(&statements).await;
        let answer = statements
            .run(
                (place, Lasting::default()),
                async { Ok(endless()) },
                internal,
            )
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
        assert!(body.is_err(), "an endless body is cut at the deadline");
        free(&statements).await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_wants_ends_its_statement() {
        let statements = statements(1, 1);
        let place = statements.admit("ada").unwrap();
        let rows = async { Ok(endless()) };
        let answer = statements
            .run((place, Lasting::default()), rows, internal)
            .await;
        drop(answer);
        free(&statements).await;
    }

    /// The place, once the last statement has let it go.
    async fn free(statements: &Statements) -> Place {
        let place = Arc::clone(&statements.0.places).acquire_owned();
        drop(place.await.unwrap());
        loop {
            if let Ok(place) = statements.admit("ada") {
                return place;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn maintenance_is_answered_however_long_it_took() {
        let statements = statements(1, 1);
        let lasting = Lasting::default();
        let lasts = lasting.clone();
        let work = async move {
            lasts.begin();
            // Three times as long as a statement may take.
            drop(
                tokio::time::timeout(Duration::from_millis(150), std::future::pending::<()>())
                    .await,
            );
            Ok(Rows {
                content_type: "text/plain",
                chunks: stream::iter([Ok(Bytes::from_static(b"done"))]).boxed(),
            })
        };
        let place = statements.admit("ana").unwrap();
        let answer = statements.run((place, lasting), work, internal).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(body, "done");
    }
}
