//! The fold as SQL: base and log in, merged rows out.
//!
//! `touched` are the rows that some candidate (a delta above the base seq) names; everything the log knows
//! of them is gathered, candidates and evidence alike. For each column the last write decides: a
//! candidate's value when it is above every delete; the base's value when the last write is evidence, or
//! is forgotten, and no candidate deletes it.
//!
//! Key columns are the row id's: no write decides them.
//!
//! Names of ours stand beside the user's columns, which may be called anything (`id`, `deleted`, `seq_1`), so every
//! name says which table it is of; `deltas` and `folded` have names of ours only.
//!
//! **Invariant:** this is [`fold_row`](lakesync_providers::proto::fold_row) by column; random histories hold the two together.

use std::fmt::Write as _;

use lakesync_providers::proto::{Column, ColumnType, Seq, TableSchema};

/// The query that folds the tables `base` and `log` of one table into its rows as of the log's end.
///
/// `base_seq` is what `base` covers. The columns come out as in the base: `row_id`, then the user's.
#[must_use]
pub fn fold_sql(schema: &TableSchema, base_seq: Seq) -> String {
    let base_seq = base_seq.as_u64();
    let mut gathered = String::new();
    let mut folded = String::new();
    let mut merged = String::new();
    let mut kept = String::new();
    for column in &schema.columns {
        let (name, n) = (quoted(column.name.as_ref()), column.number);
        let _ = write!(kept, ", base.{name}");
        if let Some(key) = key_column(schema, column) {
            let _ = write!(merged, ",\n       {key} as {name}");
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(
            gathered,
            ",\n         is_set(log._set, {n}) as set_{n}, log.{name} as value_{n}"
        );
        let _ = write!(
            folded,
            ",\n         lww(deltas.value_{n}, deltas.stamp) filter (where deltas.set_{n}) as value_{n}\
             ,\n         lww(deltas.seq, deltas.stamp) filter (where deltas.set_{n}) as seq_{n}\
             ,\n         max(deltas.stamp) filter (where deltas.set_{n}) as stamp_{n}"
        );
        let _ = write!(
            merged,
            ",\n       case when folded.seq_{n} > {base_seq} \
             then case when folded.deleted is null or folded.stamp_{n} > folded.deleted \
             then folded.value_{n} end\n            \
             when folded.deleted_now is null or folded.stamp_{n} > folded.deleted_now \
             then base.{name} end as {name}"
        );
    }
    format!(
        "with touched as (\n  select distinct log.row_id as id from log where log._seq > {base_seq}\n),\n\
         deltas as (\n  select log.row_id as id, log._seq as seq, log._op = 3 as is_delete, \
         stamp(log._hlc, log._client, log._delta_id) as stamp{gathered}\n  \
         from log left semi join touched on log.row_id = touched.id\n),\n\
         folded as (\n  select deltas.id,\n         \
         max(deltas.stamp) filter (where deltas.is_delete) as deleted,\n         \
         max(deltas.stamp) filter (where deltas.is_delete and deltas.seq > {base_seq}) as deleted_now,\n         \
         max(deltas.stamp) filter (where not deltas.is_delete) as written{folded}\n  \
         from deltas group by deltas.id\n)\n\
         select folded.id as row_id{merged}\nfrom folded left join base on base.row_id = folded.id\n\
         where (folded.written is not null and (folded.deleted is null or folded.written > folded.deleted))\n   \
         or (base.row_id is not null and folded.deleted_now is null)\n\
         union all\n\
         select base.row_id{kept}\nfrom base left anti join folded on base.row_id = folded.id"
    )
}

/// A key column as SQL: the part of the row id that it is; `None` for every other column.
fn key_column(schema: &TableSchema, column: &Column) -> Option<String> {
    let position = schema
        .primary_key
        .iter()
        .position(|name| *name == column.name)?;
    let text = match schema.primary_key.len() {
        1 => "folded.id".to_owned(),
        _ => format!("key_part(folded.id, {position})"),
    };
    Some(match column.column_type {
        ColumnType::Long => format!("cast({text} as bigint)"),
        ColumnType::Number => format!("cast({text} as double)"),
        ColumnType::Boolean => format!("cast({text} as boolean)"),
        ColumnType::Date => format!("cast({text} as date)"),
        ColumnType::Timestamp => {
            format!("arrow_cast({text}, 'Timestamp(Microsecond, Some(\"+00:00\"))')")
        }
        ColumnType::Decimal { precision, scale } => {
            format!("cast({text} as decimal({precision}, {scale}))")
        }
        ColumnType::Binary => format!("arrow_cast(decode({text}, 'base64pad'), 'LargeBinary')"),
        ColumnType::String | ColumnType::Json => text,
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
