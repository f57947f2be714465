//! Rows of `pushes`: one a push, more where a SQL statement writes more than a client can send at once.
//!
//! **Invariant:** the rows of one push are in one transaction, so that all of it is there or nothing; its readers see it
//! whole because what is published is the push.

use std::ops::Range;

use lakesync_proto::{SeqDelta, encode_batch, limits};
use rusqlite::{Transaction, params};

use super::StoredPush;
use crate::rules::moved;

/// Deltas of one row of `pushes`, at most: who reads a page of a few decodes the whole row.
const ROW_DELTAS_MAX: usize = limits::PUSH_DELTAS_MAX;

/// Bytes of deltas, in memory, of a row of `pushes` that has more than one; about what a body can carry.
const ROW_BYTES_MAX: usize = 4 * limits::PUSH_BODY_BYTES_MAX;

/// Stores pushes.
pub(super) fn insert(tx: &Transaction<'_>, pushes: &[StoredPush]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("insert into pushes values (?1, ?2, ?3, ?4, ?5)")?;
    for push in pushes {
        let arrived_ms = i64::try_from(push.arrived_ms).unwrap_or(i64::MAX);
        for part in parts(&push.deltas) {
            let deltas = &push.deltas[part.clone()];
            let (Some(first), Some(last)) = (deltas.first(), deltas.last()) else {
                continue;
            };
            // One for each delta, or none at all.
            let moved = push.moved.get(part).unwrap_or_default();
            insert.execute(params![
                first.seq.as_i64(),
                last.seq.as_i64(),
                arrived_ms,
                encode_batch(deltas),
                moved::encode(moved)
            ])?;
        }
    }
    Ok(())
}

/// Where a push is cut into rows.
fn parts(deltas: &[SeqDelta]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, delta) in deltas.iter().enumerate() {
        let more = delta.delta.bytes();
        if at > start && (at - start == ROW_DELTAS_MAX || bytes + more > ROW_BYTES_MAX) {
            parts.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    parts.push(start..deltas.len());
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use lakesync_proto::{
        ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, Seq, TableSchema, Value,
    };

    use super::*;
    use crate::durable::DurableLog;
    use crate::rules::moved::Moved;

    /// The deltas 1 to `count`, each with a value of so many bytes.
    fn deltas(count: usize, bytes: usize) -> Vec<SeqDelta> {
        let text = Value::String("x".repeat(bytes));
        let made = (1..=count).map(|number| {
            let number = u64::try_from(number).unwrap();
            let key = DeltaKey {
                table: "t".parse().unwrap(),
                row_id: number.to_string().parse().unwrap(),
                client_id: "sql".parse().unwrap(),
                hlc: Hlc::new(7, 0).unwrap(),
            };
            let change = ColumnChange {
                column: ColumnName::parse("v").unwrap(),
                value: text.clone(),
            };
            SeqDelta {
                seq: Seq::from_u64(number).unwrap(),
                delta: RowDelta::new(Op::Update, key, vec![change]),
            }
        });
        made.collect()
    }

    #[test]
    fn a_push_is_cut_by_number_and_by_bytes_and_one_delta_never() {
        let ends = |deltas: &[SeqDelta]| -> Vec<usize> {
            let parts = parts(deltas);
            let starts = parts.iter().map(|part| part.start).skip(1);
            assert!(starts.eq(parts.iter().map(|part| part.end).take(parts.len() - 1)));
            parts.iter().map(|part| part.end).collect()
        };
        assert_eq!(ends(&deltas(1, 1)), [1]);
        assert_eq!(ends(&deltas(ROW_DELTAS_MAX, 1)), [ROW_DELTAS_MAX]);
        let more = 2 * ROW_DELTAS_MAX + 5;
        assert_eq!(
            ends(&deltas(more, 1)),
            [ROW_DELTAS_MAX, 2 * ROW_DELTAS_MAX, more]
        );
        assert_eq!(ends(&deltas(5, ROW_BYTES_MAX / 2 - 1_000)), [2, 4, 5]);
    }

    #[test]
    fn each_row_has_the_steps_of_its_own_deltas_and_all_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = DurableLog::open(&folder.path().join("g.db")).unwrap();
        let count = ROW_DELTAS_MAX + 3;
        let moved = (0..count).map(|nth| {
            Arc::new(Moved {
                rules: 1,
                known: true,
                // Told apart by their number.
                existed: nth % 3 == 0,
                exists: nth % 7 == 0,
                before: Default::default(),
                after: Default::default(),
            })
        });
        let push = StoredPush {
            arrived_ms: 9,
            deltas: deltas(count, 1),
            moved: moved.collect(),
        };
        log.append(std::slice::from_ref(&push), &HashMap::new(), &[])
            .unwrap();
        let read = log.read(Seq::ZERO, usize::MAX, &One).unwrap();
        let numbers: Vec<usize> = read.iter().map(|row| row.deltas.len()).collect();
        assert_eq!(numbers, [ROW_DELTAS_MAX, 3]);
        let moved: Vec<Arc<Moved>> = read.iter().flat_map(|row| row.moved.clone()).collect();
        assert_eq!(moved, push.moved);
        assert!(read.iter().all(|row| row.arrived_ms == 9));
        let above = Seq::from_u64(u64::try_from(count - 1).unwrap()).unwrap();
        let page = log.read(above, 1, &One).unwrap();
        assert_eq!(page.len(), 1);
        assert_eq!(page[0].deltas.len(), 3);
    }

    struct One;

    impl lakesync_proto::Schemas for One {
        fn schema(&self, _: &lakesync_proto::TableName) -> Option<Arc<TableSchema>> {
            let definition = br#"{"table": "t", "columns": [{"name": "v", "type": "string"}]}"#;
            let definition = lakesync_proto::TableDefinition::from_json(definition).unwrap();
            Some(Arc::new(TableSchema::from_definition(&definition).unwrap()))
        }
    }
}
