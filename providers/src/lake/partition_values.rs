//! The partition of a row, computed by column, and the order in which a base's rows are written.
//!
//! **Invariant**: rows are sorted by the same values that their files are partitioned by, so that a partition's rows come
//! one after another, whatever its transforms.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, StructArray, new_empty_array};
use arrow::datatypes::{DataType, Fields, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result as QueryResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SortExpr,
    Volatility, ident,
};
use iceberg::arrow::{arrow_struct_to_literal, type_to_arrow_type};
use iceberg::spec::{Literal, PartitionSpec, Schema, Struct, StructType, Transform, Type};
use iceberg::transform::create_transform_function;
use iceberg::{Error, ErrorKind, Result};
use lakesync_proto::{NullOrder, PartitionTransform, SortDirection, TableSchema};

use super::schema::transform;

/// How the rows of a base have to be sorted before they are written: by partition, then by the table's own order. Empty
/// when it does not matter.
#[must_use]
pub fn write_order(schema: &TableSchema) -> Vec<SortExpr> {
    let partitions = schema.partition_by.iter().map(|field| {
        let column = ident(field.column.as_str());
        let value = match field.transform {
            PartitionTransform::Identity => column,
            other => partition_value(other).call(vec![column]),
        };
        Expr::sort(value, true, true)
    });
    let order = schema.sort_by.iter().map(|field| {
        let ascending = field.direction == SortDirection::Ascending;
        ident(field.column.as_str()).sort(ascending, field.nulls == NullOrder::First)
    });
    partitions.chain(order).collect()
}

/// The values of a partition spec for the rows of a batch.
#[derive(Debug)]
pub(super) struct PartitionValues {
    fields: Vec<(String, Transform)>,
    arrow: Fields,
    types: StructType,
}

impl PartitionValues {
    /// Of a spec of a table with this schema.
    pub(super) fn new(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let types = spec.partition_type(schema)?;
        let DataType::Struct(arrow) = type_to_arrow_type(&Type::Struct(types.clone()))? else {
            return Err(unexpected("a partition is no struct"));
        };
        let source = |field: &iceberg::spec::PartitionField| {
            let name = schema.name_by_field_id(field.source_id);
            let name = name.ok_or_else(|| unexpected("a partition has no source column"))?;
            Ok((name.to_owned(), field.transform))
        };
        let fields = spec.fields().iter().map(source).collect::<Result<_>>()?;
        Ok(Self {
            fields,
            arrow,
            types,
        })
    }

    /// A struct of values for each row.
    pub(super) fn of(&self, batch: &RecordBatch) -> Result<StructArray> {
        let value = |(name, transform): &(String, Transform)| {
            let column = batch.column_by_name(name);
            let column = column.ok_or_else(|| unexpected("rows lack a partition's column"))?;
            values(*transform, column)
        };
        let values = self.fields.iter().map(value).collect::<Result<_>>()?;
        StructArray::try_new(self.arrow.clone(), values, None)
            .map_err(|error| unexpected(&error.to_string()))
    }

    /// The partition of one row of what [`Self::of`] gave.
    pub(super) fn row(&self, values: &StructArray, row: usize) -> Result<Struct> {
        let one = Arc::new(values.slice(row, 1)) as ArrayRef;
        let mut literals = arrow_struct_to_literal(&one, &self.types)?;
        match literals.pop().flatten() {
            Some(Literal::Struct(partition)) => Ok(partition),
            _ => Err(unexpected("a partition is no struct")),
        }
    }
}

fn unexpected(reason: &str) -> Error {
    Error::new(ErrorKind::Unexpected, reason.to_owned())
}

/// A transform of a column.
fn values(transform: Transform, column: &ArrayRef) -> Result<ArrayRef> {
    match (transform, column.data_type()) {
        // Iceberg's own ends the process in a debug build at the least of all numbers; others go round, and so do we.
        (Transform::Truncate(width), DataType::Int64) => {
            let width = i64::from(width);
            let truncated = |value: i64| value.wrapping_sub(value.rem_euclid(width));
            let column: &Int64Array = column.as_primitive::<Int64Type>();
            Ok(Arc::new(column.unary::<_, Int64Type>(truncated)))
        }
        _ => create_transform_function(&transform)?.transform(Arc::clone(column)),
    }
}

/// A transform as a function of SQL plans.
fn partition_value(transform: PartitionTransform) -> ScalarUDF {
    ScalarUDF::from(PartitionValue {
        name: transform.to_string(),
        transform,
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PartitionValue {
    name: String,
    transform: PartitionTransform,
    signature: Signature,
}

impl ScalarUDFImpl for PartitionValue {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> QueryResult<DataType> {
        let [column] = arguments else {
            return Err(DataFusionError::Plan(
                "a partition is of one column".to_owned(),
            ));
        };
        let none = values(transform(self.transform), &new_empty_array(column));
        Ok(none.map_err(external)?.data_type().clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> QueryResult<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
        let values = values(transform(self.transform), &columns[0]);
        Ok(ColumnarValue::Array(values.map_err(external)?))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
