//! What a change of a table does to rules that look at it.
//!
//! **Invariant checked:** whether a bucket fits a table before or only after a change of its schema, rows are shown by
//! what they are, whole, after a restart as before it.

use std::sync::Arc;

use lakesync_proto::{
    ColumnChange, Cursor, DeltaKey, ErrorCode, Op, RowDelta, TableDefinition, TableName, Value,
};

use super::scene::{Place, client, heard, key, pull, push, refusal, set, who};
use crate::auth::Role;
use crate::gateway::Gateway;
use crate::pull::Since;

/// Two buckets: `notes` fits whatever has `a`, the other one only what has `gone` too.
const UNDELETED: &str = r#"{"version": 1, "buckets": [
    {"name": "shown", "where": "gone is null and a is null"},
    {"name": "mine", "tables": ["notes"], "where": "a = jwt('sub')"}]}"#;

async fn define(gateway: &Arc<Gateway>, table: &str, columns: &[(&str, &str)]) {
    let columns = columns.iter();
    let columns: Vec<_> = columns
        .map(|(name, of)| format!(r#"{{"name": "{name}", "type": "{of}"}}"#))
        .collect();
    let json = format!(
        r#"{{"table": "{table}", "columns": [{}]}}"#,
        columns.join(",")
    );
    let definition: TableDefinition = serde_json::from_str(&json).unwrap();
    gateway.put_schema(&definition).await.unwrap();
}

fn row(table: &str, (row, at): (&str, u64), cells: &[(&str, Value)]) -> RowDelta {
    let columns = cells.iter().map(|(column, value)| ColumnChange {
        column: column.parse().unwrap(),
        value: value.clone(),
    });
    let key = DeltaKey {
        table: TableName::parse(table).unwrap(),
        ..key("x", row, at)
    };
    RowDelta::new(Op::Update, key, columns.collect())
}

/// The rows that `sub` hears of above `cursor`; the rest of what it may see is to be loaded when it is told so.
async fn hears(
    gateway: &Gateway,
    sub: &str,
    cursor: Option<&Cursor>,
) -> Result<Vec<String>, ErrorCode> {
    match pull(gateway, &client(sub), Since::Cursor(cursor.cloned())).await {
        Ok(page) => Ok(heard(&page)),
        error => Err(refusal(error).code),
    }
}

async fn cursor_of(gateway: &Gateway, sub: &str) -> Cursor {
    let audience = gateway.audience(&client(sub));
    gateway.cursor(gateway.live().seq(), &audience)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_begins_to_fit_a_table_knows_the_rows_that_are_there() {
    let place = Place::new();
    let gateway = place.open().await;
    define(&gateway, "t3", &[("a", "string"), ("b", "string")]).await;
    define(&gateway, "other", &[("a", "string"), ("gone", "string")]).await;
    set(&gateway, UNDELETED).await.unwrap();
    let admin = who("root", Role::Admin);
    let rows = vec![
        row("t3", ("s1", 0), &[("a", "bobs".into())]),
        row("t3", ("s2", 0), &[("b", "for all".into())]),
    ];
    push(&gateway, &admin, rows).await.unwrap();
    let before = cursor_of(&gateway, "ana").await;
    let columns = [("a", "string"), ("b", "string"), ("gone", "string")];
    define(&gateway, "t3", &columns).await;
    assert_eq!(
        gateway.rules().version(),
        2,
        "rows came into sight without a delta"
    );
    assert_eq!(
        hears(&gateway, "ana", Some(&before)).await,
        Err(ErrorCode::CursorExpired)
    );
    let after = cursor_of(&gateway, "ana").await;
    let news = vec![
        row("t3", ("s1", 1), &[("b", "TOP SECRET".into())]),
        row("t3", ("s2", 1), &[("b", "news".into())]),
    ];
    push(&gateway, &admin, news).await.unwrap();
    assert_eq!(hears(&gateway, "ana", Some(&after)).await.unwrap(), ["+s2"]);
    // It is so after a restart, and a change that nothing depends on makes no new version.
    drop(gateway);
    let gateway = place.open().await;
    let columns = [columns.as_slice(), &[("c", "string")]].concat();
    define(&gateway, "t3", &columns).await;
    assert_eq!(gateway.rules().version(), 2);
    assert_eq!(hears(&gateway, "ana", Some(&after)).await.unwrap(), ["+s2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_a_change_of_a_table_left_behind_are_made_again_at_the_next_opening() {
    let place = Place::new();
    let gateway = place.open().await;
    define(&gateway, "t3", &[("a", "string"), ("b", "string")]).await;
    define(&gateway, "other", &[("a", "string"), ("gone", "string")]).await;
    set(&gateway, UNDELETED).await.unwrap();
    let admin = who("root", Role::Admin);
    let secret = row("t3", ("s1", 0), &[("a", "bobs".into())]);
    push(&gateway, &admin, vec![secret]).await.unwrap();
    // The process ends between the change of the table and that of the rules.
    let columns = r#"{"table": "t3", "columns": [{"name": "a", "type": "string"}, {"name": "b", "type": "string"},
        {"name": "gone", "type": "string"}]}"#;
    let definition: TableDefinition = serde_json::from_str(columns).unwrap();
    let table = TableName::parse("t3").unwrap();
    let held = lakesync_proto::Schemas::schema(gateway.live().as_ref(), &table).unwrap();
    let evolution = held.evolve(&definition).unwrap();
    let warehouse = &gateway.components.warehouse;
    warehouse
        .evolve(&gateway.id, &evolution, Some(&gateway.fence()))
        .await
        .unwrap();
    drop(gateway);
    let gateway = place.open().await;
    assert_eq!(gateway.rules().version(), 2);
    let after = cursor_of(&gateway, "ana").await;
    let news = row("t3", ("s1", 1), &[("b", "TOP SECRET".into())]);
    push(&gateway, &admin, vec![news]).await.unwrap();
    assert_eq!(hears(&gateway, "ana", Some(&after)).await.unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decimal_that_grows_is_still_what_a_claim_says() {
    let place = Place::new();
    let gateway = place.open().await;
    define(&gateway, "d", &[("price", "decimal(5,2)"), ("b", "string")]).await;
    let rules = r#"{"version": 1, "buckets": [
        {"name": "equal", "tables": ["d"], "where": "price = jwt('sub')"},
        {"name": "below", "tables": ["d"], "where": "price > jwt('sub')"}]}"#;
    set(&gateway, rules).await.unwrap();
    let admin = who("root", Role::Admin);
    let price = |text: &str, precision| {
        let of = lakesync_proto::ColumnType::decimal(precision, 2).unwrap();
        Value::from_json_text(&format!("\"{text}\""), of).unwrap()
    };
    let rows = vec![
        row("d", ("r1", 0), &[("price", price("12.50", 5))]),
        row("d", ("r2", 0), &[("price", price("13.00", 5))]),
    ];
    push(&gateway, &admin, rows).await.unwrap();
    let before = cursor_of(&gateway, "12.5").await;
    let all = hears(&gateway, "12.5", None).await.unwrap_or_default();
    let held = gateway.audience(&client("12.5"));
    assert_eq!(all, ["+r1", "+r2"]);
    define(&gateway, "d", &[("price", "decimal(9,2)"), ("b", "string")]).await;
    let news = vec![
        row("d", ("r1", 1), &[("b", "news".into())]),
        row("d", ("r2", 1), &[("price", price("1234567.00", 9))]),
    ];
    push(&gateway, &admin, news).await.unwrap();
    assert_eq!(
        hears(&gateway, "12.5", Some(&before)).await.unwrap(),
        ["+r1", "+r2"]
    );
    assert_eq!(
        gateway.rules().version(),
        1,
        "nobody sees another row than before"
    );
    assert!(!Arc::ptr_eq(&held, &gateway.audience(&client("12.5"))));
}
