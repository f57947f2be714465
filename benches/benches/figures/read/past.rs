//! Past moments against reading now.

use lakesync_benches::{Figures, median};
use lakesync_proto::Hlc;

use super::lineitem::Lineitem;
use super::plain::{QUERIES, figure, shown};

/// Before the last tenth of the deltas was stamped: their newest base is the current one.
pub(super) fn measure(table: &Lineitem<'_>, figures: &mut Figures) {
    let back = table.rows / 100;
    compared(
        table,
        back,
        "within the last hour (the current base and the log)",
        "<= 2x",
        figures,
    );
}

/// The same moment after a compaction that knows more: an older base, and the log up to then.
pub(super) fn thirty_days(table: &Lineitem<'_>, figures: &mut Figures) {
    let back = table.rows / 10 - table.rows / 50;
    compared(
        table,
        back,
        "before the last compaction (an older base and the log)",
        "<= 5x",
        figures,
    );
}

fn compared(
    table: &Lineitem<'_>,
    back: u64,
    what: &str,
    target: &'static str,
    figures: &mut Figures,
) {
    let then = Hlc::new(table.last.wall_ms() - back, 0).expect("a stamp");
    for (name, sql) in &QUERIES[..2] {
        let past = sql.replace(
            "from lineitem",
            &format!("from lineitem at (hlc => {then})"),
        );
        let (ours, found) = median(|| table.query(&past));
        let (limit, now) = median(|| table.query(sql));
        assert_ne!(shown(&found), shown(&now), "{name}: the past is another");
        let what = format!("{name} AS OF HLC, {what}");
        figures.0.push(figure(what, (ours, limit), target));
    }
}
