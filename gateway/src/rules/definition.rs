//! Sync rules as they are written: a version and buckets, in JSON.
//!
//! ```text
//! {"version": 3, "buckets": [
//!   {"name": "mine",   "tables": ["todos"], "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}], "write": true},
//!   {"name": "public", "tables": [],        "where": "visibility = 'public' or reviewer = jwt('sub')"}]}
//! ```
//! **Invariant:** what was read is written back with the same meaning; a field that nobody knows is refused by name,
//! since a rule that was misspelt would show rows to everybody.

use std::collections::BTreeSet;

use lakesync_proto::{ErrorCode, TableName};
use lakesync_providers::predicate::{Filter, check_sql};
use serde::{Deserialize, Serialize};

use crate::error::Refusal;

/// The largest definition, in bytes of JSON: it is kept in the catalog and in the gateway's database, and read
/// whole at every opening.
const DEFINITION_BYTES_MAX: usize = 64 << 10;
/// The most buckets: every one of a table is evaluated for every delta of it.
const BUCKETS_MAX: usize = 100;
/// The most filters of a bucket.
const FILTERS_MAX: usize = 100;
/// The longest name of a bucket, in bytes, for it stands in answers and logs.
const NAME_BYTES_MAX: usize = 256;

/// Rows that belong together: all of some tables for which a condition holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Its name, unique in the set.
    pub name: String,
    /// The tables it is about; empty for all.
    #[serde(default)]
    pub tables: Vec<TableName>,
    /// Conditions in JSON; all of them must hold.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// A condition in SQL, which must hold too.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub where_sql: Option<String>,
    /// Whether its rows may be written by whoever may see them, and those of its tables by nobody else.
    #[serde(default, skip_serializing_if = "is_false")]
    pub write: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl Bucket {
    /// Whether the bucket is about `table`.
    #[must_use]
    pub fn names(&self, table: &TableName) -> bool {
        self.tables.is_empty() || self.tables.contains(table)
    }

    /// Whether it holds every row of its tables, for everybody.
    fn is_unconditional(&self) -> bool {
        self.filters.is_empty() && self.where_sql.is_none()
    }
}

/// What a bucket asks of a row: its filters and its SQL.
pub(super) type Condition<'a> = (&'a [Filter], Option<&'a str>);

/// All sync rules of a gateway. Without buckets everybody sees everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// Counts the changes, from 1; who changes the rules raises it.
    pub version: u64,
    /// The buckets: a row is seen when any of them holds it.
    pub buckets: Vec<Bucket>,
}

impl RuleSet {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`ErrorCode::ValidationError`] naming the bucket at fault, the unknown field, or the limit.
    pub fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        if json.len() > DEFINITION_BYTES_MAX {
            let bytes = json.len();
            return Err(refused(format!(
                "they have {bytes} bytes, {DEFINITION_BYTES_MAX} are allowed; make fewer buckets with wider conditions"
            )));
        }
        let set: Self = serde_json::from_slice(json).map_err(|error| refused(error.to_string()))?;
        set.check()?;
        Ok(set)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names, texts and numbers are plain JSON")
    }

    /// What decides who sees a row of `table`: the conditions of its buckets, whatever their names; none when
    /// everybody sees everything.
    pub(super) fn seen(&self, table: &TableName) -> Option<BTreeSet<Condition<'_>>> {
        let buckets = self.buckets.iter().filter(|bucket| bucket.names(table));
        let mut conditions = BTreeSet::new();
        for bucket in buckets {
            if bucket.is_unconditional() {
                return None;
            }
            conditions.insert((bucket.filters.as_slice(), bucket.where_sql.as_deref()));
        }
        (!self.buckets.is_empty()).then_some(conditions)
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.version == 0 {
            return Err(refused("version: versions count from 1"));
        }
        if self.buckets.len() > BUCKETS_MAX {
            let count = self.buckets.len();
            return Err(refused(format!(
                "there are {count} buckets, {BUCKETS_MAX} are allowed; \
                 a bucket for each client is one bucket with a claim"
            )));
        }
        let mut names = BTreeSet::new();
        for bucket in &self.buckets {
            let name = &bucket.name;
            bucket.check().map_err(|reason| in_bucket(name, &reason))?;
            if !names.insert(name.as_str()) {
                return Err(in_bucket(name, "another bucket has this name"));
            }
        }
        Ok(())
    }
}

impl Bucket {
    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes"));
        }
        if self.filters.len() > FILTERS_MAX {
            let count = self.filters.len();
            return Err(format!(
                "it has {count} filters, {FILTERS_MAX} are allowed; write it as SQL in `where`"
            ));
        }
        if let Some(sql) = &self.where_sql {
            check_sql(sql).map_err(|error| format!("where: {error}"))?;
        }
        for (index, filter) in self.filters.iter().enumerate() {
            if filter.value.is_empty() || filter.claim() == Some("") {
                return Err(format!(
                    "filter {index}: its value must be a non-empty text, or jwt: and the name of a claim"
                ));
            }
        }
        Ok(())
    }
}

pub(crate) fn refused(reason: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        ErrorCode::ValidationError,
        format!("Invalid sync rules: {reason}"),
    )
}

pub(crate) fn in_bucket(name: &str, reason: &str) -> Refusal {
    refused(format!("bucket `{name}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_as_they_were_written() {
        let json = r#"{"version":3,"buckets":[{"name":"mine","tables":["todos"],"filters":[{"column":"owner","op":"eq","value":"jwt:sub"}],"where":"done = false","write":true},{"name":"all","tables":[],"filters":[]}]}"#;
        let set = RuleSet::from_json(json.as_bytes()).unwrap();
        assert_eq!(set.to_json(), json);
        let todos = TableName::parse("todos").unwrap();
        let other = TableName::parse("other").unwrap();
        let named = |table| {
            set.buckets
                .iter()
                .map(|b| b.names(table))
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&todos), [true, true]);
        assert_eq!(named(&other), [false, true]);
        let short = RuleSet::from_json(br#"{"version":1,"buckets":[{"name":"all"}]}"#).unwrap();
        assert!(short.buckets[0].tables.is_empty());
    }

    #[test]
    fn rules_that_are_none_are_refused_with_the_reason() {
        let bucket = |body: &str| format!(r#"{{"version":1,"buckets":[{{"name":"b",{body}}}]}}"#);
        let filter = |body: &str| bucket(&format!(r#""filters":[{{{body}}}]"#));
        let many = vec![r#"{"column":"c","op":"eq","value":"v"}"#; FILTERS_MAX + 1].join(",");
        let buckets: Vec<String> = (0..=BUCKETS_MAX)
            .map(|n| format!(r#"{{"name":"b{n}"}}"#))
            .collect();
        let cases = [
            ("".to_owned(), "Invalid sync rules"),
            (r#"{"buckets":[]}"#.to_owned(), "missing field `version`"),
            (r#"{"version":0,"buckets":[]}"#.to_owned(), "count from 1"),
            (r#"{"version":-1,"buckets":[]}"#.to_owned(), "invalid value"),
            (
                r#"{"version":1,"buckets":[],"x":1}"#.to_owned(),
                "unknown field `x`",
            ),
            (bucket(r#""wher":"true""#), "unknown field `wher`"),
            (bucket(r#""tables":["a b"]"#), "a b"),
            (
                bucket(r#""where":"done = ""#),
                "bucket `b`: where: Expected: an expression",
            ),
            (
                filter(r#""column":"c","op":"like","value":"v""#),
                "unknown variant `like`",
            ),
            (filter(r#""column":"c","op":"eq","value":"""#), "non-empty"),
            (
                filter(r#""column":"c","op":"eq","value":"jwt:""#),
                "non-empty",
            ),
            (
                filter(r#""column":"c","op":"eq","value":1"#),
                "expected a string",
            ),
            (bucket(&format!(r#""filters":[{many}]"#)), "101 filters"),
            (
                format!(r#"{{"version":1,"buckets":[{}]}}"#, buckets.join(",")),
                "101 buckets",
            ),
            (
                r#"{"version":1,"buckets":[{"name":"a"},{"name":"a"}]}"#.to_owned(),
                "another bucket has this name",
            ),
            (
                r#"{"version":1,"buckets":[{"name":""}]}"#.to_owned(),
                "a name has",
            ),
            (" ".repeat(DEFINITION_BYTES_MAX + 1), "65536 are allowed"),
        ];
        for (json, reason) in cases {
            let refusal = RuleSet::from_json(json.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::ValidationError);
            assert!(refusal.message.contains(reason), "{json:.90}: {refusal}");
        }
    }
}
