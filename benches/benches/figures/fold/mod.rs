//! W5: folding the log into the base, beside DuckDB doing the same in SQL; what a flush costs beside writing the same
//! Parquet; and a log of many small files.
//!
//! `benches/peers/run fold` has the peers; without them their column is empty.

mod churn;
mod lake;
mod log;
mod peers;

use lakesync_benches::Figures;
use tokio::runtime::Runtime;

pub(crate) fn measure(figures: &mut Figures) {
    let scale = std::env::var("LAKESYNC_BENCH_SCALE").ok();
    let scale = scale.and_then(|text| text.parse().ok()).unwrap_or(0.05);
    let runtime = Runtime::new().expect("a runtime");
    churn::measure(&runtime, scale, figures);
    log::flush(&runtime, figures);
    log::small_files(&runtime, figures);
}
