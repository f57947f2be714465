//! A table's columns in a file: found by their field ids, as Iceberg wants it, and not by their names.
//!
//! ```text
//!   table        1 row_id   4 title            3 done: long
//!   file         1 row_id   2 title (dropped)  3 done: int
//!   reads as     1          null, or a default 3 cast to long
//! ```
//! A file without field ids was written by a program that knows no Iceberg; its columns are found by name.
//!
//! **Invariant:** a column of the table is read from the file's column of the same field id or from none.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{Result as QueryResult, ScalarValue, exec_err};
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use datafusion::physical_plan::PhysicalExpr;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// Makes what reads the columns of one file as those of the table.
#[derive(Debug, Default)]
pub(crate) struct FieldIds {
    /// What rows hold that were written before a column was there, by field id.
    defaults: HashMap<i32, ScalarValue>,
}

impl FieldIds {
    /// With these values for the rows of files that lack a column.
    pub(crate) fn with_defaults(defaults: HashMap<i32, ScalarValue>) -> Self {
        Self { defaults }
    }
}

impl PhysicalExprAdapterFactory for FieldIds {
    fn create(
        &self,
        table: SchemaRef,
        file: SchemaRef,
    ) -> QueryResult<Arc<dyn PhysicalExprAdapter>> {
        let renamed = as_the_table_says(&table, &file)?;
        let lacks = |field: &Field| renamed.field_with_name(field.name()).is_err();
        let missing = table.fields().iter().filter(|field| lacks(field));
        let defaults = missing.filter_map(|field| {
            let value = self.defaults.get(&id_of(field)?)?;
            Some((field.name().clone(), value.clone()))
        });
        Ok(Arc::new(ByFieldId {
            defaults: defaults.collect(),
            by_name: DefaultPhysicalExprAdapter::new(table, renamed),
            file,
        }))
    }
}

/// Columns of one file for those of the table.
#[derive(Debug)]
struct ByFieldId {
    /// The values of columns that the file lacks, by their names in the table; null for all others.
    defaults: HashMap<String, ScalarValue>,
    /// Knows the file by the table's names.
    by_name: DefaultPhysicalExprAdapter,
    /// The file with its own names.
    file: SchemaRef,
}

impl PhysicalExprAdapter for ByFieldId {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> QueryResult<Arc<dyn PhysicalExpr>> {
        let expr = expr.transform(|expr| {
            let column = expr.as_any().downcast_ref::<Column>();
            let value = column.and_then(|column| self.defaults.get(column.name()));
            Ok(match value {
                Some(value) => Transformed::yes(lit(value.clone())),
                None => Transformed::no(expr),
            })
        });
        let expr = self.by_name.rewrite(expr.data()?)?;
        let expr = expr.transform(|expr| {
            let Some(column) = expr.as_any().downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            let name = self.file.field(column.index()).name();
            if name == column.name() {
                return Ok(Transformed::no(expr));
            }
            Ok(Transformed::yes(
                Arc::new(Column::new(name, column.index())) as _,
            ))
        });
        expr.data()
    }
}

fn id_of(field: &Field) -> Option<i32> {
    field
        .metadata()
        .get(PARQUET_FIELD_ID_META_KEY)?
        .parse()
        .ok()
}

/// The file's schema with the table's names for the columns that it knows; others get names that no column can have.
fn as_the_table_says(table: &Schema, file: &SchemaRef) -> QueryResult<SchemaRef> {
    if !file.fields().iter().any(|field| id_of(field).is_some()) {
        return Ok(Arc::clone(file));
    }
    let known: HashMap<i32, &Field> = table
        .fields()
        .iter()
        .filter_map(|field| Some((id_of(field)?, field.as_ref())))
        .collect();
    let mut fields = Vec::with_capacity(file.fields().len());
    for (at, field) in file.fields().iter().enumerate() {
        let named = match id_of(field).and_then(|id| known.get(&id)) {
            Some(known) => {
                same_inside(known, field)?;
                known.name().clone()
            }
            None => format!("\0{at}"),
        };
        fields.push(field.as_ref().clone().with_name(named));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Nested fields are found by their names, so those names have to mean what they meant when the file was written.
fn same_inside(table: &Field, file: &Field) -> QueryResult<()> {
    for (known, field) in inside(table.data_type()).iter().flat_map(|known| {
        let fields = inside(file.data_type());
        fields.into_iter().map(move |field| (*known, field))
    }) {
        let same_name = known.name() == field.name();
        let both = id_of(known).zip(id_of(field));
        if both.is_some_and(|(known, field)| (known == field) != same_name) {
            return exec_err!(
                "a field inside the column `{}` was renamed since a data file was written, which is not read here; \
                 rewrite the table's data files with the program that renamed it",
                table.name()
            );
        }
        if same_name {
            same_inside(known, field)?;
        }
    }
    Ok(())
}

/// The fields of a struct; those of a list or a map have positions, whatever their names.
fn inside(data_type: &DataType) -> Vec<&Field> {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray as _, Int32Array, RecordBatch, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn field(id: i32, name: &str, data_type: DataType) -> Field {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        Field::new(name, data_type, true).with_metadata(HashMap::from([id]))
    }

    fn read(table: &[Field], file: &[Field], defaults: FieldIds, column: usize) -> ArrayRef {
        let table = Arc::new(Schema::new(table.to_vec()));
        let file = Arc::new(Schema::new(file.to_vec()));
        let arrays = file.fields().iter().map(|field| match field.data_type() {
            DataType::Int32 => Arc::new(Int32Array::from(vec![7])) as ArrayRef,
            _ => Arc::new(StringArray::from(vec![field.name().as_str()])) as ArrayRef,
        });
        let batch = RecordBatch::try_new(Arc::clone(&file), arrays.collect()).unwrap();
        let adapter = defaults.create(Arc::clone(&table), file).unwrap();
        let column = Arc::new(Column::new(table.field(column).name(), column));
        let read = adapter.rewrite(column).unwrap().evaluate(&batch).unwrap();
        read.into_array(1).unwrap()
    }

    #[test]
    fn a_renamed_column_is_read_under_its_old_name() {
        let table = [field(2, "b", DataType::Utf8), field(1, "a", DataType::Utf8)];
        let file = [field(1, "b", DataType::Utf8), field(2, "a", DataType::Utf8)];
        for (at, value) in [(0, "a"), (1, "b")] {
            let found = read(&table, &file, FieldIds::default(), at);
            assert_eq!(found.as_string::<i32>().value(0), value);
        }
    }

    #[test]
    fn a_column_that_was_dropped_and_added_again_is_another_one() {
        let table = [field(3, "a", DataType::Utf8)];
        let file = [field(1, "a", DataType::Utf8)];
        assert_eq!(read(&table, &file, FieldIds::default(), 0).null_count(), 1);
        let defaults = HashMap::from([(3, ScalarValue::from("default"))]);
        let found = read(&table, &file, FieldIds::with_defaults(defaults), 0);
        assert_eq!(found.as_string::<i32>().value(0), "default");
    }

    #[test]
    fn a_promoted_column_is_cast_and_a_file_without_ids_is_read_by_name() {
        let table = [field(1, "a", DataType::Int64)];
        let found = read(
            &table,
            &[field(1, "old", DataType::Int32)],
            FieldIds::default(),
            0,
        );
        assert_eq!(found.as_primitive::<Int64Type>().value(0), 7);
        let plain = [Field::new("a", DataType::Int32, true)];
        let found = read(&table, &plain, FieldIds::default(), 0);
        assert_eq!(found.as_primitive::<Int64Type>().value(0), 7);
    }

    #[test]
    fn a_renamed_field_inside_a_struct_is_refused_not_read_as_null() {
        let of = |name: &str| {
            let inner = vec![field(2, name, DataType::Int32)];
            Arc::new(Schema::new(vec![field(
                1,
                "s",
                DataType::Struct(inner.into()),
            )]))
        };
        let refused = FieldIds::default().create(of("new"), of("old"));
        assert!(refused.unwrap_err().to_string().contains("column `s`"));
        assert!(FieldIds::default().create(of("same"), of("same")).is_ok());
    }
}
