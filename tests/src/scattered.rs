//! Bases with dead rows: the same rows, some of them moved to new files and dead where they were.
//!
//! Invariant: the moved rows are copied as the base has them, so that no answer about the table may change.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::prelude::SessionContext;
use lakesync_providers::lake::{
    Commit, DataFileInfo, PositionDeletes, WriteOptions, write_data_files, write_position_deletes,
};
use lakesync_providers::{Dead, Live, ParquetTable, ReadView, session};

use crate::history::Rng;

/// Moves about so many of a hundred of the base's rows, of some files; how many rows are dead then.
///
/// # Panics
/// When the table is none of `live`, or its base cannot be read or written.
pub async fn scatter(live: &Live, table: &str, percent: u64, rng: &mut Rng) -> u64 {
    let view = live.view(table).expect("a table");
    let Some(snapshot) = view.base.snapshot_id else {
        return 0;
    };
    let files = view.base.data_files(&view.warehouse).await;
    let dead = view.base.dead(&view.warehouse).await.expect("a base");
    let (mut moved, mut deletes, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for file in files.expect("a base").iter() {
        if !rng.chance(70) {
            continue;
        }
        let rows = rows(&view, file).await;
        let gone: BTreeSet<u64> = gone(&dead, file);
        let living = (0..file.rows).filter(|at| !gone.contains(at));
        let chosen: BTreeSet<u64> = living.filter(|_| rng.chance(percent)).collect();
        if chosen.is_empty() {
            continue;
        }
        let at = UInt64Array::from_iter_values(chosen.iter().copied());
        moved.push(take_record_batch(&rows, &at).expect("rows of the file"));
        // One delete file for all dead rows, or one more.
        let all = match rng.chance(50) {
            true => {
                merged.extend(dead.deletes_of(&file.path).map(|old| old.path.clone()));
                &chosen | &gone
            }
            false => chosen,
        };
        deletes.push(PositionDeletes {
            path: file.path.clone(),
            partition: file.partition.clone(),
            positions: all,
        });
    }
    if moved.is_empty() {
        return dead.rows();
    }
    let base = &view.base.table;
    let options = WriteOptions::new("scattered");
    let data = write_data_files(base, moved, &options).await;
    let deletes = write_position_deletes(base, &deletes, &options).await;
    let commit = Commit::row_delta(data.expect("files"), deletes.expect("delete files"));
    let commit = commit.removing(snapshot, merged);
    let committed = commit.run(live.warehouse(), base.identifier()).await;
    live.compacted(view.table(), committed.expect("a commit"))
        .expect("a base");
    let now = live.view(table).expect("a table");
    let dead = now.base.dead(&now.warehouse).await.expect("a base");
    dead.rows()
}

fn gone(dead: &Dead, file: &DataFileInfo) -> BTreeSet<u64> {
    let dead = dead.of(&file.path);
    let positions = dead.iter().flat_map(|dead| dead.positions());
    positions.copied().map(u64::from).collect()
}

/// All rows of a file, dead ones too, in its order.
async fn rows(view: &ReadView, file: &DataFileInfo) -> RecordBatch {
    let files = Arc::from([file.clone()]);
    let table = ParquetTable::open(&view.warehouse, &view.base.table, files).expect("a file");
    let ctx = in_order(session(&view.warehouse));
    let rows = ctx.read_table(Arc::new(table)).expect("a table");
    let schema = Arc::clone(rows.schema().inner());
    let batches = rows.collect().await.expect("its rows");
    concat_batches(&schema, &batches).expect("batches of one table")
}

/// With one partition, so that rows come in the order of their file.
fn in_order(ctx: SessionContext) -> SessionContext {
    let state = ctx.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    options.execution.target_partitions = 1;
    drop(state);
    ctx
}
