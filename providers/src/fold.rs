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
//! **Invariant:** this is [`fold_row`](lakesync_proto::fold_row) by column; random histories hold the two together.

use std::fmt::Write as _;

use lakesync_proto::{Column, ColumnType, Seq, TableSchema};

/// One of several even parts of a table's rows, by a hash of the row id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which one, from 0.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

impl Part {
    /// The whole table.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// `table` as a source of just this part's rows.
    fn source(self, table: &str) -> String {
        match self.of {
            1 => table.to_owned(),
            of => format!(
                "(select * from {table} where key_bucket({table}.row_id, {of}) = {}) as {table}",
                self.index
            ),
        }
    }
}

/// The query that folds one part of the tables `base` and `log` into its rows as of the log's end.
///
/// `base_seq` is what `base` covers; with zero there is no base, so no evidence either, and the query is
/// the simpler for it. The columns come out as in the base: `row_id`, then the user's.
#[must_use]
pub fn fold_sql(schema: &TableSchema, base_seq: Seq, part: Part) -> String {
    match base_seq {
        Seq::ZERO => first_fold(schema, part),
        base_seq => fold_onto(schema, base_seq, part),
    }
}

/// The pieces that stand once for each column.
#[derive(Default)]
struct Pieces {
    gathered: String,
    folded: String,
    merged: String,
    kept: String,
}

fn pieces(schema: &TableSchema, of_column: impl Fn(&str, u32) -> (String, String)) -> Pieces {
    let mut pieces = Pieces::default();
    for column in &schema.columns {
        let (name, n) = (quoted(column.name.as_ref()), column.number);
        // Writing to a String cannot fail.
        let _ = write!(pieces.kept, ", base.{name}");
        if let Some(key) = key_sql(schema, column, "folded.id") {
            let _ = write!(pieces.merged, ",\n       {key} as {name}");
            continue;
        }
        let _ = write!(
            pieces.gathered,
            ",\n         is_set(log._set, {n}) as set_{n}, log.{name} as value_{n}"
        );
        let (aggregates, merged) = of_column(&name, n);
        let _ = write!(
            pieces.folded,
            ",\n         lww(deltas.value_{n}, deltas.stamp) filter (where deltas.set_{n}) as value_{n}\
             ,\n         max(deltas.stamp) filter (where deltas.set_{n}) as stamp_{n}{aggregates}"
        );
        let _ = write!(pieces.merged, ",\n       case {merged} end as {name}");
    }
    pieces
}

/// Everything is a candidate.
fn first_fold(schema: &TableSchema, part: Part) -> String {
    let Pieces {
        gathered,
        folded,
        merged,
        ..
    } = pieces(schema, |_, n| {
        let merged = format!(
            "when folded.deleted is null or folded.stamp_{n} > folded.deleted then folded.value_{n}"
        );
        (String::new(), merged)
    });
    let log = part.source("log");
    format!(
        "with deltas as (\n  select log.row_id as id, log._op = 3 as is_delete, \
         stamp(log._hlc, log._client, log._delta_id) as stamp{gathered}\n  from {log}\n),\n\
         folded as (\n  select deltas.id,\n         \
         max(deltas.stamp) filter (where deltas.is_delete) as deleted,\n         \
         max(deltas.stamp) filter (where not deltas.is_delete) as written{folded}\n  \
         from deltas group by deltas.id\n)\n\
         select folded.id as row_id{merged}\nfrom folded\n\
         where folded.written is not null and (folded.deleted is null or folded.written > folded.deleted)"
    )
}

/// A write is a candidate when its seq is above `base_seq`; it wins a column when it has the greatest stamp there.
fn fold_onto(schema: &TableSchema, base_seq: Seq, part: Part) -> String {
    let Pieces {
        gathered,
        folded,
        merged,
        kept,
    } = pieces(schema, |name, n| {
        let candidate = format!(
            ",\n         max(deltas.stamp) filter (where deltas.set_{n} and deltas.is_candidate) as candidate_{n}"
        );
        let merged = format!(
            "when folded.candidate_{n} = folded.stamp_{n} \
             then case when folded.deleted is null or folded.stamp_{n} > folded.deleted \
             then folded.value_{n} end\n            \
             when folded.deleted_now is null or folded.stamp_{n} > folded.deleted_now then base.{name}"
        );
        (candidate, merged)
    });
    let (log, base) = (part.source("log"), part.source("base"));
    format!(
        "with touched as (\n  select distinct log.row_id as id from {log} where log._seq > {base_seq}\n),\n\
         deltas as (\n  select log.row_id as id, log._seq > {base_seq} as is_candidate, log._op = 3 as is_delete, \
         stamp(log._hlc, log._client, log._delta_id) as stamp{gathered}\n  \
         from {log} left semi join touched on log.row_id = touched.id\n),\n\
         folded as (\n  select deltas.id,\n         \
         max(deltas.stamp) filter (where deltas.is_delete) as deleted,\n         \
         max(deltas.stamp) filter (where deltas.is_delete and deltas.is_candidate) as deleted_now,\n         \
         max(deltas.stamp) filter (where not deltas.is_delete) as written{folded}\n  \
         from deltas group by deltas.id\n)\n\
         select folded.id as row_id{merged}\nfrom folded left join {base} on base.row_id = folded.id\n\
         where (folded.written is not null and (folded.deleted is null or folded.written > folded.deleted))\n   \
         or (base.row_id is not null and folded.deleted_now is null)\n\
         union all\n\
         select base.row_id{kept}\nfrom folded right anti join {base} on base.row_id = folded.id"
    )
}

/// A key column as SQL: the part of the row id `id` that it is; `None` for every other column.
#[must_use]
pub fn key_sql(schema: &TableSchema, column: &Column, id: &str) -> Option<String> {
    let position = schema
        .primary_key
        .iter()
        .position(|name| *name == column.name)?;
    let text = match schema.primary_key.len() {
        1 => id.to_owned(),
        _ => format!("key_part({id}, {position})"),
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

/// A name as SQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
