//! A call as a table: what is replayed, and which filters narrow it.
//!
//! **Invariant:** a filter that is pushed down stays above, too; below it only spares work.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{Column, Result as QueryResult, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use lakesync_proto::{ColumnName, Hlc, Seq, columns};

use super::exec::{Replay, ReplayExec};
use super::replay::{ReplayLimits, RowFilter};
use super::{cell_info, conflicts, deltas};
use crate::error::{Error, Result};
use crate::live::Views;
use crate::travel::{Arrival, AsOf, Cut, Horizon, base_at, below_horizon, cut};
use crate::view::{BaseSnapshot, ReadView};

/// What is answered of a replay.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// `changes`.
    Changes,
    /// `history`.
    History,
    /// `t$conflicts`.
    Conflicts,
    /// `cell_info`, of one column or of all; with the floor of the gateway.
    CellInfo(Option<ColumnName>, Hlc),
}

impl What {
    pub(super) fn name(&self) -> &'static str {
        match self {
            What::Changes => "changes",
            What::History => "history",
            What::Conflicts => "conflicts",
            What::CellInfo(..) => "cell_info",
        }
    }
}

/// A call, or `t$conflicts`.
#[derive(Debug)]
pub(super) struct HistoryTable {
    view: Arc<ReadView>,
    /// A past moment, and the tables that it is one of.
    as_of: Option<(AsOf, Views)>,
    what: What,
    schema: SchemaRef,
    /// All that is kept, by default.
    from: Option<Seq>,
    to: Option<Seq>,
    rows: RowFilter,
}

impl HistoryTable {
    /// All of the history of a view's table that is kept.
    ///
    /// # Errors
    /// For a column type that Arrow does not have.
    pub(super) fn new(view: &Arc<ReadView>, what: What) -> Result<Self> {
        let schema = match &what {
            What::Changes => deltas::schema(&view.schema, &deltas::CHANGES)?,
            What::History => deltas::schema(&view.schema, &deltas::HISTORY)?,
            What::Conflicts => conflicts::schema(),
            What::CellInfo(..) => cell_info::schema(),
        };
        Ok(Self {
            view: Arc::clone(view),
            as_of: None,
            what,
            schema,
            from: None,
            to: None,
            rows: RowFilter::default(),
        })
    }

    /// As of a moment: what came later is not known. `views` are those of the table's gateway.
    pub(super) fn at_moment(mut self, as_of: AsOf, views: &Views) -> Self {
        self.as_of = Some((as_of, views.clone()));
        self
    }

    /// Deltas above `from` and up to `to`, or up to the view's seq.
    pub(super) fn between(mut self, from: Seq, to: Option<Seq>) -> Self {
        (self.from, self.to) = (Some(from), to);
        self
    }

    /// The row with this id.
    pub(super) fn of_row(mut self, row_id: &str) -> Self {
        self.rows = RowFilter::one(row_id);
        self
    }

    /// The seq that the call looks back from.
    async fn now(&self) -> Result<Seq> {
        let Some((as_of, views)) = &self.as_of else {
            return Ok(self.view.seq);
        };
        if as_of.hlc().is_some() {
            return Err(Error::Argument {
                call: self.what.name(),
                reason: "it follows the order of arrival, so it can be asked as of a seq, time, snapshot or tag, and not as \
                         of an HLC"
                    .to_owned(),
            });
        }
        Ok(cut(views, &self.view, as_of).await?.seq)
    }

    /// The span that is asked for, as far as it is kept.
    fn span(&self, now: Seq) -> Result<(Seq, Seq)> {
        let to = self.to.unwrap_or(now);
        if to > now {
            return Err(Error::Argument {
                call: self.what.name(),
                reason: format!(
                    "to_seq {} lies ahead: the newest seq here is {}; leave it out for all up to now",
                    to.as_u64(),
                    now.as_u64()
                ),
            });
        }
        let kept = horizon(&self.view)?;
        let from = self.from.unwrap_or(kept);
        if from < kept {
            return Err(forgotten(&self.view, from)?);
        }
        if from > to {
            return Err(Error::Argument {
                call: self.what.name(),
                reason: format!("from_seq {} is above to_seq {}", from.as_u64(), to.as_u64()),
            });
        }
        Ok((from, to))
    }
}

/// The oldest seq whose state can be read.
fn horizon(view: &ReadView) -> Result<Seq> {
    Ok(Horizon::of(&view.base.table)?.map_or(Seq::ZERO, |horizon| horizon.seq))
}

/// The newest base that holds nothing above `seq`.
///
/// # Errors
/// [`Error::BelowHorizon`].
pub(super) fn base_before(view: &ReadView, seq: Seq) -> Result<BaseSnapshot> {
    match base_at(view, Cut { seq, hlc: None })? {
        Some(base) => Ok(base),
        None => Err(forgotten(view, seq)?),
    }
}

fn forgotten(view: &ReadView, seq: Seq) -> Result<Error> {
    below_horizon(view, &AsOf::Arrival(Arrival::Seq(seq)))
}

#[async_trait]
impl TableProvider for HistoryTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        let narrows = |filter: &&Expr| match of_row(filter) || of_seq(filter).is_some() {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(narrows).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let now = self.now().await?;
        let (mut span, mut rows) = (self.span(now)?, self.rows.clone());
        for filter in filters.iter().flat_map(split_conjunction) {
            if let Some((least, greatest)) = of_seq(filter) {
                span = (span.0.max(before(least)).min(span.1), span.1.min(greatest));
                span.0 = span.0.min(span.1);
            } else if of_row(filter) {
                rows.conditions.push(unqualified(filter)?);
                rows.ids = narrowed(rows.ids, ids(filter));
            }
        }
        let all = (0..self.schema.fields().len()).collect();
        let replay = Replay {
            view: Arc::clone(&self.view),
            span,
            rows,
            what: self.what.clone(),
            projection: projection.cloned().unwrap_or(all),
            limits: state
                .config()
                .get_extension::<ReplayLimits>()
                .map(|limits| *limits)
                .unwrap_or_default(),
        };
        Ok(Arc::new(ReplayExec::new(replay, &self.schema)?))
    }
}

/// Whether a condition is about the row id and nothing else.
fn of_row(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    let of_row = |column: &&Column| column.name == columns::ROW_ID;
    let looks_elsewhere = filter.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
        ))
    });
    !columns.is_empty()
        && columns.iter().all(of_row)
        && !filter.is_volatile()
        && looks_elsewhere.is_ok_and(|elsewhere| !elsewhere)
}

/// The least and the greatest seq that a condition lets pass, when it is one on the seq.
fn of_seq(filter: &Expr) -> Option<(Seq, Seq)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else {
        return None;
    };
    let (op, number) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), value) if column.name == columns::SEQ => (*op, number(value)?),
        (value, Expr::Column(column)) if column.name == columns::SEQ => {
            (op.swap()?, number(value)?)
        }
        _ => return None,
    };
    let at_least = |seq: i64| Seq::from_i64(seq.max(0)).unwrap_or(Seq::MAX);
    match op {
        Operator::Eq => Some((at_least(number), at_least(number))),
        Operator::Gt => Some((at_least(number.saturating_add(1)), Seq::MAX)),
        Operator::GtEq => Some((at_least(number), Seq::MAX)),
        Operator::Lt => Some((Seq::ZERO, at_least(number.saturating_sub(1)))),
        Operator::LtEq => Some((Seq::ZERO, at_least(number))),
        _ => None,
    }
}

fn number(value: &Expr) -> Option<i64> {
    match value {
        Expr::Literal(ScalarValue::Int64(number), _) => *number,
        _ => None,
    }
}

/// The seq before one.
fn before(seq: Seq) -> Seq {
    Seq::from_i64(seq.as_i64() - 1).unwrap_or(Seq::ZERO)
}

/// The condition without the name of the call.
fn unqualified(filter: &Expr) -> Result<Expr> {
    use datafusion::common::tree_node::Transformed;
    let plain = filter.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    });
    Ok(plain?.data)
}

/// The ids that a condition names, when it names them all.
fn ids(filter: &Expr) -> Option<BTreeSet<String>> {
    let text = |value: &Expr| match value {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(_), value) | (value, Expr::Column(_)) => {
                Some(BTreeSet::from([text(value)?]))
            }
            _ => None,
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => match expr.as_ref() {
            Expr::Column(_) => list.iter().map(text).collect(),
            _ => None,
        },
        _ => None,
    }
}

fn narrowed(
    known: Option<BTreeSet<String>>,
    more: Option<BTreeSet<String>>,
) -> Option<BTreeSet<String>> {
    match (known, more) {
        (Some(known), Some(more)) => Some(known.intersection(&more).cloned().collect()),
        (known, more) => known.or(more),
    }
}
