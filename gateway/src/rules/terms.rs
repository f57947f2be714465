//! All alternatives of all buckets, by table, and what decides them.
//!
//! **Invariant:** a term's number depends on what its bucket says and on its table alone, so a membership that was
//! stored before a restart or a change of a schema still names what it named.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lakesync_proto::{ColumnName, TableName, TableSchema};
use lakesync_providers::predicate::{ListOrder, Predicate, Term, claims_in};
use sha2::{Digest, Sha256};

use super::definition::{Bucket, RuleSet, in_bucket};
use super::membership::{KeyHash, TermId};
use crate::error::Refusal;

/// One alternative of one bucket, for one table.
#[derive(Debug)]
pub(super) struct RuleTerm {
    pub(super) id: TermId,
    /// The bucket's place in the set.
    pub(super) bucket: usize,
    /// Whether it may be written.
    pub(super) write: bool,
    predicate: Arc<Predicate>,
    alternative: usize,
}

impl RuleTerm {
    pub(super) fn term(&self) -> &Term {
        &self.predicate.terms()[self.alternative]
    }
}

/// The terms of one table.
#[derive(Debug, Default)]
pub(super) struct TableTerms {
    /// What it was compiled for.
    pub(super) schema: Option<Arc<TableSchema>>,
    /// The columns that decide who sees a row.
    pub(super) columns: Vec<ColumnName>,
    /// The claims that decide it.
    pub(super) claims: BTreeMap<String, ListOrder>,
    pub(super) terms: Vec<Arc<RuleTerm>>,
}

impl TableTerms {
    /// What has to be known of a row, and what its membership is made of.
    pub(super) fn asks(&self) -> (BTreeSet<&ColumnName>, BTreeSet<TermId>) {
        let terms = self.terms.iter().map(|term| term.id);
        (self.columns.iter().collect(), terms.collect())
    }
}

/// The terms of all tables.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) tables: BTreeMap<TableName, TableTerms>,
    /// All claims that the rules look at, in tables that are not there yet as well: so a new table changes no
    /// audience.
    pub(super) claims: BTreeMap<String, ListOrder>,
    pub(super) register: Arc<Register>,
}

/// The terms by number, for audiences: they outlive a change of the schema and find the terms of new tables.
#[derive(Debug, Default)]
pub(super) struct Register {
    by_id: RwLock<HashMap<TermId, Arc<RuleTerm>>>,
    /// How often a condition was evaluated for a row.
    pub(super) evaluations: AtomicU64,
    /// How many audiences were made.
    pub(super) audiences: AtomicU64,
    /// What conditions on values have said, to all audiences.
    decisions: Mutex<HashMap<KeyHash, bool>>,
}

/// The most decisions on values that are kept for all audiences together, about 40 bytes each, so 40 MiB; then they are
/// made anew.
const DECISIONS_MAX: usize = 1_000_000;

impl Register {
    pub(super) fn get(&self, id: TermId) -> Option<Arc<RuleTerm>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.get(&id).cloned()
    }

    /// What was decided; the key names the audience, the term and the values.
    pub(super) fn decided(&self, key: &KeyHash) -> Option<bool> {
        let decisions = self.decisions.lock();
        let decisions = decisions.unwrap_or_else(PoisonError::into_inner);
        decisions.get(key).copied()
    }

    pub(super) fn decide(&self, key: KeyHash, holds: bool) {
        let decisions = self.decisions.lock();
        let mut decisions = decisions.unwrap_or_else(PoisonError::into_inner);
        if decisions.len() >= DECISIONS_MAX {
            decisions.clear();
        }
        decisions.insert(key, holds);
    }

    fn put(&self, term: &Arc<RuleTerm>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(term.id, Arc::clone(term));
    }

    /// Whether `terms` have all that is here, over columns of the same types.
    fn is_within(&self, terms: &Terms) -> bool {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.iter().all(|(id, term)| {
            let now = terms.register.get(*id);
            now.is_some_and(|now| now.predicate.fields().eq(term.predicate.fields()))
        })
    }
}

/// What a bucket that names a table and does not fit it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The rules are refused.
    Refused,
    /// It holds nothing of the table, and that is said.
    Noted,
}

impl Terms {
    /// Compiles the buckets for the tables; the texts name what does not fit.
    pub(super) fn compile(
        set: &RuleSet,
        schemas: &[Arc<TableSchema>],
        misfit: Misfit,
    ) -> Result<(Self, Vec<String>), Refusal> {
        let (mut terms, mut faults) = (Self::default(), Vec::new());
        set.buckets
            .iter()
            .for_each(|bucket| terms.name_claims(bucket));
        for schema in schemas {
            let table = TableTerms {
                schema: Some(Arc::clone(schema)),
                ..TableTerms::default()
            };
            terms.tables.insert(schema.table.clone(), table);
        }
        for (index, bucket) in set.buckets.iter().enumerate() {
            let (mut fitting, mut refused) = (0, Vec::new());
            for schema in schemas.iter().filter(|schema| bucket.names(&schema.table)) {
                match Predicate::compile(schema, &bucket.filters, bucket.where_sql.as_deref()) {
                    Ok(predicate) => {
                        fitting += 1;
                        terms.add(index, bucket, schema, predicate);
                    }
                    Err(error) => {
                        let reason = format!("for table `{}`: {error}", schema.table);
                        refused.push(in_bucket(&bucket.name, &reason));
                    }
                }
            }
            // A bucket for all tables holds those that it fits; one that fits none is a mistake.
            if bucket.tables.is_empty() && fitting > 0 {
                continue;
            }
            match (misfit, refused.is_empty()) {
                (_, true) => {}
                (Misfit::Refused, false) => return Err(refused.remove(0)),
                (Misfit::Noted, false) => {
                    faults.extend(refused.into_iter().map(|refusal| refusal.message));
                }
            }
        }
        Ok((terms, faults))
    }

    /// Notes the claims that a bucket asks for, whatever tables there are.
    fn name_claims(&mut self, bucket: &Bucket) {
        for filter in &bucket.filters {
            if let Some(claim) = filter.claim() {
                note(&mut self.claims, claim, filter.op.list_order());
            }
        }
        // A text that cannot be read was refused with the definition.
        let sql = bucket.where_sql.as_deref();
        let claims = sql.map(claims_in).and_then(Result::ok);
        for claim in claims.into_iter().flatten() {
            note(&mut self.claims, &claim, ListOrder::Ignored);
        }
    }

    /// Takes over the register of the terms before, unless some of them are gone: nobody may go on seeing through
    /// those. Nor does an audience read values by the types of before.
    pub(super) fn succeed(&mut self, before: &Self) -> bool {
        let within = before.register.is_within(self);
        if within {
            self.register = Arc::clone(&before.register);
            for table in self.tables.values() {
                table.terms.iter().for_each(|term| self.register.put(term));
            }
        }
        within
    }

    fn add(&mut self, index: usize, bucket: &Bucket, schema: &TableSchema, predicate: Predicate) {
        let predicate = Arc::new(predicate);
        let table = self.tables.entry(schema.table.clone()).or_default();
        for field in predicate.fields() {
            if let Some(column) = &field.column
                && !table.columns.contains(column)
            {
                table.columns.push(column.clone());
            }
        }
        for (claim, order) in predicate.claims() {
            note(&mut table.claims, claim, *order);
            note(&mut self.claims, claim, *order);
        }
        for alternative in 0..predicate.terms().len() {
            let term = Arc::new(RuleTerm {
                id: term_id(bucket, &schema.table, alternative),
                bucket: index,
                write: bucket.write,
                predicate: Arc::clone(&predicate),
                alternative,
            });
            self.register.put(&term);
            table.terms.push(term);
        }
    }
}

fn note(claims: &mut BTreeMap<String, ListOrder>, claim: &str, order: ListOrder) {
    let held = claims.entry(claim.to_owned()).or_insert(order);
    *held = order.max(*held);
}

fn term_id(bucket: &Bucket, table: &TableName, alternative: usize) -> TermId {
    let says = Bucket {
        tables: Vec::new(),
        write: false,
        ..bucket.clone()
    };
    let says = serde_json::to_string(&says).expect("names and texts are plain JSON");
    let hash = Sha256::digest(format!("{table}\n{alternative}\n{says}"));
    let first = hash.first_chunk().expect("a hash has 32 bytes");
    TermId::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_of_all_audiences_have_one_bound() {
        let register = Register::default();
        for number in 0..u128::try_from(DECISIONS_MAX).unwrap() + 10 {
            register.decide(number.to_be_bytes(), true);
        }
        let decisions = register.decisions.lock().unwrap();
        assert_eq!(decisions.len(), 10);
    }
}
