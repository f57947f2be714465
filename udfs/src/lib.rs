//! LakeSync's SQL functions: the merge rule by column, and hybrid logical clocks.
//!
//! | function | is |
//! |---|---|
//! | `stamp(_hlc, _client, _delta_id)` | the total order of writes as one binary key that sorts bytewise |
//! | `lww(value, stamp)` | aggregate: the value of the write with the greatest stamp |
//! | `is_set(_set, column_number)` | whether a delta of the log carries that column |
//! | `key_part(row_id, position)` | one column of a composite key, as text |
//! | `key_bucket(row_id, count)` | which of `count` parts a row belongs to |
//! | `hlc_time(hlc)` | the wall clock of an HLC, as a timestamp |
//! | `hlc_counter(hlc)` | the counter of an HLC |
//! | `hlc_at(timestamp)` | the smallest HLC of that millisecond |
//!
//! **Invariant:** `max(stamp(…))` picks the same write as [`lakesync_proto::Stamp`]'s order; the rule is
//! written by row in `proto` and by column here, and nowhere else.
//!
//! ```
//! use datafusion::prelude::SessionContext;
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let ctx = SessionContext::new();
//! lakesync_udfs::register(&ctx);
//! let rows = ctx.sql("select hlc_counter(65536 * 1700000000000 + 7) as c").await?.collect().await?;
//! assert_eq!(rows[0].num_rows(), 1);
//! # Ok::<(), datafusion::error::DataFusionError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod argument;
mod hlc_at;
mod hlc_counter;
mod hlc_time;
mod is_set;
mod key_bucket;
mod key_part;
mod lww;
mod lww_groups;
mod stamp;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

/// The scalar functions of this crate, in the order of the table above.
#[must_use]
pub fn scalar_functions() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::from(stamp::StampFunction::new()),
        ScalarUDF::from(is_set::IsSet::new()),
        ScalarUDF::from(key_part::KeyPart::new()),
        ScalarUDF::from(key_bucket::KeyBucket::new()),
        ScalarUDF::from(hlc_time::HlcTime::new()),
        ScalarUDF::from(hlc_counter::HlcCounter::new()),
        ScalarUDF::from(hlc_at::HlcAt::new()),
    ]
}

/// The aggregate functions of this crate.
#[must_use]
pub fn aggregate_functions() -> Vec<AggregateUDF> {
    vec![AggregateUDF::from(lww::Lww::new())]
}

/// Makes every function of this crate callable from the SQL of `ctx`.
pub fn register(ctx: &SessionContext) {
    for function in scalar_functions() {
        ctx.register_udf(function);
    }
    for function in aggregate_functions() {
        ctx.register_udaf(function);
    }
}
