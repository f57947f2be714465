//! The whole product against the oracle, on random histories: SQL hot and cold, past snapshots, pulls, the log, the
//! base as any Iceberg reader sees it, a client's SQLite, and recovery.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt as _;
use lakesync_client::{
    CheckpointRequest, Chunks, GatewayDigest, LocalDb, Pull, TableDigest, Transport, TransportError,
};
use lakesync_gateway::rules::Audience;
use lakesync_gateway::{CheckpointForm, Chunk, Gateway, Since};
use lakesync_proto::{
    ClientId, PullPage, Push, PushAck, RowId, Schemas, TableDefinition, TableSchema, decode_chunk,
    decode_page_protobuf, encode_page_protobuf,
};
use lakesync_providers::rows_at;
use lakesync_tests::cells;
use lakesync_tests::history::{History, Rng, Shape, Step};
use lakesync_tests::oracle::AsOf;
use lakesync_tests::world::World;
use tokio::runtime::Handle;

/// The length before each message of a checkpoint, in bytes.
const LENGTH_BYTES: usize = 4;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_of_the_product_agrees_with_the_oracle_on_random_histories() {
    for seed in 0..seeds() {
        let history = History::generate(seed, Shape::default());
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        for step in &history.steps {
            world.step(step).await;
            match step {
                Step::Flush => world.check_now("after a flush").await,
                Step::Compact => world.check_now("after a compaction").await,
                Step::Restart => world.check_now("after a restart").await,
                Step::Clock(_) | Step::Push(_) => {}
            }
        }
        world.check_now("at the end").await;
        world.check_past().await;
        world.check_pull(7).await;
        check_log(&world).await;
        check_rows_at(&world).await;
        check_base(&world).await;
        check_client(&world, folder.path()).await;
    }
}

/// `t$deltas` holds every delta once.
async fn check_log(world: &World) {
    let mut seqs = Vec::new();
    for schema in &world.schemas {
        let batches = world
            .sql(&format!("select _seq from \"{}$deltas\"", schema.table))
            .await;
        for batch in &batches {
            seqs.extend(
                batch
                    .column(0)
                    .as_primitive::<Int64Type>()
                    .values()
                    .iter()
                    .copied(),
            );
        }
    }
    seqs.sort_unstable();
    let expected: Vec<i64> = (1..=i64::try_from(world.oracle.last_seq()).unwrap()).collect();
    assert_eq!(seqs, expected, "seed {}", world.seed);
}

/// Rows by id are the rows of the table.
async fn check_rows_at(world: &World) {
    let mut rng = Rng::new(world.seed);
    for schema in &world.schemas {
        let mut expected = world.expected(schema, AsOf::NOW);
        expected.retain(|_, _| rng.chance(50));
        let mut ids: Vec<RowId> = expected
            .keys()
            .map(|id| RowId::parse(id).unwrap())
            .collect();
        ids.push(RowId::parse(r#"["no such",1]"#).unwrap());
        let view = world.gateway().live().view(schema.table.as_str()).unwrap();
        let found: Vec<RecordBatch> = rows_at(&view, &ids).await.unwrap();
        assert_eq!(
            cells::rows(schema, &found),
            expected,
            "seed {}, {}",
            world.seed,
            schema.table
        );
    }
}

/// The base, read by iceberg's own scan, is the plain table as of its base seq.
async fn check_base(world: &World) {
    for schema in &world.schemas {
        let view = world.gateway().live().view(schema.table.as_str()).unwrap();
        let scan = view.base.table.scan().build().unwrap();
        let batches: Vec<RecordBatch> = scan.to_arrow().await.unwrap().try_collect().await.unwrap();
        let expected = world.expected(schema, AsOf::seq(view.base.base_seq.as_u64()));
        assert_eq!(
            cells::rows(schema, &batches),
            expected,
            "seed {}, base of {}",
            world.seed,
            schema.table
        );
    }
}

/// A new client that syncs into SQLite shows the same rows, and has the gateway's digest.
async fn check_client(world: &World, folder: &std::path::Path) {
    let transport = Direct {
        gateway: world.gateway(),
        runtime: Handle::current(),
    };
    let path = folder.join("client.db");
    let schemas = world.schemas.clone();
    let synced = tokio::task::spawn_blocking(move || {
        let clock = Arc::new(lakesync_proto::ManualClock::new(0));
        let db = LocalDb::open(path, ClientId::parse("reader").unwrap(), clock).unwrap();
        db.sync(&transport).unwrap();
        let rows = schemas
            .iter()
            .map(|schema| db.rows(schema.table.as_str()).unwrap());
        let theirs = transport.digest(&db.client_id()).unwrap();
        assert_eq!(db.digest().unwrap().tables, theirs.tables);
        rows.collect::<Vec<_>>()
    });
    for (schema, rows) in world.schemas.iter().zip(synced.await.unwrap()) {
        let found = rows.into_iter().map(|(row_id, values)| {
            let cells = schema.columns.iter().map(|column| {
                let mut text = String::new();
                values
                    .get(&column.name)
                    .unwrap_or(&lakesync_proto::Value::Null)
                    .write_canonical(&mut text);
                (column.name.to_string(), text)
            });
            (row_id.to_string(), cells.collect())
        });
        let expected = world.expected(schema, AsOf::NOW);
        assert_eq!(
            found.collect::<std::collections::BTreeMap<_, _>>(),
            expected,
            "seed {}, client, {}",
            world.seed,
            schema.table
        );
    }
}

/// A transport without a network, but through the wire's encoding.
struct Direct {
    gateway: Arc<Gateway>,
    runtime: Handle,
}

impl Transport for Direct {
    fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
        panic!("the reader writes nothing, but pushes {push:?}");
    }

    fn pull(&self, pull: &Pull) -> Result<PullPage, TransportError> {
        let asked = lakesync_gateway::Pull {
            since: Since::Cursor(pull.cursor.parse().ok()),
            limit: usize::try_from(pull.limit).unwrap(),
            schemas: pull.schemas_hash,
        };
        let audience = Audience::everything();
        let page = self.gateway.pull_as(&asked, &audience);
        let page = self.runtime.block_on(page).unwrap();
        let bytes = encode_page_protobuf(&page);
        Ok(decode_page_protobuf(&bytes, pull.schemas.as_ref()).unwrap())
    }

    fn checkpoint(&self, request: &CheckpointRequest) -> Result<Box<dyn Chunks>, TransportError> {
        let asked = lakesync_gateway::CheckpointRequest {
            tables: Some(request.tables.clone()).filter(|tables| !tables.is_empty()),
            resume: request.resume.clone(),
            form: CheckpointForm::Native,
        };
        let audience = Arc::new(Audience::everything());
        let checkpoint = self.gateway.checkpoint(asked, &audience);
        let checkpoint = self.runtime.block_on(checkpoint).unwrap();
        let chunks = checkpoint.chunks.try_collect::<Vec<_>>();
        Ok(Box::new(Held {
            chunks: self.runtime.block_on(chunks).unwrap().into(),
            schemas: Arc::clone(&request.schemas),
        }))
    }

    fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> {
        Ok(self
            .gateway
            .live()
            .schemas()
            .iter()
            .map(|schema| schema.as_ref().clone())
            .collect())
    }

    fn put_schema(&self, definition: &TableDefinition) -> Result<(), TransportError> {
        panic!("the reader makes no table, but puts {definition:?}");
    }

    fn digest(&self, _client_id: &ClientId) -> Result<GatewayDigest, TransportError> {
        let audience = Arc::new(Audience::everything());
        let digest = self.gateway.digest(None, None, &audience);
        let digest = self.runtime.block_on(digest).unwrap();
        let tables = digest.tables.into_iter().map(|table| TableDigest {
            table: table.table,
            rows: table.rows,
            cells: table.cells,
            hash: table.hash,
        });
        Ok(GatewayDigest {
            cursor: digest.cursor.to_string(),
            tables: tables.collect(),
        })
    }
}

/// A checkpoint that has come in one piece.
struct Held {
    chunks: VecDeque<Chunk>,
    schemas: Arc<dyn Schemas + Send + Sync>,
}

impl Chunks for Held {
    fn next(&mut self) -> Result<Option<PullPage>, TransportError> {
        let chunk = self.chunks.pop_front();
        let page =
            chunk.map(|chunk| decode_chunk(&chunk.bytes[LENGTH_BYTES..], self.schemas.as_ref()));
        Ok(page.transpose()?)
    }
}
