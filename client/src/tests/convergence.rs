//! Random histories: clients with skewed clocks, in any interleaving, over a transport that loses, repeats and
//! answers twice, and with restarts in between. Whatever happened, once everybody has synced they all show what the
//! merge of all edits shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use lakesync_proto::{DeltaId, ManualClock, RowId, RowState, TableSchema, Value, WallClock};
use tempfile::TempDir;

use super::fake_gateway::{FakeGateway, Fault};
use super::{Plain, START_MS, STOCK, TODOS, canonical, client_id, plain, schema, text};
use crate::{Client, ClientError, ErrorKind};

/// Splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let bound = u64::try_from(items.len()).unwrap();
        &items[usize::try_from(self.below(bound)).unwrap()]
    }
}

struct Device {
    client: Client,
    clock: Arc<ManualClock>,
    name: String,
    path: PathBuf,
}

impl Device {
    fn start(name: String, path: PathBuf, clock: Arc<ManualClock>) -> Device {
        let wall_clock: Arc<dyn WallClock> = Arc::<ManualClock>::clone(&clock);
        let mut client = Client::open(&path, client_id(&name), wall_clock).unwrap();
        client.register(&schema(TODOS)).unwrap();
        client.register(&schema(STOCK)).unwrap();
        Device {
            client,
            clock,
            name,
            path,
        }
    }

    /// Ends the client and opens its file again; nothing but the file survives.
    fn restart(self) -> Device {
        let Device {
            client,
            clock,
            name,
            path,
        } = self;
        let (pending, cursor) = (client.pending().unwrap(), client.cursor().unwrap());
        drop(client);
        let device = Device::start(name, path, clock);
        assert_eq!(
            (
                device.client.pending().unwrap(),
                device.client.cursor().unwrap()
            ),
            (pending, cursor)
        );
        device
    }
}

struct World {
    rng: Rng,
    gateway: FakeGateway,
    devices: Vec<Device>,
    edits: BTreeSet<DeltaId>,
    restarts: Restarts,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Restarts {
    None,
    Now,
}

impl World {
    fn new(seed: u64, dir: Option<&TempDir>) -> World {
        let mut rng = Rng(seed);
        let count = 2 + rng.below(4);
        let devices = (0..count)
            .map(|n| {
                let skew_ms = *rng.pick(&[0, 0, 3_000, 3_600_000]);
                let clock = Arc::new(ManualClock::new(START_MS - 60_000 * rng.below(3) + skew_ms));
                let path = dir.map_or_else(
                    || PathBuf::from(":memory:"),
                    |dir| dir.path().join(format!("{n}.db")),
                );
                Device::start(format!("client-{n}"), path, clock)
            })
            .collect();
        World {
            rng,
            gateway: FakeGateway::default(),
            devices,
            edits: BTreeSet::new(),
            restarts: if dir.is_some() {
                Restarts::Now
            } else {
                Restarts::None
            },
        }
    }

    fn step(&mut self) {
        let index =
            usize::try_from(self.rng.below(u64::try_from(self.devices.len()).unwrap())).unwrap();
        self.devices[index]
            .clock
            .advance(*self.rng.pick(&[0, 0, 1, 900]));
        let kinds = [
            Fault::None,
            Fault::None,
            Fault::None,
            Fault::LostRequest,
            Fault::LostReply,
            Fault::Repeated,
        ];
        let faults = [
            *self.rng.pick(&kinds),
            *self.rng.pick(&kinds),
            *self.rng.pick(&kinds),
        ];
        self.gateway.with_faults(faults);
        let client = &mut self.devices[index].client;
        match self.rng.below(100) {
            0..60 => self.edit(index),
            60..70 => settle(client.push(&self.gateway)),
            70..80 => settle(client.pull(&self.gateway)),
            80..92 => settle(client.sync(&self.gateway)),
            92..96 if self.restarts == Restarts::Now => {
                let device = self.devices.swap_remove(index).restart();
                self.devices.push(device);
            }
            96..98 => self.gateway.replace_log(),
            _ => {}
        }
    }

    fn edit(&mut self, index: usize) {
        let (rng, client) = (&mut self.rng, &mut self.devices[index].client);
        let value = Value::Long(i64::try_from(rng.below(1_000)).unwrap());
        let delta = if rng.below(2) == 0 {
            let code = format!("code {}", rng.below(3));
            let exists = client.rows("stock").unwrap().contains_key(code.as_str());
            match (exists, rng.below(4)) {
                (false, _) => client.insert("stock", &[("code", text(&code)), ("count", value)]),
                (true, 0) => client.delete("stock", &code),
                (true, 1) => {
                    client.update("stock", &code, &[("note", Value::Null), ("count", value)])
                }
                (true, _) => {
                    client.update("stock", &code, &[("note", text(&rng.below(9).to_string()))])
                }
            }
        } else {
            let rows: Vec<String> = client
                .rows("todos")
                .unwrap()
                .into_keys()
                .map(|id| id.to_string())
                .collect();
            match (rows.is_empty(), rng.below(6)) {
                (true, _) | (_, 0) => client.insert("todos", &[]),
                (_, 1) => client.delete("todos", rng.pick::<String>(&rows)),
                (_, 2) => client.update(
                    "todos",
                    rng.pick::<String>(&rows),
                    &[("done", Value::Boolean(true))],
                ),
                (_, _) => client.update(
                    "todos",
                    rng.pick::<String>(&rows),
                    &[("n", value), ("title", text("t"))],
                ),
            }
        };
        let delta = delta.unwrap();
        assert!(self.edits.insert(delta.delta_id), "two edits with one id");
    }

    fn sync_all(&mut self) {
        self.gateway.with_faults([]);
        for _ in 0..2 {
            for device in &mut self.devices {
                device.client.sync(&self.gateway).unwrap();
            }
        }
    }

    /// The merge of everything in the gateway's log, with the key columns as the row id tells them.
    fn merged(&self, table: &TableSchema) -> Plain {
        let mut states: BTreeMap<RowId, RowState> = BTreeMap::new();
        for delta in self
            .gateway
            .log()
            .iter()
            .filter(|delta| delta.table == table.table)
        {
            states.entry(delta.row_id.clone()).or_default().apply(delta);
        }
        let existing = states.into_iter().filter(|(_, state)| state.exists());
        existing
            .map(|(row_id, state)| {
                let written = state
                    .visible_cells()
                    .map(|(column, cell)| (column.to_string(), canonical(&cell.value)));
                let key = table.key_values(&row_id).unwrap();
                let key = key
                    .iter()
                    .map(|(column, value)| (column.to_string(), canonical(value)));
                (row_id.to_string(), written.chain(key).collect())
            })
            .collect()
    }
}

/// Faults of the transport are part of the history; nothing else may fail.
fn settle<T>(result: Result<T, ClientError>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::Retryable, "{error:?}");
    }
}

fn check(seed: u64, dir: Option<&TempDir>) {
    let mut world = World::new(seed, dir);
    for _ in 0..80 {
        world.step();
    }
    world.sync_all();
    let arrived: BTreeSet<DeltaId> = world
        .gateway
        .log()
        .iter()
        .map(|delta| delta.delta_id)
        .collect();
    assert_eq!(
        arrived, world.edits,
        "seed {seed}: every edit arrived, once"
    );
    assert_eq!(
        arrived.len(),
        world.gateway.log().len(),
        "seed {seed}: no delta is in the log twice"
    );
    for (table, body) in [("todos", TODOS), ("stock", STOCK)] {
        let want = world.merged(&schema(body));
        for device in &world.devices {
            assert_eq!(
                device.client.pending().unwrap(),
                0,
                "seed {seed}: {} has sent all",
                device.name
            );
            assert_eq!(
                plain(&device.client, table),
                want,
                "seed {seed}: {} on {table}",
                device.name
            );
        }
    }
}

#[test]
fn clients_in_memory_converge_to_the_merge_of_all_edits() {
    for seed in 0..300 {
        check(seed, None);
    }
}

#[test]
fn clients_that_restart_converge_to_the_merge_of_all_edits() {
    for seed in 1_000..1_030 {
        check(seed, Some(&TempDir::new().unwrap()));
    }
}
