//! What a table looks like to SQL, and which values it takes.

use lakesync_proto::{RowId, TableName};
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;

use super::{changes, file, schema};

const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#;

fn one<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_row_without_a_key_gets_a_uuid_of_version_7_of_now() {
    let (connection, _) = file(&[&schema(TODOS)]);
    connection
        .execute_batch("INSERT INTO todos (title) VALUES ('a'), ('b')")
        .unwrap();
    let shape: bool = one(
        &connection,
        "SELECT min(row_id GLOB '????????-????-7???-[89ab]???-????????????' AND length(row_id) = 36
            AND lower(row_id) = row_id) FROM todos",
    );
    assert!(shape);
    // The first 48 bits are the time: within a minute of what SQLite's own clock says.
    let id: String = one(&connection, "SELECT row_id FROM todos LIMIT 1");
    let ms = i64::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
    let now: i64 = one(&connection, "SELECT unixepoch()");
    assert!((ms / 1_000 - now).abs() < 60, "{ms} and {now}");
    assert_eq!(
        one::<i64>(&connection, "SELECT count(DISTINCT row_id) FROM todos"),
        2
    );
}

#[test]
fn an_insert_without_columns_named_takes_those_of_the_schema() {
    let stock = r#"{"table": "stock", "primaryKey": ["code"], "columns": [
        {"name": "count", "type": "long"}, {"name": "code", "type": "string"}]}"#;
    let (connection, _) = file(&[&schema(stock)]);
    connection
        .execute_batch("INSERT INTO stock VALUES (7, 'x')")
        .unwrap();
    assert_eq!(
        one::<String>(&connection, "SELECT row_id || count FROM stock"),
        "x7"
    );
    assert_eq!(changes(&connection), ["kind=7 n1=x"]);
}

#[test]
fn the_generated_row_id_is_the_one_that_all_replicas_make() {
    let types = [
        ("s", "string", "'é\"\\\n' || char(1, 127) || '/'"),
        ("l", "long", "-9223372036854775808"),
        ("b", "boolean", "1"),
        ("m", "decimal(9,2)", "'-0.05'"),
        ("d", "date", "'1969-12-31'"),
        ("t", "timestamp", "'1969-12-31T23:59:59.999999Z'"),
    ];
    let check = |key: &[&(&str, &str, &str)]| {
        let columns: Vec<String> = key
            .iter()
            .map(|(name, kind, _)| format!(r#"{{"name":"{name}","type":"{kind}"}}"#))
            .collect();
        let names: Vec<&str> = key.iter().map(|(name, ..)| *name).collect();
        let body = format!(
            r#"{{"table":"t","columns":[{}],"primaryKey":{names:?}}}"#,
            columns.join(",")
        );
        let (connection, registry) = file(&[&schema(&body)]);
        let values: Vec<&str> = key.iter().map(|(.., value)| *value).collect();
        connection
            .execute_batch(&format!("INSERT INTO t VALUES ({})", values.join(", ")))
            .unwrap();
        let table = registry.table(&TableName::parse("t").unwrap()).unwrap();
        let sql = format!("SELECT row_id, {} FROM t", table.identity());
        let (generated, identity) = connection
            .query_row(&sql, [], |row| {
                let identity: Vec<SqlValue> = (0..table.key_len())
                    .map(|at| row.get(at + 1))
                    .collect::<Result<_, _>>()?;
                Ok((row.get::<_, String>(0)?, identity))
            })
            .unwrap();
        let row_id = table.row_id(&identity).unwrap();
        assert_eq!(generated, row_id.as_str());
        assert_eq!(table.key(&row_id).unwrap(), identity);
        let found = format!("SELECT count(*) FROM t {}", table.where_row());
        let found: i64 = connection
            .query_row(
                &found,
                rusqlite::params_from_iter(table.key(&row_id).unwrap()),
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(found, 1);
    };
    for column in &types {
        check(&[column]);
    }
    check(&types.iter().collect::<Vec<_>>());
    check(&[&types[1], &types[2]]);
}

#[test]
fn a_single_number_is_a_key_that_nobody_hands_out() {
    let body = r#"{"table": "t", "primaryKey": ["id"], "columns": [
        {"name": "id", "type": "long"}, {"name": "v", "type": "string"}]}"#;
    let (connection, registry) = file(&[&schema(body)]);
    let error = connection
        .execute_batch("INSERT INTO t (v) VALUES ('a')")
        .unwrap_err();
    assert!(error.to_string().contains("NOT NULL"), "{error}");
    connection
        .execute_batch("INSERT INTO t VALUES (42, 'a')")
        .unwrap();
    let table = registry.table(&TableName::parse("t").unwrap()).unwrap();
    assert_eq!(
        table.key(&RowId::parse("42").unwrap()).unwrap(),
        [SqlValue::Integer(42)]
    );
    assert!(table.key(&RowId::parse("042").unwrap()).is_err());
}

/// Which of these SQL literals a column of this type takes.
fn check_values(column_type: &str, wanted: &str, taken: &[&str], refused: &[&str]) {
    let body = format!(r#"{{"table":"t","columns":[{{"name":"c","type":"{column_type}"}}]}}"#);
    let (connection, _) = file(&[&schema(&body)]);
    for literal in taken.iter().chain(&["NULL"]) {
        connection
            .execute_batch(&format!("INSERT INTO t (c) VALUES ({literal})"))
            .unwrap_or_else(|error| panic!("{column_type} {literal}: {error}"));
    }
    for literal in refused {
        let error = connection
            .execute_batch(&format!("INSERT INTO t (c) VALUES ({literal})"))
            .expect_err(literal)
            .to_string();
        assert!(
            error.contains(&format!("t.c: {wanted}")) || error.contains("cannot store"),
            "{column_type} {literal}: {error}"
        );
    }
}

#[test]
fn a_column_takes_the_values_of_its_type_in_the_one_form_they_have() {
    check_values("string", "", &["''", "'x'"], &["x'00'"]);
    check_values("long", "", &["-9223372036854775808"], &["1.5", "'x'"]);
    check_values("binary", "", &["x''", "x'00ff'"], &["'text'", "1"]);
    check_values(
        "number",
        "a finite number",
        &["1.7976931348623157e308", "-5e-324", "7"],
        &["9e999", "-9e999", "'x'"],
    );
    check_values("boolean", "0 or 1", &["0", "TRUE"], &["2", "-1", "'true'"]);
    check_values(
        "json",
        "JSON text",
        &["'{\"b\": 1, \"a\": [null]}'", "'12'"],
        &["'{b: 1}'", "'{'", "''"],
    );
    check_values(
        "date",
        "a date like",
        &["'2024-02-29'", "'0001-01-01'", "'9999-12-31'"],
        &[
            "'2023-02-29'",
            "'0000-12-31'",
            "'2024-1-1'",
            "'2024-01-01T00:00'",
            "'now'",
            "'2460000.50'",
        ],
    );
    check_values(
        "timestamp",
        "RFC 3339",
        &[
            "'2024-02-29T23:59:59.999999Z'",
            "'0001-01-01T00:00:00.000000Z'",
        ],
        &[
            "'2024-02-29T23:59:59Z'",
            "'2024-02-29 23:59:59.999999Z'",
            "'2024-02-29T24:00:00.000000Z'",
            "'2023-02-29T00:00:00.000000Z'",
            "'2024-02-29T23:59:59.99999xZ'",
            "'2024-02-29T23:59:59.999999+'",
            "datetime('now')",
        ],
    );
    check_values(
        "decimal(4,2)",
        "a decimal",
        &["'0.00'", "'-0.05'", "'99.99'", "'12.50'"],
        &[
            "'1.5'", "'1.500'", "'-0.00'", "'01.50'", "'.50'", "'100.00'", "'1e2'", "'+1.50'",
            "'--1.50'", "''", "'-'", "'1x.50'",
        ],
    );
    check_values(
        "decimal(2,2)",
        "a decimal",
        &["'0.10'", "'-0.99'"],
        &["'1.00'", "'.10'", "'00.10'"],
    );
    check_values(
        "decimal(3,0)",
        "a decimal",
        &["'0'", "'-999'"],
        &["'-0'", "'1000'", "'1.'", "'007'"],
    );
}

#[test]
fn a_row_id_that_can_be_none_is_refused() {
    let key =
        r#"{"table": "t", "primaryKey": ["c"], "columns": [{"name": "c", "type": "string"}]}"#;
    for (body, column) in [(TODOS, "todos (row_id)"), (key, "t (c)")] {
        let (connection, _) = file(&[&schema(body)]);
        for value in ["''", "'a' || char(0)", "printf('%1025s', 'x')", "NULL"] {
            assert!(
                connection
                    .execute_batch(&format!("INSERT INTO {column} VALUES ({value})"))
                    .is_err(),
                "{column} {value}"
            );
        }
        connection
            .execute_batch(&format!(
                "INSERT INTO {column} VALUES (printf('%1024s', 'x'))"
            ))
            .unwrap();
    }
}
