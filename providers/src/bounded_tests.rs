//! Every function that may grow, over constants and over columns.

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use crate::lake::Warehouse;
use crate::session;

async fn run(ctx: &SessionContext, sql: &str) -> Result<usize, DataFusionError> {
    let rows = ctx.sql(sql).await?.collect().await?;
    Ok(rows.iter().map(|batch| batch.num_rows()).sum())
}

async fn ctx() -> (SessionContext, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = Warehouse::open_local(folder.path()).await.unwrap();
    (session(&warehouse), folder)
}

/// What asks for more than there is, over constants; `N` also stands for a column of 100 rows.
const TOO_MUCH: &[&str] = &[
    "length(repeat(arrow_cast('x', 'LargeUtf8'), N * 1000000000000))",
    "length(repeat('x', N * 100000000))",
    "length(lpad(arrow_cast('x', 'LargeUtf8'), N * 20000000, 'y'))",
    "length(rpad(arrow_cast('x', 'LargeUtf8'), N * 20000000, 'y'))",
    "length(lpad('x', N * 20000000))",
    "array_length(range(1, N * 1000000000000))",
    "array_length(range(N * 1000000000000))",
    "array_length(range(N * 1000000000000, 0, -1))",
    "array_length(generate_series(1, N * 1000000000000))",
    "array_length(generate_series(-9223372036854775807, 9223372036854775807 - N, 100000))",
    "array_length(generate_series(timestamp '1900-01-01', timestamp '2200-01-01', interval '1 nanosecond'))",
    "array_length(generate_series(date '2020-01-01', date '2020-02-01', interval '1 month -28 days'))",
    "array_length(array_repeat(1, N * 1000000000000))",
    "array_length(list_repeat('abc', N * 1000000000000))",
    "array_length(array_repeat([1, 2, 3], N * 1000000000000))",
    "array_length(array_resize([1], N * 1000000000000, 0))",
    "array_length(list_resize([1], N * 1000000000000))",
    "length(replace(repeat('x', 60000), 'x', repeat('y', N * 60000 / N)))",
    "length(regexp_replace(repeat('x', 60000), 'x', repeat('y', N * 60000 / N), 'g'))",
    "length(array_to_string(range(60000), repeat('y', N * 60000 / N)))",
];

#[tokio::test]
async fn nothing_grows_beyond_its_bound_over_constants_and_over_columns() {
    let (ctx, _folder) = ctx().await;
    for call in TOO_MUCH {
        let constants = format!("select {}", call.replace('N', "100"));
        let column = format!(
            "select {} from (values (100), (100)) as t(n)",
            call.replace('N', "n")
        );
        for sql in [constants, column] {
            let error = run(&ctx, &sql).await.expect_err(&sql).to_string();
            let said = error.contains("is the most") || error.contains("the same sign");
            assert!(said, "{sql}: {error}");
        }
    }
}

#[tokio::test]
async fn what_doubles_again_and_again_is_refused_before_it_is_too_much() {
    let (ctx, _folder) = ctx().await;
    for (start, double) in [
        ("repeat('x', 6000000 + 0 * n)", "concat($, $)"),
        ("repeat('x', 6000000 + 0 * n)", "concat_ws('', $, $)"),
        ("repeat('x', 6000000 + 0 * n)", "overlay($, $, 1, 0)"),
        ("range(600000 + 0 * n)", "array_concat($, $)"),
    ] {
        let from = format!("(select {start} as v0 from (values (1)) as t(n))");
        let sql = (0..5).fold(from, |from, level| {
            let double = double.replace('$', &format!("v{level}"));
            format!("(select {double} as v{} from {from})", level + 1)
        });
        let error = run(&ctx, &format!("select * from {sql}")).await;
        let error = error.expect_err(double).to_string();
        assert!(error.contains("is the most"), "{double}: {error}");
    }
}

#[tokio::test]
async fn a_long_constant_is_not_written_out_for_every_row() {
    let (ctx, _folder) = ctx().await;
    for call in [
        "repeat(arrow_cast('x', 'LargeUtf8'), 60000000)",
        "array_repeat(1, 4000000)",
        "range(4000000)",
    ] {
        let sql = format!("select {call} from generate_series(1, 8192)");
        let error = run(&ctx, &sql).await.expect_err(&sql).to_string();
        assert!(error.contains("is the most"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn ordinary_calls_answer_as_before() {
    let (ctx, _folder) = ctx().await;
    for condition in [
        "repeat('ab', 3) = 'ababab'",
        "repeat('ab', -3) = ''",
        "repeat(null, 3) is null",
        "lpad('7', 3, '0') = '007'",
        "rpad('7', 3) = '7  '",
        "lpad('long', 2) = 'lo'",
        "array_length(range(1, 100001)) = 100000",
        "range(10, 1) = []",
        "range(0, 10, 5) = [0, 5]",
        "generate_series(3, 1, -1) = [3, 2, 1]",
        "array_length(generate_series(date '2020-01-01', date '2020-12-31', interval '1 month')) = 12",
        "array_length(generate_series(timestamp '2020-01-01', timestamp '2020-01-02', interval '1 hour')) = 25",
        "range(null) is null",
        "array_repeat('a', 2) = ['a', 'a']",
        "array_resize([1], 3, 7) = [1, 7, 7]",
        "replace('aXbX', 'X', '--') = 'a--b--'",
        "regexp_replace('a1b2', '[0-9]', '.', 'g') = 'a.b.'",
        "array_to_string([1, 2], ', ') = '1, 2'",
        "concat('a', null, 1) = 'a1'",
        "concat_ws('-', 'a', null, 'b') = 'a-b'",
        "overlay('abcd' placing 'XX' from 2 for 2) = 'aXXd'",
        "array_concat([1], [2]) = [1, 2]",
        "array_append([1], 2) = [1, 2]",
        "array_prepend(1, [2]) = [1, 2]",
        "[1] || [2] = [1, 2]",
    ] {
        let sql = format!("select 1 where {condition}");
        assert_eq!(run(&ctx, &sql).await.expect(&sql), 1, "{sql}");
    }
    let sql = "select unnest(range(1, 100001))";
    assert_eq!(run(&ctx, sql).await.unwrap(), 100_000);
    let sql = "select lpad(arrow_cast(value, 'Utf8'), 10, '0') from generate_series(1, 20000) where lpad(arrow_cast(value, 'Utf8'), 2) = '77'";
    run(&ctx, sql).await.unwrap();
}
