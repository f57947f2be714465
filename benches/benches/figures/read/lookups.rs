//! Rows by their ids, and what the last deltas changed.

use std::time::Instant;

use lakesync_benches::{Figure, Figures, median};
use lakesync_proto::RowId;
use lakesync_providers::rows_at;

use super::lineitem::{Lineitem, row_id};
use super::plain::{figure, ms};

/// Row ids of one look-up.
const IDS: u64 = 1_000;
/// Deltas that `changes` is asked for.
const DELTAS: u64 = 100_000;

pub(super) fn measure(table: &Lineitem<'_>, figures: &mut Figures) {
    by_id(table, figures);
    changed(table, figures);
}

fn by_id(table: &Lineitem<'_>, figures: &mut Figures) {
    let view = table.gateway.live().view("lineitem").expect("it exists");
    let ids = |round: u64| -> Vec<RowId> {
        let ids = (0..IDS).map(|n| (n * 7_907 + round * 104_729) % table.rows);
        ids.map(row_id).collect()
    };
    let mut round = 0;
    let began = Instant::now();
    let first = table.runtime.block_on(rows_at(&view, &ids(round)));
    drop(first.expect("read"));
    eprintln!("the first look-up took {:.0} ms", ms(began.elapsed()));
    let (cost, _) = median(|| {
        round += 1;
        let rows = table.runtime.block_on(rows_at(&view, &ids(round)));
        rows.expect("read")
    });
    figures.0.push(Figure {
        what: format!("{IDS} random row ids by index, {} rows", table.rows),
        figure: format!("{:.1} ms ({:.1} ms CPU)", ms(cost.wall), ms(cost.cpu)),
        limit: "-".to_owned(),
        ratio: "-".to_owned(),
        target: "<= 20 ms",
    });
}

fn changed(table: &Lineitem<'_>, figures: &mut Figures) {
    table.query("call system.flush('lineitem')");
    let to = table.gateway.live().seq().as_u64();
    let from = to.saturating_sub(DELTAS);
    let changes = format!(
        "select count(*), max(_hlc), count(before['l_discount']), max(after['l_comment'])
         from changes('lineitem', {from}, {to})"
    );
    let log = format!(
        "select count(*), max(_hlc), max(_arrived_at), max(_client), max(_delta_id), max(_op), max(row_id), max(_set),
         max(l_discount), max(l_comment), max(l_shipdate) from lineitem$deltas where _seq > {from} and _seq <= {to}"
    );
    let (ours, _) = median(|| table.query(&changes));
    let (limit, _) = median(|| table.query(&log));
    let what = format!("changes() over the last {} deltas", to - from);
    figures.0.push(figure(what, (ours, limit), "<= 2x"));
}
