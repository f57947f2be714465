//! Random histories of own edits, pages, withdrawals, answers and checkpoints, against the slowest model there is: all
//! that was heard of each row, merged anew at every step.

use std::collections::BTreeMap;

use lakesync_proto::{
    ClientId, ColumnName, DeltaKey, ErrorCode, Hlc, Op, Outcome, PullPage, PushAck, RowDelta,
    RowState, Seq, Value,
};

use super::gateway::{Gateway, Row};
use super::world::{Edit, STOCK, Shown, TODOS, World, changes, epoch, page, row_id, table_name};
use crate::apply;
use crate::dice::Dice;
use crate::digest::TableDigest;
use crate::outbox::{self, Batch};
use crate::rows::RowImage;
use crate::state;
use crate::transport::Refusal;

const SEEDS: u64 = 20;
const STEPS: u64 = 150;

/// What the client has heard of one row, in order; none forgets all before.
type Heard = Vec<Option<RowDelta>>;

struct History {
    rng: Dice,
    world: World,
    gateway: Gateway,
    heard: BTreeMap<Row, Heard>,
    /// Own edits, and the seq of those that were acknowledged.
    own: Vec<(RowDelta, Option<Seq>)>,
    cursor: Seq,
    rows: Vec<Row>,
    /// Few write, so that rows settle.
    calm: bool,
}

fn rows() -> Vec<Row> {
    let todos = (1..5).map(|n| (table_name("todos"), row_id(&format!("r{n}"))));
    let stock = (1..4).map(|n| {
        (
            table_name("stock"),
            row_id(&format!("[\"c{}\",{n}]", n % 2)),
        )
    });
    todos.chain(stock).collect()
}

impl History {
    fn new(seed: u64) -> History {
        History {
            rng: Dice(seed),
            world: World::new(&[TODOS, STOCK]),
            gateway: Gateway::default(),
            heard: BTreeMap::new(),
            own: Vec::new(),
            cursor: Seq::ZERO,
            rows: rows(),
            calm: seed % 2 == 1,
        }
    }

    fn step(&mut self) {
        self.world.now_ms += self.rng.below(500);
        let mut what = self.rng.below(20);
        if self.calm && what < 10 && !self.rng.one_in(4) {
            what += 6;
        }
        match what {
            0..=5 => self.edit(),
            6..=9 => self.others_write(),
            10 => {
                let row = self.rng.pick(&self.rows).clone();
                self.gateway.hide(row);
            }
            11 => {
                let row = self.rng.pick(&self.rows).clone();
                self.gateway.show(&row);
            }
            12 => {
                let wall_ms = self.world.now_ms - 800;
                self.gateway.floor = self.gateway.floor.max(Hlc::new(wall_ms, 0).unwrap());
            }
            13 => self.push(),
            14 | 15 if self.rng.one_in(2) => self.load_checkpoint(),
            _ => {
                let limit = 1 + self.rng.below(12);
                self.pull(limit);
            }
        }
        self.check();
    }

    /// Columns that somebody writes: some of them, with explicit nulls.
    fn cells(&mut self, row: &Row, op: Op) -> Vec<(&'static str, Value)> {
        let mut cells = Vec::new();
        if row.0 == "todos" {
            let n = i64::try_from(self.rng.below(3)).unwrap();
            cells.push(("title", Value::from(format!("t{n}").as_str())));
            cells.push(("done", Value::Boolean(n == 1)));
            cells.push(("n", Value::Long(n)));
        } else {
            let n = i64::try_from(self.rng.below(3)).unwrap();
            cells.push(("count", Value::Long(n)));
            cells.push(("at", Value::Timestamp(n)));
        }
        cells.retain(|_| !self.rng.one_in(3));
        for (_, value) in &mut cells {
            if self.rng.one_in(4) {
                *value = Value::Null;
            }
        }
        let table = self.world.table(&row.0);
        if op == Op::Insert && !table.schema.primary_key.is_empty() {
            for (name, value) in table.schema.key_values(&row.1).unwrap() {
                let name = if name == "code" { "code" } else { "place" };
                cells.push((name, value));
            }
        }
        cells
    }

    fn others_write(&mut self) {
        let row = self.rng.pick(&self.rows).clone();
        let op = *self
            .rng
            .pick(&[Op::Insert, Op::Update, Op::Update, Op::Delete]);
        let cells = if op == Op::Delete {
            Vec::new()
        } else {
            self.cells(&row, op)
        };
        // Around now, late, or of a clock that is far ahead.
        let wall_ms = match self.rng.below(12) {
            0 => self.world.now_ms + 600_000,
            n => self.world.now_ms.saturating_sub(n * 200),
        };
        let key = DeltaKey {
            table: row.0,
            row_id: row.1,
            client_id: ClientId::parse(self.rng.pick::<&str>(&["ann", "zoe"])).unwrap(),
            hlc: Hlc::new(wall_ms, u16::try_from(self.gateway.log.len()).unwrap()).unwrap(),
        };
        self.gateway
            .accept(&RowDelta::new(op, key, changes(&cells)));
    }

    fn edit(&mut self) {
        let mut there: Shown = self.world.shown();
        let mut edits = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let row = self.rng.pick(&self.rows).clone();
            let exists = there.contains_key(&row);
            let op = match (exists, self.rng.one_in(4)) {
                (false, _) => Op::Insert,
                (true, true) => Op::Delete,
                (true, false) => Op::Update,
            };
            let cells = if op == Op::Delete {
                Vec::new()
            } else {
                self.cells(&row, op)
            };
            if op == Op::Update && cells.is_empty() {
                continue;
            }
            if op == Op::Delete {
                there.remove(&row);
            } else {
                there.entry(row.clone()).or_default();
            }
            let (table, row_id) = row;
            edits.push(Edit {
                op,
                table,
                row_id,
                columns: changes(&cells),
            });
        }
        let deltas = self.world.edit(&edits);
        self.own
            .extend(deltas.into_iter().map(|delta| (delta, None)));
    }

    fn push(&mut self) {
        let limit = 1 + usize::try_from(self.rng.below(4)).unwrap();
        let Some(batch) = self.world.keep(|work| outbox::take(work, limit)).unwrap() else {
            return;
        };
        let late = batch.deltas.iter().position(|delta| {
            let known = self.seq_of(delta);
            known.is_none() && delta.hlc < self.gateway.floor
        });
        match (late, self.rng.below(6)) {
            (Some(index), _) => self.refuse(&batch, index, ErrorCode::LateDelta),
            (None, 0) => self.refuse_any(&batch),
            // Lost before the gateway, or behind it.
            (None, 1) => self.world.keep(|work| outbox::doubt(work, &batch)).unwrap(),
            (None, 2) => {
                self.accepted(&batch);
                self.world.keep(|work| outbox::doubt(work, &batch)).unwrap();
            }
            (None, _) => self.acknowledge(&batch),
        }
    }

    fn seq_of(&self, delta: &RowDelta) -> Option<Seq> {
        let own = self
            .own
            .iter()
            .find(|(own, _)| own.delta_id == delta.delta_id);
        own.and_then(|(_, seq)| *seq)
    }

    fn refuse_any(&mut self, batch: &Batch) {
        let index = usize::try_from(self.rng.below(u64::try_from(batch.deltas.len()).unwrap()));
        let index = index.unwrap();
        if self.seq_of(&batch.deltas[index]).is_none() {
            self.refuse(batch, index, ErrorCode::Forbidden);
        } else {
            self.acknowledge(batch);
        }
    }

    fn refuse(&mut self, batch: &Batch, index: usize, code: ErrorCode) {
        let refusal = Refusal {
            status: 403,
            code: code.as_str().to_owned(),
            message: "no".to_owned(),
            index: Some(index),
            request_id: None,
            retry_after: None,
            details: serde_json::Map::new(),
        };
        self.world
            .keep(|work| outbox::refuse(work, batch, &refusal))
            .unwrap();
        // An answer may refuse others too: what is left in the outbox is what the client still shows.
        let left = self.uncovered();
        self.own.retain(|(own, _)| left.contains(&own.delta_id));
    }

    fn uncovered(&mut self) -> Vec<lakesync_proto::DeltaId> {
        let images = self.world.images(&self.rows);
        let pending = images.into_iter().flat_map(|image| image.pending);
        pending.map(|delta| delta.delta_id).collect()
    }

    fn accepted(&mut self, batch: &Batch) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for delta in &batch.deltas {
            let place = self
                .own
                .iter()
                .position(|(own, _)| own.delta_id == delta.delta_id);
            let place = place.unwrap();
            outcomes.push(match self.own[place].1 {
                Some(seq) => Outcome::Duplicate(seq),
                None => {
                    let seq = self
                        .gateway
                        .accept(delta)
                        .expect("it was asked whether it is late");
                    self.own[place].1 = Some(seq);
                    Outcome::Accepted(seq)
                }
            });
        }
        outcomes
    }

    fn acknowledge(&mut self, batch: &Batch) {
        let outcomes = self.accepted(batch);
        let ack = PushAck {
            accepted: u32::try_from(outcomes.len()).unwrap(),
            cursor: Seq::ZERO,
            outcomes,
            ignored: BTreeMap::new(),
            epoch: epoch(),
            notes: lakesync_proto::Notes::default(),
        };
        self.world
            .keep(|work| outbox::acknowledge(work, batch, &ack))
            .unwrap();
        self.cover();
    }

    /// Acknowledged edits that the cursor has passed are no own edits any more. One in doubt stays until its answer.
    fn cover(&mut self) {
        let left = self.uncovered();
        for (own, seq) in std::mem::take(&mut self.own) {
            let passed = seq.is_some_and(|seq| seq <= self.cursor);
            assert!(
                passed || left.contains(&own.delta_id),
                "an edit was lost: {own:?}"
            );
            if left.contains(&own.delta_id) {
                self.own.push((own, seq));
            }
        }
    }

    fn pull(&mut self, limit: u64) {
        let page = self.gateway.page(&mut self.rng, self.cursor, limit);
        let since = self.world.keep(|work| state::cursor(work.tx)).unwrap();
        let since = since.unwrap_or_default();
        let before = self.world.shown();
        let applied = self
            .world
            .keep(|work| apply::page(work, &since, &page, &[]))
            .unwrap();
        assert!(!applied.stale && !applied.other_log);
        self.hear(&page);
        self.cursor = page.cursor;
        self.told(&before);
        self.cover();
        let again = self
            .world
            .keep(|work| apply::page(work, "another", &page, &[]));
        assert!(again.unwrap().stale);
    }

    /// Notes what a page says, in the order of its seqs.
    fn hear(&mut self, page: &PullPage) {
        let deltas = page.deltas.iter().map(|d| {
            let row = (d.delta.table.clone(), d.delta.row_id.clone());
            (d.seq, row, Some(d.delta.clone()))
        });
        let removed = page.removed.iter();
        let removed = removed.map(|r| (r.seq, (r.table.clone(), r.row_id.clone()), None));
        let mut all: Vec<_> = removed.chain(deltas).collect();
        all.sort_by_key(|(seq, ..)| *seq);
        for (_, row, what) in all {
            self.heard.entry(row).or_default().push(what);
        }
    }

    /// A whole checkpoint, begun anew at random, with own edits in between.
    fn load_checkpoint(&mut self) {
        let size = 1 + usize::try_from(self.rng.below(5)).unwrap();
        let mut chunks = self.gateway.checkpoint(size);
        if chunks.len() > 1 && self.rng.one_in(3) {
            // A chunk comes twice: the download broke off behind its commit.
            let twice = chunks[0].clone();
            chunks.insert(0, twice);
        }
        self.begin();
        if self.rng.one_in(4) {
            let begun = self.rng.below(u64::try_from(chunks.len()).unwrap());
            for chunk in &chunks[..usize::try_from(begun).unwrap()] {
                self.world
                    .keep(|work| apply::chunk(work, chunk, &[]))
                    .unwrap();
            }
            self.begin();
        }
        let mut brought: BTreeMap<Row, Heard> = BTreeMap::new();
        for chunk in &chunks {
            if self.rng.one_in(3) {
                self.edit();
            }
            assert!(
                self.apply(&page(&[], &[], 1)).stale,
                "no pages while it is loaded"
            );
            let before = self.world.shown();
            let applied = self
                .world
                .keep(|work| apply::chunk(work, chunk, &[]))
                .unwrap();
            assert!(!applied.stale);
            for delta in &chunk.deltas {
                let row = (delta.delta.table.clone(), delta.delta.row_id.clone());
                brought
                    .entry(row)
                    .or_default()
                    .push(Some(delta.delta.clone()));
            }
            self.told(&before);
        }
        assert_eq!(apply::loading(&self.world.connection).unwrap(), None);
        self.heard = brought;
        self.cursor = self.gateway.end();
        self.cover();
    }

    fn begin(&mut self) {
        self.world
            .keep(|work| apply::begin_checkpoint(work, &[], None))
            .unwrap();
    }

    fn apply(&mut self, page: &PullPage) -> apply::Applied {
        let since = self.world.keep(|work| state::cursor(work.tx)).unwrap();
        let since = since.unwrap_or_default();
        self.world
            .keep(|work| apply::page(work, &since, page, &[]))
            .unwrap()
    }

    /// Exactly the rows were told whose visible values changed.
    fn told(&self, before: &Shown) {
        let after = self.world.shown();
        let changed = before
            .iter()
            .filter(|(row, cells)| after.get(*row) != Some(cells));
        let added = after.iter().filter(|(row, _)| !before.contains_key(*row));
        let expected = changed.chain(added).map(|(row, _)| row.clone()).collect();
        assert_eq!(self.world.told(), expected);
    }

    fn check(&mut self) {
        let shown = self.world.shown();
        let images = self.world.images(&self.rows);
        for (row, image) in self.rows.iter().zip(&images) {
            let mut confirmed = RowState::default();
            for heard in self.heard.get(row).into_iter().flatten() {
                match heard {
                    Some(delta) => confirmed.apply(delta),
                    None => confirmed = RowState::default(),
                }
            }
            assert_eq!(normal(&image.confirmed), normal(&confirmed), "{row:?}");
            let own = self.own.iter().map(|(delta, _)| delta);
            let own: Vec<RowDelta> = own
                .filter(|delta| (&delta.table, &delta.row_id) == (&row.0, &row.1))
                .cloned()
                .collect();
            assert_eq!(image.pending, own, "{row:?}");
            let mut visible = confirmed;
            own.iter().for_each(|delta| visible.apply(delta));
            let expected = visible.exists().then(|| self.values(row, &visible));
            assert_eq!(shown.get(row), expected.as_ref(), "{row:?}");
            if own.is_empty() {
                self.check_beside(row, &image.confirmed);
            }
        }
        self.check_digest(&images);
    }

    fn values(&self, row: &Row, state: &RowState) -> BTreeMap<ColumnName, Value> {
        let table = self.world.table(&row.0);
        let cells = state.visible_cells();
        let cells = cells.map(|(name, cell)| (name.clone(), cell.value.clone()));
        let key = table.schema.key_values(&row.1).unwrap();
        let all = cells.chain(key).filter(|(_, value)| *value != Value::Null);
        all.collect()
    }

    /// Nothing is kept beside a row that needs nothing.
    fn check_beside(&self, row: &Row, confirmed: &RowState) {
        let table = self.world.table(&row.0).number;
        let count = |from: &str| {
            self.world.count(&format!(
                "SELECT count(*) FROM {from} WHERE table_number = {table} AND row_id = '{}'",
                row.1
            ))
        };
        assert_eq!(count("_lakesync_confirmed"), 0, "{row:?}");
        let stamps = confirmed.cells.values().map(|cell| &cell.stamp);
        let mut stamps = stamps.chain(&confirmed.written).chain(&confirmed.deleted);
        let clocks = stamps.any(|stamp| !stamp.is_settled());
        assert_eq!(
            count("_lakesync_rows"),
            i64::from(clocks),
            "{row:?} {confirmed:?}"
        );
    }

    /// The digest is that of what was heard.
    fn check_digest(&mut self, images: &[RowImage]) {
        let rows = self.rows.iter().zip(images);
        let rows = rows.filter(|(_, image)| image.confirmed.exists());
        let rows: Vec<_> = rows
            .map(|(row, image)| (row, self.values(row, &image.confirmed)))
            .collect();
        let tables = self
            .world
            .keep(|work| crate::digest::of_tables(work))
            .unwrap();
        for TableDigest {
            table,
            rows: count,
            cells,
            hash,
        } in tables
        {
            let of_table = rows.iter().filter(|((name, _), _)| *name == table);
            let all = of_table.clone().flat_map(|((_, row_id), values)| {
                values
                    .iter()
                    .map(|(name, value)| lakesync_proto::cell_digest(&table, row_id, name, value))
            });
            let (all, of_table): (Vec<u64>, u64) =
                (all.collect(), u64::try_from(of_table.count()).unwrap());
            assert_eq!(
                (count, cells),
                (of_table, u64::try_from(all.len()).unwrap())
            );
            assert_eq!(hash, all.into_iter().fold(0, u64::wrapping_add));
        }
    }

    /// Pushes and pulls everything: then the client shows what the gateway lets it see.
    fn heal(&mut self) {
        for _ in 0..10_000 {
            let Some(batch) = self.world.keep(|work| outbox::take(work, 10)).unwrap() else {
                break;
            };
            let late = |delta: &RowDelta| delta.hlc < self.gateway.floor;
            let late = batch
                .deltas
                .iter()
                .position(|delta| self.seq_of(delta).is_none() && late(delta));
            match late {
                Some(index) => self.refuse(&batch, index, ErrorCode::LateDelta),
                None => self.acknowledge(&batch),
            }
        }
        while self.cursor < self.gateway.end() {
            self.pull(7);
            self.check();
        }
        assert!(self.own.is_empty(), "{:?}", self.own);
        let mut expected = self.gateway.seen();
        for (row, cells) in &mut expected {
            let table = self.world.table(&row.0);
            cells.extend(table.schema.key_values(&row.1).unwrap());
        }
        assert_eq!(self.world.shown(), expected);
    }
}

/// A state without what no reader can tell: what a delete covers, settled nulls, key columns.
fn normal(state: &RowState) -> RowState {
    let mut normal = RowState {
        written: state.written.clone().filter(|_| state.exists()),
        deleted: state.deleted.clone(),
        ..RowState::default()
    };
    for (name, cell) in state.visible_cells() {
        let key = name == "code" || name == "place";
        let nothing = cell.stamp.is_settled() && cell.value == Value::Null;
        if !key && !nothing {
            normal.cells.insert(name.clone(), cell.clone());
        }
    }
    normal
}

#[test]
fn every_history_leaves_what_the_merge_of_all_that_was_heard_shows() {
    let seeds = std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            history.step();
        }
        history.heal();
    }
}
