//! Texts as queries read them: as views into the bytes that the Parquet reader has, which nobody copies.
//!
//! What is written, kept in memory or looked up has texts as they are stored (`Utf8`); a table that is queried has them as
//! views (`Utf8View`), as every Parquet file has that DataFusion reads by itself.
//!
//! **Invariant:** only the type of a text changes, never a value, a name, or what else is known of a field.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::Result as QueryResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast as cast_to};

/// `schema` with its texts as views.
pub(crate) fn with_text_views(schema: &SchemaRef) -> SchemaRef {
    retyped(schema, &DataType::Utf8, &DataType::Utf8View)
}

/// The schema with its views of texts as texts of their own, which every reader of Arrow knows.
#[must_use]
pub fn without_text_views(schema: &SchemaRef) -> SchemaRef {
    retyped(schema, &DataType::Utf8View, &DataType::Utf8)
}

fn retyped(schema: &SchemaRef, from: &DataType, to: &DataType) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() == from {
            true => FieldRef::from(field.as_ref().clone().with_data_type(to.clone())),
            false => Arc::clone(field),
        });
    let fields: Vec<FieldRef> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// `batch` in the types of `schema`, which has its columns.
///
/// # Errors
/// Those of Arrow, when a value has no such form.
pub fn in_types_of(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(
        |(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        },
    );
    let columns = columns.collect::<Result<_, _>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

/// The rows of `plan`, which has the columns of `schema`, in the types of that.
///
/// # Errors
/// When the plan has fewer columns.
pub(crate) fn plan_in_types_of(
    plan: LogicalPlan,
    schema: &SchemaRef,
) -> QueryResult<LogicalPlanBuilder> {
    let columns = plan.schema().iter().zip(schema.fields());
    let columns: Vec<Expr> = columns
        .map(|((qualifier, field), wanted)| {
            let column = Expr::from((qualifier, field));
            match field.data_type() == wanted.data_type() {
                true => column,
                false => {
                    let cast = cast_to(column, wanted.data_type().clone());
                    cast.alias_qualified(qualifier.cloned(), field.name())
                }
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)
}
