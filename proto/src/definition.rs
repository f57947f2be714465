//! What a user says about a table: the JSON body that creates or evolves it.
//!
//! Invariant: an unknown field is refused by name, so a misspelt wish is never lost in silence.
//!
//! ```json
//! {"table":"todos","columns":[{"name":"id","type":"long"},{"name":"title","type":"string"}],"primaryKey":["id"]}
//! ```
//!
//! `sourceTable`, `softDelete`, `externalIdColumn` and a column's `references` are legacy fields: accepted and kept
//! out. `primaryKey` absent, empty or `["row_id"]` means that the client chooses row ids. `partitionBy` and `sortBy`
//! (`["day(created_at)"]`, `["created_at desc"]`) say how the rows lie in the lake; absent means: nothing particular for a
//! new table, as it is for one that exists.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::column_type::ColumnType;
use crate::columns;
use crate::id::{ColumnName, TableName};
use crate::layout::{PartitionField, SortField};
use crate::schema::SchemaError;

/// A wished column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireColumn")]
pub struct ColumnDefinition {
    /// Its name.
    pub name: ColumnName,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

/// A wished table.
///
/// ```
/// use lakesync_proto::{TableDefinition, TableSchema};
/// let body = r#"{"table":"todos","columns":[{"name":"title","type":"string"}]}"#;
/// let schema = TableSchema::from_definition(&TableDefinition::from_json(body.as_bytes())?)?;
/// assert_eq!((schema.version, schema.columns[0].number), (1, 1));
/// # Ok::<(), lakesync_proto::SchemaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireDefinition", rename_all = "camelCase")]
pub struct TableDefinition {
    /// Its name.
    pub table: TableName,
    /// Its columns.
    pub columns: Vec<ColumnDefinition>,
    /// The columns whose values make the row id; none when the client chooses row ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<ColumnName>,
    /// How its rows are divided; none when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<Vec<PartitionField>>,
    /// How the rows of its files are sorted; none when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_by: Option<Vec<SortField>>,
}

impl TableDefinition {
    /// Reads the JSON body.
    ///
    /// # Errors
    /// [`SchemaError::Malformed`] with the place and the reason.
    pub fn from_json(body: &[u8]) -> Result<TableDefinition, SchemaError> {
        let malformed = |reason: String| SchemaError::Malformed { reason };
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("the body must be a JSON object".to_owned()));
        }
        serde_json::from_slice(body).map_err(|e| malformed(e.to_string()))
    }

    /// Writes the JSON body.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and types are plain strings")
    }

    /// The wished column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|column| column.name == name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireColumn {
    name: ColumnName,
    #[serde(rename = "type")]
    column_type: ColumnType,
    #[serde(default, rename = "references")]
    _references: IgnoredAny,
}

impl From<WireColumn> for ColumnDefinition {
    fn from(wire: WireColumn) -> ColumnDefinition {
        ColumnDefinition {
            name: wire.name,
            column_type: wire.column_type,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireDefinition {
    table: TableName,
    columns: Vec<ColumnDefinition>,
    #[serde(default, rename = "primaryKey")]
    primary_key: Vec<String>,
    #[serde(default, rename = "partitionBy")]
    partition_by: Option<Vec<PartitionField>>,
    #[serde(default, rename = "sortBy")]
    sort_by: Option<Vec<SortField>>,
    #[serde(default, rename = "sourceTable")]
    _source_table: IgnoredAny,
    #[serde(default, rename = "softDelete")]
    _soft_delete: IgnoredAny,
    #[serde(default, rename = "externalIdColumn")]
    _external_id_column: IgnoredAny,
}

impl TryFrom<WireDefinition> for TableDefinition {
    type Error = String;

    fn try_from(wire: WireDefinition) -> Result<TableDefinition, String> {
        let primary_key = match wire.primary_key.as_slice() {
            [only] if only == columns::ROW_ID => Vec::new(),
            names => names
                .iter()
                .map(|name| ColumnName::parse(name).map_err(|e| format!("primaryKey: {e}")))
                .collect::<Result<_, _>>()?,
        };
        Ok(TableDefinition {
            table: wire.table,
            columns: wire.columns,
            primary_key,
            partition_by: wire.partition_by,
            sort_by: wire.sort_by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<TableDefinition, String> {
        TableDefinition::from_json(body.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn legacy_fields_are_accepted_and_kept_out() {
        let body = r#"{"table":"t","sourceTable":"s","softDelete":true,"externalIdColumn":"a","primaryKey":["row_id"],
            "columns":[{"name":"a","type":"string","references":{"table":"u","column":"b","cardinality":"many"}}]}"#;
        let definition = read(body).unwrap();
        assert_eq!(
            definition.to_json(),
            r#"{"table":"t","columns":[{"name":"a","type":"string"}]}"#
        );
        assert_eq!(read(&definition.to_json()).unwrap(), definition);
    }

    #[test]
    fn a_key_comes_back() {
        let body = r#"{"table":"t","columns":[{"name":"a","type":"int"}],"primaryKey":["a"]}"#;
        let definition = read(body).unwrap();
        assert_eq!(definition.primary_key, ["a"]);
        assert_eq!(definition.to_json(), body.replace("int", "long"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("", "must be a JSON object"),
            (r#"["t",[]]"#, "must be a JSON object"),
            ("{", "EOF"),
            (r#"{"columns":[]}"#, "missing field `table`"),
            (r#"{"table":"t"}"#, "missing field `columns`"),
            (
                r#"{"table":"t","columns":[],"primarykey":["a"]}"#,
                "unknown field `primarykey`",
            ),
            (
                r#"{"table":"t","columns":[{"name":"a","type":"string","nullable":true}]}"#,
                "unknown field `nullable`",
            ),
            (
                r#"{"table":"t","columns":[{"name":"a","type":"null"}]}"#,
                "Invalid column type \"null\"",
            ),
            (
                r#"{"table":"t","columns":[{"name":"row_id","type":"string"}]}"#,
                "reserved",
            ),
            (
                r#"{"table":"t","columns":[],"primaryKey":["row_id","a"]}"#,
                "primaryKey",
            ),
            (
                r#"{"table":"t","columns":[],"partitionBy":["week(a)"]}"#,
                "\"week(a)\" is no partition field",
            ),
            (
                r#"{"table":"t","columns":[],"sortBy":["a up"]}"#,
                "\"a up\" is no sort field",
            ),
            (r#"{"table":"t$x","columns":[]}"#, "no table name"),
            (r#"{"table":"t","columns":[]} x"#, "trailing"),
        ];
        for (body, reason) in cases {
            let error = read(body).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
    }
}
