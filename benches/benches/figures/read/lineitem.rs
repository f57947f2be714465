//! Lineitem in a lake: a base of four files, made at once, and deltas that touch its rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Builder, Decimal128Builder, Int64Builder, RecordBatch, StringBuilder,
};
use lakesync::Lake;
use lakesync_benches::load::config;
use lakesync_gateway::Gateway;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, ColumnType, DeltaKey, GatewayId, Hlc, Op, Push, RowDelta,
    RowId, Schemas as _, Seq, TableDefinition, TableName, TableSchema, Value,
};
use lakesync_providers::lake::{Commit, Warehouse, WriteOptions, summary, write_data_files};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tpchgen::generators::{LineItem, LineItemGenerator};

const TABLE: &str = r#"{"table": "lineitem", "columns": [
    {"name": "l_orderkey", "type": "long"}, {"name": "l_partkey", "type": "long"}, {"name": "l_suppkey", "type": "long"},
    {"name": "l_linenumber", "type": "long"}, {"name": "l_quantity", "type": "decimal(15,2)"},
    {"name": "l_extendedprice", "type": "decimal(15,2)"}, {"name": "l_discount", "type": "decimal(15,2)"},
    {"name": "l_tax", "type": "decimal(15,2)"}, {"name": "l_returnflag", "type": "string"},
    {"name": "l_linestatus", "type": "string"}, {"name": "l_shipdate", "type": "date"},
    {"name": "l_commitdate", "type": "date"}, {"name": "l_receiptdate", "type": "date"},
    {"name": "l_shipinstruct", "type": "string"}, {"name": "l_shipmode", "type": "string"},
    {"name": "l_comment", "type": "string"}]}"#;

/// Data files of the base.
const FILES: i32 = 4;
/// Rows of one batch on the way to a file.
const BATCH_ROWS: usize = 65_536;
/// The first day of the data, in days since 1970.
const FIRST_DAY: i32 = 8_035;
/// Where the stamps of the deltas begin.
const START_MS: u64 = 1_700_000_000_000;
/// Deltas of one push.
const PUSH_DELTAS: usize = 10_000;

/// The table and what has been done to it.
pub(crate) struct Lineitem<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) lake: Lake,
    pub(crate) gateway: Arc<Gateway>,
    /// Rows of the base.
    pub(crate) rows: u64,
    /// The stamp of the last delta.
    pub(crate) last: Hlc,
    folder: TempDir,
}

impl<'a> Lineitem<'a> {
    /// Makes it with so much of TPC-H's data: 6 million rows at 1.
    pub(crate) fn make(runtime: &'a Runtime, scale: f64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lake");
        let rows = runtime.block_on(base(&path, scale));
        eprintln!("{rows} rows are in the base");
        let lake = runtime.block_on(Lake::builder(&path).with_config(config()).open());
        let lake = lake.expect("a lake");
        Self {
            runtime,
            gateway: lake.gateway("public").expect("it exists"),
            lake,
            rows,
            last: stamp(0),
            folder,
        }
    }

    /// Where other files of the run go.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Closes the lake; it is in the folder as `lake`.
    pub(crate) fn close(self) -> TempDir {
        self.folder
    }

    pub(crate) fn query(&self, sql: &str) -> Vec<RecordBatch> {
        self.runtime.block_on(async {
            let frame = self.lake.sql(sql).await.expect("planned");
            frame.collect().await.expect("run")
        })
    }

    /// Pushes deltas whose stamps go on from the last.
    pub(crate) fn push(&mut self, deltas: Vec<RowDelta>) {
        for batch in deltas.chunks(PUSH_DELTAS) {
            let push = Push {
                client_id: client(),
                deltas: batch.to_vec(),
                last_seen: Seq::ZERO,
                schemas: None,
            };
            let pushed = self.gateway.push(push);
            self.runtime.block_on(pushed).expect("accepted");
        }
        self.last = deltas.last().map_or(self.last, |delta| delta.hlc);
    }

    /// A delta to a row, stamped `after` places behind the last.
    pub(crate) fn delta(
        &self,
        after: usize,
        op: Op,
        row: u64,
        columns: Vec<ColumnChange>,
    ) -> RowDelta {
        let place = self.last.wall_ms() - START_MS + 1 + u64::try_from(after).expect("few");
        let key = DeltaKey {
            table: TableName::parse("lineitem").expect("a name"),
            row_id: row_id(row),
            client_id: client(),
            hlc: stamp(place),
        };
        RowDelta::new(op, key, columns)
    }

    /// Sets the discount of these rows to 0.06.
    pub(crate) fn set_discount(&mut self, rows: impl Iterator<Item = u64>) {
        let kind = ColumnType::Decimal {
            precision: 15,
            scale: 2,
        };
        let value = Value::from_json_text("\"0.06\"", kind).expect("a decimal");
        let change = ColumnChange {
            column: ColumnName::parse("l_discount").expect("a name"),
            value,
        };
        let deltas = rows
            .enumerate()
            .map(|(at, row)| self.delta(at, Op::Update, row, vec![change.clone()]));
        let deltas: Vec<RowDelta> = deltas.collect();
        self.push(deltas);
    }

    /// The cells of a new row.
    pub(crate) fn columns_of_a_row(&self) -> Vec<ColumnChange> {
        let name = TableName::parse("lineitem").expect("a name");
        let schema = self.gateway.live().schema(&name).expect("it exists");
        let cells = schema.columns.iter().map(|column| {
            let text = match column.column_type {
                ColumnType::Long => "7",
                ColumnType::Decimal { .. } => "\"0.07\"",
                ColumnType::Date => "\"1996-03-13\"",
                _ => "\"A\"",
            };
            let value = Value::from_json_text(text, column.column_type);
            ColumnChange {
                column: column.name.clone(),
                value: value.expect("of the type"),
            }
        });
        cells.collect()
    }

    pub(crate) fn fold(&self) {
        for sql in [
            "call system.flush('lineitem')",
            "call system.compact('lineitem')",
        ] {
            self.query(sql);
        }
    }
}

fn client() -> ClientId {
    ClientId::parse("bench").expect("an id")
}

fn stamp(place: u64) -> Hlc {
    Hlc::new(START_MS + place, 0).expect("a stamp")
}

/// Ids that look like UUIDs: random, so that touched rows are everywhere in the files.
pub(crate) fn row_id(number: u64) -> RowId {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = format!(
        "{:08x}-{:04x}-7{:03x}-8000-{number:012x}",
        mixed >> 32,
        mixed >> 16 & 0xffff,
        mixed & 0xfff
    );
    RowId::parse(&id).expect("an id")
}

/// Whether a row is among `permille` of 1,000, spread evenly.
pub(crate) fn among(row: u64, permille: u64) -> bool {
    row.wrapping_mul(7_919) % 1_000 < permille
}

/// Writes the base as one snapshot of a lake that nobody has opened; how many rows it has.
async fn base(path: &Path, scale: f64) -> u64 {
    let lake = Lake::open(path).await.expect("a lake");
    lake.create_table(TABLE).await.expect("a table");
    drop(lake);
    let warehouse = Warehouse::open_local(path).await.expect("a warehouse");
    let gateway = GatewayId::parse("public").expect("a name");
    let definition = TableDefinition::from_json(TABLE.as_bytes()).expect("a definition");
    let schema = TableSchema::from_definition(&definition).expect("a schema");
    let pair = warehouse
        .load(&gateway, &schema.table)
        .await
        .expect("it is there");
    let (mut files, mut rows) = (Vec::new(), 0);
    for part in 1..=FILES {
        let generator = LineItemGenerator::new(scale, part, FILES);
        let mut batches = Vec::new();
        let mut columns = Columns::default();
        for item in generator.iter() {
            columns.add(rows, &item);
            rows += 1;
            if columns.len == BATCH_ROWS {
                batches.push(columns.finish());
            }
        }
        batches.push(columns.finish());
        let options = WriteOptions::new("bench");
        let written = write_data_files(&pair.base, batches, &options).await;
        files.extend(written.expect("written"));
    }
    Commit::append(files)
        .with_property(summary::BASE_SEQ, 1)
        .with_property(summary::MAX_HLC, stamp(0))
        .run(&warehouse, pair.base.identifier())
        .await
        .expect("committed");
    rows
}

#[derive(Default)]
struct Columns {
    len: usize,
    ids: StringBuilder,
    longs: [Int64Builder; 4],
    decimals: [Decimal128Builder; 4],
    dates: [Date32Builder; 3],
    flags: [StringBuilder; 2],
    texts: [StringBuilder; 3],
}

impl Columns {
    fn add(&mut self, row: u64, item: &LineItem<'_>) {
        self.len += 1;
        self.ids.append_value(row_id(row).as_str());
        let longs = [
            item.l_orderkey,
            item.l_partkey,
            item.l_suppkey,
            i64::from(item.l_linenumber),
        ];
        for (column, value) in self.longs.iter_mut().zip(longs) {
            column.append_value(value);
        }
        let decimals = [
            item.l_quantity * 100,
            item.l_extendedprice.into_inner(),
            item.l_discount.into_inner(),
            item.l_tax.into_inner(),
        ];
        for (column, value) in self.decimals.iter_mut().zip(decimals) {
            column.append_value(i128::from(value));
        }
        let dates = [&item.l_shipdate, &item.l_commitdate, &item.l_receiptdate];
        for (column, value) in self.dates.iter_mut().zip(dates) {
            column.append_value(FIRST_DAY + value.into_inner());
        }
        let flags = [item.l_returnflag, item.l_linestatus];
        for (column, value) in self.flags.iter_mut().zip(flags) {
            column.append_value(value);
        }
        let texts = [item.l_shipinstruct, item.l_shipmode, item.l_comment];
        for (column, value) in self.texts.iter_mut().zip(texts) {
            column.append_value(value);
        }
    }

    fn finish(&mut self) -> RecordBatch {
        self.len = 0;
        let definition = TableDefinition::from_json(TABLE.as_bytes()).expect("a definition");
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(self.ids.finish())];
        arrays.extend(
            self.longs
                .iter_mut()
                .map(|c| Arc::new(c.finish()) as ArrayRef),
        );
        arrays.extend(self.decimals.iter_mut().map(|column| {
            let column = column.finish().with_precision_and_scale(15, 2);
            Arc::new(column.expect("fifteen digits")) as ArrayRef
        }));
        arrays.extend(
            self.flags
                .iter_mut()
                .map(|c| Arc::new(c.finish()) as ArrayRef),
        );
        arrays.extend(
            self.dates
                .iter_mut()
                .map(|c| Arc::new(c.finish()) as ArrayRef),
        );
        arrays.extend(
            self.texts
                .iter_mut()
                .map(|c| Arc::new(c.finish()) as ArrayRef),
        );
        let names = definition
            .columns
            .iter()
            .map(|column| column.name.to_string());
        let names = std::iter::once("row_id".to_owned()).chain(names);
        RecordBatch::try_from_iter(names.zip(arrays)).expect("columns of one length")
    }
}

/// A path as SQL writes it.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
