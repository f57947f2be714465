//! How the writer goes from one version of the rules to the next.
//!
//! ```text
//!   Begin ─► pushes keep rows of both versions ─► Merge × n (what a scan of the tables found) ─► Activate
//!               seq S0                                                                        seq A
//! ```
//! A scan that begins after S0 sees every delta up to it, and pushes bring the rest; merging is the same in any order,
//! so at A the pending rows are those of all deltas.
//!
//! **Invariant:** the rules in force change in one commit, between two groups of pushes: deltas up to `since` have
//! memberships of older rules or none, all above it of the new ones.

use std::sync::Arc;

use lakesync_proto::{Epoch, ErrorCode, RowId, RowState, Schemas, Seq, TableName};

use super::audience::Audience;
use super::compiled::Rules;
use super::definition::RuleSet;
use super::ledger::{Ruling, stored_row};
use super::rows::RuleRow;
use crate::durable::AppendError;
use crate::error::{Error, Refusal, Result};
use crate::pressure::rolled_back;
use crate::writer::Writer;

/// The key of `meta` with the rules in force, as JSON.
pub(crate) const RULES: &str = "rules";
/// The key of `meta` with the seq that they came into force at.
pub(crate) const SINCE: &str = "rules_since";
/// The key of `meta` with the epoch that their rows were made in.
pub(crate) const EPOCH: &str = "rules_epoch";
/// The key of `meta` with a hash of what their rows depend on: the tables may have changed while the process was down.
pub(crate) const FIT: &str = "rules_fit";
/// The key of `meta` with the rules before, as a JSON array.
pub(crate) const PAST: &str = "rules_past";
/// The field of a refusal that says that the rules have just changed.
const CHANGED: &str = "rulesChanged";
/// How many past rules are kept: a client that is further behind loads all tables again.
const PAST_MAX: usize = 8;

/// A step towards other rules.
#[derive(Debug)]
pub(crate) enum RulesTask {
    /// Keep rows for these rules too, which are to come into force.
    Begin(Arc<Rules>),
    /// Add what a scan found to the pending rows of a table.
    Merge(TableName, Vec<(RowId, RowState)>),
    /// Put the pending rules in force, durably.
    Activate(Epoch),
    /// Keep no pending rows any more.
    Abandon,
    /// Put rules in force that were so before the process began.
    Restore(Ruling),
    /// Exchange the rules in force, or pending, by the same ones compiled for other tables.
    Recompiled(Arc<Rules>),
    /// Forget up to so many rows of versions that are neither in force nor pending.
    Forget(usize),
}

impl Writer {
    pub(crate) fn rule(&mut self, task: RulesTask) -> Result<usize> {
        self.check_open()?;
        match task {
            RulesTask::Begin(rules) => self.ledger.pending = Some(rules),
            RulesTask::Merge(table, rows) => return self.merge(&table, rows),
            RulesTask::Activate(epoch) => self.activate(&epoch)?,
            RulesTask::Abandon => self.ledger.pending = None,
            RulesTask::Restore(ruling) => self.ledger.publish(ruling),
            RulesTask::Recompiled(rules) => self.exchange(rules)?,
            RulesTask::Forget(limit) => {
                let pending = self.ledger.pending.iter().map(|rules| rules.version());
                let keep: Vec<u64> = pending.chain([self.ledger.current.version()]).collect();
                return self.log.forget_rule_rows(&keep, limit);
            }
        }
        Ok(0)
    }

    fn merge(&mut self, table: &TableName, rows: Vec<(RowId, RowState)>) -> Result<usize> {
        let version = self.pending()?.version();
        let schemas: &dyn Schemas = self.live.as_ref();
        let mut merged = Vec::with_capacity(rows.len());
        for (row_id, found) in rows {
            let key = (table.clone(), row_id);
            let mut row = stored_row(&self.log, schemas, version, &key)?.unwrap_or_default();
            row.step(|state| state.merge(found));
            merged.push(RuleRow::of(version, key, &row));
        }
        match self.log.set_rules(&merged, &[]) {
            Ok(()) => Ok(merged.len()),
            // Pending rows may be written twice: merging is idempotent.
            Err(AppendError::RolledBack(error) | AppendError::Unknown(error)) => {
                Err(rolled_back(&self.gateway, &error))
            }
        }
    }

    fn activate(&mut self, epoch: &Epoch) -> Result<()> {
        let rules = self.pending()?;
        let held = Arc::clone(&self.ledger.published.borrow());
        let mut past = held.past.clone();
        past.extend(held.rules.definition().cloned());
        if refits(&rules, &held.rules) {
            // Whoever saw by these buckets before saw other rows by them, and the past ones do not tell which.
            past.clear();
        }
        past.drain(..past.len().saturating_sub(PAST_MAX));
        let json = rules.definition().map(RuleSet::to_json).unwrap_or_default();
        let past_json = serde_json::to_string(&past).expect("rules are plain JSON");
        let (since, fit) = (self.seq.to_string(), rules.fit());
        let meta = [
            (RULES, json.as_str()),
            (SINCE, since.as_str()),
            (EPOCH, epoch.as_ref()),
            (PAST, past_json.as_str()),
            (FIT, fit.as_str()),
        ];
        match self.log.set_rules(&[], &meta) {
            Ok(()) => {}
            Err(AppendError::RolledBack(error)) => return Err(rolled_back(&self.gateway, &error)),
            Err(AppendError::Unknown(error)) => {
                // Deltas that follow would have memberships of rules that may be gone on disk.
                self.poisoned = Some(format!(
                    "the commit of its sync rules failed ({error}), so which ones are on disk is unknown; check the \
                     disk, then restart the server"
                ));
                return self.check_open();
            }
        }
        self.ledger.pending = None;
        self.ledger.publish(Ruling {
            rules,
            since: self.seq,
            past,
        });
        Ok(())
    }

    fn exchange(&mut self, rules: Arc<Rules>) -> Result<()> {
        self.log.set_meta(FIT, &rules.fit())?;
        let held = Arc::clone(&self.ledger.published.borrow());
        self.ledger.publish(Ruling {
            rules,
            since: held.since,
            past: held.past.clone(),
        });
        Ok(())
    }

    fn pending(&self) -> Result<Arc<Rules>> {
        let pending = self.ledger.pending.as_ref().map(Arc::clone);
        pending.ok_or_else(|| Error::Maintenance {
            gateway: self.gateway.clone(),
            reason: "the change of the rules was given up".to_owned(),
        })
    }
}

/// Whether `rules` say what `before` said, and mean something else: the tables changed.
fn refits(rules: &Rules, before: &Rules) -> bool {
    let buckets = |rules: &Rules| rules.definition().map(|set| set.buckets.clone());
    buckets(rules) == buckets(before) && !rules.keeps_rows_of(before)
}

impl Ruling {
    /// The ruling that `meta` tells of; none when it tells of none.
    pub(crate) fn read(
        meta: impl Fn(&'static str) -> Result<Option<String>>,
        compile: impl Fn(RuleSet) -> Result<Rules, Refusal>,
    ) -> Result<Option<Self>> {
        let Some(json) = meta(RULES)? else {
            return Ok(None);
        };
        let rules = compile(RuleSet::from_json(json.as_bytes())?)?;
        let since = meta(SINCE)?.and_then(|text| text.parse::<Seq>().ok());
        let past = meta(PAST)?.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Some(Self {
            rules: Arc::new(rules),
            // Without it nothing below what is there now can be filtered.
            since: since.unwrap_or(Seq::MAX),
            past: past.unwrap_or_default(),
        }))
    }
}

/// The refusal of what was asked under rules that have just changed.
pub(crate) fn rules_changed() -> Refusal {
    Refusal::new(
        ErrorCode::BackpressureError,
        "the sync rules changed in this moment; send the same request again",
    )
    .with(CHANGED, true)
}

/// Refuses an audience that the rules in force, of version `now`, are to bind otherwise.
pub(crate) fn check_in_force(audience: &Audience, now: u64) -> Result<(), Refusal> {
    match audience.is_free() || audience.rules() == now {
        true => Ok(()),
        false => Err(rules_changed()),
    }
}

/// Whether an error says that the rules have just changed.
pub(crate) fn is_rules_changed(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.details.contains_key(CHANGED))
}
