//! The queries with no, some and many rows touched, deleted and new.

use lakesync_benches::{Figure, Figures, median};
use lakesync_proto::Op;

use super::lineitem::{Lineitem, among};
use super::plain::{QUERIES, collect, copied, figure, ms, shown};

/// So many of 1,000 rows are touched, each share beside those before it.
const SHARES: [(u64, &str); 4] = [
    (0, "<= 1.02x"),
    (1, "<= 1.02x"),
    (10, "<= 1.05x"),
    (100, "<= 1.10x"),
];

pub(super) fn measure(table: &mut Lineitem<'_>, figures: &mut Figures) {
    let mut before = 0;
    for (permille, target) in SHARES {
        let rows = table.rows;
        let added = move |row: &u64| among(*row, permille) && !among(*row, before);
        table.set_discount((0..rows).filter(added));
        before = permille;
        let share = format!("{} % touched", tenth(permille));
        compared(table, &share, target, figures);
        if permille == 10 {
            counted(table, figures);
        }
    }
}

/// The same rows once they are folded, as the plain scan reads them.
pub(super) fn after_compaction(table: &mut Lineitem<'_>, figures: &mut Figures) {
    table.fold();
    compared(table, "10 % touched, compacted", "<= 1.02x", figures);
}

pub(super) fn deleted_and_new(table: &mut Lineitem<'_>, figures: &mut Figures) {
    let rows = table.rows;
    let deleted = (0..rows).filter(|row| among(*row, 10)).enumerate();
    let deleted = deleted.map(|(at, row)| table.delta(at, Op::Delete, row, Vec::new()));
    let deleted: Vec<_> = deleted.collect();
    table.push(deleted);
    let new: Vec<_> = (rows..rows + rows / 100).collect();
    let columns = table.columns_of_a_row();
    let new = new.into_iter().enumerate();
    let new = new.map(|(at, row)| table.delta(at, Op::Insert, row, columns.clone()));
    let new: Vec<_> = new.collect();
    table.push(new);
    compared(table, "1 % deleted, 1 % new", "<= 1.25x", figures);
}

fn compared(table: &Lineitem<'_>, share: &str, target: &'static str, figures: &mut Figures) {
    let plain = copied(table, &share.replace([' ', '%', ',', '.'], "-"));
    for (name, sql) in QUERIES {
        let (ours, found) = median(|| table.query(sql));
        let (limit, expected) = median(|| table.runtime.block_on(collect(&plain, sql)));
        assert_eq!(shown(&found), shown(&expected), "{name}, {share}");
        let what = format!("{name}, {} rows, {share}", table.rows);
        figures.0.push(figure(what, (ours, limit), target));
    }
}

fn counted(table: &Lineitem<'_>, figures: &mut Figures) {
    let (cost, _) = median(|| table.query("select count(*) from lineitem"));
    figures.0.push(Figure {
        what: format!("COUNT(*), {} rows, 1 % touched", table.rows),
        figure: format!("{:.1} ms", ms(cost.wall)),
        limit: "metadata".to_owned(),
        ratio: "-".to_owned(),
        target: "<= 5 ms",
    });
}

fn tenth(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}
