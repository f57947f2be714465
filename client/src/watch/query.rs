//! Watching a query: its new answer, when it has one.
//!
//! Invariant: an answer is given exactly when it differs from the last one that was given. The query runs again after a
//! commit that could have changed its answer: of a table it reads, of anything when it reads more than registered tables,
//! or of the schema.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{ToSql, params_from_iter};

use super::changes::Changes;
use super::inbox::{First, Inbox, Interest, Mail};
use super::reads::{self, Reads};
use super::subscription::Subscription;
use crate::{ClientError, LocalDb, Rows};

impl LocalDb {
    /// Watches a query: one SELECT, with views, CTEs, subqueries and functions as SQLite has them.
    ///
    /// The first answer is there at once; the next when a commit has changed it. The query runs again only when a table
    /// that it reads was written, so watch many, and let each be small: its last answer is kept to compare with. What
    /// changes without a commit, as `datetime('now')` does, is not noticed.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use lakesync_client::{LocalDb, SqlValue};
    /// # use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema};
    /// # let definition: TableDefinition =
    /// #     serde_json::from_str(r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#)?;
    /// # let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    /// # let db = LocalDb::open(":memory:", ClientId::parse("laptop")?, clock)?;
    /// # db.register(&TableSchema::from_definition(&definition)?)?;
    /// let count = db.watch_query("SELECT count(*) FROM todos WHERE title LIKE ?1", &[&"Buy%"])?;
    /// let first = count.try_next()?.expect("the first answer");
    /// assert_eq!(first.rows, [[SqlValue::Integer(0)]]);
    ///
    /// db.insert("todos", &[("title", "Call Ada".into())])?;
    /// assert_eq!(count.try_next()?, None, "the answer is the same");
    /// db.insert("todos", &[("title", "Buy milk".into())])?;
    /// assert_eq!(count.try_next()?.expect("another").rows, [[SqlValue::Integer(1)]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ClientError::ReadOnly`] when the statement is no query, or [`ClientError::Database`] with what SQLite says
    /// about it or about a parameter.
    pub fn watch_query(&self, sql: &str, params: &[&dyn ToSql]) -> Result<QueryWatch, ClientError> {
        let params = params
            .iter()
            .map(|param| owned(*param))
            .collect::<Result<_, _>>()?;
        self.begin_to_look()?;
        // Whoever writes a query wrong wants to hear it here.
        reads::of(&mut self.local(), sql)?;
        Ok(QueryWatch {
            inbox: self.hub().subscribe(Interest::Commits, First::Ready),
            question: Question {
                db: self.clone(),
                sql: sql.to_owned(),
                params,
                last: Mutex::new(None),
            },
        })
    }
}

/// The answers of a query, from [`LocalDb::watch_query`]. A reader that is slow gets the newest and misses what lies
/// between.
#[derive(Debug)]
pub struct QueryWatch {
    pub(crate) inbox: Arc<Inbox>,
    question: Question,
}

#[derive(Debug)]
struct Question {
    db: LocalDb,
    sql: String,
    params: Vec<SqlValue>,
    /// None before the first answer, and after a failure.
    last: Mutex<Option<Answer>>,
}

#[derive(Debug)]
struct Answer {
    rows: Rows,
    reads: Reads,
    schema_version: i64,
}

impl QueryWatch {
    /// The answer now, when it differs from the last one that was given. It waits for a write that is under way.
    ///
    /// # Errors
    /// When the query fails now, as after a change of the schema; the watch goes on.
    pub fn try_next(&self) -> Result<Option<Rows>, ClientError> {
        match self.inbox.take() {
            Some(mail) => self.question.news(&mail.changes),
            None => Ok(None),
        }
    }

    /// Ends with the next answer. It runs on any runtime, and nothing is lost when it is dropped before its end. The
    /// query itself runs where the future is polled: SQLite has no other way.
    ///
    /// # Errors
    /// As for [`QueryWatch::try_next`].
    pub async fn changed(&self) -> Result<Rows, ClientError> {
        poll_fn(|context| {
            self.inbox.signal().register(context.waker());
            self.try_next()
                .transpose()
                .map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Calls `callback` with every new answer, until the subscription is dropped; the first call comes at once. For the
    /// rest see [`Watch::on_change`](crate::Watch::on_change).
    pub fn on_change(
        self,
        mut callback: impl FnMut(Result<&Rows, ClientError>) + Send + 'static,
    ) -> Subscription {
        let QueryWatch { inbox, question } = self;
        let db = question.db.clone();
        let call = Box::new(move |mail: Mail| match question.news(&mail.changes) {
            Ok(Some(rows)) => callback(Ok(&rows)),
            Ok(None) => {}
            Err(error) => callback(Err(error)),
        });
        Subscription::begin(db, inbox, call)
    }
}

impl Question {
    /// Runs the query when its answer could be another one; gives the answer when it is.
    fn news(&self, changes: &Changes) -> Result<Option<Rows>, ClientError> {
        let mut last = self.last();
        let schema_version = reads::schema_version(&self.db.local().connection)?;
        // A failure below leaves no last answer: what comes after it is news, whatever it is.
        let before = last.take();
        let reads = match &before {
            Some(answer) if answer.schema_version == schema_version => {
                if !answer.reads.touched_by(changes) {
                    *last = before;
                    return Ok(None);
                }
                answer.reads.clone()
            }
            _ => reads::of(&mut self.db.local(), &self.sql)?,
        };
        // What is committed between these looks is told by its own commit: the query then runs once more.
        let rows = self.db.query(&self.sql, params_from_iter(&self.params))?;
        let news = before.is_none_or(|before| before.rows != rows);
        *last = Some(Answer {
            rows: rows.clone(),
            reads,
            schema_version,
        });
        Ok(news.then_some(rows))
    }

    fn last(&self) -> MutexGuard<'_, Option<Answer>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parameter's value: it is bound again whenever the query runs.
fn owned(param: &dyn ToSql) -> Result<SqlValue, ClientError> {
    match param.to_sql()? {
        ToSqlOutput::Borrowed(value) => {
            Ok(SqlValue::try_from(value).map_err(rusqlite::Error::from)?)
        }
        ToSqlOutput::Owned(value) => Ok(value),
        _ => Err(rusqlite::Error::ToSqlConversionFailure("no plain value".into()).into()),
    }
}
