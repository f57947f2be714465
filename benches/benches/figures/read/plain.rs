//! The ruler: the merged rows as plain Parquet in a session that knows nothing of us.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use lakesync_benches::{Cost, Figure};

use super::lineitem::{Lineitem, quoted};

/// The queries of W1 and what each stands for.
pub(super) const QUERIES: [(&str, &str); 5] = [
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
    (
        "TopK",
        "select row_id, l_extendedprice, l_discount from lineitem order by l_extendedprice desc, row_id limit 10",
    ),
    (
        "point look-up",
        "select * from lineitem where l_orderkey = 1234567 and l_linenumber = 1",
    ),
    (
        "wide filter",
        "select count(l_comment), max(l_comment), max(l_shipinstruct), sum(l_tax), sum(l_discount), max(row_id),
         sum(l_partkey), sum(l_suppkey), max(l_receiptdate) from lineitem where l_quantity < 5",
    ),
];

/// The merged rows of now as a folder of Parquet files, in a session of its own.
pub(super) fn copied(table: &Lineitem<'_>, name: &str) -> SessionContext {
    let path = table.folder().join(name);
    let sql = format!(
        "copy (select * from lineitem) to {} stored as parquet options ('format.compression' 'zstd(1)',
         'format.max_row_group_size' '131072')",
        quoted(&path)
    );
    table.query(&sql);
    table.runtime.block_on(registered(&path))
}

async fn registered(path: &Path) -> SessionContext {
    let ctx = SessionContext::new();
    let options = ParquetReadOptions::default();
    let path = path.to_str().expect("a text");
    let done = ctx.register_parquet("lineitem", path, options).await;
    done.expect("a table");
    ctx
}

pub(super) async fn collect(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let frame = ctx.sql(sql).await.expect("planned");
    frame.collect().await.expect("run")
}

/// Rows as a text, to be compared.
pub(super) fn shown(batches: &[RecordBatch]) -> String {
    let shown = pretty_format_batches(batches).expect("rows can be shown");
    shown.to_string()
}

/// A line of the table: what costs `ours` against `limit`.
pub(super) fn figure(what: String, (ours, limit): (Cost, Cost), target: &'static str) -> Figure {
    Figure {
        what,
        figure: format!("{:.1} ms ({:.1} ms CPU)", ms(ours.wall), ms(ours.cpu)),
        limit: format!("{:.1} ms ({:.1} ms CPU)", ms(limit.wall), ms(limit.cpu)),
        ratio: format!(
            "{:.2}x CPU, {:.2}x wall",
            ms(ours.cpu) / ms(limit.cpu),
            ms(ours.wall) / ms(limit.wall)
        ),
        target,
    }
}

pub(super) fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
