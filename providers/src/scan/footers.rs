//! The footers that the process keeps, and the reader of data files that takes them from there: every scan of the lake
//! reads with it, so that planning, locating and scanning read the footer of a file once.
//!
//! DataFusion's own cache is one for each session, and it never forgets the path of a file.
//!
//! **Invariant:** what is kept takes at most the budget. A data file is never written twice, so a footer is never stale;
//! its size is part of its name here all the same.

use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use datafusion::common::Result as QueryResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    ParquetFileMetrics, ParquetFileReaderFactory,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::errors::Result;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use tokio::sync::OnceCell;

use super::bounded_map::BoundedMap;
use crate::pins::Pin;

/// How many bytes of footers, with their page indexes, the process keeps (128 MiB): those of some hundred large files.
const FOOTER_BYTES_MAX: u64 = 128 << 20;

/// The last bytes of a file, read first (64 KiB): most footers are in them.
const FOOTER_HINT_BYTES: usize = 64 << 10;

static FOOTERS: LazyLock<Footers> = LazyLock::new(|| Footers::new(FOOTER_BYTES_MAX));

/// A file and its size.
type Key = (Path, u64);

type Slot = Arc<OnceCell<Arc<ParquetMetaData>>>;

/// Footers of many files, within a budget.
#[derive(Debug)]
pub(super) struct Footers {
    kept: Mutex<BoundedMap<Key, Slot>>,
}

impl Footers {
    /// Those of the process: a limit for each lake would be no limit.
    pub(super) fn of_process() -> &'static Self {
        &FOOTERS
    }

    fn new(bytes_max: u64) -> Self {
        Self {
            kept: Mutex::new(BoundedMap::new(bytes_max)),
        }
    }

    /// The footer of a file in `store`, with its page index.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn get(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
    ) -> Result<Arc<ParquetMetaData>> {
        let mut reader = ParquetObjectReader::new(Arc::clone(store), file.location.clone())
            .with_file_size(file.size)
            .with_footer_size_hint(FOOTER_HINT_BYTES);
        self.get_or_read(file, &mut reader).await
    }

    /// The same, read by `reader` when nobody has yet; who asks meanwhile waits for it.
    async fn get_or_read(
        &self,
        file: &ObjectMeta,
        reader: &mut impl AsyncFileReader,
    ) -> Result<Arc<ParquetMetaData>> {
        let key = (file.location.clone(), file.size);
        let slot = self.kept().get_or_new(&key, 0);
        let read = async {
            let options = ArrowReaderOptions::new();
            let options = options.with_page_index_policy(PageIndexPolicy::Optional);
            let footer = reader.get_metadata(Some(&options)).await?;
            let bytes = u64::try_from(footer.memory_size()).unwrap_or(u64::MAX);
            self.kept().weigh(&key, bytes);
            Ok(footer)
        };
        slot.get_or_try_init(|| read).await.map(Arc::clone)
    }

    fn kept(&self) -> MutexGuard<'_, BoundedMap<Key, Slot>> {
        // Nothing between two statements of an owner can panic, so a poisoned lock holds a valid state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes readers of the data files in a store.
#[derive(Debug)]
pub(crate) struct LakeReaders {
    store: Arc<dyn ObjectStore>,
    /// Held until the last plan that reads with these is gone.
    _pin: Option<Arc<Pin>>,
}

impl LakeReaders {
    /// Of the files in `store`.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, pin: Option<&Arc<Pin>>) -> Self {
        Self {
            store,
            _pin: pin.map(Arc::clone),
        }
    }
}

impl ParquetFileReaderFactory for LakeReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> QueryResult<Box<dyn AsyncFileReader + Send>> {
        let location = &file.object_meta.location;
        let inner = ParquetObjectReader::new(Arc::clone(&self.store), location.clone())
            .with_file_size(file.object_meta.size)
            .with_footer_size_hint(metadata_size_hint.unwrap_or(FOOTER_HINT_BYTES));
        Ok(Box::new(LakeReader {
            inner,
            metrics: ParquetFileMetrics::new(partition_index, location.as_ref(), metrics),
            file: file.object_meta,
        }))
    }
}

/// Reads one file, and counts what it reads.
struct LakeReader {
    inner: ParquetObjectReader,
    metrics: ParquetFileMetrics,
    file: ObjectMeta,
}

impl LakeReader {
    fn count(&self, range: &Range<u64>) {
        let bytes = range.end - range.start;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.metrics.bytes_scanned.add(bytes);
    }
}

impl AsyncFileReader for LakeReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.count(&range);
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        ranges.iter().for_each(|range| self.count(range));
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        // Whole, whatever is asked for: the next query may want the page index.
        let footers = Footers::of_process();
        footers.get_or_read(&self.file, &mut self.inner).boxed()
    }
}

impl Drop for LakeReader {
    fn drop(&mut self) {
        let efficiency = &self.metrics.scan_efficiency_ratio;
        efficiency.add_part(self.metrics.bytes_scanned.value());
        let size = usize::try_from(self.file.size).unwrap_or(usize::MAX);
        // Each of several readers of a file tells all of it, so it is set, not added.
        efficiency.set_total(size);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow::array::{Int64Array, RecordBatch};
    use chrono::{DateTime, Utc};
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// Counts how often a footer is asked of it.
    struct Counting<'a>(ParquetObjectReader, &'a AtomicUsize);

    impl AsyncFileReader for Counting<'_> {
        fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
            self.0.get_bytes(range)
        }

        fn get_metadata<'a>(
            &'a mut self,
            options: Option<&'a ArrowReaderOptions>,
        ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.get_metadata(options)
        }
    }

    async fn stored(store: &Arc<dyn ObjectStore>, name: &str) -> ObjectMeta {
        let numbers = Int64Array::from_iter_values(0..1000);
        let batch = RecordBatch::try_from_iter([("v", Arc::new(numbers) as _)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let location = Path::from(name);
        let size = u64::try_from(bytes.len()).unwrap();
        store.put(&location, bytes.into()).await.unwrap();
        ObjectMeta {
            location,
            last_modified: DateTime::<Utc>::UNIX_EPOCH,
            size,
            e_tag: None,
            version: None,
        }
    }

    #[tokio::test]
    async fn a_footer_is_read_once_by_all_who_ask_and_again_when_it_had_to_leave() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let [a, b] = [stored(&store, "a").await, stored(&store, "b").await];
        let reads = AtomicUsize::new(0);
        let ask = async |footers: &Footers, file: &ObjectMeta| {
            let reader = ParquetObjectReader::new(Arc::clone(&store), file.location.clone());
            let mut reader = Counting(reader.with_file_size(file.size), &reads);
            footers.get_or_read(file, &mut reader).await.unwrap()
        };
        let roomy = Footers::new(1 << 20);
        let (one, other) = futures::join!(ask(&roomy, &a), ask(&roomy, &a));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(one.offset_index().is_some(), "with its page index");
        ask(&roomy, &a).await;
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        // Room for one of them.
        let bytes = u64::try_from(one.memory_size()).unwrap();
        let small = Footers::new(bytes + bytes / 2);
        for file in [&a, &a, &b, &a] {
            ask(&small, file).await;
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1 + 3);
    }
}
