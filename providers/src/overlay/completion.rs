//! Rows of which the overlay holds only what is decided, completed from the base by the query that needs them whole.
//!
//! ```text
//!   base        row_id │ a │ b            decided   wanted$ │ a │ a$set │ b │ b$set
//!                      └─────────── join on the id ──────┘
//!   completed   row_id │ case when a$set then decided.a else base.a │ …
//! ```
//! They are streamed: what is held is what is decided.
//!
//! **Invariant:** a completed row is the row that would have been held whole.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, when};
use lakesync_proto::columns;

use super::resolved::WANTED;
use crate::error::Result;
use crate::scan::LiveChunk;
use crate::union::{in_memory, scan};

/// What the names of flags end in: no user column can.
const SET: &str = "$set";
/// The name of the decided rows in a plan.
const DECIDED: &str = "decided";

/// The rows of `chunks`, which hold only what is decided, with all columns of `base`, the whole base under its name.
///
/// # Errors
/// When the plan cannot be made.
pub(crate) fn completed(
    base: LogicalPlanBuilder,
    chunks: &[LiveChunk],
    schema: &SchemaRef,
) -> Result<LogicalPlan> {
    let fields = schema.fields().iter().enumerate();
    let decided: Vec<(usize, &str)> = fields
        .filter(|(at, _)| chunks.iter().any(|held| held.chunk.decided[*at].is_some()))
        .map(|(at, field)| (at, field.name().as_str()))
        .collect();
    let flat = flat_schema(schema, &decided);
    let batches = chunks.iter().map(|held| flat_batch(held, &flat, &decided));
    let batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
    let rows = scan(DECIDED, in_memory(flat, &batches)?)?.build()?;
    let keys = (vec![columns::ROW_ID], vec![WANTED]);
    let of_base = base.schema().columns();
    let joined = base.join(rows, JoinType::Inner, keys, None)?;
    let own = |name: &str| Expr::Column(Column::new(Some(DECIDED), name));
    let mut cells = Vec::with_capacity(of_base.len());
    for column in of_base {
        let name = column.name.clone();
        let of_base = Expr::Column(column);
        let is_decided = decided.iter().any(|(_, decided)| *decided == name);
        cells.push(match is_decided {
            true => when(own(&format!("{name}{SET}")), own(&name))
                .otherwise(of_base)?
                .alias(name),
            false => of_base,
        });
    }
    Ok(joined.project(cells)?.build()?)
}

fn flat_schema(schema: &SchemaRef, decided: &[(usize, &str)]) -> SchemaRef {
    let mut fields = vec![Field::new(WANTED, DataType::Utf8, false)];
    for (at, name) in decided {
        let field = schema.field(*at);
        fields.push(Field::new(*name, field.data_type().clone(), true));
        fields.push(Field::new(format!("{name}{SET}"), DataType::Boolean, false));
    }
    Arc::new(Schema::new(fields))
}

fn flat_batch(
    held: &LiveChunk,
    flat: &SchemaRef,
    decided: &[(usize, &str)],
) -> Result<RecordBatch> {
    let LiveChunk { chunk, live } = held;
    let ids = chunk.rows.column_by_name(columns::ROW_ID);
    let mut arrays: Vec<ArrayRef> = vec![Arc::clone(ids.expect("a base has a row id"))];
    for (at, _) in decided {
        let none = || BooleanBuffer::new_unset(chunk.rows.num_rows());
        let set = chunk.decided[*at].clone().unwrap_or_else(none);
        arrays.push(Arc::clone(chunk.rows.column(*at)));
        arrays.push(Arc::new(BooleanArray::new(set, None)));
    }
    let all = RecordBatch::try_new(Arc::clone(flat), arrays)?;
    match live {
        None => Ok(all),
        Some(live) => Ok(filter_record_batch(
            &all,
            &BooleanArray::new(live.clone(), None),
        )?),
    }
}
