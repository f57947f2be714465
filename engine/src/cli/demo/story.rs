//! What the demo's three clients do. Blocking, like the client itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lakesync_client::{Client, HttpTransport, Transport as _};
use lakesync_proto::{ClientId, ColumnName, Op, RowDelta, RowId, Value, WallClock};

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
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) client: &'static str,
    pub(super) what: String,
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
    client: Client,
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

    /// Opens the clients; the first one makes the tasks and everybody gets them.
    pub(super) fn share(&mut self) -> Result<Rows, CliError> {
        for (name, skew_ms) in [("ana", 2_000), ("bo", -90_000), ("cy", -3_600_000)] {
            let clock = Arc::new(SkewedClock(skew_ms));
            let path = self.folder.join(format!("{name}.db"));
            let mut client = Client::open(path, ClientId::parse(name)?, clock)?;
            for schema in self.transport.schemas()? {
                client.register(&schema)?;
            }
            self.people.push(Person {
                name,
                skew_ms,
                client,
            });
        }
        // Bo's clock is the middle one: what he writes first, the others can overwrite.
        let tasks = [
            ("1", "Buy milk", 1),
            ("2", "Fix bike", 2),
            ("3", "Call Eve", 3),
            ("4", "Plan trip", 5),
        ];
        for (id, title, points) in tasks {
            let values = [
                ("id", text(id)),
                ("title", text(title)),
                ("status", text("open")),
                ("points", Value::Long(points)),
            ];
            self.client("bo").insert("tasks", &values)?;
        }
        self.sync_all()?;
        Ok(self.client("ana").rows("tasks")?)
    }

    /// Everybody edits the same rows without a connection.
    pub(super) fn edit_offline(&mut self) -> Result<Vec<Edit>, CliError> {
        let mut edits = Vec::new();
        let mut write = |story: &mut Self, who, op, id, changes: &[(&str, Value)], lesson| {
            let delta = match op {
                Op::Delete => story.client(who).delete("tasks", id)?,
                _ => story.client(who).update("tasks", id, changes)?,
            };
            edits.push(edit(who, &delta, lesson));
            Ok::<(), CliError>(())
        };
        let different = "different columns: both stay";
        write(
            self,
            "ana",
            Op::Update,
            "1",
            &[("title", text("Buy oat milk"))],
            different,
        )?;
        write(
            self,
            "bo",
            Op::Update,
            "1",
            &[("status", text("done"))],
            different,
        )?;
        let same = "the same column: the greater stamp wins, whoever syncs first";
        write(
            self,
            "bo",
            Op::Update,
            "2",
            &[("points", Value::Long(8))],
            same,
        )?;
        write(
            self,
            "ana",
            Op::Update,
            "2",
            &[("points", Value::Long(13))],
            same,
        )?;
        let delete =
            "a delete against a later update: the row shows what was written after the delete";
        write(self, "bo", Op::Delete, "3", &[], delete)?;
        write(
            self,
            "ana",
            Op::Update,
            "3",
            &[("owner", text("ana"))],
            delete,
        )?;
        let late = "an hour behind, but stamps never go back: Cy has seen Bo's tasks";
        write(self, "cy", Op::Update, "4", &[("owner", text("cy"))], late)?;
        Ok(edits)
    }

    /// Cy meets the late-delta case: a stamp from before the compaction arrives after it.
    pub(super) fn late_edit(&mut self) -> Result<Vec<Edit>, CliError> {
        let changes = [("points", Value::Long(99)), ("owner", text("dee"))];
        let clock = Arc::new(SkewedClock(-10_000));
        let mut dee = Client::open(self.folder.join("dee.db"), ClientId::parse("dee")?, clock)?;
        for schema in self.transport.schemas()? {
            dee.register(&schema)?;
        }
        // Dee has never pulled, so her clock has learned nothing: the edit is ten seconds old on arrival.
        let mut values = vec![("id", text("2"))];
        values.extend(changes);
        let delta = dee.insert("tasks", &values)?;
        dee.push(self.transport.as_ref())?;
        Ok(vec![edit(
            "dee",
            &delta,
            "points was written later by ana, owner by nobody",
        )])
    }

    /// Syncs everybody until nobody has anything new; gives each one's rows.
    pub(super) fn sync_all(&mut self) -> Result<Vec<Held>, CliError> {
        let transport = Arc::clone(&self.transport);
        for _ in 0..2 {
            for person in &mut self.people {
                person.client.sync(transport.as_ref())?;
            }
        }
        let held = self.people.iter().map(|person| {
            let rows = person.client.rows("tasks")?;
            Ok(Held {
                client: person.name,
                rows,
            })
        });
        held.collect()
    }

    /// The clients, in order.
    pub(super) fn people(&self) -> &[Person] {
        &self.people
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let person = self.people.iter_mut().find(|person| person.name == name);
        &mut person.expect("the story names only its own people").client
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn edit(client: &'static str, delta: &RowDelta, lesson: &'static str) -> Edit {
    let changes: Vec<String> = delta
        .columns
        .iter()
        .map(|change| format!("{} = {}", change.column, change.value.to_json()))
        .collect();
    let what = match delta.op {
        Op::Delete => format!("deletes task {}", delta.row_id),
        _ => format!("task {}: {}", delta.row_id, changes.join(", ")),
    };
    Edit {
        client,
        what,
        lesson,
    }
}
