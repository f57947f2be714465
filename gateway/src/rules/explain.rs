//! Would somebody with these claims see this row, and why: what an administrator asks when a client does not.
//!
//! **Invariant:** the answer is that of the index which pulls use; the reasons are evaluated apart, term by term, and a
//! test holds the two together.

use std::collections::BTreeMap;

use lakesync_proto::{ClaimValue, Claims, ColumnName, RowId, TableName, Value};
use lakesync_providers::predicate::{ClaimCondition, Key, Row, Rows, claim_values};
use serde_json::{Value as Json, json};

use super::compiled::Rules;
use super::terms::RuleTerm;

/// Explains whether the holders of `claims` see and may write a row in its merged state, which must have
/// [`Rules::columns`]; no values for a row that does not exist.
///
/// ```text
/// {"visible": bool, "writable": bool, "row": {column: value} | null, "buckets": [
///   {"name", "matched": bool, "terms": [
///     {"matched": bool, "keys": [{"column", "claim", "value", "claimValues": […] | null, "equal": bool}],
///      "rowCondition":   {"text", "holds": bool} | null,      the row alone
///      "gateCondition":  {"text", "holds": bool} | null,      the claims alone
///      "claimCondition": {"text", "holds": bool} | null}]}]}  both
/// ```
#[must_use]
pub fn explain(
    rules: &Rules,
    table: &TableName,
    row: &(RowId, Option<BTreeMap<ColumnName, Value>>),
    claims: &Claims,
) -> Json {
    let audience = rules.audience(claims);
    let memberships = rules.memberships(table, std::slice::from_ref(row));
    let exists = row.1.is_some();
    let visible = exists && memberships.iter().all(|held| audience.sees(held));
    let may_write = memberships.iter().all(|held| audience.may_write(held));
    let shown = row.1.as_ref().map(|values| {
        let values = values.iter();
        let shown = values.map(|(column, value)| (column.to_string(), value.to_json()));
        Json::Object(shown.collect())
    });
    json!({
        "visible": visible,
        "writable": !rules.guards_writes(table) || (exists && may_write),
        "row": shown,
        "buckets": buckets(rules, table, row, claims),
    })
}

fn buckets(
    rules: &Rules,
    table: &TableName,
    row: &(RowId, Option<BTreeMap<ColumnName, Value>>),
    claims: &Claims,
) -> Vec<Json> {
    let existing: Vec<Row<'_>> = row.1.iter().map(|values| (&row.0, values)).collect();
    let rows = Rows::parts(&existing).next();
    let set = rules.definition();
    let buckets = set
        .into_iter()
        .flat_map(|set| set.buckets.iter().enumerate());
    buckets
        .filter(|(_, bucket)| bucket.names(table))
        .map(|(index, bucket)| {
            let terms = rules.terms_of(table).iter();
            let terms = terms.filter(|rule| rule.bucket == index);
            let terms: Vec<Json> = terms
                .map(|rule| term(rule, rows.as_ref(), claims))
                .collect();
            let matched = terms.iter().any(|term| term["matched"] == true);
            json!({"name": bucket.name, "matched": matched, "terms": terms})
        })
        .collect()
}

fn term(rule: &RuleTerm, rows: Option<&Rows<'_>>, claims: &Claims) -> Json {
    let term = rule.term();
    let keys: Vec<Json> = term
        .keys()
        .iter()
        .map(|one| key(one, rows, claims))
        .collect();
    let on_row = term.row().map(|condition| {
        let holds = rows.is_some_and(|rows| condition.matches(rows) == [true]);
        json!({"text": condition.to_string(), "holds": holds})
    });
    let gate = term.gate().map(|gate| on_claims(gate, rows, claims));
    let both = term.claim().map(|claim| on_claims(claim, rows, claims));
    let holding = |condition: &Option<Json>| match condition {
        Some(condition) => condition["holds"] == true,
        None => true,
    };
    let matched = rows.is_some()
        && keys.iter().all(|key| key["equal"] == true)
        && [&on_row, &gate, &both].into_iter().all(holding);
    json!({
        "matched": matched,
        "keys": keys,
        "rowCondition": on_row,
        "gateCondition": gate,
        "claimCondition": both,
    })
}

fn key(key: &Key, rows: Option<&Rows<'_>>, claims: &Claims) -> Json {
    let value = rows.map_or(Value::Null, |rows| rows.value(0, &key.field));
    let wanted = claim_values(claims, &key.claim, key.field.column_type);
    let held = claims.get(&key.claim);
    let held = held.map(|values| values.iter().map(claim_json).collect::<Vec<_>>());
    json!({
        "column": key.field.name(),
        "claim": key.claim,
        "value": value.to_json(),
        "claimValues": held,
        "equal": value != Value::Null && wanted.contains(&value),
    })
}

fn on_claims(condition: &ClaimCondition, rows: Option<&Rows<'_>>, claims: &Claims) -> Json {
    let fields = condition.fields().iter();
    let value = |field| rows.map_or(Value::Null, |rows| rows.value(0, field));
    let values: Vec<Value> = fields.map(value).collect();
    let bound = condition.bind(claims);
    json!({
        "text": condition.to_string(),
        "holds": bound.is_some_and(|bound| bound.holds(&values)),
    })
}

fn claim_json(value: &ClaimValue) -> Json {
    match value {
        ClaimValue::Text(text) => json!(text),
        ClaimValue::Number(number) => json!(number),
        ClaimValue::Boolean(value) => json!(value),
    }
}
