//! W1: lineitem with a growing share of touched rows, against the plain Parquet scan of the same merged rows.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use lakesync::Lake;
use lakesync::cli::generate::{TpchArgs, TpchTable, tpch};
use lakesync_benches::load::config;
use lakesync_benches::{Cost, Figure, Figures, median};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, HlcClock, Op, Push, RowDelta, RowId,
    Schemas as _, Seq, TableName, Value,
};
use tokio::runtime::Runtime;

const TABLE: &str = r#"{"table": "lineitem", "columns": [
    {"name": "l_orderkey", "type": "long"}, {"name": "l_partkey", "type": "long"}, {"name": "l_suppkey", "type": "long"},
    {"name": "l_linenumber", "type": "long"}, {"name": "l_quantity", "type": "decimal(15,2)"},
    {"name": "l_extendedprice", "type": "decimal(15,2)"}, {"name": "l_discount", "type": "decimal(15,2)"},
    {"name": "l_tax", "type": "decimal(15,2)"}, {"name": "l_returnflag", "type": "string"},
    {"name": "l_linestatus", "type": "string"}, {"name": "l_shipdate", "type": "date"},
    {"name": "l_commitdate", "type": "date"}, {"name": "l_receiptdate", "type": "date"},
    {"name": "l_shipinstruct", "type": "string"}, {"name": "l_shipmode", "type": "string"},
    {"name": "l_comment", "type": "string"}]}"#;

const QUERIES: [(&str, &str); 3] = [
    (
        "Q6",
        "select sum(l_extendedprice * l_discount) from lineitem where l_shipdate >= date '1994-01-01'
         and l_shipdate < date '1995-01-01' and l_discount between 0.05 and 0.07 and l_quantity < 24",
    ),
    (
        "Q1",
        "select l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice * (1 - l_discount)), avg(l_discount),
         count(*) from lineitem where l_shipdate <= date '1998-09-02' group by 1, 2 order by 1, 2",
    ),
    ("TopK", "select row_id, l_extendedprice from lineitem order by l_extendedprice desc, row_id limit 10"),
];

/// How many rows out of 1,000 are touched.
const TOUCHED: [u64; 3] = [0, 1, 10];

pub(crate) fn measure(figures: &mut Figures) {
    let scale = std::env::var("LAKESYNC_BENCH_SCALE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.05);
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let lake = runtime
        .block_on(
            Lake::builder(folder.path().join("lake"))
                .with_config(config())
                .open(),
        )
        .expect("a lake");
    let rows = runtime.block_on(load(&lake, folder.path(), scale));
    for permille in TOUCHED {
        runtime.block_on(touch(&lake, rows, permille));
        let plain = folder.path().join(format!("plain-{permille}.parquet"));
        let plain = runtime.block_on(copy_plain(&lake, &plain));
        for (name, sql) in QUERIES {
            let (union, found) = median(|| runtime.block_on(collect_lake(&lake, sql)));
            let (limit, expected) = median(|| runtime.block_on(collect(&plain, sql)));
            assert_eq!(
                shown(&found),
                shown(&expected),
                "{name} at {permille} permille"
            );
            figures.0.push(figure(name, permille, rows, union, limit));
        }
    }
}

fn figure(name: &str, permille: u64, rows: u64, union: Cost, limit: Cost) -> Figure {
    Figure {
        what: format!(
            "{name}, {rows} rows, {:.1} % touched",
            f64::from(u32::try_from(permille).unwrap_or(0)) / 10.0
        ),
        figure: format!("{:.0} ms ({:.0} ms CPU)", ms(union.wall), ms(union.cpu)),
        limit: format!(
            "plain Parquet: {:.0} ms ({:.0} ms CPU)",
            ms(limit.wall),
            ms(limit.cpu)
        ),
        ratio: format!(
            "{:.2}x wall, {:.2}x CPU; equal rows",
            ms(union.wall) / ms(limit.wall),
            ms(union.cpu) / ms(limit.cpu)
        ),
        target: if permille == 10 {
            "<= 1.05x"
        } else {
            "<= 1.02x"
        },
    }
}

fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn shown(batches: &[RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(batches)
        .expect("rows can be shown")
        .to_string()
}

/// Pushes lineitem with ids that are in no order, flushes and compacts it.
async fn load(lake: &Lake, folder: &Path, scale: f64) -> u64 {
    let file = folder.join("lineitem.ndjson");
    let args = TpchArgs {
        table: TpchTable::Lineitem,
        scale,
        out: file.clone(),
    };
    let rows = tpch(&args, std::io::sink(), std::io::sink()).expect("generated");
    lake.create_table(TABLE).await.expect("a table");
    let gateway = lake.gateway("public").expect("it exists");
    let schema = gateway
        .live()
        .schema(&TableName::parse("lineitem").expect("a name"))
        .expect("just made");
    let mut reader =
        lakesync::cli::rows::RowReader::new(BufReader::new(File::open(&file).expect("the file")));
    let mut clock = HlcClock::new();
    let (mut number, mut batch) = (0_u64, Vec::new());
    while let Some(lakesync::cli::rows::Line::Row(row)) = reader.next_line().expect("rows") {
        let stamp = clock.now(1_600_000_000_000).expect("a stamp");
        batch.push(delta(
            number,
            Op::Insert,
            stamp,
            row.changes(&schema).expect("typed"),
        ));
        number += 1;
        if batch.len() == 10_000 {
            gateway
                .push(push(std::mem::take(&mut batch)))
                .await
                .expect("accepted");
        }
    }
    if !batch.is_empty() {
        gateway.push(push(batch)).await.expect("accepted");
    }
    drop(writeln!(
        std::io::stderr(),
        "{rows} rows are pushed; flush and compaction follow"
    ));
    fold(lake).await;
    rows
}

async fn fold(lake: &Lake) {
    for sql in [
        "call system.flush('lineitem')",
        "call system.compact('lineitem')",
    ] {
        drop(collect_lake(lake, sql).await);
    }
}

/// Ids that look like UUIDs: random, so that touched rows are everywhere in the files.
fn row_id(number: u64) -> RowId {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    RowId::parse(&format!(
        "{:08x}-{:04x}-7{:03x}-8000-{number:012x}",
        mixed >> 32,
        mixed >> 16 & 0xffff,
        mixed & 0xfff
    ))
    .expect("an id")
}

fn delta(number: u64, op: Op, hlc: Hlc, columns: Vec<ColumnChange>) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("lineitem").expect("a name"),
        row_id: row_id(number),
        client_id: ClientId::parse("bench").expect("an id"),
        hlc,
    };
    RowDelta::new(op, key, columns)
}

fn push(deltas: Vec<RowDelta>) -> Push {
    Push {
        client_id: deltas[0].client_id.clone(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

/// Folds what was touched before, then sets one column of `permille` of 1,000 rows.
async fn touch(lake: &Lake, rows: u64, permille: u64) {
    fold(lake).await;
    let gateway = lake.gateway("public").expect("it exists");
    let column = ColumnName::parse("l_discount").expect("a name");
    let value = Value::from_json_text(
        "\"0.06\"",
        lakesync_proto::ColumnType::Decimal {
            precision: 15,
            scale: 2,
        },
    );
    let value = value.expect("a decimal");
    let mut clock = HlcClock::new();
    let touched = (0..rows).filter(|number| (number.wrapping_mul(7_919) % 1_000) < permille);
    let deltas: Vec<RowDelta> = touched
        .map(|number| {
            let stamp = clock
                .now(1_600_100_000_000 + permille * 1_000)
                .expect("a stamp");
            let change = ColumnChange {
                column: column.clone(),
                value: value.clone(),
            };
            delta(number, Op::Update, stamp, vec![change])
        })
        .collect();
    for batch in deltas.chunks(10_000) {
        gateway.push(push(batch.to_vec())).await.expect("accepted");
    }
}

/// The merged rows as one plain Parquet file, in a session of its own.
async fn copy_plain(lake: &Lake, path: &Path) -> SessionContext {
    let sql = format!(
        "copy (select * from lineitem) to '{}' stored as parquet options ('format.compression' 'zstd(1)', 'format.max_row_group_size' '131072')",
        path.display()
    );
    drop(collect_lake(lake, &sql).await);
    let ctx = SessionContext::new();
    let options = ParquetReadOptions::default();
    ctx.register_parquet("lineitem", path.to_str().expect("a text"), options)
        .await
        .expect("a table");
    ctx
}

async fn collect_lake(lake: &Lake, sql: &str) -> Vec<RecordBatch> {
    lake.sql(sql)
        .await
        .expect("planned")
        .collect()
        .await
        .expect("run")
}

async fn collect(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    ctx.sql(sql)
        .await
        .expect("planned")
        .collect()
        .await
        .expect("run")
}
