//! How a table's rows lie in the lake: its partitions, and the order of rows in its files.
//!
//! ```text
//! partition  country │ day(created_at) │ month(…) │ year(…) │ hour(…) │ bucket(16, id) │ truncate(3, name)
//! order      created_at │ created_at desc │ name asc nulls first
//! ```
//! The texts are those of SQL and of the JSON body; the transforms are Iceberg's. Clients ignore both.
//!
//! **Invariant**: what a table was made with stays: its columns cannot be dropped, and no column takes the name of a
//! partition field, which stands in every manifest.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::column_type::ColumnType;
use crate::id::ColumnName;
use crate::layout_error::LayoutError;
use crate::limits::{BUCKETS_MAX, LAYOUT_FIELDS_MAX, TRUNCATE_WIDTH_MAX};
use crate::number::parse_u64;
use crate::schema::TableSchema;

/// What a partition takes of a column's value. Null is a partition of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionTransform {
    /// The value.
    Identity,
    /// The year, in UTC.
    Year,
    /// The month, in UTC.
    Month,
    /// The day, in UTC.
    Day,
    /// The hour, in UTC.
    Hour,
    /// One of so many even parts, by a hash of the value.
    Bucket(u32),
    /// The first characters, or the number rounded down to a multiple, of this width.
    Truncate(u32),
}

impl PartitionTransform {
    /// Its name in SQL; none for the value itself.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            PartitionTransform::Identity => return None,
            PartitionTransform::Year => "year",
            PartitionTransform::Month => "month",
            PartitionTransform::Day => "day",
            PartitionTransform::Hour => "hour",
            PartitionTransform::Bucket(_) => "bucket",
            PartitionTransform::Truncate(_) => "truncate",
        })
    }

    /// The transform of this name, any case, with the number that `bucket` and `truncate` take and no other does.
    ///
    /// # Errors
    /// [`LayoutError::Text`] for another name or number.
    pub fn named(name: &str, number: Option<u64>) -> Result<PartitionTransform, LayoutError> {
        let within = |most: u32| {
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.filter(|number| (1..=most).contains(number))
        };
        let transform = match (name.to_ascii_lowercase().as_str(), number) {
            ("year", None) => Some(PartitionTransform::Year),
            ("month", None) => Some(PartitionTransform::Month),
            ("day", None) => Some(PartitionTransform::Day),
            ("hour", None) => Some(PartitionTransform::Hour),
            ("bucket", Some(_)) => within(BUCKETS_MAX).map(PartitionTransform::Bucket),
            ("truncate", Some(_)) => within(TRUNCATE_WIDTH_MAX).map(PartitionTransform::Truncate),
            _ => None,
        };
        transform.ok_or_else(|| {
            let number = number.map_or_else(String::new, |number| format!("{number}, "));
            LayoutError::partition(&format!("{name}({number}…)"))
        })
    }

    /// Whether Iceberg has this transform for the type, and its values are good for partitions.
    fn takes(self, column_type: ColumnType) -> bool {
        use ColumnType as T;
        match self {
            // Floats have two zeros, and documents and bytes make a partition of almost every row.
            PartitionTransform::Identity => !matches!(column_type, T::Number | T::Json | T::Binary),
            PartitionTransform::Year | PartitionTransform::Month | PartitionTransform::Day => {
                matches!(column_type, T::Date | T::Timestamp)
            }
            PartitionTransform::Hour => column_type == T::Timestamp,
            PartitionTransform::Bucket(_) => {
                !matches!(column_type, T::Number | T::Boolean | T::Json)
            }
            // Of decimals and bytes not every Iceberg library can.
            PartitionTransform::Truncate(_) => matches!(column_type, T::String | T::Long),
        }
    }

    /// Transforms of one kind would be the same of a column, or contain one another.
    fn kind(self) -> u8 {
        match self {
            PartitionTransform::Identity => 0,
            PartitionTransform::Year
            | PartitionTransform::Month
            | PartitionTransform::Day
            | PartitionTransform::Hour => 1,
            PartitionTransform::Bucket(_) => 2,
            PartitionTransform::Truncate(_) => 3,
        }
    }
}

/// As in a field, without the column: `bucket(16)`, `day`, `identity`.
impl fmt::Display for PartitionTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("identity");
        match self {
            PartitionTransform::Bucket(n) | PartitionTransform::Truncate(n) => {
                f.pad(&format!("{name}({n})"))
            }
            _ => f.pad(name),
        }
    }
}

/// One field of a table's partitioning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    /// The column.
    pub column: ColumnName,
    /// What is taken of it.
    pub transform: PartitionTransform,
}

impl PartitionField {
    /// The field's name in Iceberg, as other engines name such fields too.
    pub fn field_name(&self) -> String {
        match self.transform {
            PartitionTransform::Truncate(_) => format!("{}_trunc", self.column),
            transform => match transform.name() {
                Some(name) => format!("{}_{name}", self.column),
                None => self.column.to_string(),
            },
        }
    }
}

impl fmt::Display for PartitionField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        let text = match (self.transform, self.transform.name()) {
            (PartitionTransform::Bucket(n) | PartitionTransform::Truncate(n), Some(name)) => {
                format!("{name}({n}, {column})")
            }
            (_, Some(name)) => format!("{name}({column})"),
            (_, None) => column.to_string(),
        };
        f.pad(&text)
    }
}

impl FromStr for PartitionField {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<PartitionField, LayoutError> {
        let refused = || LayoutError::partition(text);
        let column = |name: &str| ColumnName::parse(name.trim()).map_err(|_| refused());
        let Some((name, rest)) = text.split_once('(') else {
            return Ok(PartitionField {
                column: column(text)?,
                transform: PartitionTransform::Identity,
            });
        };
        let inner = rest.trim_end().strip_suffix(')').ok_or_else(refused)?;
        let (number, of) = match inner.split_once(',') {
            Some((number, of)) => (Some(parse_u64(number.trim()).ok_or_else(refused)?), of),
            None => (None, inner),
        };
        let transform = PartitionTransform::named(name.trim(), number).map_err(|_| refused())?;
        Ok(PartitionField {
            column: column(of)?,
            transform,
        })
    }
}

/// Which way rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortDirection {
    /// Least first.
    Ascending,
    /// Greatest first.
    Descending,
}

/// Where rows without a value stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullOrder {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

impl SortDirection {
    /// Where `ORDER BY` puts nulls when nothing is said.
    pub fn usual_nulls(self) -> NullOrder {
        match self {
            SortDirection::Ascending => NullOrder::Last,
            SortDirection::Descending => NullOrder::First,
        }
    }
}

/// One field of a table's sort order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortField {
    /// The column.
    pub column: ColumnName,
    /// Which way.
    pub direction: SortDirection,
    /// Where nulls stand.
    pub nulls: NullOrder,
}

impl fmt::Display for SortField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            SortDirection::Ascending => "",
            SortDirection::Descending => " desc",
        };
        let nulls = match self.nulls {
            nulls if nulls == self.direction.usual_nulls() => "",
            NullOrder::First => " nulls first",
            NullOrder::Last => " nulls last",
        };
        f.pad(&format!("{}{direction}{nulls}", self.column))
    }
}

impl FromStr for SortField {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<SortField, LayoutError> {
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split_ascii_whitespace().collect();
        let (direction, rest) = match words.get(1) {
            Some(&"asc") => (SortDirection::Ascending, 2),
            Some(&"desc") => (SortDirection::Descending, 2),
            _ => (SortDirection::Ascending, 1),
        };
        let nulls = match words.get(rest..).unwrap_or_default() {
            [] => direction.usual_nulls(),
            ["nulls", "first"] => NullOrder::First,
            ["nulls", "last"] => NullOrder::Last,
            _ => return Err(LayoutError::sort(text)),
        };
        // From the text itself: names keep their case.
        let column = text.split_ascii_whitespace().next().unwrap_or_default();
        Ok(SortField {
            column: ColumnName::parse(column).map_err(|_| LayoutError::sort(text))?,
            direction,
            nulls,
        })
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                Cow::<'_, str>::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

serde_as_text!(PartitionField);
serde_as_text!(SortField);

/// Fields as a list in SQL.
pub(crate) fn listed<F: fmt::Display>(fields: &[F]) -> String {
    let fields: Vec<String> = fields.iter().map(F::to_string).collect();
    fields.join(", ")
}

/// What a layout says, in words for an error.
pub(crate) fn in_words(partition_by: &[PartitionField], sort_by: &[SortField]) -> String {
    let part = |what: &str, fields: String| match fields.as_str() {
        "" => format!("not {what}"),
        fields => format!("{what} by ({fields})"),
    };
    let (partitioned, sorted) = (listed(partition_by), listed(sort_by));
    format!(
        "{} and {}",
        part("partitioned", partitioned),
        part("sorted", sorted)
    )
}

/// The rules of a layout, against the columns of its table.
pub(crate) fn check(schema: &TableSchema) -> Result<(), LayoutError> {
    let count = schema.partition_by.len().max(schema.sort_by.len());
    if count > LAYOUT_FIELDS_MAX {
        return Err(LayoutError::TooMany { count });
    }
    for (i, field) in schema.partition_by.iter().enumerate() {
        let column_type = type_of(schema, &field.column, field)?;
        let (column, text) = (field.column.clone(), field.to_string());
        if !field.transform.takes(column_type) {
            return Err(LayoutError::Type {
                field: text,
                column,
                column_type,
                advice: advice(column_type),
            });
        }
        let same = |other: &PartitionField| {
            other.column == column && other.transform.kind() == field.transform.kind()
        };
        if schema.partition_by[..i].iter().any(same) {
            return Err(LayoutError::Redundant {
                field: text,
                column,
            });
        }
        let name = field.field_name();
        let taken = |other: &&crate::schema::Column| {
            other.name != column && other.name.as_str().eq_ignore_ascii_case(&name)
        };
        if let Some(other) = schema.columns.iter().find(taken) {
            return Err(LayoutError::NameTaken {
                column: other.name.clone(),
                field: field.clone(),
            });
        }
    }
    for (i, field) in schema.sort_by.iter().enumerate() {
        let column_type = type_of(schema, &field.column, field)?;
        let (column, text) = (field.column.clone(), field.to_string());
        if column_type == ColumnType::Json {
            return Err(LayoutError::Type {
                field: text,
                column,
                column_type,
                advice: "documents have no order: sort by another column",
            });
        }
        if schema.sort_by[..i]
            .iter()
            .any(|other| other.column == column)
        {
            return Err(LayoutError::Redundant {
                field: text,
                column,
            });
        }
    }
    Ok(())
}

fn type_of(
    schema: &TableSchema,
    column: &ColumnName,
    field: &dyn fmt::Display,
) -> Result<ColumnType, LayoutError> {
    let found = schema.column(column.as_str());
    let found = found.ok_or_else(|| LayoutError::ColumnUnknown {
        field: field.to_string(),
        column: column.clone(),
    })?;
    Ok(found.column_type)
}

/// How a column of this type can make partitions.
fn advice(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::String | ColumnType::Long => {
            "it can be a field itself, or in bucket and truncate"
        }
        ColumnType::Decimal { .. } => "it can be a field itself, or in bucket",
        ColumnType::Boolean => "it can be a field itself only",
        ColumnType::Date => "it can be a field itself, or in year, month, day and bucket",
        ColumnType::Timestamp => {
            "it can be a field itself, or in year, month, day, hour and bucket"
        }
        ColumnType::Binary => "it can be in bucket only",
        ColumnType::Number | ColumnType::Json => {
            "columns of that type make no partitions: take another"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::TableDefinition;
    use crate::schema::SchemaError;

    fn table(partition_by: &str, sort_by: &str) -> Result<TableSchema, SchemaError> {
        let types = [
            "string",
            "number",
            "long",
            "boolean",
            "json",
            "decimal(9,2)",
            "date",
            "timestamp",
            "binary",
        ];
        let columns: Vec<_> = types
            .iter()
            .map(|t| serde_json::json!({"name": t.split('(').next(), "type": t}))
            .collect();
        let list = |text: &str| -> Vec<String> {
            text.split(';')
                .filter(|f| !f.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let body = serde_json::json!({
            "table": "t", "columns": columns, "partitionBy": list(partition_by), "sortBy": list(sort_by),
        });
        TableSchema::from_definition(&TableDefinition::from_json(body.to_string().as_bytes())?)
    }

    #[test]
    fn texts_come_back() {
        for (text, same) in [
            ("a", "a"),
            ("DAY( a )", "day(a)"),
            ("bucket(16,a)", "bucket(16, a)"),
            (" truncate ( 3 , A )", "truncate(3, A)"),
        ] {
            let field: PartitionField = text.parse().unwrap();
            assert_eq!(field.to_string(), same);
            assert_eq!(same.parse(), Ok(field));
        }
        for (text, same) in [
            ("a", "a"),
            ("a ASC nulls LAST", "a"),
            ("A desc", "A desc"),
            ("a desc nulls first", "a desc"),
            ("a desc nulls last", "a desc nulls last"),
            ("a nulls first", "a nulls first"),
        ] {
            let field: SortField = text.parse().unwrap();
            assert_eq!(field.to_string(), same);
            assert_eq!(same.parse(), Ok(field));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "day",
            "row_id",
            "day(a",
            "day(a))",
            "day(1, a)",
            "bucket(a)",
            "bucket(0, a)",
            "bucket(5000, a)",
            "truncate(-1, a)",
            "week(a)",
            "a b",
            "day(a, 1)",
            "bucket(1, a, b)",
        ] {
            let read = text.parse::<PartitionField>();
            // `day` alone is a column of that name.
            assert_eq!(read.is_err(), text != "day", "{text}");
        }
        for text in [
            "",
            "a b",
            "a asc asc",
            "a nulls",
            "a nulls maybe",
            "row_id",
            "day(a)",
            "a desc nulls first x",
        ] {
            assert!(text.parse::<SortField>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_transform_takes_its_types() {
        let all = [
            "string",
            "number",
            "long",
            "boolean",
            "json",
            "decimal",
            "date",
            "timestamp",
            "binary",
        ];
        for (transform, takes) in [
            ("{}", "string long boolean decimal date timestamp"),
            ("year({})", "date timestamp"),
            ("month({})", "date timestamp"),
            ("day({})", "date timestamp"),
            ("hour({})", "timestamp"),
            ("bucket(7, {})", "string long decimal date timestamp binary"),
            ("truncate(7, {})", "string long"),
        ] {
            for column in all {
                let made = table(&transform.replace("{}", column), "");
                let taken = takes.split(' ').any(|name| name == column);
                assert_eq!(made.is_ok(), taken, "{transform} of {column}: {made:?}");
            }
        }
    }

    #[test]
    fn a_layout_is_checked_against_its_table() {
        for (partition_by, sort_by, said) in [
            ("nothing", "", "no column nothing"),
            ("day(date);month(date)", "", "keep one"),
            ("long;long", "", "keep one"),
            ("", "long;long desc", "keep one"),
            ("", "json", "no order"),
            ("", "nothing", "no column nothing"),
            ("number", "", "make no partitions"),
        ] {
            let error = table(partition_by, sort_by).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert!(!error.is_conflict());
        }
        let many = ["string"; LAYOUT_FIELDS_MAX + 1].join(";");
        assert!(
            table("", &many)
                .unwrap_err()
                .to_string()
                .contains("at most")
        );
        let good = table("day(date);bucket(4, date);string", "number;long desc").unwrap();
        assert_eq!(TableSchema::from_json(&good.to_json()).unwrap(), good);
        assert!(good.to_json().ends_with(
            r#""nextNumber":10,"partitionBy":["day(date)","bucket(4, date)","string"],"sortBy":["number","long desc"]}"#
        ));
    }

    #[test]
    fn what_a_table_was_made_with_stays() {
        let held = table("day(date)", "long").unwrap();
        let mut definition = held.definition();
        assert_eq!(held.evolve(&definition).unwrap().schema, held);
        (definition.partition_by, definition.sort_by) = (None, None);
        assert_eq!(
            held.evolve(&definition).unwrap().schema,
            held,
            "unsaid is unchanged"
        );

        let refused = |change: &dyn Fn(&mut TableDefinition)| {
            let mut definition = held.definition();
            change(&mut definition);
            held.evolve(&definition).unwrap_err()
        };
        for error in [
            refused(&|wish| wish.partition_by = Some(Vec::new())),
            refused(&|wish| wish.sort_by = Some(Vec::new())),
            refused(&|wish| wish.columns.retain(|column| column.name != "long")),
            refused(&|wish| wish.columns.retain(|column| column.name != "date")),
        ] {
            assert!(error.is_conflict(), "{error}");
        }
        let taken = refused(&|wish| {
            let mut column = wish.columns[0].clone();
            column.name = "Date_Day".parse().unwrap();
            wish.columns.push(column);
        });
        assert!(
            taken
                .to_string()
                .contains("name of the partition field `day(date)`"),
            "{taken}"
        );
    }
}
