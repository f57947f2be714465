//! Seeded histories: users edit, sessions sync over a bad network, clocks are wrong, programs and servers end.
//!
//! Invariant: what happens follows from the seed alone, but for what SQLite's own clock and dice do in the histories
//! where other programs write.

use std::path::Path;
use std::time::Duration;

use lakesync::SystemClock;
use lakesync_client::{SqlValue, Updates, Wish};
use lakesync_gateway::GatewayConfig;
use lakesync_proto::{RowId, TableSchema, WallClock};
use lakesync_tests::history::{Rng, START_MS};
use lakesync_tests::oracle::AsOf;

use super::edits::{Hands, User, Watch};
use super::ledger::Ledger;
use super::link::Fault;
use super::replica::{Habits, Replica, Turn, hold};
use super::tables::{self, RULES};
use super::world::{Disk, World};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// What a history is about, beside edits, faults and crashes, which all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    Plain,
    /// Rules change, rows are withdrawn, some writes are forbidden.
    Rules,
    /// Columns and tables are added on either side.
    Schemas,
    /// The gateway's disk is lost or restored.
    Losses,
    /// Clocks are wrong and jump, and no answer has a date.
    Clocks,
    /// Edits come too late.
    Late,
    /// Other programs write the files.
    Hands,
    /// All of it but rules and lateness, by many clients.
    Everything,
}

const THEMES: [Theme; 8] = [
    Theme::Plain,
    Theme::Rules,
    Theme::Schemas,
    Theme::Losses,
    Theme::Clocks,
    Theme::Late,
    Theme::Hands,
    Theme::Everything,
];

/// A world with its clients.
pub(super) struct History {
    pub(super) theme: Theme,
    pub(super) world: World,
    pub(super) replicas: Vec<Replica>,
    pub(super) ledger: Ledger,
    pub(super) rng: Rng,
    /// One exchange in how many goes wrong, in percent.
    faults: u64,
}

impl Theme {
    pub(super) fn of(seed: u64) -> Theme {
        THEMES[usize::try_from(seed % 8).unwrap()]
    }

    fn has(self, other: Theme) -> bool {
        // What was lost with a disk and is too late by now comes back under another stamp, which the oracle cannot know.
        let apart = [Theme::Rules, Theme::Late];
        self == other || (self == Theme::Everything && !apart.contains(&other))
    }

    fn hands(self) -> Hands {
        match self.has(Theme::Hands) {
            true => Hands::Any,
            false => Hands::Own,
        }
    }
}

impl History {
    pub(super) async fn open(seed: u64, folder: &Path) -> History {
        let theme = Theme::of(seed);
        let mut rng = Rng::new(seed);
        let mut config = GatewayConfig {
            late_window: theme
                .has(Theme::Late)
                .then(|| Duration::from_millis(3 * HOUR_MS)),
            ..GatewayConfig::default()
        };
        if rng.chance(30) {
            config.pull_window = Duration::ZERO;
        }
        if rng.chance(30) {
            config.feed_bytes_max = 1_000;
        }
        // SQLite's own clock is behind then, and so it never decides.
        let start_ms = match theme.hands() {
            Hands::Own => START_MS,
            Hands::Any => SystemClock.now_ms() + HOUR_MS,
        };
        let world = World::open(seed, folder.join("lake"), config, start_ms).await;
        let mut history = History {
            theme,
            world,
            replicas: Vec::new(),
            ledger: Ledger::default(),
            faults: *rng.pick(&[0, 15, 50]),
            rng,
        };
        for schema in tables::all() {
            let unknown = theme.has(Theme::Schemas) && schema.table.as_str() == "two_keys";
            if !unknown {
                history.world.put(&schema.definition()).await;
            }
        }
        if theme == Theme::Rules {
            let rule = usize::try_from(history.rng.between(1, 3)).unwrap();
            history.world.set_rules(rule, &tables::rule(rule)).await;
        }
        history.people(folder);
        history
    }

    fn people(&mut self, folder: &Path) {
        let count = match self.theme {
            Theme::Everything => self.rng.between(2, 10),
            _ => self.rng.between(2, 4),
        };
        for nth in 0..count {
            let skew_ms = match self.theme.has(Theme::Clocks) {
                true => self.skew(),
                false => *self.rng.pick(&[0, 0, 1_900, 1_900, 4_000, -90_000]),
            };
            let registers = match self.rng.chance(70) {
                true => tables::all(),
                false => Vec::new(),
            };
            let habits = Habits {
                skew_ms,
                registers,
                page_limit: *self.rng.pick(&[1, 3, 100, 5_000]),
                updates: *self.rng.pick(&[Updates::Live, Updates::Poll]),
                dates: self.theme != Theme::Clocks || self.rng.chance(50),
            };
            let replica = Replica::new(&format!("client-{nth}"), folder, &self.world, habits);
            self.replicas.push(replica);
        }
    }

    fn skew(&mut self) -> i64 {
        let hour = i64::try_from(HOUR_MS).unwrap();
        *self
            .rng
            .pick(&[0, 4_000, -4_000, 60_000, hour, -hour, 30 * hour, -30 * hour])
    }

    fn some(&mut self) -> usize {
        let count = u64::try_from(self.replicas.len()).unwrap();
        usize::try_from(self.rng.below(count)).unwrap()
    }

    /// One thing happens.
    pub(super) async fn step(&mut self) {
        match self.rng.below(100) {
            0..24 => self.edits(),
            24..62 => self.turns().await,
            62..65 => self.wish(),
            65..75 => self.live().await,
            75..84 => self.time_passes(),
            84..87 => self.network(),
            87..90 => self.crash(),
            90..93 => self.maintain().await,
            93..95 => self.stray().await,
            95..97 => self.clock(),
            _ => self.theme().await,
        }
    }

    fn edits(&mut self) {
        let some = self.some();
        for _ in 0..self.rng.between(1, 3) {
            let known = known(&self.replicas[some]);
            let hands = self.theme.hands();
            let watch = match self.replicas[some].habits.skew_ms {
                0..2_000 if !self.theme.has(Theme::Clocks) => Watch::Right,
                _ => Watch::Wrong,
            };
            let replica = &mut self.replicas[some];
            let mut user = User {
                rng: &mut self.rng,
                ledger: &mut self.ledger,
                client: replica.id.as_str(),
                hands,
                watch,
            };
            let ruled = self.theme == Theme::Rules && user.rng.chance(60);
            match known
                .iter()
                .find(|schema| ruled && schema.table.as_str() == "notes")
            {
                Some(notes) => user.edit(replica.db(), std::slice::from_ref(notes), &replica.path),
                None => user.edit(replica.db(), &known, &replica.path),
            }
            if hands == Hands::Own || self.rng.chance(50) {
                replica.nudge();
            }
        }
    }

    async fn turns(&mut self) {
        let some = self.some();
        for _ in 0..self.rng.between(1, 12) {
            let fault = self.fault();
            let hold = hold(&mut self.rng);
            let replica = &mut self.replicas[some];
            let turn = replica.turn(&mut self.world, fault, hold).await;
            match turn {
                Turn::Moved if replica.is_busy() && self.rng.chance(50) => return,
                Turn::Moved => {}
                Turn::Waits(_) => return,
                Turn::Failed => return self.recover(some),
            }
        }
    }

    /// The file could not be written: the program ends, or only its session.
    fn recover(&mut self, some: usize) {
        self.world.see("failed write");
        match self.rng.chance(50) {
            true => self.replicas[some].crash(&mut self.world),
            false => self.replicas[some].begin_again(&mut self.world),
        }
    }

    fn fault(&mut self) -> Fault {
        if !self.rng.chance(self.faults) {
            return Fault::None;
        }
        *self.rng.pick(&[
            Fault::RequestLost,
            Fault::ReplyLost,
            Fault::Stray,
            Fault::Twice,
            Fault::Busy,
            Fault::Unauthorised,
            Fault::Garbage,
            Fault::Torn,
            Fault::Torn,
            Fault::Torn,
        ])
    }

    async fn live(&mut self) {
        let some = self.some();
        let fault = self.fault();
        if self.replicas[some].live(&mut self.world, fault).await == Turn::Failed {
            self.recover(some);
        }
    }

    fn time_passes(&mut self) {
        let most = match self.theme.has(Theme::Late) {
            true => 2 * HOUR_MS,
            false => MINUTE_MS,
        };
        let by_ms = *self.rng.pick(&[1, 40, 1_000, 10_000, most]);
        self.pass(by_ms);
    }

    /// Time passes for everybody.
    pub(super) fn pass(&mut self, by_ms: u64) {
        self.world.clock.advance(by_ms);
        for replica in &mut self.replicas {
            replica.tick(&self.world);
        }
    }

    fn network(&mut self) {
        let some = self.some();
        let wishes = self.rng.chance(50);
        let replica = &mut self.replicas[some];
        let online = !replica.online;
        replica.set_online(online);
        if wishes {
            replica.wish(match online {
                true => Wish::Online,
                false => Wish::Offline,
            });
        }
    }

    fn crash(&mut self) {
        let some = self.some();
        match self.rng.below(3) {
            0 => self.replicas[some].crash(&mut self.world),
            1 => self.replicas[some].begin_again(&mut self.world),
            _ => {
                let writes = self.rng.below(40);
                self.replicas[some].fuse(writes);
            }
        }
    }

    async fn maintain(&mut self) {
        match self.rng.below(5) {
            0 => self.world.flush().await,
            1 => {
                self.world.flush().await;
                self.world.compact().await;
            }
            2 | 3 => self.world.chore(&mut self.rng).await,
            _ => {
                let disk = match self.theme.has(Theme::Losses) {
                    true => *self.rng.pick(&[Disk::Kept, Disk::Lost, Disk::Restored]),
                    false => Disk::Kept,
                };
                self.restart(disk).await;
            }
        }
    }

    async fn restart(&mut self, disk: Disk) {
        for replica in &mut self.replicas {
            replica.server_ended();
        }
        self.world.restart(disk).await;
    }

    async fn stray(&mut self) {
        let strays = u64::try_from(self.world.strays.len()).unwrap();
        if strays > 0 {
            let which = usize::try_from(self.rng.below(strays)).unwrap();
            let stray = self.world.strays.remove(which);
            stray.arrive(&mut self.world).await;
        }
    }

    fn clock(&mut self) {
        if self.theme.has(Theme::Clocks) {
            let some = self.some();
            let skew_ms = self.skew();
            self.replicas[some].habits.skew_ms = skew_ms;
            self.replicas[some].tick(&self.world);
        }
    }

    fn wish(&mut self) {
        let some = self.some();
        let wish = *self
            .rng
            .pick(&[Wish::SyncNow, Wish::Live, Wish::Poll, Wish::Verify]);
        self.replicas[some].wish(wish);
    }

    async fn theme(&mut self) {
        if self.theme == Theme::Rules {
            self.give().await;
        }
        if self.theme == Theme::Rules && self.rng.chance(30) {
            let rule = usize::try_from(self.rng.below(4)).unwrap();
            self.world.set_rules(rule, &tables::rule(rule)).await;
        }
        if self.theme.has(Theme::Schemas) {
            self.grow().await;
        }
        if self.theme.has(Theme::Losses) && self.rng.chance(30) {
            self.restart(Disk::Lost).await;
        }
        if self.theme.has(Theme::Late) && self.rng.chance(30) {
            let some = self.some();
            self.replicas[some].retry_all_too_late();
        }
    }

    /// Somebody whom no rule binds gives a note to somebody else: it leaves one sight and enters another.
    pub(super) async fn give(&mut self) {
        let notes = self.world.oracle.table("notes", AsOf::NOW);
        let notes: Vec<String> = notes.into_keys().collect();
        if !notes.is_empty() {
            let note = RowId::parse(self.rng.pick(&notes).as_str()).unwrap();
            let owner = *self
                .rng
                .pick(&["client-0", "client-1", "client-2", "all", "nobody"]);
            self.world.give(note, owner).await;
        }
    }

    /// A table gets a column, here or there.
    async fn grow(&mut self) {
        let which = usize::try_from(self.rng.below(3)).unwrap();
        match self.rng.chance(50) {
            true => {
                let schemas = self.world.schemas();
                let schema = self.rng.pick(&schemas).clone();
                if let Some(grown) = tables::grown(&schema, which) {
                    self.world.put(&grown).await;
                }
            }
            false => {
                let some = self.some();
                let known = known(&self.replicas[some]);
                if known.is_empty() {
                    return;
                }
                let schema = self.rng.pick(&known).clone();
                if let Some(grown) = tables::grown(&schema, which) {
                    let grown = TableSchema::from_definition(&grown).unwrap();
                    self.replicas[some].register(&grown);
                }
            }
        }
    }

    /// The gateway gets every table and column that any client has.
    pub(super) async fn unite(&mut self) {
        for replica in &self.replicas {
            for schema in known(replica) {
                let held = self.world.schemas();
                let held = held.iter().find(|held| held.table == schema.table);
                let united = match held {
                    Some(held) => tables::united(held, &schema),
                    None => schema.definition(),
                };
                self.world.put(&united).await;
            }
        }
    }

    /// What a client sees by the rules in force.
    pub(super) fn sees(&self, client: &str, table: &str) -> impl Fn(&Row) -> bool + use<> {
        let (client, table) = (client.to_owned(), table.to_owned());
        let (_, sees) = RULES[self.world.rule];
        move |row| sees(&client, &table, row)
    }
}

/// A row as canonical texts.
pub(super) type Row = std::collections::BTreeMap<String, String>;

/// The tables of a database, as far as its own catalog tells.
fn known(replica: &Replica) -> Vec<TableSchema> {
    let schemas = tables::all();
    let known = schemas.iter().filter_map(|schema| {
        let sql = format!("SELECT name FROM pragma_table_xinfo('{}')", schema.table);
        let rows = replica.db().query(&sql, []).unwrap();
        let names = rows.rows.into_iter().map(|row| match &row[0] {
            SqlValue::Text(name) => name.clone(),
            other => panic!("a column {other:?}"),
        });
        tables::with_columns(schema, &names.collect::<Vec<String>>())
    });
    known.collect()
}
