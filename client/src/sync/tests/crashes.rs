//! A program that ends in the middle of a write to its file, at every write of its life in turn: edits, seals, pushes,
//! acknowledgements, refusals, checkpoints, pages, new columns, another log.

use lakesync_proto::{Op, RowId, Seq};

use super::fake_gateway::refusal;
use super::scenarios::remote;
use super::schemas::{COLOURED, coloured};
use super::world::{Device, START_MS, STOCK, TODOS, World, evolved, schema};
use crate::ClientError;
use crate::sync::{SessionOptions, Step, Updates, Wish};

/// The tables whose writes are counted.
const TABLES: [&str; 10] = [
    "stock",
    "_lakesync_state",
    "_lakesync_meta",
    "_lakesync_columns",
    "_lakesync_changes",
    "_lakesync_commits",
    "_lakesync_outbox",
    "_lakesync_rows",
    "_lakesync_confirmed",
    "_lakesync_seen",
];

/// What becomes of the program whose write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It ends, and is started again.
    Ends,
    /// It goes on: the disk was full for a moment.
    GoesOn,
}

/// Runs SQL beside everything that counts.
fn run(device: &Device, sql: &str) {
    device.db.local().connection.execute_batch(sql).unwrap();
}

struct Life {
    world: World,
    device: Device,
    then: Then,
    writes: u32,
    /// How often a write failed.
    failed: u32,
}

impl Life {
    /// One whose write after so many fails.
    fn begin(writes: u32, then: Then) -> Life {
        let mut world = World::new();
        for (nth, code) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            let at_ms = START_MS - 10 + u64::try_from(nth).unwrap();
            world.arrive(remote(Op::Insert, code, at_ms, "theirs"));
        }
        let options = SessionOptions::default()
            .with_updates(Updates::Poll)
            .with_page_limit(2);
        let device = world.device("a", options);
        let mut sql =
            format!("CREATE TEMP TABLE fuse (left INTEGER); INSERT INTO fuse VALUES ({writes});");
        for table in TABLES {
            for verb in ["INSERT", "UPDATE", "DELETE"] {
                sql.push_str(&format!(
                    "CREATE TEMP TRIGGER fuse_{verb}_{table} BEFORE {verb} ON main.{table} BEGIN \
                     UPDATE fuse SET left = left - 1; \
                     SELECT RAISE(ABORT, 'the fuse') WHERE (SELECT left FROM fuse) < 0; END;"
                ));
            }
        }
        run(&device, &sql);
        let life = Life {
            world,
            device,
            then,
            writes,
            failed: 0,
        };
        life.hurry();
        life
    }

    /// No power fails here, so nothing need be synced to the disk.
    fn hurry(&self) {
        run(&self.device, "PRAGMA synchronous = OFF");
    }

    fn burns(&mut self, error: &ClientError) {
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            text.push_str(&source.to_string());
        }
        assert!(text.contains("the fuse"), "{text}");
        self.failed += 1;
        match self.then {
            Then::Ends => {
                self.device.restart();
                self.hurry();
            }
            Then::GoesOn => run(&self.device, "UPDATE temp.fuse SET left = 1000000"),
        }
    }

    /// A call of the program, made again when it failed.
    fn call(&mut self, call: impl Fn(&Device) -> Result<(), ClientError>) {
        if let Err(error) = call(&self.device) {
            self.burns(&error);
            call(&self.device).unwrap();
        }
    }

    fn sql(&mut self, sql: &str) {
        self.call(|device| device.db.execute(sql, []).map(drop));
    }

    /// Syncs until nothing is left to do.
    fn sync(&mut self) {
        self.device.session.wish(Wish::SyncNow);
        for _ in 0..500 {
            let step = match self.device.session.next() {
                Ok(step) => step,
                Err(error) => {
                    self.burns(&error);
                    continue;
                }
            };
            if let Step::Wait { until_ms } = step {
                let status = self.device.status();
                if status.counts.pending == 0 && status.last_error.is_none() {
                    return;
                }
                let until_ms = until_ms.expect("a wait that ends");
                let by_ms = until_ms.saturating_sub(self.device.now_ms());
                self.device.clock.advance(by_ms);
                self.world.gateway.now_ms += by_ms;
                continue;
            }
            let reply = self.device.reply(&step, &mut self.world.gateway);
            let reply = reply.expect("every step that is no wait has one");
            match self.device.session.on_reply(reply) {
                Err(error) if !matches!(error, ClientError::PushRefused { .. }) => {
                    self.burns(&error);
                }
                _ => {}
            }
        }
        let status = self.device.status();
        panic!("write {} failed, no rest: {status:?}", self.writes);
    }

    fn live(&mut self) {
        self.sql("INSERT INTO stock (code, count) VALUES ('own', 1), ('b', 2), ('poison', 3)");
        let poison = RowId::parse("poison").unwrap();
        let condemned = &mut self.world.gateway.condemned;
        condemned.insert(poison, refusal(403, "FORBIDDEN"));
        self.sync();
        self.world.gateway.condemned.clear();
        // A new column, an update, a delete and a row that leaves, beside own edits of the same rows.
        self.world.gateway.schemas = vec![evolved(&schema(STOCK), COLOURED)];
        let later_ms = START_MS + 1;
        for delta in [
            remote(Op::Update, "a", later_ms, "newer"),
            remote(Op::Delete, "c", later_ms, ""),
            coloured("red"),
        ] {
            self.world.arrive(delta);
        }
        self.world.gateway.withdraw("stock", "d");
        self.sql("UPDATE stock SET count = 7 WHERE code IN ('a', 'own')");
        self.sql("DELETE FROM stock WHERE code = 'e'");
        self.sync();
        self.call(|device| match device.db.dead_letters(2)?.as_slice() {
            [letter] => device.db.retry(letter.entry),
            // The call that failed had been made after all.
            others => panic!("{others:?}"),
        });
        self.sync();
        self.world.gateway.durable = Seq::from_u64(8).unwrap();
        self.sync();
        self.sql("UPDATE stock SET colour = 'blue' WHERE code = 'b'");
        self.world.gateway.lose_log(3);
        self.sync();
        self.sync();
    }

    /// All that is to be seen at the end.
    fn told(&self, what: &str) -> String {
        let device = &self.device;
        assert_eq!(device.stock(), self.world.stock(), "{what}");
        assert_eq!(device.colours(), self.world.colours(), "{what}");
        let sound = device.rows("PRAGMA integrity_check");
        assert_eq!(sound, [["ok".to_owned().into()]], "{what}");
        let counts = device.db.outbox_counts().unwrap();
        let left = counts.pending + counts.in_flight + counts.acknowledged + counts.rejected;
        assert_eq!(left, 0, "{what}: {counts:?}");
        let deltas = self.world.gateway.deltas();
        let own = deltas.filter(|delta| delta.client_id.as_str() == "a");
        format!("{} {} {}", device.stock(), device.colours(), own.count())
    }
}

/// Of how many writes one fails; every single one where more histories are asked for, which takes a minute.
fn stride() -> usize {
    match std::env::var_os("LAKESYNC_SEEDS") {
        Some(_) => 1,
        None => 9,
    }
}

#[test]
fn every_write_of_a_life_may_be_the_last() {
    let mut unhurt = Life::begin(u32::MAX, Then::Ends);
    unhurt.live();
    let want = unhurt.told("unhurt");
    for (first, then) in [(0, Then::Ends), (4, Then::GoesOn)] {
        for writes in (first..).step_by(stride()) {
            let mut life = Life::begin(writes, then);
            life.live();
            let what = format!("write {writes} failed, the program {then:?}");
            assert_eq!(life.told(&what), want, "{what}");
            if life.failed == 0 {
                assert!(writes > 300, "only {writes} writes");
                break;
            }
            assert_eq!(life.failed, 1, "{what}");
        }
    }
}

#[test]
fn a_write_that_failed_is_told_until_the_file_takes_it_though_nothing_can_be_sent() {
    let mut world = World::new();
    let options = SessionOptions::default().with_updates(Updates::Poll);
    let mut device = world.device("a", options);
    device.run(&mut world.gateway);
    device.db.register(&schema(TODOS)).unwrap();
    device.sql("INSERT INTO todos (title) VALUES ('waits for a table')");
    run(
        &device,
        "CREATE TEMP TRIGGER fuse BEFORE UPDATE ON main._lakesync_outbox BEGIN SELECT RAISE(ABORT, 'the fuse'); END",
    );
    device.session.next().unwrap_err();
    let error = device.status().last_error.unwrap();
    assert!(error.message.contains("the fuse"), "{error:?}");
    run(&device, "DROP TRIGGER temp.fuse");
    device.clock.advance(60_000);
    device.run(&mut world.gateway);
    let status = device.status();
    assert_eq!((status.last_error, status.counts.pending), (None, 1));
}
