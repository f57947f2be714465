//! W1: reading lineitem while a growing share of it is touched, against the plain Parquet scan of the same merged rows;
//! past moments, look-ups and changes; and, with `LAKESYNC_PEERS`, DuckDB and chDB over the same files.

pub(crate) mod lineitem;
mod lookups;
mod many_files;
mod past;
mod peers;
mod plain;
mod touched;
mod visible;

use lakesync_benches::Figures;
use tokio::runtime::Runtime;

use lineitem::Lineitem;

pub(crate) fn measure(figures: &mut Figures) {
    let scale = std::env::var("LAKESYNC_BENCH_SCALE").ok();
    let scale = scale.and_then(|text| text.parse().ok()).unwrap_or(0.05);
    let runtime = Runtime::new().expect("a runtime");
    let mut table = Lineitem::make(&runtime, scale);
    touched::measure(&mut table, figures);
    past::measure(&table, figures);
    lookups::measure(&table, figures);
    peers::measure(&table, figures);
    touched::after_compaction(&mut table, figures);
    past::thirty_days(&table, figures);
    touched::deleted_and_new(&mut table, figures);
    drop(table);
    many_files::measure(&runtime, figures);
    visible::measure(&runtime, figures);
}
