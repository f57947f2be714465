//! Changing a schema: what Iceberg can do without rewriting a file, and nothing else.
//!
//! Invariant: every value written under an older version is still a value of its column, and every row keeps its id.

use crate::column_type::ColumnType;
use crate::definition::TableDefinition;
use crate::id::ColumnName;
use crate::layout::in_words;
use crate::layout_error::LayoutError;
use crate::schema::{Column, SchemaError, TableSchema};

/// One step from a schema to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaChange {
    /// A new optional column.
    AddColumn(Column),
    /// A column's type grows.
    WidenColumn {
        /// The column.
        name: ColumnName,
        /// Its type before.
        from: ColumnType,
        /// Its type after.
        to: ColumnType,
    },
    /// An optional column goes; its number is not used again.
    DropColumn(ColumnName),
}

/// A schema and the steps that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evolution {
    /// The new schema; its version is one more, unless nothing changed.
    pub schema: TableSchema,
    /// The steps: drops first, so that a name can be dropped and added again elsewhere; then widenings, then additions.
    pub changes: Vec<SchemaChange>,
}

impl TableSchema {
    /// The schema that satisfies `definition`, and how to get there. Columns that the definition leaves out are
    /// dropped; the order of columns means nothing.
    ///
    /// # Errors
    /// [`SchemaError`] naming the change that cannot be made: of the key, of a type, of the layout, or a dropped column
    /// of key or layout.
    pub fn evolve(&self, definition: &TableDefinition) -> Result<Evolution, SchemaError> {
        self.check_same_key(definition)?;
        self.check_same_layout(definition)?;
        // Names are compared here, so a definition that repeats one must be refused before.
        TableSchema::from_definition(definition)?;
        let mut schema = self.clone();
        let mut changes = schema.drop_missing(definition);
        changes.extend(schema.widen(definition)?);
        for column in &definition.columns {
            if self.column(column.name.as_str()).is_none() {
                changes.push(SchemaChange::AddColumn(schema.add(column)?.clone()));
            }
        }
        schema.check_shape()?;
        if !changes.is_empty() {
            schema.version += 1;
        }
        Ok(Evolution { schema, changes })
    }

    fn check_same_key(&self, definition: &TableDefinition) -> Result<(), SchemaError> {
        if definition.table != self.table {
            let (expected, found) = (self.table.clone(), definition.table.clone());
            return Err(SchemaError::OtherTable { expected, found });
        }
        if definition.primary_key != self.primary_key {
            let (from, to) = (self.primary_key.clone(), definition.primary_key.clone());
            return Err(SchemaError::KeyChanged { from, to });
        }
        match self
            .primary_key
            .iter()
            .find(|name| definition.column(name.as_str()).is_none())
        {
            Some(column) => Err(SchemaError::KeyColumnDropped {
                column: column.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A definition that says nothing of the layout leaves it as it is.
    fn check_same_layout(&self, definition: &TableDefinition) -> Result<(), LayoutError> {
        let partition_by = definition.partition_by.as_ref();
        let sort_by = definition.sort_by.as_ref();
        let partition_by = partition_by.unwrap_or(&self.partition_by);
        let sort_by = sort_by.unwrap_or(&self.sort_by);
        if *partition_by != self.partition_by || *sort_by != self.sort_by {
            return Err(LayoutError::Changed {
                held: in_words(&self.partition_by, &self.sort_by),
                wished: in_words(partition_by, sort_by),
            });
        }
        let partitioned = self.partition_by.iter();
        let partitioned = partitioned.map(|field| (&field.column, field.to_string()));
        let sorted = self.sort_by.iter();
        let sorted = sorted.map(|field| (&field.column, field.to_string()));
        let mut needed = partitioned.chain(sorted);
        match needed.find(|(column, _)| definition.column(column.as_str()).is_none()) {
            Some((column, field)) => Err(LayoutError::ColumnDropped {
                column: column.clone(),
                field,
            }),
            None => Ok(()),
        }
    }

    fn drop_missing(&mut self, definition: &TableDefinition) -> Vec<SchemaChange> {
        let missing = |column: &mut Column| definition.column(column.name.as_str()).is_none();
        let dropped: Vec<Column> = self.columns.extract_if(.., missing).collect();
        let changes = dropped
            .iter()
            .map(|column| SchemaChange::DropColumn(column.name.clone()))
            .collect();
        self.dropped.extend(dropped);
        changes
    }

    fn widen(&mut self, definition: &TableDefinition) -> Result<Vec<SchemaChange>, SchemaError> {
        let mut changes = Vec::new();
        for column in &mut self.columns {
            let (from, name) = (column.column_type, column.name.clone());
            let to = definition
                .column(name.as_str())
                .map_or(from, |wished| wished.column_type);
            if to == from {
                continue;
            }
            if !from.widens_to(to) {
                return Err(SchemaError::TypeChanged {
                    column: name,
                    from,
                    to,
                });
            }
            column.column_type = to;
            changes.push(SchemaChange::WidenColumn { name, from, to });
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(columns: &[(&str, &str)], key: &[&str]) -> TableDefinition {
        let columns = columns
            .iter()
            .map(|(name, t)| serde_json::json!({"name": name, "type": t}))
            .collect::<Vec<_>>();
        let body = serde_json::json!({"table": "t", "columns": columns, "primaryKey": key});
        TableDefinition::from_json(body.to_string().as_bytes()).unwrap()
    }

    fn schema(columns: &[(&str, &str)], key: &[&str]) -> TableSchema {
        TableSchema::from_definition(&definition(columns, key)).unwrap()
    }

    #[test]
    fn nothing_changes_without_a_change() {
        let before = schema(&[("a", "string"), ("b", "long")], &["a"]);
        let same = before
            .evolve(&definition(&[("b", "int"), ("a", "string")], &["a"]))
            .unwrap();
        assert_eq!(
            same,
            Evolution {
                schema: before.clone(),
                changes: Vec::new()
            }
        );
        assert_eq!(before.evolve(&before.definition()).unwrap().schema, before);
    }

    #[test]
    fn add_widen_and_drop_in_one_step() {
        let before = schema(
            &[("a", "string"), ("d", "decimal(5,2)"), ("x", "json")],
            &["a"],
        );
        let wish = definition(
            &[("n", "date"), ("d", "decimal(9,2)"), ("a", "string")],
            &["a"],
        );
        let Evolution {
            schema: after,
            changes,
        } = before.evolve(&wish).unwrap();
        let names: Vec<_> = after
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.number))
            .collect();
        assert_eq!(names, [("a", 1), ("d", 2), ("n", 4)]);
        assert_eq!((after.version, after.next_number), (2, 5));
        assert_eq!(after.dropped, before.columns[2..]);
        let [
            SchemaChange::DropColumn(x),
            SchemaChange::WidenColumn { name, from, to },
            SchemaChange::AddColumn(n),
        ] = changes.as_slice()
        else {
            panic!("{changes:?}");
        };
        assert_eq!((x.as_str(), name.as_str(), n.number), ("x", "d", 4));
        assert_eq!(
            (from.to_string(), to.to_string()),
            ("decimal(5,2)".into(), "decimal(9,2)".into())
        );
    }

    #[test]
    fn a_name_that_comes_back_gets_a_new_number() {
        let first = schema(&[("a", "string"), ("b", "string")], &[]);
        let without = first
            .evolve(&definition(&[("a", "string")], &[]))
            .unwrap()
            .schema;
        let again = without
            .evolve(&definition(&[("a", "string"), ("b", "long")], &[]))
            .unwrap()
            .schema;
        assert_eq!(without.dropped_column("b").map(|c| c.number), Some(2));
        assert_eq!(again.column("b").map(|c| c.number), Some(3));
        assert_eq!(
            again.dropped_column("b"),
            None,
            "the living column stands before the dropped one"
        );
        assert_eq!((again.version, again.dropped.len()), (3, 1));
    }

    #[test]
    fn what_cannot_change_is_named() {
        let before = schema(
            &[("k", "long"), ("d", "decimal(5,2)"), ("s", "string")],
            &["k"],
        );
        let refused = |columns: &[(&str, &str)], key: &[&str]| {
            before.evolve(&definition(columns, key)).unwrap_err()
        };
        let all = [("k", "long"), ("d", "decimal(5,2)"), ("s", "string")];
        assert!(matches!(refused(&all, &[]), SchemaError::KeyChanged { .. }));
        assert!(matches!(
            refused(&all, &["s"]),
            SchemaError::KeyChanged { .. }
        ));
        assert!(matches!(
            refused(&all[1..], &["k"]),
            SchemaError::KeyColumnDropped { .. }
        ));
        for (name, to) in [
            ("s", "json"),
            ("k", "number"),
            ("d", "decimal(9,3)"),
            ("d", "decimal(4,2)"),
        ] {
            let changed: Vec<_> = all
                .iter()
                .map(|(n, t)| (*n, if *n == name { to } else { *t }))
                .collect();
            let error = refused(&changed, &["k"]);
            assert!(
                matches!(&error, SchemaError::TypeChanged { column, .. } if *column == name),
                "{error}"
            );
            assert!(error.is_conflict());
        }
        let twice = refused(&[("k", "long"), ("K", "long")], &["k"]);
        assert!(matches!(twice, SchemaError::DuplicateColumn { .. }) && !twice.is_conflict());
        let other = TableDefinition {
            table: "u".parse().unwrap(),
            ..before.definition()
        };
        assert!(matches!(
            before.evolve(&other),
            Err(SchemaError::OtherTable { .. })
        ));
    }

    #[test]
    fn the_native_form_comes_back() {
        let first = schema(&[("a", "string"), ("b", "decimal(5,2)")], &["a"]);
        let second = first
            .evolve(&definition(&[("a", "string")], &["a"]))
            .unwrap()
            .schema;
        for schema in [&first, &second] {
            assert_eq!(&TableSchema::from_json(&schema.to_json()).unwrap(), schema);
        }
        assert_ne!(first.hash(), second.hash());
        assert_eq!(
            second.to_json(),
            r#"{"format":1,"table":"t","version":2,"columns":[{"name":"a","type":"string","number":1}],"#.to_owned()
                + r#""primaryKey":["a"],"dropped":[{"name":"b","type":"decimal(5,2)","number":2}],"nextNumber":3}"#
        );
    }

    #[test]
    fn a_native_form_that_breaks_the_rules_is_refused() {
        let good = schema(&[("a", "string"), ("b", "long")], &["a"]).to_json();
        let cases = [
            ("\"format\":1", "\"format\":2", "format 2"),
            ("\"version\":1", "\"version\":0", "count from 1"),
            ("\"number\":2", "\"number\":1", "number 1"),
            ("\"number\":2", "\"number\":3", "number 3"),
            ("\"number\":1", "\"number\":0", "number 0"),
            ("\"name\":\"b\"", "\"name\":\"A\"", "twice"),
            ("[\"a\"]", "[\"c\"]", "no column of the table"),
            ("[\"a\"]", "[\"a\",\"a\"]", "twice"),
            ("\"dropped\":[]", "\"droped\":[]", "droped"),
            ("\"nextNumber\":3}", "\"nextNumber\":3", "EOF"),
        ];
        for (from, to, reason) in cases {
            let error = TableSchema::from_json(&good.replace(from, to))
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{to}: {error}");
        }
    }

    #[test]
    fn a_first_version_is_checked() {
        let refused = |columns: &[(&str, &str)], key: &[&str]| {
            TableSchema::from_definition(&definition(columns, key)).unwrap_err()
        };
        assert_eq!(refused(&[], &[]), SchemaError::NoColumns);
        assert!(matches!(
            refused(&[("a", "json")], &["a"]),
            SchemaError::KeyColumnJson { .. }
        ));
        assert!(matches!(
            refused(&[("a", "long")], &["b"]),
            SchemaError::KeyColumnUnknown { .. }
        ));
        let names: Vec<String> = (0..1_001).map(|i| format!("c{i}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "long")).collect();
        assert!(matches!(
            refused(&many, &[]),
            SchemaError::TooManyColumns {
                count: 1_001,
                limit: 1_000
            }
        ));
        assert!(TableSchema::from_definition(&definition(&many[..1_000], &[])).is_ok());
    }

    #[test]
    fn numbers_run_out_by_name() {
        let mut schema = schema(&[("a", "string")], &[]);
        schema.next_number = crate::limits::COLUMN_NUMBERS_MAX + 1;
        let error = schema
            .evolve(&definition(&[("a", "string"), ("b", "string")], &[]))
            .unwrap_err();
        assert!(matches!(error, SchemaError::NumbersExhausted { .. }));
    }
}
