//! One client of a history: its file, its session, and the one exchange that may be under way.
//!
//! ```text
//! idle ─ next ─► sent ─ arrives ─► answered ─ comes back ─► idle
//!                  └───────── a fault, or at once ───────────┘
//! ```
//! Invariant: a session is asked for its next step only when what it waits for has come: its time, an edit of its own
//! handle, a live page or a wish. So a session that would wait for ever is found out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakesync_client::{
    ClientError, ErrorKind, KeepUntil, LocalDb, Reply, Session, SessionOptions, Status, Step,
    Subscription, Updates, Wish,
};
use lakesync_proto::{ClientId, ManualClock, TableSchema, WallClock};
use lakesync_tests::history::Rng;

use super::link::{Fault, Link, failed, torn, unreachable};
use super::world::World;

/// How a client is set up.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// What its wall clock shows more than the true time, in milliseconds.
    pub(super) skew_ms: i64,
    /// The tables that its program registers; it is told of the others by the gateway.
    pub(super) registers: Vec<TableSchema>,
    /// Deltas of a page.
    pub(super) page_limit: u32,
    pub(super) updates: Updates,
    /// Whether answers tell the gateway's clock.
    pub(super) dates: bool,
}

/// The exchange under way.
enum Exchange {
    Idle,
    /// On its way to the gateway.
    Sent(Step),
    /// On its way back, with what the gateway's clock showed.
    Answered(Reply, Option<u64>),
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something.
    Moved,
    /// Nothing: the session waits, until this time of its own clock if any.
    Waits(Option<u64>),
    /// The local database failed, as a fuse made it.
    Failed,
}

/// A client.
pub(super) struct Replica {
    pub(super) id: ClientId,
    pub(super) path: PathBuf,
    pub(super) habits: Habits,
    pub(super) online: bool,
    pub(super) link: Link,
    /// Dead letters that the program was told of, less those that were sent again.
    refused: Arc<AtomicU64>,
    told: Option<Subscription>,
    clock: Arc<ManualClock>,
    db: Option<LocalDb>,
    session: Option<Session>,
    exchange: Exchange,
    waits: Option<Option<u64>>,
    fused: bool,
}

impl Replica {
    pub(super) fn new(id: &str, folder: &Path, world: &World, habits: Habits) -> Replica {
        let id = ClientId::parse(id).unwrap();
        let mut replica = Replica {
            path: folder.join(format!("{id}.db")),
            link: Link::new(&id),
            id,
            habits,
            online: true,
            refused: Arc::default(),
            told: None,
            clock: Arc::new(ManualClock::new(0)),
            db: None,
            session: None,
            exchange: Exchange::Idle,
            waits: None,
            fused: false,
        };
        replica.tick(world);
        replica.begin();
        for schema in replica.habits.registers.clone() {
            replica.db().register(&schema).unwrap();
        }
        replica
    }

    /// The program starts.
    fn begin(&mut self) {
        let clock = Arc::clone(&self.clock) as Arc<dyn WallClock>;
        let db = LocalDb::open(&self.path, self.id.clone(), clock).unwrap();
        let options = SessionOptions::default()
            .with_page_limit(self.habits.page_limit)
            .with_updates(self.habits.updates)
            .with_keep_until(KeepUntil::Durable)
            .with_poll(Duration::from_secs(10));
        let refused = Arc::clone(&self.refused);
        self.told = Some(db.on_dead_letter(move |_| {
            refused.fetch_add(1, Ordering::Relaxed);
        }));
        self.session = Some(Session::new(db.clone(), options));
        self.db = Some(db);
        self.waits = None;
        self.fused = false;
    }

    /// The program ends, whatever it is at, and starts again.
    pub(super) fn crash(&mut self, world: &mut World) {
        world.tell(&format_args!("{} ends", self.id));
        if let Exchange::Sent(step) = std::mem::replace(&mut self.exchange, Exchange::Idle) {
            self.link.stray(world, &step);
        }
        self.link.cut();
        self.told = None;
        self.session = None;
        self.db = None;
        self.begin();
    }

    /// The session ends and another begins, over the same open database.
    pub(super) fn begin_again(&mut self, world: &mut World) {
        if let Exchange::Sent(step) = std::mem::replace(&mut self.exchange, Exchange::Idle) {
            self.link.stray(world, &step);
        }
        self.link.cut();
        self.session = None;
        let db = self.db.take();
        self.begin();
        drop(db);
    }

    pub(super) fn db(&self) -> &LocalDb {
        self.db.as_ref().expect("a client runs between steps")
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a client runs between steps")
    }

    /// The program's next version knows more of a table.
    pub(super) fn register(&mut self, schema: &TableSchema) {
        match self.db().register(schema) {
            Ok(()) => self.nudge(),
            Err(error) => assert!(self.fused, "{}: {}", self.id, chain(&error)),
        }
    }

    /// How many dead letters there must be.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sends what came too late as if it had been written now.
    pub(super) fn retry_all_too_late(&mut self) {
        let sent = self.db().retry_all_too_late();
        if let Ok(sent) = sent {
            self.refused.fetch_sub(sent, Ordering::Relaxed);
            self.nudge();
        } else {
            assert!(self.fused, "{sent:?}");
        }
    }

    pub(super) fn status(&self) -> Status {
        let session = self.session.as_ref();
        session.expect("a client runs between steps").status()
    }

    /// The clock shows the true time again, as this client sees it.
    pub(super) fn tick(&mut self, world: &World) {
        self.clock
            .set(world.now_ms().saturating_add_signed(self.habits.skew_ms));
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Something has come that a session may wait for.
    pub(super) fn nudge(&mut self) {
        self.waits = None;
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        self.session().wish(wish);
        self.nudge();
    }

    pub(super) fn set_online(&mut self, online: bool) {
        self.online = online;
        if !online && self.link.cut() {
            self.tell(Reply::LiveEnded(unreachable()));
        }
    }

    /// The server has ended: streams and connections with it.
    pub(super) fn server_ended(&mut self) {
        if self.link.cut() {
            self.tell(Reply::LiveEnded(unreachable()));
        }
    }

    /// Burns the fuse: after `writes` writes of the client's own tables, one fails, as when the disk is full, or as
    /// everything does when the process ends there.
    pub(super) fn fuse(&mut self, writes: u64) {
        if std::mem::replace(&mut self.fused, true) {
            return;
        }
        let mut sql =
            format!("CREATE TEMP TABLE fuse (left INTEGER); INSERT INTO fuse VALUES ({writes});");
        let own = ["state", "outbox", "rows", "confirmed", "changes", "commits"];
        for table in own {
            for (verb, nth) in [("INSERT", 0), ("UPDATE", 1), ("DELETE", 2)] {
                sql.push_str(&format!(
                    "CREATE TEMP TRIGGER fuse_{table}_{nth} BEFORE {verb} ON main._lakesync_{table} BEGIN \
                     UPDATE fuse SET left = left - 1; \
                     SELECT RAISE(ABORT, 'the fuse') WHERE (SELECT left FROM fuse) < 0; END;"
                ));
            }
        }
        let burnt = self.db().with_connection(|connection| {
            connection.execute_batch(&sql)?;
            Ok::<(), ClientError>(())
        });
        burnt.unwrap();
    }

    /// Does one thing, if there is any to do.
    pub(super) async fn turn(&mut self, world: &mut World, fault: Fault, hold: Hold) -> Turn {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Idle => self.step(world, fault, hold).await,
            Exchange::Sent(step) => self.arrive(world, step, fault, hold).await,
            Exchange::Answered(reply, gateway_ms) => self.answered(reply, gateway_ms),
        }
    }

    async fn step(&mut self, world: &mut World, fault: Fault, hold: Hold) -> Turn {
        if let Some(until_ms) = self.waits {
            match until_ms {
                Some(until_ms) if until_ms <= self.now_ms() => self.nudge(),
                _ => return Turn::Waits(until_ms),
            }
        }
        let step = match self.session().next() {
            Ok(step) => step,
            Err(error) => return self.failure(&error),
        };
        match step {
            Step::Wait { until_ms } => {
                self.waits = Some(until_ms);
                Turn::Waits(until_ms)
            }
            Step::Stopped => panic!("nobody asked it to stop"),
            Step::Unsubscribe => {
                self.link.unsubscribe();
                Turn::Moved
            }
            step if hold == Hold::Request => {
                self.exchange = Exchange::Sent(step);
                Turn::Moved
            }
            step => self.arrive(world, step, fault, hold).await,
        }
    }

    async fn arrive(&mut self, world: &mut World, step: Step, fault: Fault, hold: Hold) -> Turn {
        let reply = match self.online {
            true => self.link.exchange(world, &step, fault).await,
            false => failed(&step, unreachable()),
        };
        let heard = self.online && fault == Fault::None && self.habits.dates;
        let gateway_ms = heard.then(|| world.now_ms());
        world.tell(&format_args!("{} {step:?} {fault:?} {hold:?}", self.id));
        match hold {
            Hold::Reply => {
                self.exchange = Exchange::Answered(reply, gateway_ms);
                Turn::Moved
            }
            _ => self.answered(reply, gateway_ms),
        }
    }

    fn answered(&mut self, reply: Reply, gateway_ms: Option<u64>) -> Turn {
        let turn = self.tell(reply);
        if let Some(gateway_ms) = gateway_ms.filter(|_| turn == Turn::Moved)
            && let Err(error) = self.session().on_clock(gateway_ms)
        {
            return self.failure(&error);
        }
        turn
    }

    /// Brings a live page, if there is one: whole, torn, or twice.
    pub(super) async fn live(&mut self, world: &mut World, fault: Fault) -> Turn {
        let id = self.id.clone();
        let Some(reply) = self.link.live(world, &id).await else {
            return Turn::Waits(None);
        };
        world.see_reply(&reply);
        match (reply, fault) {
            (Reply::Live(page), Fault::Twice) => match self.tell(Reply::Live(page.clone())) {
                Turn::Failed => Turn::Failed,
                _ => self.tell(Reply::Live(page)),
            },
            (reply, Fault::Torn) => self.tell(torn(reply)),
            (reply, _) => self.tell(reply),
        }
    }

    /// Tells the session what came.
    fn tell(&mut self, reply: Reply) -> Turn {
        self.nudge();
        match self.session().on_reply(reply) {
            Ok(()) => Turn::Moved,
            Err(error) => self.failure(&error),
        }
    }

    /// Errors of the network and the gateway are the session's business; those of the file are ours.
    fn failure(&mut self, error: &ClientError) -> Turn {
        let fused = self.fused && chain(error).contains("the fuse");
        match error {
            _ if fused => Turn::Failed,
            ClientError::Protocol { what } if what.contains("checksum") => Turn::Moved,
            ClientError::Protocol { .. } => panic!("{}: {}", self.id, chain(error)),
            error if error.kind() == ErrorKind::Local => panic!("{}: {}", self.id, chain(error)),
            _ => Turn::Moved,
        }
    }

    /// When the session wants to go on, if it has said so.
    pub(super) fn waits_until(&self) -> Option<u64> {
        self.waits.flatten()
    }

    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.exchange, Exchange::Idle)
    }
}

/// Where an exchange is held up for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Nowhere,
    Request,
    Reply,
}

/// Picks where.
pub(super) fn hold(rng: &mut Rng) -> Hold {
    match rng.below(6) {
        0 => Hold::Request,
        1 => Hold::Reply,
        _ => Hold::Nowhere,
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
