//! The key columns of a row, read back from its row id.
//!
//! Invariant: key columns are a function of the row id and nothing else. A key never changes, so no write decides its
//! columns and no delete hides them: a row that was revived by an update of one column still has its whole key.

use serde_json::value::RawValue;

use crate::canonical::write_string;
use crate::column_type::ColumnType;
use crate::id::{ColumnName, RowId};
use crate::row_id::{RowIdError, row_id_of};
use crate::schema::TableSchema;
use crate::value::Value;

impl TableSchema {
    /// The key columns of the row with this id, in the order of the primary key; none for a table without a key.
    ///
    /// # Errors
    /// [`RowIdError::NotAKey`] when the id is not what [`row_id_of`] writes for a key of this table.
    pub fn key_values(&self, row_id: &RowId) -> Result<Vec<(ColumnName, Value)>, RowIdError> {
        let values = match self.primary_key.as_slice() {
            [] => return Ok(Vec::new()),
            [column] => self.single(column, row_id).map(|value| vec![value]),
            columns => self.several(columns, row_id),
        };
        let values = values.filter(|values| {
            let key: Vec<&Value> = values.iter().collect();
            row_id_of(&key).is_ok_and(|id| id == *row_id)
        });
        let values = values.ok_or_else(|| RowIdError::NotAKey {
            row_id: row_id.clone(),
            key: self
                .primary_key
                .iter()
                .map(ColumnName::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        Ok(self.primary_key.iter().cloned().zip(values).collect())
    }

    fn single(&self, column: &ColumnName, row_id: &RowId) -> Option<Value> {
        let column_type = self.column(column.as_str())?.column_type;
        let text = row_id.as_str();
        match column_type {
            ColumnType::String => Some(Value::from(text)),
            ColumnType::Number | ColumnType::Long | ColumnType::Boolean => {
                Value::from_json_text(text, column_type).ok()
            }
            _ => {
                let mut quoted = String::with_capacity(text.len() + 2);
                write_string(text, &mut quoted);
                Value::from_json_text(&quoted, column_type).ok()
            }
        }
    }

    fn several(&self, columns: &[ColumnName], row_id: &RowId) -> Option<Vec<Value>> {
        let elements: Vec<&RawValue> = serde_json::from_str(row_id.as_str()).ok()?;
        if elements.len() != columns.len() {
            return None;
        }
        let values = columns.iter().zip(elements).map(|(column, element)| {
            let column_type = self.column(column.as_str())?.column_type;
            Value::from_json_text(element.get(), column_type).ok()
        });
        values.collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Decimal, RowId, TableDefinition, TableSchema, Value, row_id_of};

    const COLUMNS: [(&str, &str); 8] = [
        ("s", "string"),
        ("n", "number"),
        ("l", "long"),
        ("b", "boolean"),
        ("m", "decimal(9,2)"),
        ("d", "date"),
        ("t", "timestamp"),
        ("x", "binary"),
    ];

    fn schema(key: &[&str]) -> TableSchema {
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, kind)| format!(r#"{{"name":"{name}","type":"{kind}"}}"#))
            .collect();
        let body = format!(
            r#"{{"table":"t","columns":[{}],"primaryKey":{key:?}}}"#,
            columns.join(",")
        );
        TableSchema::from_definition(&TableDefinition::from_json(body.as_bytes()).unwrap()).unwrap()
    }

    fn values() -> Vec<Value> {
        let decimal = Decimal {
            unscaled: -5,
            scale: 2,
        };
        vec![
            Value::from("é\"[,]"),
            Value::Number(1e-7),
            Value::Long(i64::MIN),
            Value::Boolean(true),
            Value::Decimal(decimal),
            Value::Date(-1),
            Value::Timestamp(-1),
            Value::Binary(vec![0, 255]),
        ]
    }

    #[test]
    fn every_type_comes_back_alone_and_in_a_composite_key() {
        for ((name, _), value) in COLUMNS.iter().zip(values()) {
            let id = row_id_of(&[&value]).unwrap();
            let key = schema(&[name]).key_values(&id).unwrap();
            assert_eq!(key.len(), 1);
            assert_eq!((key[0].0.as_str(), &key[0].1), (*name, &value));
        }
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let all = values();
        let id = row_id_of(&all.iter().collect::<Vec<_>>()).unwrap();
        let key = schema(&names).key_values(&id).unwrap();
        assert_eq!(
            key.into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
            all
        );
    }

    #[test]
    fn an_id_in_another_spelling_is_no_key() {
        let check = |key: &[&str], id: &str| {
            schema(key)
                .key_values(&RowId::parse(id).unwrap())
                .unwrap_err()
        };
        check(&["l"], "007");
        check(&["l"], "x");
        check(&["d"], "2024-1-1");
        check(&["s", "l"], "[\"a\", 1]");
        check(&["s", "l"], "[\"a\"]");
        check(&["s", "l"], "a");
        assert!(
            schema(&[])
                .key_values(&RowId::parse("anything").unwrap())
                .unwrap()
                .is_empty()
        );
    }
}
