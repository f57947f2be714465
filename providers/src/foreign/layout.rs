//! The columns of a foreign table: those it shows, and those that only its equality deletes still name.
//!
//! **Invariant:** the shown columns come first, in the order of the snapshot's schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{Literal, PrimitiveLiteral, SchemaRef as IcebergSchema};
use iceberg::table::Table;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::error::{Error, Result};
use crate::lake::LakeError;
use crate::scan::FieldIds;

/// Columns to read, and how they are found in files.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    shown: SchemaRef,
    read: SchemaRef,
    ids: Arc<FieldIds>,
}

impl Layout {
    /// Of `table`, which shows the columns of `schema`.
    pub(super) fn of(table: &Table, schema: &IcebergSchema) -> Result<Self> {
        let name = table.identifier();
        let metadata = table.metadata();
        let arrow = |schema: &IcebergSchema| -> Result<Schema> {
            let arrow = schema_to_arrow_schema(schema);
            Ok(arrow.map_err(LakeError::iceberg("read its schema", name))?)
        };
        let shown = arrow(schema)?;
        let mut read: Vec<FieldRef> = shown.fields().iter().map(Arc::clone).collect();
        for past in metadata.schemas_iter() {
            let past = arrow(past)?;
            let gone = |field: &&FieldRef| {
                let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY);
                let same = |known: &FieldRef| known.metadata().get(PARQUET_FIELD_ID_META_KEY) == id;
                !read.iter().any(same)
            };
            let gone: Vec<FieldRef> = past.fields().iter().filter(gone).map(Arc::clone).collect();
            // A name that no column can have: the table may have one of its old name.
            read.extend(gone.into_iter().map(|field| {
                let name = format!("\0{}", field.name());
                Arc::new(field.as_ref().clone().with_name(name).with_nullable(true))
            }));
        }
        Ok(Self {
            ids: Arc::new(FieldIds::with_defaults(defaults(schema, &shown)?)),
            shown: Arc::new(shown),
            read: Arc::new(Schema::new(read)),
        })
    }

    /// A column that may be null, found in files by its field id.
    pub(crate) fn column(id: i32, name: &str, data_type: DataType) -> FieldRef {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        let field = Field::new(name, data_type, true);
        Arc::new(field.with_metadata(HashMap::from([id])))
    }

    /// These columns and no others.
    pub(crate) fn only(fields: Vec<FieldRef>) -> Self {
        let schema = Arc::new(Schema::new(fields));
        Self {
            shown: Arc::clone(&schema),
            read: schema,
            ids: Arc::default(),
        }
    }

    /// What a query sees.
    pub(super) fn shown(&self) -> &SchemaRef {
        &self.shown
    }

    /// What is read from files.
    pub(crate) fn read(&self) -> &SchemaRef {
        &self.read
    }

    /// How columns are found in files.
    pub(crate) fn ids(&self) -> &Arc<FieldIds> {
        &self.ids
    }

    /// The column with this field id.
    pub(super) fn field(&self, id: i32) -> Option<&FieldRef> {
        let id = id.to_string();
        let same = |field: &&FieldRef| field.metadata().get(PARQUET_FIELD_ID_META_KEY) == Some(&id);
        self.read.fields().iter().find(same)
    }
}

/// What a column holds in the rows of files that are older than it (format version 3).
fn defaults(schema: &IcebergSchema, arrow: &Schema) -> Result<HashMap<i32, ScalarValue>> {
    let fields = schema.as_struct().fields().iter().zip(arrow.fields());
    let mut found = HashMap::new();
    for (field, arrow) in fields {
        if let Some(value) = &field.initial_default {
            let known = scalar(value, arrow.data_type());
            let known = known.ok_or_else(|| Error::ForeignFile {
                table: field.name.clone(),
                reason: format!("its default for old rows, {value:?}, has no form here"),
            })?;
            found.insert(field.id, known);
        }
    }
    Ok(found)
}

fn scalar(value: &Literal, column: &DataType) -> Option<ScalarValue> {
    let Literal::Primitive(value) = value else {
        return None;
    };
    let plain = match value {
        PrimitiveLiteral::Boolean(value) => ScalarValue::from(*value),
        PrimitiveLiteral::Int(value) => ScalarValue::from(*value),
        PrimitiveLiteral::Long(value) => ScalarValue::from(*value),
        PrimitiveLiteral::Float(value) => ScalarValue::from(value.0),
        PrimitiveLiteral::Double(value) => ScalarValue::from(value.0),
        PrimitiveLiteral::String(value) => ScalarValue::from(value.as_str()),
        PrimitiveLiteral::Int128(value) => match column {
            DataType::Decimal128(precision, scale) => {
                ScalarValue::Decimal128(Some(*value), *precision, *scale)
            }
            _ => return None,
        },
        _ => return None,
    };
    plain.cast_to(column).ok()
}
