//! The SQL of a fold: deltas of the log in, one row for each row that they touch out.
//!
//! What decides a cell are the writes of it and the deletes of its row, *events*: the one with the greatest stamp. So a
//! delete is a write of null to every column, and `lww` over the events of a column is its value; the cell is set when
//! there is an event at all. Of the row itself every delta is an event, and it exists when the greatest is no delete.
//!
//! Evidence comes in only where a candidate is late. It has stamps and no values: where it is the greatest the base has
//! the value, unless a later candidate deletes the row. The base also has that no evidence revives what evidence deletes, so
//! only candidates' deletes, and writes of both, decide *whether* a cell is set ([`lakesync_providers::proto::RowFold`]).
//!
//! Names of ours say which table they are of: the user's columns may be called anything.
//!
//! **Invariant:** this is [`fold_row`](lakesync_providers::proto::fold_row) by column; random histories hold the two
//! together.

use std::fmt::Write as _;

use lakesync_providers::proto::{Column, Hlc, Seq, TableSchema};
use lakesync_providers::{key_sql, quoted};

use super::changes::{set_column, value_column};

/// The number of an op that deletes, as the log has it.
const DELETE: i32 = 3;

/// Which deltas are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Candidates are above this seq.
    pub(crate) base_seq: Seq,
    /// And up to this one.
    pub(crate) to_seq: Seq,
    /// The least stamp of a candidate, when it is late: no older evidence decides anything.
    pub(crate) late_from: Option<Hlc>,
    /// Whether the rows are folded in several parts.
    pub(crate) several_parts: bool,
}

/// The deltas that decide: candidates, and evidence about rows with a late one.
///
/// Columns: `_key` (as `place_of` gives it), `row_id`, `is_delete`, `stamp`, with evidence `is_candidate`, and for each
/// column n that is no key `set_n` and `value_n`.
pub(crate) fn deltas_sql(schema: &TableSchema, columns: &[&Column], span: Span) -> String {
    let base_seq = span.base_seq;
    let mut candidates = select(schema, columns, span, Of::Candidates);
    let _ = write!(
        candidates,
        "\nfrom log where log._seq > {base_seq} and log._seq <= {}",
        span.to_seq
    );
    if span.several_parts {
        candidates.push_str(" and place_of(log.row_id) is not null");
    }
    let Some(late_from) = span.late_from else {
        return candidates;
    };
    let evidence = select(schema, columns, span, Of::Evidence);
    format!(
        "{candidates}\nunion all\n{evidence}\nfrom log where log._seq <= {base_seq} and log._hlc >= {} \
         and is_late(log.row_id)",
        late_from.as_i64()
    )
}

/// What deltas are to a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Candidates,
    Evidence,
}

fn select(schema: &TableSchema, columns: &[&Column], span: Span, of: Of) -> String {
    let mut sql = "select place_of(log.row_id) as _key, log.row_id".to_owned();
    if span.late_from.is_some() {
        let _ = write!(sql, ", {} as is_candidate", of == Of::Candidates);
    }
    let _ = write!(
        sql,
        ", log._op = {DELETE} as is_delete,\n       stamp(log._hlc, log._client, log._delta_id) as stamp"
    );
    for column in values(schema, columns) {
        let n = column.number;
        let (set, value) = match of {
            Of::Candidates => (
                format!("is_set(log._set, {n}) or log._op = {DELETE}"),
                format!(
                    "case when log._op <> {DELETE} then log.{} end",
                    quoted(column.name.as_str())
                ),
            ),
            Of::Evidence => (
                format!("is_set(log._set, {n}) and log._op <> {DELETE}"),
                "null".to_owned(),
            ),
        };
        let (set_n, value_n) = (set_column(n), value_column(n));
        let _ = write!(sql, ",\n       {set} as {set_n}, {value} as {value_n}");
    }
    sql
}

/// The changes of `deltas`, with the columns `_key`, `row_id`, `exists_with_base`, `exists_without_base`, and then those of
/// [`change_schema`](super::changes::change_schema).
pub(crate) fn changes_sql(schema: &TableSchema, columns: &[&Column], span: Span) -> String {
    let late = span.late_from.is_some();
    let deleted = match late {
        true => "bool_or(deltas.is_delete and deltas.is_candidate)",
        false => "bool_or(deltas.is_delete)",
    };
    let exists = "lww(not deltas.is_delete, deltas.stamp)";
    let mut sql = format!(
        "select deltas._key, deltas.row_id,\n       {exists} or not {deleted} as exists_with_base,\n       \
         {exists} as exists_without_base"
    );
    for column in columns {
        let n = column.number;
        let (set_n, value_n) = (set_column(n), value_column(n));
        if let Some(key) = key_sql(schema, column, "deltas.row_id") {
            let _ = write!(sql, ",\n       {key} as {value_n}");
            continue;
        }
        let (set, events) = match late {
            true => (
                format!(
                    "coalesce(lww(deltas.is_candidate, deltas.stamp) filter (where deltas.{set_n}), false)"
                ),
                format!("deltas.{set_n} or deltas.is_delete"),
            ),
            false => (
                format!("bool_or(deltas.{set_n})"),
                format!("deltas.{set_n}"),
            ),
        };
        let _ = write!(
            sql,
            ",\n       {set} as {set_n},\n       \
             lww(deltas.{value_n}, deltas.stamp) filter (where {events}) as {value_n}"
        );
    }
    sql.push_str("\nfrom deltas group by deltas._key, deltas.row_id order by deltas._key");
    sql
}

/// The columns that writes decide.
fn values<'a>(
    schema: &'a TableSchema,
    columns: &'a [&'a Column],
) -> impl Iterator<Item = &'a Column> {
    let columns = columns.iter().copied();
    columns.filter(|column| !schema.primary_key.contains(&column.name))
}
