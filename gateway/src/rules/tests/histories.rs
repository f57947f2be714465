//! Random histories under rules, against a model that keeps every delta and asks plain closures.
//!
//! **Invariant checked:** after every step each native client that pulls to the end, and loads the state when it is
//! told to, has exactly the rows that its rules allow, with the values of all accepted deltas; and no page ever names a
//! row to a client that has not seen it at some time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use lakesync_proto::{
    ClaimValue, Claims, ClientId, ColumnChange, ColumnName, Cursor, DeltaKey, ErrorCode, Hlc,
    ManualClock, Op, Push, RowDelta, RowId, RowState, Seq, TableDefinition, TableName, Value,
    WallClock,
};
use lakesync_providers::lake::Warehouse;
use lakesync_providers::row_states;

use crate::auth::{Identity, Role, Scope};
use crate::config::GatewayConfig;
use crate::error::{Error, Refusal};
use crate::gateway::{Components, Gateway};
use crate::pull::{Pull, Since};
use crate::rules::{Audience, RuleSet};

pub(super) const NOW_MS: u64 = 1_700_000_000_000;
const TABLES: [&str; 2] = [
    r#"{"table": "t", "columns": [{"name": "owner", "type": "string"}, {"name": "team", "type": "string"},
        {"name": "n", "type": "long"}]}"#,
    r#"{"table": "u", "columns": [{"name": "n", "type": "long"}]}"#,
];

type Row = BTreeMap<String, Value>;
type Rows = BTreeMap<(String, String), Row>;
/// Whether somebody with this `sub` and these teams sees a row.
type Sees = fn(&str, &[&str], &str, &Row) -> bool;

/// Rules, and what they mean.
const RULES: [(&str, Sees); 5] = [
    (
        r#"[{"name": "mine", "tables": ["t"], "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}]}]"#,
        |sub, _, table, row| table == "t" && text(row, "owner") == Some(sub),
    ),
    (
        r#"[{"name": "team", "tables": ["t"], "filters": [{"column": "team", "op": "in", "value": "jwt:teams"}]},
            {"name": "all of u", "tables": ["u"]}]"#,
        |_, teams, table, row| {
            table == "u" || text(row, "team").is_some_and(|team| teams.contains(&team))
        },
    ),
    (
        r#"[{"name": "mine or small", "where": "n < 3"},
            {"name": "mine", "tables": ["t"], "where": "owner = jwt('sub') and team is not null"}]"#,
        |sub, _, _, row| {
            let small = matches!(row.get("n"), Some(Value::Long(n)) if *n < 3);
            let mine = text(row, "owner") == Some(sub) && text(row, "team").is_some();
            small || mine
        },
    ),
    ("[]", |_, _, _, _| true),
    (
        r#"[{"name": "mine", "tables": ["t"], "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}]},
            {"name": "all of u", "tables": ["u"]}]"#,
        |sub, _, table, row| table == "u" || text(row, "owner") == Some(sub),
    ),
];

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    match row.get(column) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// A native client: merged states, a cursor, and what it was ever allowed to know of.
struct Client {
    sub: &'static str,
    teams: Vec<&'static str>,
    rows: BTreeMap<(TableName, RowId), RowState>,
    cursor: Option<Cursor>,
    loads: usize,
}

impl Client {
    fn identity(&self) -> Identity {
        let mut claims = Claims::new();
        claims.set("sub", vec![ClaimValue::Text(self.sub.to_owned())]);
        let teams = self
            .teams
            .iter()
            .map(|team| ClaimValue::Text((*team).to_owned()));
        claims.set("teams", teams.collect());
        Identity {
            subject: Some(self.id()),
            role: Role::Client,
            scope: Scope::All,
            claims,
            expires_s: None,
        }
    }

    fn id(&self) -> ClientId {
        ClientId::parse(self.sub).unwrap()
    }

    fn visible(&self) -> Rows {
        self.rows
            .iter()
            .filter(|(_, state)| state.exists())
            .map(|((table, row_id), state)| ((table.to_string(), row_id.to_string()), shown(state)))
            .collect()
    }
}

fn shown(state: &RowState) -> Row {
    let cells = state.visible_cells();
    cells
        .map(|(column, cell)| (column.to_string(), cell.value.clone()))
        .collect()
}

struct World {
    seed: u64,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    config: GatewayConfig,
    gateway: Option<Arc<Gateway>>,
    accepted: Vec<RowDelta>,
    rule: Option<usize>,
    clients: Vec<Client>,
    dice: Dice,
}

pub(super) async fn open(
    folder: &Path,
    clock: &Arc<ManualClock>,
    config: &GatewayConfig,
) -> Arc<Gateway> {
    let clock = Arc::clone(clock) as Arc<dyn WallClock>;
    let warehouse = Warehouse::open_local_with_clock(folder, Arc::clone(&clock)).await;
    let components = Components {
        warehouse: warehouse.unwrap(),
        database: folder.join("g.db"),
        clock,
        lock: None,
    };
    Gateway::open("g".parse().unwrap(), components, config.clone())
        .await
        .unwrap()
}

impl World {
    async fn new(seed: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let mut dice = Dice(seed);
        let mut config = GatewayConfig {
            late_window: None,
            ..GatewayConfig::default()
        };
        if dice.chance(50) {
            config.pull_window = Duration::ZERO;
        }
        if dice.chance(50) {
            config.feed_bytes_max = 1_000;
        }
        let gateway = open(folder.path(), &clock, &config).await;
        for table in TABLES {
            let definition: TableDefinition = serde_json::from_str(table).unwrap();
            gateway.put_schema(&definition).await.unwrap();
        }
        let client = |sub, teams: &[&'static str]| Client {
            sub,
            teams: teams.to_vec(),
            rows: BTreeMap::new(),
            cursor: None,
            loads: 0,
        };
        World {
            seed,
            folder,
            clock,
            config,
            gateway: Some(gateway),
            accepted: Vec::new(),
            rule: None,
            clients: vec![
                client("ana", &["red", "blue"]),
                client("bo", &["blue"]),
                client("cy", &[]),
            ],
            dice,
        }
    }

    fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(self.gateway.as_ref().unwrap())
    }

    fn delta(&mut self, client: &ClientId) -> RowDelta {
        let dice = &mut self.dice;
        let table = *dice.pick(&["t", "t", "u"]);
        let late_ms = match dice.chance(40) {
            true => u64::try_from(dice.below(20)).unwrap(),
            false => 0,
        };
        let counter = u16::try_from(dice.below(3)).unwrap();
        let key = DeltaKey {
            table: TableName::parse(table).unwrap(),
            row_id: RowId::parse(&format!("r{}", dice.below(4))).unwrap(),
            client_id: client.clone(),
            hlc: Hlc::new(self.clock.now_ms() - late_ms, counter).unwrap(),
        };
        if dice.chance(15) {
            return RowDelta::new(Op::Delete, key, Vec::new());
        }
        let mut columns = Vec::new();
        let mut set = |dice: &mut Dice, name: &str, values: &[Value]| {
            if dice.chance(45) {
                let column = ColumnName::parse(name).unwrap();
                let value = dice.pick(values).clone();
                columns.push(ColumnChange { column, value });
            }
        };
        let texts = |texts: &[&str]| -> Vec<Value> {
            let texts = texts.iter().map(|text| Value::from(*text));
            texts.chain([Value::Null]).collect()
        };
        if table == "t" {
            set(dice, "owner", &texts(&["ana", "bo", "cy"]));
            set(dice, "team", &texts(&["red", "blue"]));
        }
        set(dice, "n", &[Value::Long(1), Value::Long(5), Value::Null]);
        let op = match dice.chance(50) {
            true => Op::Insert,
            false => Op::Update,
        };
        RowDelta::new(op, key, columns)
    }

    /// Some client's push, not sent yet. Deltas of one row and stamp would be one id with two contents.
    fn some_push(&mut self) -> (usize, Vec<RowDelta>) {
        self.clock
            .advance(u64::try_from(self.dice.below(10)).unwrap());
        let who = self.dice.below(self.clients.len());
        let id = self.clients[who].id();
        let mut ids: BTreeSet<_> = self.accepted.iter().map(|delta| delta.delta_id).collect();
        let count = 1 + self.dice.below(4);
        let deltas = (0..count).map(|_| self.delta(&id)).collect::<Vec<_>>();
        let fresh = deltas
            .into_iter()
            .filter(|delta| ids.insert(delta.delta_id));
        (who, fresh.collect())
    }

    async fn send(&mut self, who: usize, deltas: Vec<RowDelta>) {
        let client = &mut self.clients[who];
        let push = Push {
            client_id: client.id(),
            deltas: deltas.clone(),
            last_seen: client
                .cursor
                .as_ref()
                .map_or(Seq::ZERO, |cursor| cursor.seq),
            schemas: None,
        };
        let gateway = Arc::clone(self.gateway.as_ref().unwrap());
        gateway.push_by(push, &client.identity()).await.unwrap();
        for delta in &deltas {
            let key = (delta.table.clone(), delta.row_id.clone());
            client.rows.entry(key).or_default().apply(delta);
        }
        self.accepted.extend(deltas);
    }

    async fn step(&mut self) {
        match self.dice.below(20) {
            0 => drop(self.gateway().flush(None).await.unwrap()),
            1 => {
                drop(self.gateway.take());
                let gateway = open(self.folder.path(), &self.clock, &self.config).await;
                self.gateway = Some(gateway);
            }
            2 | 3 => self.other_rules().await,
            4 => {
                let who = self.dice.below(self.clients.len());
                let teams = self.dice.pick(&[vec!["red"], vec!["blue"], vec![]]).clone();
                self.clients[who].teams = teams;
            }
            _ => {
                let (who, deltas) = self.some_push();
                self.send(who, deltas).await;
            }
        }
    }

    /// Other rules, while pushes go on.
    async fn other_rules(&mut self) {
        let rule = self.dice.below(RULES.len());
        let json = format!(r#"{{"version": 1, "buckets": {}}}"#, RULES[rule].0);
        let set = RuleSet::from_json(json.as_bytes()).unwrap();
        let gateway = self.gateway();
        let setting = tokio::spawn(async move { gateway.set_rules(set).await.map(drop) });
        for _ in 0..self.dice.below(4) {
            let (who, deltas) = self.some_push();
            self.send(who, deltas).await;
        }
        setting.await.unwrap().unwrap();
        self.rule = Some(rule);
    }

    /// What everybody has.
    fn truth(&self) -> Rows {
        let mut states: BTreeMap<(String, String), RowState> = BTreeMap::new();
        for delta in &self.accepted {
            let key = (delta.table.to_string(), delta.row_id.to_string());
            states.entry(key).or_default().apply(delta);
        }
        states.retain(|_, state| state.exists());
        let rows = states.into_iter();
        rows.map(|(key, state)| (key, shown(&state))).collect()
    }

    fn allowed(&self, client: &Client) -> Rows {
        let mut rows = self.truth();
        if let Some(rule) = self.rule {
            let sees = RULES[rule].1;
            rows.retain(|(table, _), row| sees(client.sub, &client.teams, table, row));
        }
        rows
    }

    async fn check(&mut self, when: usize) {
        for who in 0..self.clients.len() {
            let limit = 1 + self.dice.below(5);
            let gateway = self.gateway();
            pull_all(&gateway, &mut self.clients[who], limit).await;
            let client = &self.clients[who];
            let (found, expected) = (client.visible(), self.allowed(client));
            assert_eq!(
                found, expected,
                "seed {}, step {when}, {} {:?} under {:?}",
                self.seed, client.sub, client.teams, self.rule
            );
            if when.is_multiple_of(10) {
                legacy_sees_no_more(&gateway, client, &expected).await;
            }
        }
    }
}

async fn pull_all(gateway: &Gateway, client: &mut Client, limit: usize) {
    for _ in 0..10_000 {
        let pull = Pull {
            since: Since::Cursor(client.cursor.clone()),
            limit,
            schemas: None,
        };
        match gateway
            .pull_by(&pull, &client.identity(), &client.id())
            .await
        {
            Ok(page) => {
                let mut removed = page.removed.iter().peekable();
                for delta in &page.deltas {
                    while let Some(gone) = removed.next_if(|gone| gone.seq < delta.seq) {
                        client
                            .rows
                            .remove(&(gone.table.clone(), gone.row_id.clone()));
                    }
                    let key = (delta.delta.table.clone(), delta.delta.row_id.clone());
                    client.rows.entry(key).or_default().apply(&delta.delta);
                }
                for gone in removed {
                    client
                        .rows
                        .remove(&(gone.table.clone(), gone.row_id.clone()));
                }
                client.cursor = page.notes.next;
                if !page.has_more {
                    return;
                }
            }
            Err(Error::Refused(refusal)) if refusal.code == ErrorCode::CursorExpired => {
                load(gateway, client, &refusal).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a pull that never ends");
}

/// Loads the state of the tables that the refusal names, or of all.
async fn load(gateway: &Gateway, client: &mut Client, refusal: &Refusal) {
    client.loads += 1;
    let named = refusal.details.get("tables").map(|tables| {
        let tables = tables.as_array().unwrap().iter();
        tables
            .map(|table| table.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    });
    let audience = gateway.audience(&client.identity());
    let sight = gateway.sight(&audience).unwrap();
    let views = gateway.live().views();
    for (table, view) in &views.tables {
        if named
            .as_ref()
            .is_some_and(|named| !named.contains(&table.to_string()))
        {
            continue;
        }
        client.rows.retain(|(of, _), _| of != table);
        let mut pages = row_states(view, None, None);
        while let Some(page) = pages.next().await {
            for (row_id, state) in sight.states(&view.schema, page.unwrap()).unwrap() {
                client.rows.insert((table.clone(), row_id), state);
            }
        }
    }
    client.cursor = match refusal.details.get("cursor") {
        Some(cursor) => Some(cursor.as_str().unwrap().parse().unwrap()),
        None => Some(gateway.cursor(views.seq, &audience)),
    };
}

/// A legacy client that starts from nothing, by a page that holds all, ends with rows that it may see.
async fn legacy_sees_no_more(gateway: &Gateway, client: &Client, allowed: &Rows) {
    let mut rows = BTreeSet::new();
    let mut since = Seq::ZERO;
    let audience: Arc<Audience> = gateway.audience(&client.identity());
    loop {
        let pull = Pull {
            since: Since::Seq(since),
            limit: 1_000,
            schemas: None,
        };
        let page = gateway.pull_as(&pull, &audience).await.unwrap();
        for delta in &page.deltas {
            let key = (
                delta.delta.table.to_string(),
                delta.delta.row_id.to_string(),
            );
            match delta.delta.op {
                Op::Delete => drop(rows.remove(&key)),
                _ => drop(rows.insert(key)),
            }
        }
        assert!(page.removed.is_empty());
        since = page.cursor;
        if !page.has_more {
            break;
        }
    }
    if audience.is_everything() {
        return;
    }
    let more: Vec<_> = rows
        .iter()
        .filter(|key| !allowed.contains_key(*key))
        .collect();
    assert!(
        more.is_empty(),
        "{} has {more:?}, may see {allowed:?}",
        client.sub
    );
}

async fn run(seeds: std::ops::Range<u64>, steps: usize) {
    for seed in seeds {
        let mut world = World::new(seed).await;
        for step in 0..steps {
            world.step().await;
            world.check(step).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_has_what_its_rules_allow_after_every_step() {
    run(0..4, 50).await;
}
