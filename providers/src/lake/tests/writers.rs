//! Data files: bounds, partitions, and rows that do not fit.

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, LargeBinaryArray,
    TimestampMicrosecondArray,
};
use iceberg::spec::{Datum, Literal, Struct};
use lakesync_proto::columns;

use super::*;

/// Rows of the log that arrived at these times, microseconds since 1970.
fn log_rows(arrived_at: &[i64]) -> RecordBatch {
    let rows = arrived_at.len();
    let number = || i64::try_from(rows).unwrap();
    let text = |text: &str| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef;
    let ids = (0..rows).map(|i| [u8::try_from(i).unwrap(); 32]);
    let times = TimestampMicrosecondArray::from(arrived_at.to_vec()).with_timezone("+00:00");
    RecordBatch::try_from_iter([
        (
            columns::SEQ,
            Arc::new(Int64Array::from_iter_values(0..number())) as ArrayRef,
        ),
        (columns::ARRIVED_AT, Arc::new(times)),
        (
            columns::HLC,
            Arc::new(Int64Array::from_iter_values(0..number())),
        ),
        (columns::CLIENT, text("c")),
        (
            columns::DELTA_ID,
            Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap()),
        ),
        (columns::OP, Arc::new(Int32Array::from(vec![1; rows]))),
        (columns::ROW_ID, text("r")),
        (
            columns::SET,
            Arc::new(LargeBinaryArray::from(vec![b"\x01".as_slice(); rows])),
        ),
        ("a", text("v")),
    ])
    .unwrap()
}

#[tokio::test]
async fn bounds_are_exact_over_several_row_groups() {
    let lake = Lake::with_table().await;
    let table = lake.base().await;
    let (low, high) = ("a".repeat(100), "z".repeat(100));
    let ids = [high.as_str(), "m", low.as_str()];
    let batch = RecordBatch::try_from_iter([
        (
            "row_id",
            Arc::new(StringArray::from(ids.to_vec())) as ArrayRef,
        ),
        (
            "a",
            Arc::new(StringArray::from(vec![None, Some("x"), None])),
        ),
    ]);
    let mut options = WriteOptions::new("test").with_bloom_column("row_id");
    options.row_group_rows = 1;
    let files = write_data_files(&table, vec![batch.unwrap()], &options)
        .await
        .unwrap();
    let table = Commit::append(files)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    let [file] = &live_files(&table, None).await.unwrap()[..] else {
        panic!()
    };
    assert_eq!(file.lower_bounds[&1], Datum::string(&low));
    assert_eq!(file.upper_bounds[&1], Datum::string(&high));
    assert_eq!(
        (&file.lower_bounds[&2], &file.upper_bounds[&2]),
        (&Datum::string("x"), &Datum::string("x"))
    );
    assert_eq!((file.null_counts[&1], file.null_counts[&2]), (0, 2));
    assert_eq!(file.rows, 3);

    let path = lake.warehouse.object_path(&file.path).unwrap();
    let on_disk = format!("/{path}");
    let bytes = bytes::Bytes::from(std::fs::read(&on_disk).unwrap());
    assert_eq!(u64::try_from(bytes.len()).unwrap(), file.bytes);
    let reader = parquet::file::metadata::ParquetMetaDataReader::new();
    let footer = reader.parse_and_finish(&bytes).unwrap();
    assert_eq!(footer.num_row_groups(), 3);
    let group = footer.row_group(0);
    let codec = format!("{:?}", group.column(0).compression());
    assert!(codec.starts_with("ZSTD"), "{codec}");
    assert!(group.column(0).bloom_filter_offset().is_some());
    assert!(group.column(1).bloom_filter_offset().is_none());
}

#[tokio::test]
async fn bounds_of_binary_columns_hold_over_several_row_groups() {
    let lake = Lake::with_table().await;
    let log = lake.pair().await.log;
    let mut options = WriteOptions::new("test");
    options.row_group_rows = 1;
    let rows = log_rows(&[3, 1, 2]);
    let files = write_data_files(&log, vec![rows], &options).await.unwrap();
    let [file] = &files[..] else {
        panic!("{files:?}")
    };
    let id = log
        .metadata()
        .current_schema()
        .field_id_by_name(columns::DELTA_ID)
        .unwrap();
    assert_eq!(file.lower_bounds()[&id], Datum::fixed([0; 32]));
    assert_eq!(file.upper_bounds()[&id], Datum::fixed([2; 32]));
    assert_eq!(file.upper_bounds()[&2], Datum::timestamptz_micros(3));
}

#[tokio::test]
async fn rows_of_two_days_go_into_two_partitions() {
    const DAY: i64 = 86_400_000_000;
    let lake = Lake::with_table().await;
    let log = lake.pair().await.log;
    let rows = log_rows(&[DAY - 1, DAY, DAY + 5]);
    let options = WriteOptions::new("flush");
    let files = write_data_files(&log, vec![rows], &options).await.unwrap();
    let table = Commit::append(files)
        .run(&lake.warehouse, log.identifier())
        .await
        .unwrap();
    let mut files = live_files(&table, None).await.unwrap();
    files.sort_by_key(|file| file.rows);
    let day = |n: i32| Struct::from_iter([Some(Literal::date(n))]);
    let found: Vec<_> = files
        .iter()
        .map(|f| (f.rows, f.partition.clone()))
        .collect();
    assert_eq!(found, [(1, day(0)), (2, day(1))]);
    assert!(
        files[0]
            .path
            .contains("/data/_arrived_at_day=1970-01-01/flush-"),
        "{}",
        files[0].path
    );
    assert_eq!(counts(&table, &["changed-partition-count"]), ["2"]);
    let stream = table.scan().build().unwrap().to_arrow().await.unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

#[tokio::test]
async fn rows_of_a_known_day_need_no_splitting() {
    let lake = Lake::with_table().await;
    let log = lake.pair().await.log;
    assert_eq!(
        day_partition(-1),
        Struct::from_iter([Some(Literal::date(-1))])
    );
    let options = WriteOptions::new("flush").with_partition(day_partition(5));
    let files = write_data_files(&log, vec![log_rows(&[5, 6])], &options)
        .await
        .unwrap();
    let [file] = &files[..] else {
        panic!("{files:?}")
    };
    assert_eq!(file.partition(), &day_partition(0));
    assert_eq!(file.sort_order_id(), None);
}

#[tokio::test]
async fn no_rows_make_no_file() {
    let lake = Lake::with_table().await;
    let base = lake.base().await;
    let options = WriteOptions::new("test");
    assert!(
        write_data_files(&base, Vec::new(), &options)
            .await
            .unwrap()
            .is_empty()
    );
    let empty = RecordBatch::new_empty(arrow_schema(&base).unwrap());
    assert!(
        write_data_files(&base, vec![empty], &options)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn rows_are_matched_by_name() {
    let lake = Lake::with_table().await;
    let base = lake.base().await;
    let options = WriteOptions::new("test");
    let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let swapped = RecordBatch::try_from_iter([("a", text(&["A"])), ("row_id", text(&["a"]))]);
    let lacking = RecordBatch::try_from_iter([("row_id", text(&["b"]))]);
    let batches = vec![swapped.unwrap(), lacking.unwrap()];
    let files = write_data_files(&base, batches, &options).await.unwrap();
    assert_eq!(files[0].record_count(), 2);
    assert_eq!(files[0].null_value_counts()[&2], 1);

    let numbers = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let nulls = Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef;
    let refused: [(&str, &[(&str, ArrayRef)]); 4] = [
        ("lack the column \"row_id\"", &[("a", text(&["x"]))]),
        (
            "\"z\" that it lacks",
            &[("row_id", text(&["x"])), ("z", text(&["x"]))],
        ),
        (
            "\"a\" as Int64",
            &[("row_id", text(&["x"])), ("a", numbers)],
        ),
        ("row_id", &[("row_id", nulls)]),
    ];
    for (reason, columns) in refused {
        let columns = columns
            .iter()
            .map(|(name, array)| (*name, Arc::clone(array)));
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, array)| (name, array, true)),
        );
        let error = write_data_files(&base, vec![batch.unwrap()], &options)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), LakeErrorKind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_fails_the_write() {
    use datafusion::error::DataFusionError;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    let lake = Lake::with_table().await;
    let base = lake.base().await;
    let schema = arrow_schema(&base).unwrap();
    let good = RecordBatch::try_from_iter([(
        "row_id",
        Arc::new(StringArray::from(vec!["a"])) as ArrayRef,
    )]);
    let failure = DataFusionError::Execution("no".to_owned());
    let rows = futures::stream::iter([Ok(good.unwrap()), Err(failure)]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let error = write_data_stream(&base, stream, &WriteOptions::new("test"))
        .await
        .unwrap_err();
    assert!(matches!(error, LakeError::Input { .. }), "{error}");
}
