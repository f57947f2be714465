//! A table's columns change while its rows are hot, in the log and in the base.

use lakesync_proto::{ColumnType, Op, TableDefinition, Value};

use crate::sql::{NOW_MS, PEOPLE, World, change};

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_added_is_null_in_old_rows_hot_and_cold() {
    let world = World::open().await;
    world
        .check("insert into people (id, name) values (1, 'cold')", &["1"])
        .await;
    let before = world.flush().await;
    world.compact().await;
    world
        .check("insert into people (id, name) values (2, 'logged')", &["1"])
        .await;
    world.flush().await;
    world
        .check("insert into people (id, name) values (3, 'hot')", &["1"])
        .await;
    let mut wider = TableDefinition::from_json(PEOPLE.as_bytes()).unwrap();
    wider
        .columns
        .push(serde_json::from_str(r#"{"name": "age", "type": "long"}"#).unwrap());
    let gateway = world.lake.gateway("public").unwrap();
    let (schema, changed) = gateway.put_schema(&wider).await.unwrap();
    assert!(changed && schema.version == 2);
    assert!(
        !gateway.put_schema(&wider).await.unwrap().1,
        "the same again changes nothing"
    );
    world
        .check(
            "insert into people (id, name, age) values (4, 'new', 40)",
            &["1"],
        )
        .await;
    let rows = ["1|cold|", "2|logged|", "3|hot|", "4|new|40"];
    let sql = "select id, name, age from people order by id";
    world.check(sql, &rows).await;
    world.flush().await;
    world.check(sql, &rows).await;
    world.compact().await;
    world.check(sql, &rows).await;
    world
        .check("select count(*) from people where age is null", &["3"])
        .await;
    world
        .check(
            &format!("select id, age from people version as of {before}"),
            &["1|"],
        )
        .await;
    let narrower = r#"{"table": "people", "primaryKey": ["name"], "columns": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}"#;
    let error = world
        .lake
        .create_table(narrower)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_is_gone_its_late_writers_are_not_refused_and_its_name_cannot_come_back() {
    let world = World::open().await;
    let with = |columns: &str| {
        format!(r#"{{"table": "t", "columns": [{{"name": "a", "type": "string"}}{columns}]}}"#)
    };
    let amount = r#", {"name": "v", "type": "decimal(9,2)"}"#;
    world.lake.create_table(&with(amount)).await.unwrap();
    world
        .check(
            "insert into t (row_id, a, v) values ('1', 'x', 1.50)",
            &["1"],
        )
        .await;
    world.flush().await;
    world.run("call system.compact('t')").await.unwrap();
    let wider = amount.replace("(9,2)", "(20,2)");
    world.lake.create_table(&with(&wider)).await.unwrap();
    world
        .check(
            "insert into t (row_id, a, v) values ('2', 'y', 12345678901234.25)",
            &["1"],
        )
        .await;
    let both = ["1|x|1.50", "2|y|12345678901234.25"];
    world.check("select * from t order by row_id", &both).await;
    world.flush().await;
    world.run("call system.compact('t')").await.unwrap();
    world.check("select * from t order by row_id", &both).await;
    world.lake.create_table(&with("")).await.unwrap();
    let wide = ColumnType::Decimal {
        precision: 20,
        scale: 2,
    };
    let late = change("v", Value::from_json_text("\"7.00\"", wide).unwrap());
    world
        .push("t", "3", NOW_MS + 50, (Op::Insert, Some(late)))
        .await;
    let narrow = ["1|x", "2|y", "3|"];
    world
        .check("select * from t order by row_id", &narrow)
        .await;
    world.flush().await;
    world.run("call system.compact('t')").await.unwrap();
    world
        .check("select * from t order by row_id", &narrow)
        .await;
    world
        .check("select v from t$deltas where row_id = '3'", &["7.00"])
        .await;
    let error = world
        .lake
        .create_table(&with(amount))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("dropped before"), "{error}");
}
