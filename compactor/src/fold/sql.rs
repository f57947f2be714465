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

#[cfg(test)]
mod tests {
    use lakesync_providers::proto::{TableDefinition, TableSchema};

    use super::*;

    fn check(span: Span, deltas: &str, changes: &str) {
        let definition = r#"{"table": "t", "columns": [{"name": "id", "type": "long"}, {"name": "a b", "type": "string"}],
            "primary_key": ["id"]}"#;
        let definition = TableDefinition::from_json(definition.as_bytes()).unwrap();
        let schema = TableSchema::from_definition(&definition).unwrap();
        let columns: Vec<&Column> = schema.columns.iter().collect();
        assert_eq!(deltas_sql(&schema, &columns, span), deltas);
        assert_eq!(changes_sql(&schema, &columns, span), changes);
    }

    fn span() -> Span {
        Span {
            base_seq: Seq::from_u64(7).unwrap(),
            to_seq: Seq::from_u64(9).unwrap(),
            late_from: None,
            several_parts: false,
        }
    }

    #[test]
    fn prompt_deltas_need_no_look_at_evidence() {
        check(
            span(),
            "select place_of(log.row_id) as _key, log.row_id, log._op = 3 as is_delete,\n       \
             stamp(log._hlc, log._client, log._delta_id) as stamp,\n       \
             is_set(log._set, 2) or log._op = 3 as set_2, case when log._op <> 3 then log.\"a b\" end as value_2\n\
             from log where log._seq > 7 and log._seq <= 9",
            "select deltas._key, deltas.row_id,\n       \
             lww(not deltas.is_delete, deltas.stamp) or not bool_or(deltas.is_delete) as exists_with_base,\n       \
             lww(not deltas.is_delete, deltas.stamp) as exists_without_base,\n       \
             cast(deltas.row_id as bigint) as value_1,\n       \
             bool_or(deltas.set_2) as set_2,\n       \
             lww(deltas.value_2, deltas.stamp) filter (where deltas.set_2) as value_2\n\
             from deltas group by deltas._key, deltas.row_id order by deltas._key",
        );
    }

    #[test]
    fn late_deltas_are_folded_with_the_stamps_of_their_rows_evidence() {
        let span = Span {
            late_from: Some(Hlc::from_i64(55).unwrap()),
            several_parts: true,
            ..span()
        };
        check(
            span,
            "select place_of(log.row_id) as _key, log.row_id, true as is_candidate, log._op = 3 as is_delete,\n       \
             stamp(log._hlc, log._client, log._delta_id) as stamp,\n       \
             is_set(log._set, 2) or log._op = 3 as set_2, case when log._op <> 3 then log.\"a b\" end as value_2\n\
             from log where log._seq > 7 and log._seq <= 9 and place_of(log.row_id) is not null\n\
             union all\n\
             select place_of(log.row_id) as _key, log.row_id, false as is_candidate, log._op = 3 as is_delete,\n       \
             stamp(log._hlc, log._client, log._delta_id) as stamp,\n       \
             is_set(log._set, 2) and log._op <> 3 as set_2, null as value_2\n\
             from log where log._seq <= 7 and log._hlc >= 55 and is_late(log.row_id)",
            "select deltas._key, deltas.row_id,\n       \
             lww(not deltas.is_delete, deltas.stamp) or not bool_or(deltas.is_delete and deltas.is_candidate) \
             as exists_with_base,\n       \
             lww(not deltas.is_delete, deltas.stamp) as exists_without_base,\n       \
             cast(deltas.row_id as bigint) as value_1,\n       \
             coalesce(lww(deltas.is_candidate, deltas.stamp) filter (where deltas.set_2), false) as set_2,\n       \
             lww(deltas.value_2, deltas.stamp) filter (where deltas.set_2 or deltas.is_delete) as value_2\n\
             from deltas group by deltas._key, deltas.row_id order by deltas._key",
        );
    }
}
