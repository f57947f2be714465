//! ★ Sync rules as they are evaluated: once a row, whatever the number of those who look.
//!
//! **Invariant:** whether an audience sees a row is decided by its membership alone; no condition is evaluated for a
//! client and a delta together unless it compares a column with a claim by other than equality.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use lakesync_proto::{ClaimValue, Claims, ColumnName, RowId, TableName, TableSchema, Value};
use lakesync_providers::predicate::{ListOrder, Row, Rows};
use sha2::{Digest, Sha256};

use super::audience::Audience;
use super::definition::{Condition, RuleSet};
use super::membership::{Membership, key_hash};
use super::terms::{Misfit, RuleTerm, TableTerms, Terms};
use crate::error::Refusal;

/// The most audiences that are kept: those of the clients that came last. One holds some kilobytes.
const AUDIENCES_MAX: usize = 10_000;

/// Audiences by the whole hash of their claims; shared by the rules before and after a change of the schema.
type Audiences = Arc<Mutex<HashMap<[u8; 32], Arc<Audience>>>>;

/// The rules in force, compiled for the tables as they are.
#[derive(Debug)]
pub struct Rules {
    set: Option<RuleSet>,
    terms: Terms,
    faults: Vec<String>,
    /// Everybody, when there are no buckets.
    everybody: Arc<Audience>,
    audiences: Audiences,
}

impl Rules {
    /// No rules: everybody sees and writes everything.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, Terms::default(), Vec::new())
    }

    /// Compiles `set` for `schemas`. A bucket may name a table that is not there yet; one for all tables holds the
    /// rows of those that it fits.
    ///
    /// # Errors
    /// [`ErrorCode::ValidationError`](lakesync_proto::ErrorCode::ValidationError) naming the bucket, the table and
    /// what does not fit.
    pub fn compile(set: RuleSet, schemas: &[Arc<TableSchema>]) -> Result<Self, Refusal> {
        let (terms, faults) = Terms::compile(&set, schemas, Misfit::Refused)?;
        Ok(Self::new(Some(set), terms, faults))
    }

    /// As [`Rules::compile`], for tables that changed under rules that were accepted before: a bucket that no longer
    /// fits a table holds no row of it, and [`Rules::faults`] says so. Audiences stay the same, and see what they are
    /// to see of new tables, unless a bucket lost a table.
    #[must_use]
    pub fn recompile(&self, schemas: &[Arc<TableSchema>]) -> Self {
        let Some(set) = &self.set else {
            return Self::none();
        };
        let compiled = Terms::compile(set, schemas, Misfit::Noted);
        let (mut terms, faults) = compiled.expect("what does not fit is noted");
        let succeeds = terms.succeed(&self.terms);
        let rules = Self::new(Some(set.clone()), terms, faults);
        match succeeds {
            true => Self {
                audiences: Arc::clone(&self.audiences),
                ..rules
            },
            false => rules,
        }
    }

    /// Whether these are the rules for `schema` as it is.
    pub(crate) fn are_for(&self, schema: &Arc<TableSchema>) -> bool {
        let table = self.terms.tables.get(&schema.table);
        table.is_some_and(|table| table.schema.as_ref() == Some(schema))
    }

    /// The same rules with the next version: what was kept of rows for these does not do any more.
    pub(crate) fn raised(self) -> Self {
        let set = self.set.map(|set| RuleSet {
            version: set.version + 1,
            ..set
        });
        Self::new(set, self.terms, self.faults)
    }

    /// Whether what was kept of the rows of the tables that `before` was compiled for does for these too. Tables that
    /// came since have no rows yet.
    pub(crate) fn keeps_rows_of(&self, before: &Self) -> bool {
        let mut tables = before.terms.tables.iter();
        tables.all(|(name, table)| {
            let now = self.terms.tables.get(name);
            now.is_some_and(|now| now.asks() == table.asks())
        })
    }

    /// A hash of what the rows that are kept depend on: the columns and the terms of every table.
    pub(crate) fn fit(&self) -> String {
        let mut hash = Sha256::new();
        for (name, table) in &self.terms.tables {
            let (columns, terms) = table.asks();
            hash.update(format!("{name}\n{columns:?}\n{terms:?}\n"));
        }
        let hash = hash.finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn new(set: Option<RuleSet>, terms: Terms, faults: Vec<String>) -> Self {
        let version = set.as_ref().map_or(0, |set| set.version);
        Self {
            set,
            terms,
            faults,
            everybody: Arc::new(Audience::unbound(version)),
            audiences: Audiences::default(),
        }
    }

    /// Buckets that hold nothing of a table because they do not fit it, in words.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The rules as they were written; none without rules.
    #[must_use]
    pub fn definition(&self) -> Option<&RuleSet> {
        self.set.as_ref()
    }

    /// The version; 0 without rules.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.set.as_ref().map_or(0, |set| set.version)
    }

    /// The columns of `table` that decide who sees a row; `row_id` is not among them.
    #[must_use]
    pub fn columns(&self, table: &TableName) -> &[ColumnName] {
        match self.terms.tables.get(table) {
            Some(table) => &table.columns,
            None => &[],
        }
    }

    /// Whether rules decide who sees `table`: so as soon as there are buckets. A table that none of them names is
    /// seen by nobody.
    #[must_use]
    pub fn is_ruled(&self, _table: &TableName) -> bool {
        self.has_buckets()
    }

    pub(super) fn has_buckets(&self) -> bool {
        self.set.as_ref().is_some_and(|set| !set.buckets.is_empty())
    }

    /// Whether a bucket that says `write` is about `table`: then only rows of such buckets may be written.
    #[must_use]
    pub fn guards_writes(&self, table: &TableName) -> bool {
        let mut buckets = self.set.iter().flat_map(|set| &set.buckets);
        buckets.any(|bucket| bucket.write && bucket.names(table))
    }

    /// How often a condition was evaluated for a row since the rules are in force: what must not grow with clients.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.terms.register.evaluations.load(Ordering::Relaxed)
    }

    /// Those who hold `claims`, as far as the rules look at them: equal claims give the same audience.
    #[must_use]
    pub fn audience(&self, claims: &Claims) -> Arc<Audience> {
        if !self.has_buckets() {
            return Arc::clone(&self.everybody);
        }
        let hash = self.hash(claims);
        let mut held = self
            .audiences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(audience) = held.get(&hash) {
            return Arc::clone(audience);
        }
        if held.len() >= AUDIENCES_MAX {
            held.retain(|_, audience| Arc::strong_count(audience) > 1);
        }
        if held.len() >= AUDIENCES_MAX {
            held.clear();
        }
        let short = self.short(&hash);
        let audience = Audience::ruled(self.version(), &self.terms, claims, short);
        let audience = Arc::new(audience);
        held.insert(hash, Arc::clone(&audience));
        audience
    }

    /// The hash of the claims that the rules look at, as a cursor has it; 0 when they look at none.
    pub(super) fn claims_hash(&self, claims: &Claims) -> u64 {
        self.short(&self.hash(claims))
    }

    fn short(&self, hash: &[u8; 32]) -> u64 {
        match self.terms.claims.is_empty() {
            true => 0,
            false => u64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes")).max(1),
        }
    }

    fn hash(&self, claims: &Claims) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        for (name, order) in &self.terms.claims {
            add(name);
            let Some(values) = claims.get(name) else {
                add("missing");
                continue;
            };
            let mut texts: Vec<String> = values.iter().map(text_of).collect();
            if *order == ListOrder::Ignored {
                texts.sort_unstable();
                texts.dedup();
            }
            add(&texts.len().to_string());
            texts.iter().for_each(|text| add(text));
        }
        hash.finalize().into()
    }

    /// The memberships of rows in their merged state; `None` for a row that does not exist, and a column that is not
    /// there is null. [`Rules::columns`] are enough. All rows are evaluated at once.
    pub(crate) fn memberships(
        &self,
        table: &TableName,
        rows: &[(RowId, Option<BTreeMap<ColumnName, Value>>)],
    ) -> Vec<Membership> {
        let mut memberships = vec![Membership::NONE; rows.len()];
        let Some(table) = self.terms.tables.get(table) else {
            return memberships;
        };
        let (mut places, mut existing): (Vec<usize>, Vec<Row<'_>>) = (Vec::new(), Vec::new());
        for (place, (row_id, values)) in rows.iter().enumerate() {
            if let Some(values) = values {
                places.push(place);
                existing.push((row_id, values));
            }
        }
        let mut places = places.into_iter();
        for part in Rows::parts(&existing) {
            let found = self.part(table, &part);
            for (place, membership) in places.by_ref().take(part.len()).zip(found) {
                memberships[place] = membership;
            }
        }
        memberships
    }

    fn part(&self, table: &TableTerms, rows: &Rows<'_>) -> Vec<Membership> {
        let mut memberships = vec![Membership::NONE; rows.len()];
        for rule in &table.terms {
            let matching = match rule.term().row() {
                Some(condition) => {
                    let count = u64::try_from(rows.len()).expect("a part is bounded");
                    self.terms
                        .register
                        .evaluations
                        .fetch_add(count, Ordering::Relaxed);
                    condition.matches(rows)
                }
                None => vec![true; rows.len()],
            };
            for (row, membership) in memberships.iter_mut().enumerate() {
                if matching[row] {
                    enter(rule, rows, row, membership);
                }
            }
        }
        memberships
    }

    pub(super) fn terms_of(&self, table: &TableName) -> &[Arc<RuleTerm>] {
        match self.terms.tables.get(table) {
            Some(table) => &table.terms,
            None => &[],
        }
    }

    /// What decides who sees `table`; none when everybody does.
    fn seen(&self, table: &TableName) -> Option<BTreeSet<Condition<'_>>> {
        self.set.as_ref()?.seen(table)
    }

    fn claims_of(&self, table: &TableName) -> Option<&BTreeMap<String, ListOrder>> {
        Some(&self.terms.tables.get(table)?.claims)
    }
}

/// Enters a row for which the condition on rows holds.
fn enter(rule: &RuleTerm, rows: &Rows<'_>, row: usize, membership: &mut Membership) {
    let term = rule.term();
    let keys = term.keys().iter().map(|key| {
        let value = rows.value(row, &key.field);
        key_hash(&value, key.field.column_type)
    });
    // A key that is null equals no claim.
    let Some(keys) = keys.collect::<Option<Vec<_>>>() else {
        return;
    };
    let fields = term.claim().map(|claim| claim.fields());
    let fields = fields.unwrap_or_default().iter();
    let values: Vec<Value> = fields.map(|field| rows.value(row, field)).collect();
    membership.add(rule.id, &keys, &values);
}

/// A claim's value with its type, as text.
fn text_of(value: &ClaimValue) -> String {
    match value {
        ClaimValue::Text(text) => format!("t{text}"),
        ClaimValue::Number(number) => format!("n{number}"),
        ClaimValue::Boolean(value) => format!("b{value}"),
    }
}

/// What a client must load again when its cursor is of other rules or other claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It sees what it saw.
    Nothing,
    /// It may see other rows of these tables.
    Tables(Vec<TableName>),
}

/// Compares what a client saw, under `old` with claims whose hash was `old_claims`, with what `claims` see under `new`.
#[must_use]
pub fn changed_tables(old: &Rules, new: &Rules, old_claims: u64, claims: &Claims) -> Changed {
    let other_claims = old.claims_hash(claims) != old_claims;
    let mut tables: Vec<TableName> = Vec::new();
    tables.extend(old.terms.tables.keys().cloned());
    tables.extend(new.terms.tables.keys().cloned());
    tables.sort_unstable();
    tables.dedup();
    tables.retain(|table| {
        let asks = || {
            let compiled = new.claims_of(table).or_else(|| old.claims_of(table));
            compiled.is_some_and(|claims| !claims.is_empty())
        };
        old.seen(table) != new.seen(table) || (other_claims && asks())
    });
    match tables.is_empty() {
        true => Changed::Nothing,
        false => Changed::Tables(tables),
    }
}
