//! Random histories of edits, pushes, losses, refusals, crashes and lost logs.
//!
//! What is checked after each step: every edit is in one place, none is given another stamp that the gateway may have, and
//! the table shows the merge of what pages brought and what is on its way. At the end everything has arrived or is a dead
//! letter, in a bounded number of pushes.

use std::collections::{BTreeMap, BTreeSet};

use lakesync_proto::{
    DeltaId, Epoch, ErrorCode, Hlc, PushAck, RowDelta, RowState, Seq, Value, limits,
};

use super::world::{NOW_MS, World, ack, epoch, refusal, seq};
use crate::outbox::{self, Acknowledged, Batch, Refused};
use crate::transport::Refusal;
use crate::{apply, state};

const ROWS: [&str; 4] = ["a", "b", "c", "forbidden"];
const STEPS: usize = 120;
const HISTORIES: u64 = 40;

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

/// A gateway: its log, and what it will never take.
struct Gateway {
    log: Vec<RowDelta>,
    known: BTreeMap<DeltaId, u64>,
    epoch: Epoch,
    now_ms: u64,
    oldest_ms: u64,
}

impl Gateway {
    fn push(&mut self, batch: &Batch) -> Result<PushAck, Box<Refusal>> {
        for (index, delta) in batch.deltas.iter().enumerate() {
            assert_eq!(delta.delta_id, delta.computed_id());
            let ahead_ms = delta.hlc.wall_ms().saturating_sub(self.now_ms);
            if ahead_ms > limits::DRIFT_MS {
                let mut refused = refusal(409, ErrorCode::ClockDrift, Some(index));
                let details = &mut refused.details;
                details.insert("skewMs".to_owned(), ahead_ms.into());
                return Err(Box::new(refused));
            }
            if delta.row_id.as_str() == "forbidden" {
                return Err(Box::new(refusal(403, ErrorCode::Forbidden, Some(index))));
            }
        }
        let is_late = |delta: &RowDelta| {
            delta.hlc.wall_ms() < self.oldest_ms && !self.known.contains_key(&delta.delta_id)
        };
        if let Some(index) = batch.deltas.iter().position(is_late) {
            let mut refused = refusal(422, ErrorCode::LateDelta, Some(index));
            let oldest = Hlc::new(self.oldest_ms, 0).unwrap().to_string();
            let details = &mut refused.details;
            details.insert("oldestHlc".to_owned(), oldest.into());
            return Err(Box::new(refused));
        }
        let mut seqs = Vec::new();
        for delta in &batch.deltas {
            let next = self.log.len() as u64 + 1;
            let seq = *self.known.entry(delta.delta_id).or_insert(next);
            if seq == next {
                self.log.push(delta.clone());
            }
            seqs.push(seq);
        }
        let mut answer = ack(&seqs);
        answer.epoch = self.epoch.clone();
        Ok(answer)
    }
}

struct History {
    dice: Dice,
    world: World,
    gateway: Gateway,
    /// What pages have brought, by row.
    confirmed: BTreeMap<String, RowState>,
    cursor: usize,
    epochs: u64,
    made: u64,
    discarded: BTreeSet<String>,
    limit: usize,
    /// Each living edit's stamp at the last look.
    stamps: BTreeMap<String, DeltaId>,
}

fn content(delta: &RowDelta) -> String {
    match &delta.columns[0].value {
        Value::String(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

impl History {
    fn new(seed: u64) -> History {
        History {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            world: World::new(),
            gateway: Gateway {
                log: Vec::new(),
                known: BTreeMap::new(),
                epoch: epoch(0),
                now_ms: NOW_MS,
                oldest_ms: 0,
            },
            confirmed: BTreeMap::new(),
            cursor: 0,
            epochs: 0,
            made: 0,
            discarded: BTreeSet::new(),
            limit: 100,
            stamps: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        self.gateway.now_ms += self.dice.below(2_000);
        let behind_or_ahead = [0, 0, 600, 7_000, 3_600_000][self.dice.index(5)];
        self.world.now_ms = match self.dice.below(2) {
            0 => self.gateway.now_ms + behind_or_ahead,
            _ => self.gateway.now_ms - behind_or_ahead,
        };
        match self.dice.below(16) {
            0..=5 => self.edit(),
            6..=10 => self.push(),
            11 | 12 => self.pull(),
            13 => self.restart(),
            14 => self.letters(),
            _ if self.dice.below(8) == 0 => self.lose_log(),
            _ => self.gateway.oldest_ms = self.gateway.now_ms.saturating_sub(1_000_000),
        }
        self.check();
    }

    fn edit(&mut self) {
        let row = ROWS[match self.dice.index(9) {
            0 => 3,
            n => n % 3,
        }];
        let column = ["title", "tag"][self.dice.index(2)];
        let text = format!("{}", self.made);
        self.made += 1;
        self.world.edit(row, column, &text);
    }

    fn push(&mut self) {
        let limit = match self.dice.below(3) {
            0 => 1 + self.dice.index(4),
            _ => self.limit,
        };
        let Some(batch) = self.world.take(limit) else {
            return;
        };
        match self.dice.below(6) {
            // The request is lost.
            0 => self.world.work(|work| outbox::doubt(work, &batch).unwrap()),
            // The reply is lost.
            1 => {
                let _ = self.gateway.push(&batch);
                self.world.work(|work| outbox::doubt(work, &batch).unwrap());
            }
            // The program ends before it hears the reply.
            2 => {
                let _ = self.gateway.push(&batch);
            }
            3 => {
                let busy = refusal(503, ErrorCode::BackpressureError, None);
                let refused = self.world.work(|work| outbox::refuse(work, &batch, &busy));
                assert_eq!(refused.unwrap(), Refused::Whole);
            }
            _ => self.exchange(&batch),
        }
    }

    fn exchange(&mut self, batch: &Batch) {
        match self.gateway.push(batch) {
            Ok(answer) => {
                let whose = self
                    .world
                    .work(|work| outbox::acknowledge(work, batch, &answer).unwrap());
                self.limit = 100;
                if whose == Acknowledged::OtherLog {
                    self.start_over();
                }
            }
            Err(mut refusal) => {
                if self.dice.below(4) == 0 && refusal.code != ErrorCode::ClockDrift.as_str() {
                    refusal.index = None;
                    refusal.status = 422;
                }
                let refused = self
                    .world
                    .work(|work| outbox::refuse(work, batch, &refusal));
                if let Refused::Split { limit } = refused.unwrap() {
                    self.limit = limit;
                }
            }
        }
    }

    fn pull(&mut self) {
        if self.world.work(|work| state::epoch(work.tx).unwrap())
            != Some(self.gateway.epoch.clone())
        {
            return self.start_over();
        }
        let limit = 1 + self.dice.index(8);
        let until = (self.cursor + limit).min(self.gateway.log.len());
        let page: Vec<RowDelta> = self.gateway.log[self.cursor..until].to_vec();
        for delta in page {
            // Row c is hidden by the rules.
            if delta.row_id.as_str() != "c" {
                self.deliver(&delta);
            }
        }
        self.cursor = until;
        self.world.cursor(seq(until as u64));
        if self.dice.below(4) == 0 {
            let durable = Seq::from_u64(self.dice.below(until as u64 + 1)).unwrap();
            self.world
                .work(|work| outbox::forget(work, durable).unwrap());
        }
    }

    fn deliver(&mut self, delta: &RowDelta) {
        self.world.confirm(delta);
        let row = self.confirmed.entry(delta.row_id.to_string()).or_default();
        row.apply(delta);
    }

    fn restart(&mut self) {
        self.world.work(|work| outbox::recover(work).unwrap());
    }

    fn letters(&mut self) {
        let letters: Vec<i64> = (self.world.states().iter())
            .filter(|(_, state, _)| *state == 4)
            .map(|(entry, ..)| *entry)
            .collect();
        let Some(entry) = letters.first().copied() else {
            return;
        };
        match self.dice.below(3) {
            0 => {
                let gone = (self.world.entries().iter())
                    .find(|found| found.entry == entry)
                    .map(|found| content(found.delta.as_ref().unwrap()));
                self.discarded.extend(gone);
                self.world
                    .work(|work| outbox::dead::discard(work, entry).unwrap());
            }
            1 => self
                .world
                .work(|work| outbox::dead::retry(work, entry).unwrap()),
            _ => {
                self.world
                    .work(|work| outbox::dead::retry_all_too_late(work).unwrap());
            }
        }
    }

    /// The gateway's disk is lost; a copy of some of it may be left.
    fn lose_log(&mut self) {
        self.epochs += 1;
        self.gateway.epoch = epoch(self.epochs);
        let left = self.dice.index(self.gateway.log.len() + 1);
        self.gateway.log.truncate(left);
        self.gateway.known = (self.gateway.log.iter().zip(1..))
            .map(|(delta, seq)| (delta.delta_id, seq))
            .collect();
    }

    /// What a session does that hears of another epoch: everything confirmed is what the new log says.
    fn start_over(&mut self) {
        let epoch = self.gateway.epoch.clone();
        self.world.work(|work| {
            if state::epoch(work.tx).unwrap() != Some(epoch.clone()) {
                apply::start_over(work, &epoch).unwrap();
            }
        });
        self.confirmed.clear();
        self.cursor = 0;
        self.world.forget_confirmed(&ROWS);
    }

    fn check(&mut self) {
        let entries = self.world.entries();
        let mut stamps = BTreeMap::new();
        let mut rows: BTreeMap<String, RowState> = self.confirmed.clone();
        for entry in &entries {
            let delta = entry.delta.as_ref().unwrap();
            let is_new = stamps.insert(content(delta), delta.delta_id).is_none();
            assert!(is_new, "{} is there twice", content(delta));
            if entry.state <= 2 {
                let row = rows.entry(delta.row_id.to_string()).or_default();
                row.apply(delta);
            }
            if entry.state == 4 {
                assert!(!entry.doubt);
            }
        }
        for (text, before) in &self.stamps {
            match stamps.get(text) {
                Some(after) if after == before => {}
                Some(_) => assert!(
                    !self.gateway.known.contains_key(before),
                    "{text} was taken and stamped anew"
                ),
                None => assert!(
                    self.gateway.known.contains_key(before) || self.discarded.contains(text),
                    "{text} is lost"
                ),
            }
        }
        for row in ROWS {
            for column in ["title", "tag"] {
                let name = lakesync_proto::ColumnName::parse(column).unwrap();
                let expected = rows.get(row).and_then(|row| row.visible(&name));
                let shown = self.world.shown(row, column).map(Value::from);
                assert_eq!(shown.as_ref(), expected, "{column} of {row}");
            }
        }
        self.stamps = stamps;
    }

    /// A gateway that answers everything.
    fn heal(&mut self) {
        self.world.now_ms = self.gateway.now_ms;
        self.restart();
        let mut pushes = 0;
        while let Some(batch) = self.world.take(self.limit) {
            pushes += 1;
            assert!(pushes < 4 * STEPS, "the outbox drains");
            self.exchange(&batch);
            self.check();
        }
        while self.cursor < self.gateway.log.len() {
            self.pull();
            self.check();
        }
        // A log that was lost may be noticed only now.
        if self.world.states().iter().any(|(_, state, _)| *state == 0) {
            return self.heal();
        }
        for entry in self.world.entries() {
            let delta = entry.delta.unwrap();
            match entry.state {
                3 => assert!(self.gateway.known.contains_key(&delta.delta_id)),
                state => assert_eq!(state, 4, "{delta:?}"),
            }
        }
    }
}

#[test]
fn no_edit_is_lost_or_stamped_anew_in_doubt_and_the_outbox_drains() {
    for seed in 1..=HISTORIES {
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            history.step();
        }
        history.heal();
    }
}
