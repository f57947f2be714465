//! The DataFusion session that every plan of LakeSync is made in.
//!
//! **Invariant:** the lake's object store and our functions are registered in every session, so a plan
//! means the same in the shell, in the gateway and in the compactor; and all sessions of a process share
//! one memory limit, whatever their number.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::bounded;
use crate::lake::Warehouse;

/// How many bytes the operators of all plans may hold at once. A sort or an aggregation beyond its share
/// goes on in files in the system's directory for temporary ones; what cannot, fails and names who holds
/// the memory. Read buffers and the rows that pass through are not counted.
const MEMORY_BYTES_MAX: usize = 2 << 30;

/// How many holders of memory an error names.
const HOLDERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");

/// Sorts of a job that run at the same time, on each core.
const SORTS_OF_A_JOB: usize = 2;

/// The part of a job's memory that its sorts keep back for merging what they have spilled: one of so many.
const MERGE_SHARE: usize = 4;

/// The one pool of the process: a limit for each session would be no limit. It divides fairly, so that one
/// large sort does not take everything from the statements beside it.
static MEMORY: LazyLock<Arc<dyn MemoryPool>> = LazyLock::new(|| pool(MEMORY_BYTES_MAX));

fn pool(bytes_max: usize) -> Arc<dyn MemoryPool> {
    let fair = FairSpillPool::new(bytes_max);
    Arc::new(TrackConsumersPool::new(fair, HOLDERS_NAMED))
}

/// A session over `warehouse`: our functions, its files, time zone UTC, default `lake.public`, the memory
/// of the process.
#[must_use]
pub fn session(warehouse: &Warehouse) -> SessionContext {
    session_within(warehouse, Arc::clone(&MEMORY))
}

/// A session for one job, whose operators hold so many bytes at most among themselves, whatever other plans hold.
#[must_use]
pub fn job_session(warehouse: &Warehouse, memory_bytes: u64) -> SessionContext {
    let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    let ctx = session_within(warehouse, pool(memory));
    let state = ctx.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    let sorts = options.execution.target_partitions.max(1) * SORTS_OF_A_JOB;
    let merges = &mut options.execution.sort_spill_reservation_bytes;
    *merges = (*merges).min(memory / MERGE_SHARE / sorts);
    drop(state);
    ctx
}

fn session_within(warehouse: &Warehouse, memory: Arc<dyn MemoryPool>) -> SessionContext {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema("lake", "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    // Stores and temporary files are the session's own: another lake's would answer to the same URL, and
    // the directory of spilled files goes with the session.
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory);
    let runtime = runtime
        .build_arc()
        .expect("nothing is opened before the first spill");
    let ctx = SessionContext::new_with_config_rt(config, runtime);
    ctx.register_object_store(
        warehouse.object_store_url().as_ref(),
        warehouse.object_store(),
    );
    lakesync_udfs::register(&ctx);
    bounded::register(&ctx);
    ctx
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use datafusion::error::DataFusionError;
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};

    use super::*;

    async fn warehouse() -> (Warehouse, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Warehouse::open_local(folder.path()).await.unwrap(), folder)
    }

    #[tokio::test]
    async fn all_sessions_hold_their_memory_in_one_limited_pool() {
        let (warehouse, _folder) = warehouse().await;
        let [one, other] = [session(&warehouse), session(&warehouse)]
            .map(|ctx| Arc::clone(&ctx.runtime_env().memory_pool));
        assert!(matches!(
            other.memory_limit(),
            MemoryLimit::Finite(MEMORY_BYTES_MAX)
        ));
        let held = MemoryConsumer::new("held").register(&one);
        held.try_grow(MEMORY_BYTES_MAX / 2).unwrap();
        let more = MemoryConsumer::new("more").register(&other);
        let error = more.try_grow(MEMORY_BYTES_MAX).unwrap_err();
        assert!(error.to_string().contains("held"), "{error}");
    }

    /// A sort of a million and a half rows of 16 bytes.
    const SORT: &str = "select value, -value as key from generate_series(1, 1500000) order by key";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sort_of_more_than_the_memory_is_finished_on_disk() {
        let (warehouse, _folder) = warehouse().await;
        let ctx = session_within(&warehouse, pool(16 << 20));
        // On any number of cores; each sort keeps a megabyte to merge its files in, not ten.
        for setting in [
            "target_partitions = 2",
            "sort_spill_reservation_bytes = 1000000",
        ] {
            let sql = format!("set datafusion.execution.{setting}");
            ctx.sql(&sql).await.unwrap();
        }
        let rows = ctx.sql(SORT).await.unwrap().collect().await.unwrap();
        assert_eq!(
            rows.iter().map(|batch| batch.num_rows()).sum::<usize>(),
            1_500_000
        );
        let first = rows[0].column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(first, 1_500_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_fit_and_cannot_spill_fails_by_name() {
        let (warehouse, _folder) = warehouse().await;
        let ctx = session_within(&warehouse, pool(1 << 20));
        let error = ctx.sql(SORT).await.unwrap().collect().await.unwrap_err();
        let DataFusionError::ResourcesExhausted(text) = error.find_root() else {
            panic!("{error}");
        };
        assert!(text.contains("ExternalSorter"), "{text}");
    }
}
