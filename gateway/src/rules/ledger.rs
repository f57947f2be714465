//! The ledger: what the rules look at of every row, so that a late delta moves a row exactly as an early one.
//!
//! A state is the row's merged state with the rules' columns only, stamps and delete clock included. While new rules are
//! being made ready there are two versions of a row: the one in force, and the pending one, which is partial until the
//! tables have been scanned: merging is the same in any order.
//!
//! **Invariant:** the states in force are those of all deltas up to the last committed seq; they change in the
//! transaction that stores the deltas.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lakesync_proto::{
    ColumnName, Op, RowDelta, RowId, RowState, Schemas, Seq, TableName, Value, decode_batch,
};
use tokio::sync::watch;

use super::compiled::Rules;
use super::definition::RuleSet;
use super::membership::Membership;
use super::moved::Moved;
use super::rows::{Kept, RuleRow};
use crate::durable::DurableLog;
use crate::error::Result;

/// The columns of a row that rules look at; none for a row that does not exist.
type Values = Option<BTreeMap<ColumnName, Value>>;
type RowKey = (TableName, RowId);

/// The rules in force, as readers see them.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) rules: Arc<Rules>,
    /// Deltas above this seq have their memberships under these rules.
    pub(crate) since: Seq,
    /// The rules that were in force before, oldest first.
    pub(crate) past: Vec<RuleSet>,
}

/// The rules that the writer applies.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Those in force.
    pub(crate) current: Arc<Rules>,
    /// Those that are being made ready.
    pub(crate) pending: Option<Arc<Rules>>,
    /// Tells readers what is in force.
    pub(crate) published: watch::Sender<Arc<Ruling>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let rules = Arc::new(Rules::none());
        let ruling = Ruling {
            rules: Arc::clone(&rules),
            since: Seq::ZERO,
            past: Vec::new(),
        };
        Self {
            current: rules,
            pending: None,
            published: watch::Sender::new(Arc::new(ruling)),
        }
    }
}

impl Ledger {
    /// Puts a ruling in force.
    pub(crate) fn publish(&mut self, ruling: Ruling) {
        self.current = Arc::clone(&ruling.rules);
        self.published.send_replace(Arc::new(ruling));
    }
}

/// Whether `rules` have anything to say of who sees rows.
pub(crate) fn binds(rules: &Rules) -> bool {
    let set = rules.definition();
    set.is_some_and(|set| !set.buckets.is_empty())
}

/// Whether some bucket of `rules` is about `table`: else nobody sees a row of it, and nothing is kept of it.
pub(crate) fn covers(rules: &Rules, table: &TableName) -> bool {
    let set = rules.definition();
    set.is_some_and(|set| set.buckets.iter().any(|bucket| bucket.names(table)))
}

/// What one version of the rules keeps of a row.
pub(crate) fn stored_row(
    log: &DurableLog,
    schemas: &dyn Schemas,
    version: u64,
    (table, row_id): &RowKey,
) -> Result<Option<Kept>> {
    let Some(blob) = log.rule_row(version, table, row_id)? else {
        return Ok(None);
    };
    let deltas = decode_batch(&blob, schemas).map_err(|error| {
        let what =
            format!("the rules' entry of row `{row_id}` of `{table}` cannot be read: {error}");
        log.damage(&what)
    })?;
    Ok(Some(Kept::read(&deltas)))
}

/// What rules look at of a row in `state`; the row id decides the key columns.
pub(crate) fn values_of(
    rules: &Rules,
    schemas: &dyn Schemas,
    (table, row_id): (&TableName, &RowId),
    state: &RowState,
) -> Values {
    if !state.exists() {
        return None;
    }
    let wanted = rules.columns(table);
    let cells = state.visible_cells();
    let cells = cells.filter(|(column, _)| wanted.contains(column));
    let mut values: BTreeMap<ColumnName, Value> = cells
        .map(|(column, cell)| (column.clone(), cell.value.clone()))
        .collect();
    let schema = schemas.schema(table);
    let keys = schema.and_then(|schema| schema.key_values(row_id).ok());
    let keys = keys.into_iter().flatten();
    values.extend(keys.filter(|(column, _)| wanted.contains(column)));
    Some(values)
}

/// The place of a membership that is evaluated, or will be.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The row does not exist, or nobody sees its table.
    Nowhere,
    /// Among the rows of its table.
    At(usize),
}

/// A step of a row whose memberships are not all evaluated yet.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    table: TableName,
    known: bool,
    existed: bool,
    exists: bool,
    before: Place,
    after: Place,
    /// Of a row that did not exist before: as it was when it last did.
    last: Option<Place>,
}

#[derive(Clone, Debug)]
struct Row {
    kept: Kept,
    known: bool,
    place: Place,
}

/// Rows of one table that are evaluated together.
#[derive(Debug, Default)]
struct Asked {
    rows: Vec<(RowId, Values)>,
    memberships: Vec<Membership>,
}

/// One version of the rules, with the rows as the pushes of a group have them so far.
#[derive(Debug)]
struct Version {
    rules: Arc<Rules>,
    rows: HashMap<RowKey, Row>,
    asked: HashMap<TableName, Asked>,
    /// Rows as they were before the push that is being let in.
    undo: Vec<(RowKey, Option<Row>)>,
}

/// The ledger's entries of one group of pushes, before they are committed.
#[derive(Debug)]
pub(crate) struct Draft {
    current: Option<Version>,
    pending: Option<Version>,
}

/// Where a draft reads rows that it does not hold yet.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) log: &'a DurableLog,
    pub(crate) schemas: &'a dyn Schemas,
}

impl Draft {
    pub(crate) fn new(ledger: &Ledger) -> Self {
        let version = |rules: &Arc<Rules>| binds(rules).then(|| Version::new(Arc::clone(rules)));
        Self {
            current: version(&ledger.current),
            pending: ledger.pending.as_ref().and_then(version),
        }
    }

    /// Says that the deltas that follow are of another push.
    pub(crate) fn begin(&mut self) {
        for version in self.current.iter_mut().chain(&mut self.pending) {
            version.undo.clear();
        }
    }

    /// Takes back the deltas since [`Draft::begin`].
    pub(crate) fn undo(&mut self) {
        for version in self.current.iter_mut().chain(&mut self.pending) {
            while let Some((key, row)) = version.undo.pop() {
                match row {
                    Some(row) => drop(version.rows.insert(key, row)),
                    None => drop(version.rows.remove(&key)),
                }
            }
        }
    }

    /// Adds a delta; gives its step when there are rules.
    pub(crate) fn add(&mut self, delta: &RowDelta, stored: Stored<'_>) -> Result<Option<Step>> {
        if let Some(pending) = &mut self.pending {
            pending.add(delta, stored)?;
        }
        let current = self.current.as_mut();
        current
            .map(|version| version.add(delta, stored))
            .transpose()
    }

    /// The steps with their memberships.
    pub(crate) fn moved(&mut self, steps: &[Step]) -> Vec<Arc<Moved>> {
        let Some(version) = &mut self.current else {
            return Vec::new();
        };
        version.evaluate();
        steps.iter().map(|step| version.moved(step)).collect()
    }

    /// For each step of a row that did not exist before: the membership that it had when it last did, if that is known.
    pub(crate) fn lasts(&mut self, steps: &[Step]) -> Vec<Option<Membership>> {
        let Some(version) = &mut self.current else {
            return Vec::new();
        };
        version.evaluate();
        let last = |step: &Step| Some(version.membership(step, step.last?));
        steps.iter().map(last).collect()
    }

    /// The rows to be written, of both versions.
    pub(crate) fn rows(&self) -> Vec<RuleRow> {
        let versions = self.current.iter().chain(&self.pending);
        let rows = versions.flat_map(|version| {
            let number = version.rules.version();
            let rows = version.rows.iter();
            rows.map(move |(key, row)| RuleRow::of(number, key.clone(), &row.kept))
        });
        rows.collect()
    }
}

impl Version {
    fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            rows: HashMap::new(),
            asked: HashMap::new(),
            undo: Vec::new(),
        }
    }

    fn add(&mut self, delta: &RowDelta, stored: Stored<'_>) -> Result<Step> {
        let table = delta.table.clone();
        if !covers(&self.rules, &table) {
            return Ok(Step {
                table,
                known: true,
                existed: false,
                exists: false,
                before: Place::Nowhere,
                after: Place::Nowhere,
                last: None,
            });
        }
        let key = (table.clone(), delta.row_id.clone());
        let held = self.rows.get(&key).cloned();
        self.undo.push((key.clone(), held.clone()));
        let mut row = match held {
            Some(row) => row,
            None => self.load(&key, stored)?,
        };
        let (known, before, existed) = (row.known, row.place, row.kept.state.exists());
        let last = row.kept.last.as_ref();
        let last = last.filter(|_| delta.op == Op::Delete).map(|last| {
            let values = values_of(&self.rules, stored.schemas, (&key.0, &key.1), last);
            self.ask(&key, values, Place::Nowhere)
        });
        let change = restricted(delta, self.rules.columns(&table));
        row.kept.step(|state| state.apply(&change));
        let state = &row.kept.state;
        let after = values_of(&self.rules, stored.schemas, (&key.0, &key.1), state);
        let exists = after.is_some();
        row.place = self.ask(&key, after, before);
        row.known = true;
        let step = Step {
            table,
            known,
            existed,
            exists,
            before,
            after: row.place,
            last,
        };
        self.rows.insert(key, row);
        Ok(step)
    }

    fn load(&mut self, key: &RowKey, stored: Stored<'_>) -> Result<Row> {
        let kept = stored_row(stored.log, stored.schemas, self.rules.version(), key)?;
        let known = kept.is_some();
        let kept = kept.unwrap_or_default();
        let values = values_of(&self.rules, stored.schemas, (&key.0, &key.1), &kept.state);
        let place = self.ask(key, values, Place::Nowhere);
        Ok(Row { kept, known, place })
    }

    /// The place of a row's membership; that of the same values when there is one.
    fn ask(&mut self, key: &RowKey, values: Values, last: Place) -> Place {
        if values.is_none() {
            return Place::Nowhere;
        }
        let asked = self.asked.entry(key.0.clone()).or_default();
        if let Place::At(index) = last
            && asked.rows[index].1 == values
        {
            return last;
        }
        asked.rows.push((key.1.clone(), values));
        Place::At(asked.rows.len() - 1)
    }

    fn evaluate(&mut self) {
        for (table, asked) in &mut self.asked {
            let rest = &asked.rows[asked.memberships.len()..];
            if !rest.is_empty() {
                let memberships = self.rules.memberships(table, rest);
                asked.memberships.extend(memberships);
            }
        }
    }

    fn membership(&self, step: &Step, place: Place) -> Membership {
        match place {
            Place::Nowhere => Membership::NONE,
            Place::At(index) => self.asked[&step.table].memberships[index].clone(),
        }
    }

    fn moved(&self, step: &Step) -> Arc<Moved> {
        let membership = |place| self.membership(step, place);
        Arc::new(Moved {
            rules: self.rules.version(),
            known: step.known,
            existed: step.existed,
            exists: step.exists,
            before: membership(step.before),
            after: membership(step.after),
        })
    }
}

/// The delta with the rules' columns only.
fn restricted(delta: &RowDelta, columns: &[ColumnName]) -> RowDelta {
    let changes = delta.columns.iter();
    RowDelta {
        op: delta.op,
        table: delta.table.clone(),
        row_id: delta.row_id.clone(),
        client_id: delta.client_id.clone(),
        columns: changes
            .filter(|change| columns.contains(&change.column))
            .cloned()
            .collect(),
        hlc: delta.hlc,
        delta_id: delta.delta_id,
    }
}
