//! The end of a history: the network holds, nobody ends, and everything comes to rest and is the same everywhere.
//!
//! Invariant: it comes to rest within a bounded number of turns, whatever happened before.

use std::collections::BTreeMap;

use lakesync_client::{DeadLetter, OutboxCounts, Wish};
use lakesync_proto::{TableSchema, Value};
use lakesync_tests::oracle::OracleRows;

use super::history::{History, Theme};
use super::ledger::canonical;
use super::link::Fault;
use super::replica::{Hold, Replica, Turn};

/// Turns until everything has come to rest, of each client: a page of one delta each, and room for failures.
const TURNS_MAX: usize = 5_000;

/// Turns of one client before the others have theirs.
const TURNS_AT_ONCE: usize = 50;

/// Dead letters of one client: more are no history of ours.
const DEAD_MAX: usize = 10_000;

impl History {
    /// Everything comes to rest.
    pub(super) async fn heal(&mut self) {
        for stray in std::mem::take(&mut self.world.strays) {
            stray.arrive(&mut self.world).await;
        }
        self.unite().await;
        for replica in &mut self.replicas {
            // Fuses burn no more, and what other programs wrote is found.
            replica.crash(&mut self.world);
            replica.set_online(true);
            replica.wish(Wish::Online);
        }
        for stray in std::mem::take(&mut self.world.strays) {
            stray.arrive(&mut self.world).await;
        }
        self.rest("at the end").await;
        if self.theme == Theme::Rules {
            for _ in 0..3 {
                self.give().await;
            }
        }
        // What came while others were at rest already is asked for once more, and so is what the warehouse has.
        self.world.flush().await;
        for _ in 0..2 {
            for replica in &mut self.replicas {
                replica.wish(Wish::SyncNow);
            }
            self.rest("after another look").await;
        }
    }

    /// What came too late is sent as if it had been written now.
    pub(super) async fn forgive(&mut self) {
        for replica in &mut self.replicas {
            replica.retry_all_too_late();
        }
        self.heal().await;
    }

    async fn rest(&mut self, when: &str) {
        let mut turns = 0;
        let most = TURNS_MAX * self.replicas.len();
        loop {
            let mut moved = false;
            for replica in &mut self.replicas {
                for _ in 0..TURNS_AT_ONCE {
                    turns += 1;
                    let turn = replica
                        .turn(&mut self.world, Fault::None, Hold::Nowhere)
                        .await;
                    if turn != Turn::Moved {
                        assert_ne!(turn, Turn::Failed, "there is no fuse");
                        break;
                    }
                    moved = true;
                }
                moved |= replica.live(&mut self.world, Fault::None).await == Turn::Moved;
            }
            if !moved && !self.waits() {
                return;
            }
            assert!(
                turns < most,
                "seed {} {when}: no rest in {turns} turns: {}",
                self.world.seed,
                self.told()
            );
        }
    }

    /// Lets time pass to where somebody with something to do goes on; false when nobody has anything.
    fn waits(&mut self) -> bool {
        let mut soonest: Option<u64> = None;
        let mut busy = false;
        for replica in &mut self.replicas {
            let counts = replica.db().outbox_counts().unwrap();
            let open = counts.pending + counts.in_flight + counts.acknowledged;
            if open == 0 && replica.status().last_error.is_none() {
                continue;
            }
            busy = true;
            let now_ms = replica.now_ms();
            if let Some(until_ms) = replica.waits_until() {
                let left_ms = until_ms.saturating_sub(now_ms).max(1);
                soonest = Some(soonest.map_or(left_ms, |soonest| soonest.min(left_ms)));
            }
        }
        if !busy {
            return false;
        }
        let by_ms = soonest.unwrap_or_else(|| {
            panic!("seed {}: waits for ever: {}", self.world.seed, self.told());
        });
        self.pass(by_ms);
        true
    }

    fn told(&self) -> String {
        let told = self
            .replicas
            .iter()
            .map(|replica| format!("{}: {:?}", replica.id, replica.status()));
        told.collect::<Vec<_>>().join("\n")
    }

    /// Everybody has the same, nothing waits, nothing is lost.
    pub(super) async fn check(&mut self) {
        self.world.check().await;
        let mut dead = Vec::new();
        for nth in 0..self.replicas.len() {
            let letters = self.outbox(nth);
            let client = self.replicas[nth].id.to_string();
            dead.extend(letters.into_iter().map(|letter| (client.clone(), letter)));
            for schema in self.world.schemas() {
                let sees = self.sees(&client, schema.table.as_str());
                let expected = self.world.expected(&schema, sees);
                let found = rows(&self.replicas[nth], &schema);
                assert_eq!(
                    found, expected,
                    "seed {}: {client}, {}",
                    self.world.seed, schema.table
                );
            }
            self.digest(nth).await;
            integrity(&self.replicas[nth]);
        }
        self.ledger
            .check(self.world.seed, &self.world.oracle, &dead);
    }

    /// Nothing is left in an outbox but dead letters, exactly those that were refused by name.
    fn outbox(&self, nth: usize) -> Vec<DeadLetter> {
        let replica = &self.replicas[nth];
        let (seed, id) = (self.world.seed, &replica.id);
        let counts = replica.db().outbox_counts().unwrap();
        let expected = OutboxCounts {
            rejected: replica.refused(),
            ..OutboxCounts::default()
        };
        assert_eq!(counts, expected, "seed {seed}: {id}");
        let letters = replica.db().dead_letters(DEAD_MAX).unwrap();
        assert_eq!(letters.len(), usize::try_from(replica.refused()).unwrap());
        for letter in &letters {
            let expected = ["FORBIDDEN", "LATE_DELTA"].contains(&letter.reason.code.as_str());
            assert!(expected, "seed {seed}: {id}: {letter:?}");
        }
        letters
    }

    async fn digest(&self, nth: usize) {
        let replica = &self.replicas[nth];
        let gateway = self.world.gateway();
        let audience = gateway.audience(replica.link.identity());
        let theirs = gateway.digest(None, None, &audience).await.unwrap();
        let ours = replica.db().digest().unwrap();
        assert_eq!(
            ours.cursor,
            Some(theirs.cursor.to_string()),
            "{}",
            replica.id
        );
        let ours: BTreeMap<String, (u64, u64, u64)> = ours
            .tables
            .iter()
            .map(|t| (t.table.to_string(), (t.rows, t.cells, t.hash)))
            .collect();
        for table in &theirs.tables {
            let ours = ours.get(table.table.as_str()).copied().unwrap_or_default();
            let theirs = (table.rows, table.cells, table.hash);
            assert_eq!(
                ours, theirs,
                "seed {}: {}, {}",
                self.world.seed, replica.id, table.table
            );
        }
    }
}

/// The rows that an application sees: every column of the schema, an absent one as null.
fn rows(replica: &Replica, schema: &TableSchema) -> OracleRows {
    let rows = replica
        .db()
        .rows(schema.table.as_str())
        .unwrap()
        .into_iter();
    let rows = rows.map(|(row_id, values)| {
        let cells = schema.columns.iter().map(|column| {
            let value = values.get(&column.name).unwrap_or(&Value::Null);
            (column.name.to_string(), canonical(value))
        });
        (row_id.to_string(), cells.collect())
    });
    rows.collect()
}

fn integrity(replica: &Replica) {
    let checked = lakesync_client::rusqlite::Connection::open(&replica.path).unwrap();
    let said: String = checked
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(said, "ok", "{}", replica.id);
}
