//! Tables of statements with what becomes of them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn shown(sql: &str) -> Vec<String> {
    parse(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .into_iter()
        .map(|statement| match statement {
            LakeStatement::Query(statement) => statement.to_string(),
            LakeStatement::Call(call) => format!("call of {}", call.procedure),
            LakeStatement::ExplainCall(explain) => format!("explain of {}", explain.call.procedure),
            LakeStatement::Ddl(ddl) => format!("{ddl:?}"),
        })
        .collect()
}

fn check(sql: &str, expected: &str) {
    assert_eq!(shown(sql), [expected], "{sql}");
}

fn refused(sql: &str) -> SyntaxError {
    parse(sql).expect_err(sql)
}

fn check_refused(sql: &str, place: (u64, u64), fragment: &str) {
    let error = refused(sql);
    let found = error.position().map(|p| (p.line, p.column));
    assert_eq!(found, Some(place), "{sql}: {error}");
    assert!(error.to_string().contains(fragment), "{sql}: {error}");
}

#[test]
fn every_spelling_of_a_version_is_the_same_pinned_name() {
    for clause in [
        "VERSION AS OF 41",
        "FOR VERSION AS OF 41",
        "SYSTEM_VERSION AS OF 41",
        "FOR SYSTEM_VERSION AS OF 41",
        "AT (VERSION => 41)",
        "at(version => 41)",
    ] {
        let sql = |alias: &str| format!("SELECT t.a FROM t {clause}{alias}");
        check(&sql(""), "SELECT t.a FROM \"t@version:41\" AS t");
        check(&sql(" AS x"), "SELECT t.a FROM \"t@version:41\" AS x");
        check(&sql(" x"), "SELECT t.a FROM \"t@version:41\" x");
    }
}

#[test]
fn literal_moments_are_pinned_names() {
    for (clause, name) in [
        ("VERSION AS OF 'audit'", "t@ref:audit"),
        ("FOR SYSTEM_VERSION AS OF 'a@b'", "t@ref:a%40b"),
        (
            "TIMESTAMP AS OF '2026-01-31'",
            "t@timestamp:2026-01-31T00:00:00Z",
        ),
        (
            "FOR TIMESTAMP AS OF '2026-01-31T12:00:00.5+02:00'",
            "t@timestamp:2026-01-31T10:00:00.500Z",
        ),
        (
            "FOR SYSTEM_TIME AS OF '2026-01-31 12:00:00'",
            "t@timestamp:2026-01-31T12:00:00Z",
        ),
        (
            "AT (TIMESTAMP => '2026-01-31')",
            "t@timestamp:2026-01-31T00:00:00Z",
        ),
        ("AT (SEQ => 5)", "t@seq:5"),
        ("AT (HLC => 7)", "t@hlc:7"),
        ("at (hlc => '7')", "t@hlc:7"),
        ("AT (SEQ => 5, HLC => 7)", "t@seq:5@hlc:7"),
        ("AT (HLC => 7, VERSION => 'x')", "t@ref:x@hlc:7"),
        ("AT (HLC => '1970-01-01T00:00:00.001Z')", "t@hlc:131071"),
    ] {
        let sql = format!("SELECT * FROM t {clause} x");
        check(&sql, &format!("SELECT * FROM \"{name}\" x"));
    }
}

/// What runs as of a moment that is an expression: `now()` is 2026-01-31T12:00:00Z.
fn pinned(sql: &str) -> Result<String, SyntaxError> {
    let mut statements = parse(sql)?;
    let Some(LakeStatement::Query(mut statement)) = statements.pop() else {
        panic!("{sql}");
    };
    let ctx = datafusion::prelude::SessionContext::new();
    let nothing = std::sync::Arc::new(lakesync_providers::LakeCatalog::default());
    lakesync_providers::register(&ctx, "lake", &nothing).expect("a session of its own");
    let builder = datafusion::execution::SessionStateBuilder::new_from_existing(ctx.state());
    let begun = lakesync_providers::begun_at(1_769_860_800_000);
    pin(&mut statement, &builder.with_execution_props(begun).build())?;
    Ok(statement.to_string())
}

#[test]
fn moments_that_are_expressions_wait_for_the_statement() {
    for (clause, name) in [
        (
            "TIMESTAMP AS OF now() - interval '1 hour'",
            "t@timestamp:2026-01-31T11:00:00Z",
        ),
        (
            "FOR SYSTEM_TIME AS OF current_timestamp",
            "t@timestamp:2026-01-31T12:00:00Z",
        ),
        (
            "FOR TIMESTAMP AS OF timestamp '2026-01-31 10:00:00'",
            "t@timestamp:2026-01-31T10:00:00Z",
        ),
        (
            "TIMESTAMP AS OF date '2026-01-31'",
            "t@timestamp:2026-01-31T00:00:00Z",
        ),
        ("AT (SEQ => 2 + 3)", "t@seq:5"),
        (
            "AT (HLC => hlc_at(timestamp '1970-01-01 00:00:00.001'))",
            "t@hlc:65536",
        ),
        (
            "AT (HLC => timestamp '1970-01-01 00:00:00.001')",
            "t@hlc:131071",
        ),
        (
            "AT (TIMESTAMP => now(), HLC => now() - interval '1 day')",
            "t@timestamp:2026-01-31T12:00:00Z@hlc:115983935078465535",
        ),
    ] {
        let sql = format!("EXPLAIN SELECT * FROM u JOIN t {clause} AS x ON true");
        let expected = format!("EXPLAIN SELECT * FROM u JOIN \"{name}\" AS x ON true");
        assert_eq!(pinned(&sql).expect(&sql), expected, "{sql}");
    }
    for sql in [
        "INSERT INTO t SELECT * FROM t AT (SEQ => 2 + 3)",
        "COPY (SELECT * FROM t AT (SEQ => 2 + 3)) TO 'x'",
        "UPDATE t SET a = x.a FROM t AT (SEQ => 2 + 3) AS x WHERE x.b = t.b",
        "DELETE FROM t USING t AT (SEQ => 2 + 3) AS x WHERE x.b = t.b",
        "MERGE INTO t USING t AT (SEQ => 2 + 3) AS x ON x.b = t.b WHEN MATCHED THEN DELETE",
        "SELECT * FROM u, LATERAL (SELECT * FROM t AT (SEQ => 2 + 3) WHERE t.a = u.a)",
        "SELECT 1 UNION ALL SELECT a FROM t AT (SEQ => 2 + 3) EXCEPT SELECT 2",
        "WITH x AS (SELECT * FROM t AT (SEQ => 2 + 3)) SELECT * FROM x",
        "SELECT (SELECT max(a) FROM t AT (SEQ => 2 + 3))",
    ] {
        let text = pinned(sql).expect(sql);
        assert!(text.contains("\"t@seq:5\""), "{sql}: {text}");
        assert!(!text.contains("SEQ =>"), "{sql}: {text}");
    }
}

#[test]
fn what_is_no_constant_is_refused_with_its_place() {
    for (sql, column, fragment) in [
        (
            "SELECT * FROM t AT (SEQ => $1)",
            28,
            "parameter $1 has no value",
        ),
        (
            "SELECT * FROM t VERSION AS OF $1",
            31,
            "parameter $1 has no value",
        ),
        ("SELECT * FROM t AT (SEQ => random())", 28, "not a constant"),
        ("SELECT * FROM t AT (SEQ => max(1))", 28, "not a constant"),
        ("SELECT * FROM t AT (SEQ => 2 - 3)", 28, "-1 is not a seq"),
        ("SELECT * FROM t AT (HLC => nope(3))", 28, "nope"),
        (
            "SELECT * FROM t TIMESTAMP AS OF 1 + 1",
            33,
            "2 is not a timestamp",
        ),
    ] {
        let error = pinned(sql).expect_err(sql);
        assert!(error.to_string().contains(fragment), "{sql}: {error}");
        let found = error.position().map(|place| place.column);
        assert_eq!(found, Some(column), "{sql}: {error}");
    }
}

#[test]
fn clauses_are_found_wherever_a_table_is_read() {
    check(
        "SELECT * FROM a JOIN lake.s.B VERSION AS OF 7 AS b ON a.x = b.x, \"C\" VERSION AS OF 8",
        "SELECT * FROM a JOIN lake.s.\"b@version:7\" AS b ON a.x = b.x, \"C@version:8\" AS \"C\"",
    );
    check(
        "SELECT * FROM (SELECT * FROM t VERSION AS OF 1) WHERE a IN (SELECT b FROM u VERSION AS OF 2)",
        "SELECT * FROM (SELECT * FROM \"t@version:1\" AS t) WHERE a IN (SELECT b FROM \"u@version:2\" AS u)",
    );
    check(
        "INSERT INTO t SELECT * FROM t VERSION AS OF 1 UNION ALL SELECT * FROM u",
        "INSERT INTO t SELECT * FROM \"t@version:1\" AS t UNION ALL SELECT * FROM u",
    );
    check(
        "CREATE VIEW v AS SELECT * FROM t VERSION AS OF 1",
        "CREATE VIEW v AS SELECT * FROM \"t@version:1\" AS t",
    );
    check(
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM t VERSION AS OF 1",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM \"t@version:1\" AS t",
    );
    check(
        "COPY (SELECT * FROM t VERSION AS OF 1) TO 'x.parquet'",
        "COPY (SELECT * FROM \"t@version:1\" AS t) TO x.parquet",
    );
    check(
        "UPDATE t SET a = (SELECT max(a) FROM t VERSION AS OF 1)",
        "UPDATE t SET a = (SELECT max(a) FROM \"t@version:1\" AS t)",
    );
    check(
        "PREPARE p AS SELECT * FROM t VERSION AS OF 1 WHERE a = $1",
        "PREPARE p AS SELECT * FROM \"t@version:1\" AS t WHERE a = $1",
    );
}

#[test]
fn a_table_may_travel_inside_the_with_query_of_its_name() {
    check(
        "WITH t AS (SELECT * FROM t VERSION AS OF 3) SELECT * FROM t",
        "WITH t AS (SELECT * FROM \"t@version:3\" AS t) SELECT * FROM t",
    );
    check_refused(
        "WITH t AS (SELECT 1) SELECT * FROM (SELECT * FROM T VERSION AS OF 3)",
        (1, 53),
        "t is a WITH query",
    );
    check_refused(
        "WITH t AS (SELECT 1), u AS (SELECT * FROM t VERSION AS OF 3) SELECT 1",
        (1, 45),
        "t is a WITH query",
    );
    check_refused(
        "WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t VERSION AS OF 3) SELECT 1",
        (1, 53),
        "t is a WITH query",
    );
    // The name ends with the query that has it, and a qualified name is never a WITH query.
    check(
        "SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) AS x, t VERSION AS OF 3",
        "SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) AS x, \"t@version:3\" AS t",
    );
    check(
        "WITH t AS (SELECT 1) SELECT * FROM s.t VERSION AS OF 3",
        "WITH t AS (SELECT 1) SELECT * FROM s.\"t@version:3\" AS t",
    );
}

#[test]
fn words_of_the_clauses_stay_names() {
    check(
        "SELECT version, t.timestamp, \"VERSION\" AS of FROM t",
        "SELECT version, t.timestamp, \"VERSION\" AS of FROM t",
    );
    check(
        "SELECT version AS of FROM version",
        "SELECT version AS of FROM version",
    );
    check(
        "SELECT * FROM timestamp VERSION AS OF 3",
        "SELECT * FROM \"timestamp@version:3\" AS timestamp",
    );
    check(
        "SELECT at.a, before.b FROM t at JOIN u before ON at.a = before.a",
        "SELECT at.a, before.b FROM t at JOIN u before ON at.a = before.a",
    );
    check("SELECT * FROM t version", "SELECT * FROM t version");
    check(
        "SELECT a AT TIME ZONE 'UTC' FROM t",
        "SELECT a AT TIME ZONE 'UTC' FROM t",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_cannot_travel_is_refused_with_its_place() {
    for (sql, place, fragment) in [
        (
            "SELECT * FROM t VERSION AS OF 3.5",
            (1, 31),
            "3.5 is not a snapshot id",
        ),
        (
            "SELECT * FROM t VERSION AS OF 9223372036854775808",
            (1, 31),
            "too large",
        ),
        (
            "SELECT * FROM t VERSION AS OF now()",
            (1, 31),
            "concrete value",
        ),
        (
            "SELECT * FROM t FOR VERSION AS OF now()",
            (1, 35),
            "one snapshot id",
        ),
        (
            "SELECT *\nFROM t TIMESTAMP AS OF 'soon'",
            (2, 24),
            "`soon` is not a timestamp",
        ),
        (
            "SELECT * FROM t FOR TIMESTAMP AS OF 5",
            (1, 37),
            "5 is not a timestamp",
        ),
        (
            "SELECT * FROM t FOR SYSTEM_TIME AS OF NULL",
            (1, 39),
            "not a timestamp",
        ),
        (
            "SELECT * FROM t TIMESTAMP AS OF a + interval '1 day'",
            (1, 33),
            "a names a column",
        ),
        (
            "SELECT * FROM t TIMESTAMP AS OF \"2026-01-01\"",
            (1, 33),
            "single quotes",
        ),
        (
            "SELECT * FROM t AT (HLC => (SELECT max(_hlc) FROM t$deltas))",
            (1, 29),
            "a subquery has no value",
        ),
        ("SELECT * FROM t AT (SEQ => '3')", (1, 28), "3 is not a seq"),
        ("SELECT * FROM t AT (HLC => 1.5)", (1, 28), "neither an HLC"),
        (
            "SELECT * FROM t AT (SEQ => 3, TIMESTAMP => '2026-01-01')",
            (1, 17),
            "SEQ and TIMESTAMP are both of arrival",
        ),
        (
            "SELECT * FROM t AT (HLC => 3, HLC => 4)",
            (1, 17),
            "HLC stands twice",
        ),
        ("SELECT * FROM t BEFORE (VERSION => 3)", (1, 17), "BEFORE"),
        ("SELECT * FROM t AT (3)", (1, 17), "named coordinates"),
        (
            "SELECT * FROM t AT (VERSION := 3)",
            (1, 17),
            "named coordinates",
        ),
        (
            "SELECT * FROM t AT (\"VERSION\" => 3)",
            (1, 21),
            "no coordinate \"VERSION\"",
        ),
        (
            "SELECT * FROM t AT (OFFSET => 3)",
            (1, 21),
            "no coordinate OFFSET",
        ),
        (
            "SELECT * FROM t AT (VERSION => 1 + 2)",
            (1, 32),
            "1 + 2 is not",
        ),
        ("SELECT * FROM t AT (VERSION => 3)(4)", (1, 17), "more than"),
        (
            "SELECT * FROM t AT (VERSION => 3) OVER ()",
            (1, 17),
            "more than",
        ),
        (
            "SELECT * FROM t$snapshots VERSION AS OF 3",
            (1, 27),
            "metadata table",
        ),
        (
            "SELECT * FROM \"t$snapshots\" VERSION AS OF 3",
            (1, 29),
            "metadata table",
        ),
        (
            "SELECT * FROM f(1) VERSION AS OF 3",
            (1, 20),
            "only a table",
        ),
        ("SELECT * FROM f VERSION AS OF 3 (1)", (1, 17), "more than"),
        (
            "SELECT * FROM f TIMESTAMP AS OF '2026-01-01' (1)",
            (1, 33),
            "table function",
        ),
        (
            "WITH t AS (SELECT 1) SELECT * FROM t TIMESTAMP AS OF now()",
            (1, 54),
            "t is a WITH query",
        ),
        (
            "SELECT * FROM t$deltas AT (SEQ => 3)",
            (1, 24),
            "metadata table",
        ),
        (
            "SELECT * FROM \"t@seq:3@hlc:4\"",
            (1, 15),
            "write t AT (SEQ => 3, HLC => 4)",
        ),
        (
            "SELECT * FROM \"t@ref:it's\"",
            (1, 15),
            "write t VERSION AS OF 'it''s'",
        ),
        (
            "SELECT * FROM \"t@timestamp:2026-01-01T00:00:00Z\"",
            (1, 15),
            "write t TIMESTAMP AS OF '2026-01-01T00:00:00Z'",
        ),
        (
            "SELECT * FROM (SELECT 1) VERSION AS OF 3",
            (1, 26),
            "only a table",
        ),
        (
            "SELECT * FROM t AS x VERSION AS OF 3",
            (1, 22),
            "alias comes after",
        ),
        (
            "SELECT * FROM t x VERSION AS OF 3",
            (1, 19),
            "before its alias",
        ),
        (
            "INSERT INTO t VERSION AS OF 3 SELECT 1",
            (1, 15),
            "does not belong here",
        ),
        (
            "COPY t VERSION AS OF 3 TO 'x'",
            (1, 8),
            "does not belong here",
        ),
        (
            "DESCRIBE t VERSION AS OF 3",
            (1, 12),
            "does not belong here",
        ),
        (
            "UPDATE t VERSION AS OF 3 SET a = 1",
            (1, 10),
            "history cannot be changed",
        ),
        (
            "DELETE FROM t VERSION AS OF 3",
            (1, 15),
            "history cannot be changed",
        ),
        (
            "EXPLAIN DELETE FROM t VERSION AS OF 3",
            (1, 23),
            "history cannot be changed",
        ),
        (
            "MERGE INTO t VERSION AS OF 3 USING u ON 1 = 1 WHEN MATCHED THEN DELETE",
            (1, 14),
            "history",
        ),
        (
            "SELECT * FROM \"t@version:3\"",
            (1, 15),
            "write t VERSION AS OF 3",
        ),
    ] {
        check_refused(sql, place, fragment);
        assert_eq!(
            refused(sql).kind() == SyntaxErrorKind::Statement,
            fragment == "concrete value"
        );
    }
}

#[test]
fn a_pinned_name_cannot_be_typed_as_a_string_either() {
    for sql in [
        "SELECT * FROM 't@version:3'",
        "COPY 't@version:3' TO 'x'",
        "EXPLAIN SELECT (SELECT 1 FROM s.'t@version:3')",
    ] {
        let error = refused(sql).to_string();
        assert!(error.contains("write t VERSION AS OF 3"), "{sql}: {error}");
    }
    assert!(parse("SELECT 't@version:3' FROM t").is_ok());
}

#[test]
fn clauses_that_datafusion_drops_are_refused() {
    for sql in [
        "SELECT * FROM t TABLESAMPLE (10 PERCENT)",
        "SELECT * FROM (SELECT 1) AS x TABLESAMPLE (10 PERCENT)",
        "SELECT * FROM t WITH (NOLOCK)",
        "SELECT * FROM t PARTITION (p1)",
        "SELECT * FROM f(1) WITH ORDINALITY",
    ] {
        let error = refused(sql);
        assert_eq!(error.kind(), SyntaxErrorKind::Statement, "{sql}");
        assert!(error.to_string().contains("no effect"), "{sql}: {error}");
    }
}

#[test]
fn names_of_table_function_arguments_are_refused() {
    for sql in [
        "SELECT * FROM lake_at('t', 'seq', 5, hlc => 7)",
        "SELECT * FROM u, LATERAL f(a => 1)",
    ] {
        let error = refused(sql);
        assert_eq!(error.kind(), SyntaxErrorKind::Statement, "{sql}");
        assert!(error.to_string().contains("by position"), "{sql}: {error}");
    }
}

#[test]
fn datafusions_own_statements_parse() {
    for sql in [
        "CREATE EXTERNAL TABLE t (a INT) STORED AS PARQUET LOCATION 'x'",
        "COPY t TO 'x' STORED AS CSV OPTIONS ('format.has_header' 'true')",
        "EXPLAIN FORMAT TREE SELECT 1",
        "RESET datafusion.execution.batch_size",
        "SET datafusion.execution.batch_size = 1",
        "SHOW TABLES",
        "SELECT * FROM t WHERE a = $1 LIMIT 5",
    ] {
        assert!(
            matches!(parse(sql).as_deref(), Ok([LakeStatement::Query(_)])),
            "{sql}"
        );
    }
    assert_eq!(shown("SELECT 1; ; CALL system.flush(); SELECT 2;").len(), 3);
    assert_eq!(parse("-- nothing\n;"), Ok(Vec::new()));
}

#[test]
fn a_text_is_split_into_its_statements() {
    let sql = "-- first\nSELECT ';' AS \"é;\" ;;\n /* no ; */ CALL system.flush('t'); -- end\n SELECT\n 2 -- more\n";
    assert_eq!(
        split(sql),
        Ok(vec![
            "SELECT ';' AS \"é;\"",
            "CALL system.flush('t')",
            "SELECT\n 2"
        ])
    );
    assert_eq!(split(" ; -- nothing"), Ok(Vec::new()));
    let many = split(&"SELECT 1;".repeat(20_000)).map(|texts| texts.len());
    assert_eq!(many, Ok(20_000));
    let error = split("SELECT 1;\nSELECT FROM (").expect_err("the second is wrong");
    assert_eq!(error.position().map(|p| p.line), Some(2));
}

fn call(sql: &str) -> Call {
    match parse(sql).as_deref() {
        Ok([LakeStatement::Call(call)]) => call.clone(),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn calls_keep_their_arguments() {
    let compact =
        call("CALL System.Compact('public.t', dry_run => true, Target := -5, \"X\" => NULL)");
    assert_eq!(
        (compact.schema.as_str(), compact.procedure.as_str()),
        ("system", "compact")
    );
    let arguments: Vec<_> = compact
        .arguments
        .iter()
        .map(|a| (a.name.as_deref(), &a.value))
        .collect();
    assert_eq!(
        arguments,
        [
            (None, &CallValue::String("public.t".to_owned())),
            (Some("dry_run"), &CallValue::Bool(true)),
            (Some("target"), &CallValue::Number("-5".to_owned())),
            (Some("X"), &CallValue::Null),
        ]
    );
    assert_eq!(call("CALL system.flush").arguments, []);
}

#[test]
fn calls_take_lists_moments_and_intervals() {
    let parameters = ["list", "at", "ago", "names"];
    let long = call(
        "CALL system.x(ARRAY[1, -2], TIMESTAMP '2026-01-31 12:00:00', INTERVAL '7 days', names => ['a', 'b'])",
    );
    let arguments = long.bind(&parameters).expect("all are known");
    assert_eq!(arguments.longs("list"), Ok(Some(vec![1, -2])));
    assert_eq!(arguments.when("at"), Ok(Some(When::At(1_769_860_800_000))));
    assert_eq!(arguments.when("ago"), Ok(Some(When::Ago(7 * 86_400_000))));
    assert_eq!(arguments.strings("names"), Ok(Some(vec!["a", "b"])));
    assert!(arguments.longs("names").is_err() && arguments.strings("list").is_err());
    for (written, expected) in [
        ("'2026-01-31 12:00:00'", Some(When::At(1_769_860_800_000))),
        (
            "'2026-01-31T13:00:00+01:00'",
            Some(When::At(1_769_860_800_000)),
        ),
        ("INTERVAL '36' HOUR", Some(When::Ago(36 * 3_600_000))),
        ("INTERVAL 2 DAY", Some(When::Ago(2 * 86_400_000))),
        ("INTERVAL '1 month'", Some(When::Ago(30 * 86_400_000))),
        ("'yesterday'", None),
        ("INTERVAL '-1 day'", None),
        ("5", None),
    ] {
        let sql = format!("CALL system.x(at => {written})");
        let found = call(&sql)
            .bind(&parameters)
            .expect("it is known")
            .when("at");
        assert_eq!(
            found.as_ref().ok().copied().flatten(),
            expected,
            "{sql}: {found:?}"
        );
        if let Err(error) = found {
            assert_eq!(error.position().map(|at| at.column), Some(15), "{error}");
        }
    }
    check_refused("CALL system.x([[1]])", (1, 17), "not a literal");
    check_refused("CALL system.x(INTERVAL 'soon')", (1, 24), "not a literal");
}

#[test]
fn optimize_and_vacuum_are_calls() {
    let same = |sugar: &str, plain: &str| {
        let values = |sql: &str| {
            let call = call(sql);
            (call.procedure, call.arguments)
        };
        assert_eq!(values(sugar), values(plain), "{sugar}");
    };
    same("OPTIMIZE t", "CALL system.optimize('t')");
    same("optimize table G.\"T\"", "CALL system.optimize('g.T')");
    same(
        "OPTIMIZE t FULL DRY RUN;",
        "CALL system.optimize('t', full => true, dry_run => true)",
    );
    same(
        "OPTIMIZE \"full\" -- all of it\n FULL",
        "CALL system.optimize('full', full => true)",
    );
    same("VACUUM", "CALL system.vacuum()");
    same(
        "VACUUM t RETAIN 3 DAYS",
        "CALL system.vacuum('t', retain_hours => 72)",
    );
    same(
        "vacuum retain 1 hour dry run",
        "CALL system.vacuum(retain_hours => 1, dry_run => true)",
    );
    assert_eq!(shown("EXPLAIN OPTIMIZE t"), ["explain of optimize"]);
    assert_eq!(
        shown("select 1; OPTIMIZE t; select optimize from vacuum"),
        [
            "SELECT 1",
            "call of optimize",
            "SELECT optimize FROM vacuum"
        ]
    );
    assert_eq!(split("OPTIMIZE t; VACUUM t").expect("two").len(), 2);
    for (sql, place, fragment) in [
        ("OPTIMIZE", (1, 1), "needs the name of a table"),
        ("OPTIMIZE TABLE", (1, 10), "needs the name of a table"),
        (
            "OPTIMIZE t WHERE a = 1",
            (1, 12),
            "WHERE does not belong here",
        ),
        ("OPTIMIZE t.", (1, 11), "a name is missing"),
        ("select 1;\nVACUUM t RETAIN", (2, 10), "whole number"),
        ("VACUUM t RETAIN 7", (1, 17), "HOURS or DAYS"),
        ("VACUUM TABLE", (1, 8), "needs a name"),
        (
            "VACUUM t RETAIN 9223372036854775807 DAYS",
            (1, 37),
            "too long",
        ),
        ("VACUUM t FULL", (1, 10), "FULL does not belong here"),
    ] {
        check_refused(sql, place, fragment);
    }
}

#[test]
fn explain_call_keeps_its_options() {
    let parsed = parse("EXPLAIN ANALYZE VERBOSE FORMAT tree CALL system.compact('t')");
    let Ok([LakeStatement::ExplainCall(explain)]) = parsed.as_deref() else {
        panic!("{parsed:?}");
    };
    assert!(explain.analyze && explain.verbose);
    assert_eq!(explain.format.as_deref(), Some("tree"));
    assert_eq!(explain.call.procedure, "compact");
    assert_eq!(
        shown("EXPLAIN CALL system.compact('t')"),
        ["explain of compact"]
    );
}

#[test]
fn wrong_calls_are_refused_with_their_place() {
    for (sql, place, fragment) in [
        ("CALL compact('t')", (1, 6), "CALL system.<name>"),
        (
            "CALL other.compact('t')",
            (1, 6),
            "other.compact is not a procedure",
        ),
        ("CALL a.system.compact('t')", (1, 6), "is not a procedure"),
        (
            "CALL system.compact('t',\n now())",
            (2, 2),
            "argument 2 is not a literal",
        ),
        (
            "CALL system.compact(t)",
            (1, 21),
            "argument 1 is not a literal",
        ),
        (
            "CALL system.compact(*)",
            (1, 6),
            "argument 1 is not a literal",
        ),
        (
            "CALL system.compact(a => 1, 'x')",
            (1, 29),
            "argument 2 has no name",
        ),
        ("CALL system.compact(DISTINCT 1)", (1, 6), "only arguments"),
        ("CALL system.compact(1) OVER ()", (1, 6), "only arguments"),
        ("CALL system.compact(1)(2)", (1, 6), "only arguments"),
        (
            "EXPLAIN CALL other.compact('t')",
            (1, 14),
            "is not a procedure",
        ),
    ] {
        check_refused(sql, place, fragment);
        assert_eq!(refused(sql).kind(), SyntaxErrorKind::Call, "{sql}");
    }
}

#[test]
fn arguments_are_bound_by_name_or_place() {
    let parameters = ["table", "dry_run", "keep"];
    let compact = call("CALL system.compact('t', keep => 5, dry_run => NULL)");
    let arguments = compact.bind(&parameters).expect("all are known");
    assert_eq!(arguments.string("table"), Ok(Some("t")));
    assert_eq!(arguments.boolean("dry_run"), Ok(None));
    assert_eq!(arguments.long("keep"), Ok(Some(5)));

    for (sql, column, fragment) in [
        (
            "CALL system.compact(tables => 't')",
            21,
            "has no parameter tables; its parameters are table, dry_run, keep",
        ),
        (
            "CALL system.compact('t', table => 'u')",
            26,
            "table is given twice",
        ),
        ("CALL system.compact(1, 2, 3, 4)", 30, "takes at most 3"),
    ] {
        let call = call(sql);
        let error = call.bind(&parameters).expect_err(sql);
        assert!(error.to_string().contains(fragment), "{error}");
        assert_eq!(error.position().map(|p| p.column), Some(column), "{sql}");
    }
    let wrong = call("CALL system.compact(5, 'yes', 1.5)");
    let arguments = wrong.bind(&parameters).expect("all have a place");
    assert!(arguments.string("table").is_err());
    assert!(arguments.boolean("dry_run").is_err());
    let error = arguments.long("keep").expect_err("no whole number");
    assert_eq!(
        error.to_string(),
        "line 1, column 31: keep has a value of the wrong type; give a whole number"
    );
}

#[test]
fn errors_of_the_parser_point_into_the_text() {
    let error = refused("SELECT 1;\nSELECT a FORM t WHERE");
    assert_eq!(
        error.position(),
        Some(Position {
            line: 2,
            column: 15
        })
    );
    assert_eq!(
        error.excerpt(),
        Some("SELECT a FORM t WHERE\n              ^")
    );
    assert!(error.to_string().contains("nothing was run"), "{error}");
    check_refused("SELECT 'abc", (1, 8), "Unterminated string");
    check_refused("SELECT * FROM\n  ", (1, 14), "EOF");
    // After a rewritten clause the places are still those of the text.
    check_refused(
        "SELECT * FROM t FOR VERSION AS OF 3 AS x y z",
        (1, 42),
        "found: y",
    );
}

#[test]
fn a_text_that_is_too_large_or_too_deep_is_an_error() {
    let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
    assert_eq!(refused(&long).kind(), SyntaxErrorKind::TooLarge);
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!(
            "SELECT {}{inner}{}",
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    for sql in [
        nested("(", "1", ")", 10_000),
        nested("(", "1", ")", 100),
        nested("(", "", "", 10_000),
        nested("(SELECT ", "1", ")", 1_000),
        nested("CAST(", "1", " AS INT)", 1_000),
        nested("[", "1", "]", 1_000),
        nested("- ", "1", "", 1_000),
        nested("EXISTS (SELECT ", "1", ")", 300),
        nested("", "1", " + 1", 100_000),
        nested("", "1", " IS NULL", 100_000),
        nested("", "a", "::int", 100_000),
        nested("", "1", " UNION SELECT 1", 60_000),
        nested("", "1", " + 1", 100_000) + ")",
        nested("", "1", " + 1", 7_000),
        nested("", "1", " UNION SELECT 1", 5_000),
    ] {
        let error = refused(&sql);
        assert_eq!(
            error.kind(),
            SyntaxErrorKind::TooLarge,
            "{:.60}: {error}",
            sql
        );
    }
    // Here the parser tries NOT and CASE as names in the end, which is an error as well.
    assert!(parse(&nested("NOT ", "true", "", 1_000)).is_err());
    assert!(parse(&nested("CASE WHEN 1 = 1 THEN ", "1", " END", 300)).is_err());
    assert!(parse(&nested("(", "1", ")", 20)).is_ok());
}

#[test]
fn nested_mistakes_do_not_take_for_ever() {
    for open in [
        "CAST(",
        "POSITION(",
        "CEIL(",
        "SUBSTRING(",
        "OVERLAY(",
        "CONVERT(",
        "ARRAY[",
        "TRIM(",
        "EXTRACT(",
        "STRUCT(",
        "CASE WHEN ",
        "f(a => ",
        "INTERVAL ",
        "(",
        "[",
        "{'a': ",
        "EXISTS(SELECT ",
        "x -> (",
    ] {
        let start = Instant::now();
        let error = refused(&format!("SELECT {}1 x y", open.repeat(45)));
        assert!(start.elapsed() < Duration::from_secs(10), "{open}: {error}");
    }
    for open in ["(SELECT * FROM ", "((SELECT * FROM ", "((t JOIN "] {
        let start = Instant::now();
        let error = refused(&format!("SELECT * FROM {}1 x y", open.repeat(14)));
        assert!(start.elapsed() < Duration::from_secs(10), "{open}: {error}");
    }
    let error = refused(&format!("SELECT {}1 x y", "CAST(".repeat(20)));
    assert_eq!(error.kind(), SyntaxErrorKind::TooLarge);
    assert!(error.to_string().contains("innermost"), "{error}");
    // A few levels still give the place.
    check_refused("SELECT CAST(CAST(CAST(1 x y", (1, 25), "found: x");
}

#[test]
fn right_statements_stay_far_from_the_bound_on_work() {
    for sql in [
        format!("SELECT 1 IN (1{})", ", (1 + -1) * f(2)".repeat(20_000)),
        format!(
            "INSERT INTO t VALUES (1){}",
            ", (CAST('2' AS INT))".repeat(20_000)
        ),
        format!("SELECT {}1{}", "CAST(".repeat(40), " AS INT)".repeat(40)),
        format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(12),
            ")".repeat(12)
        ),
        format!(
            "SELECT * FROM {}(SELECT 1 AS x) AS t{}",
            "(".repeat(10),
            " JOIN u ON 1 = 1)".repeat(10)
        ),
    ] {
        assert!(parse(&sql).is_ok(), "{sql:.60}");
    }
}

/// Words and signs that mean something somewhere in the grammar.
const SOUP: &[&str] = &[
    "SELECT",
    "FROM",
    "t",
    "AS",
    "OF",
    "VERSION",
    "FOR",
    "TIMESTAMP",
    "SYSTEM_TIME",
    "SYSTEM_VERSION",
    "AT",
    "BEFORE",
    "(",
    ")",
    ",",
    ";",
    "=>",
    ":=",
    ".",
    "*",
    "3",
    "-",
    "'x'",
    "\"y\"",
    "$1",
    "?",
    "WHERE",
    "JOIN",
    "ON",
    "WITH",
    "CALL",
    "system",
    "compact",
    "EXPLAIN",
    "ANALYZE",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "COPY",
    "TO",
    "CREATE",
    "VIEW",
    "TABLE",
    "EXTERNAL",
    "UNION",
    "NULL",
    "true",
    "[",
    "]",
    "{",
    "}",
    "CAST",
    "CASE",
    "WHEN",
    "NOT",
    "TABLESAMPLE",
    "PIVOT",
    "OVER",
    "FILTER",
    "LATERAL",
    "UNNEST",
    "MERGE",
    "USING",
    "t$snapshots",
    "x@y",
    "\n",
    "--c\n",
    "/*",
    "*/",
    "é",
    "\u{1f}",
    "'",
    "\"",
    "\\",
    "E'",
    "$$",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn token_soup_never_panics(words in prop::collection::vec(prop::sample::select(SOUP), 0..40)) {
        let _outcome = parse(&words.join(" "));
    }

    #[test]
    fn character_soup_never_panics(sql in "\\PC{0,60}") {
        let _outcome = parse(&sql);
    }

    /// A clause put behind any table of a statement is either rewritten or refused, never left over or lost.
    #[test]
    fn a_clause_is_rewritten_or_refused(words in prop::collection::vec(prop::sample::select(SOUP), 0..12)) {
        let sql = format!("SELECT * FROM t VERSION AS OF 3 {}", words.join(" "));
        if let Ok(statements) = parse(&sql) {
            let first = format!("{:?}", statements[0]);
            prop_assert!(first.contains("t@version:3"), "{first}");
            prop_assert!(!first.contains("VersionAsOf") && !first.contains("TableVersion"), "{first}");
        }
    }
}
