//! What the demo's three clients do. Blocking, like the client itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lakesync_client::{HttpTransport, LocalDb, Transport as _};
use lakesync_proto::{ClientId, ColumnName, RowId, Value, WallClock};

use crate::cli::CliError;
use crate::clock::SystemClock;

/// The table that the clients share.
pub(super) const TABLE: &str = r#"{
    "table": "tasks",
    "columns": [
        {"name": "id", "type": "string"}, {"name": "title", "type": "string"},
        {"name": "status", "type": "string"}, {"name": "points", "type": "long"},
        {"name": "owner", "type": "string"}
    ],
    "primaryKey": ["id"]
}"#;

/// How late the late edit is, in milliseconds: older than everybody's edits, younger than Bo's tasks.
const LATE_MS: i64 = 60_000;

/// The rows of one client.
pub(super) type Rows = BTreeMap<RowId, BTreeMap<ColumnName, Value>>;

/// A wall clock that is off by a fixed number of milliseconds.
#[derive(Debug)]
struct SkewedClock(i64);

impl WallClock for SkewedClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms().saturating_add_signed(self.0)
    }
}

/// One edit, for the report.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) client: &'static str,
    pub(super) sql: &'static str,
    pub(super) lesson: &'static str,
}

/// What one client holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) client: &'static str,
    pub(super) rows: Rows,
}

/// The clients and their way to the gateway.
#[derive(Debug)]
pub(super) struct Story {
    people: Vec<Person>,
    transport: Arc<HttpTransport>,
    folder: PathBuf,
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) skew_ms: i64,
    db: LocalDb,
}

/// Runs a step where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    story: Story,
    step: impl FnOnce(&mut Story) -> Result<T, CliError> + Send + 'static,
) -> Result<(Story, T), CliError> {
    let done = tokio::task::spawn_blocking(move || {
        let mut story = story;
        step(&mut story).map(|value| (story, value))
    });
    done.await?
}

impl Story {
    /// The story before anyone has done anything; the databases go into `folder`.
    pub(super) fn begin(folder: PathBuf, transport: Arc<HttpTransport>) -> Self {
        Self {
            people: Vec::new(),
            transport,
            folder,
        }
    }

    /// Opens the clients; one makes the tasks and everybody gets them.
    pub(super) fn share(&mut self) -> Result<Rows, CliError> {
        for (name, skew_ms) in [("ana", 2_000), ("bo", -90_000), ("cy", -3_600_000)] {
            let db = self.open(name, skew_ms)?;
            self.people.push(Person { name, skew_ms, db });
        }
        let tasks = "INSERT INTO tasks (id, title, status, points) VALUES
            ('1', 'Buy milk', 'open', 1), ('2', 'Fix bike', 'open', 2),
            ('3', 'Call Eve', 'open', 3), ('4', 'Plan trip', 'open', 5)";
        self.of("bo").execute(tasks, [])?;
        self.sync_all()?;
        Ok(self.of("ana").rows("tasks")?)
    }

    fn open(&self, name: &str, skew_ms: i64) -> Result<LocalDb, CliError> {
        let clock = Arc::new(SkewedClock(skew_ms));
        let path = self.folder.join(format!("{name}.db"));
        let db = LocalDb::open(path, ClientId::parse(name)?, clock)?;
        for schema in self.transport.schemas()? {
            db.register(&schema)?;
        }
        Ok(db)
    }

    /// Everybody edits the same rows without a connection.
    pub(super) fn edit_offline(&mut self) -> Result<Vec<Edit>, CliError> {
        let different = "different columns: both stay";
        let same = "the same column: the greater stamp wins, whoever syncs first";
        let delete =
            "a delete against a later update: the row shows what was written after the delete";
        let clock = "his clock is an hour behind, but the gateway's answers have told him the time";
        let edits = [
            (
                "ana",
                "UPDATE tasks SET title = 'Buy oat milk' WHERE id = '1'",
                different,
            ),
            (
                "bo",
                "UPDATE tasks SET status = 'done' WHERE id = '1'",
                different,
            ),
            ("bo", "UPDATE tasks SET points = 8 WHERE id = '2'", same),
            ("ana", "UPDATE tasks SET points = 13 WHERE id = '2'", same),
            ("bo", "DELETE FROM tasks WHERE id = '3'", delete),
            (
                "ana",
                "UPDATE tasks SET owner = 'ana' WHERE id = '3'",
                delete,
            ),
            ("cy", "UPDATE tasks SET owner = 'cy' WHERE id = '4'", clock),
        ];
        for (who, sql, _) in edits {
            self.of(who).execute(sql, [])?;
        }
        Ok(edits
            .map(|(client, sql, lesson)| Edit {
                client,
                sql,
                lesson,
            })
            .to_vec())
    }

    /// The late-delta case: a stamp from before the compaction arrives after it.
    pub(super) fn late_edit(&mut self) -> Result<Vec<Edit>, CliError> {
        let sql = "INSERT INTO tasks (id, points, owner) VALUES ('2', 99, 'dee')";
        let dee = self.open("dee", -LATE_MS)?;
        dee.execute(sql, [])?;
        // A look at the outbox stamps the edit, before any answer of the gateway has told Dee the time.
        dee.outbox(1)?;
        dee.sync(self.transport.as_ref())?;
        Ok(vec![Edit {
            client: "dee",
            sql,
            lesson: "a minute old: points was written since then, owner by nobody",
        }])
    }

    /// Syncs everybody until nobody has anything new; gives each one's rows.
    pub(super) fn sync_all(&mut self) -> Result<Vec<Held>, CliError> {
        for _ in 0..2 {
            for person in &self.people {
                person.db.sync(self.transport.as_ref())?;
            }
        }
        let held = self.people.iter().map(|person| {
            Ok(Held {
                client: person.name,
                rows: person.db.rows("tasks")?,
            })
        });
        held.collect()
    }

    /// The clients, in order.
    pub(super) fn people(&self) -> &[Person] {
        &self.people
    }

    fn of(&self, name: &str) -> &LocalDb {
        let person = self.people.iter().find(|person| person.name == name);
        &person.expect("the story names only its own people").db
    }
}
