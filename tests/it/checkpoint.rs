//! Checkpoints and digests against the oracle: what a new client starts from, whatever was flushed, compacted, late,
//! deleted or revived before, and whatever comes after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt as _;
use lakesync_gateway::rules::Audience;
use lakesync_gateway::{
    CheckpointForm, CheckpointRequest, Chunk, Error, Gateway, GatewayConfig, Pull, Since,
};
use lakesync_proto::{
    ChunkReader, ClientId, ColumnChange, ColumnName, Cursor, DeltaKey, ErrorCode, Hlc, Op,
    PullPage, Push, RowDelta, RowId, RowState, Seq, TableName, TableSchema, Value, cell_digest,
    decode_chunk, page_checksum,
};
use lakesync_providers::{ReadView, row_states, row_states_of, view_at_seq};
use lakesync_tests::history::{History, Rng, START_MS, Shape};
use lakesync_tests::oracle::{AsOf, OracleRows};
use lakesync_tests::schemas;
use lakesync_tests::world::World;

const HISTORIES: u64 = 12;

/// A client's rows: what it has merged, by table and row id.
type Rows = BTreeMap<(TableName, RowId), RowState>;

fn request(form: CheckpointForm) -> CheckpointRequest {
    CheckpointRequest {
        tables: None,
        resume: None,
        form,
    }
}

fn everything() -> Arc<Audience> {
    Arc::new(Audience::everything())
}

async fn states(view: &Arc<ReadView>, after: Option<&RowId>) -> Vec<(RowId, RowState)> {
    let pages: Vec<_> = row_states(view, None, after).try_collect().await.unwrap();
    pages.concat()
}

/// A state as SQL shows it: all columns as canonical texts, those of the key from the row id.
fn shown(schema: &TableSchema, row_id: &RowId, state: &RowState) -> BTreeMap<String, String> {
    let key: BTreeMap<_, _> = schema.key_values(row_id).unwrap().into_iter().collect();
    let columns = schema.columns.iter().map(|column| {
        let value = key
            .get(&column.name)
            .or_else(|| state.visible(&column.name))
            .unwrap_or(&Value::Null);
        let mut text = String::new();
        value.write_canonical(&mut text);
        (column.name.to_string(), text)
    });
    columns.collect()
}

fn shown_rows<'a>(
    schema: &TableSchema,
    states: impl IntoIterator<Item = (&'a RowId, &'a RowState)>,
) -> OracleRows {
    let existing = states.into_iter().filter(|(_, state)| state.exists());
    existing
        .map(|(row_id, state)| (row_id.to_string(), shown(schema, row_id, state)))
        .collect()
}

/// The merge of everything that has arrived, without what a delete clock hides.
fn merged<'a>(deltas: impl IntoIterator<Item = &'a RowDelta>) -> Rows {
    let mut rows = Rows::new();
    for delta in deltas {
        let row = (delta.table.clone(), delta.row_id.clone());
        rows.entry(row).or_default().apply(delta);
    }
    for state in rows.values_mut() {
        if let Some(deleted) = state.deleted.clone() {
            state.cells.retain(|_, cell| cell.stamp > deleted);
            state.written.take_if(|written| *written <= deleted);
        }
    }
    rows
}

fn of_table(rows: &Rows, table: &TableName) -> Vec<(RowId, RowState)> {
    let of_table = rows.iter().filter(|((name, _), _)| name == table);
    of_table
        .map(|((_, row_id), state)| (row_id.clone(), state.clone()))
        .collect()
}

async fn chunks(gateway: &Gateway, request: CheckpointRequest) -> (Seq, Vec<Chunk>) {
    let checkpoint = gateway.checkpoint(request, &everything()).await.unwrap();
    let chunks = checkpoint.chunks.try_collect().await.unwrap();
    (checkpoint.seq, chunks)
}

fn page(gateway: &Gateway, chunk: &Chunk) -> PullPage {
    let mut reader = ChunkReader::new();
    reader.feed(&chunk.bytes);
    let message = reader.next_message().unwrap().expect("one message a chunk");
    reader.finish().unwrap();
    decode_chunk(&message, gateway.live().as_ref()).unwrap()
}

fn apply(rows: &mut Rows, page: &PullPage) {
    for delta in &page.deltas {
        let row = (delta.delta.table.clone(), delta.delta.row_id.clone());
        rows.entry(row).or_default().apply(&delta.delta);
    }
}

/// Loads a native checkpoint: the rows, and where to go on.
async fn load(gateway: &Gateway) -> (Rows, Cursor) {
    let (seq, chunks) = chunks(gateway, request(CheckpointForm::Native)).await;
    let mut rows = Rows::new();
    let mut cursor = None;
    for (nth, chunk) in chunks.iter().enumerate() {
        let page = page(gateway, chunk);
        let last = nth + 1 == chunks.len();
        assert_eq!(page.has_more, !last);
        assert_eq!(page.notes.next.is_some(), last, "the last has the cursor");
        assert_eq!(page.notes.checksum, Some(page_checksum(&page)));
        assert_eq!(page.cursor, seq);
        apply(&mut rows, &page);
        cursor = page.notes.next;
    }
    (rows, cursor.unwrap())
}

async fn catch_up(gateway: &Gateway, rows: &mut Rows, cursor: Cursor) {
    let mut since = Since::Cursor(Some(cursor));
    loop {
        let pull = Pull {
            since,
            limit: 7,
            schemas: None,
        };
        let page = gateway.pull_as(&pull, &everything()).await.unwrap();
        apply(rows, &page);
        if !page.has_more {
            return;
        }
        since = Since::Seq(page.cursor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_starts_from_a_checkpoint_converges_under_late_deltas() {
    for seed in 0..HISTORIES {
        let history = History::generate(seed, Shape::default());
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().to_owned(), &history).await;
        let mut rng = Rng::new(seed);
        let mut client: Option<(Rows, Cursor)> = None;
        for step in &history.steps {
            world.step(step).await;
            if client.is_none() && rng.chance(5) {
                client = Some(load(&world.gateway()).await);
            }
        }
        let Some((mut rows, cursor)) = client else {
            continue;
        };
        catch_up(&world.gateway(), &mut rows, cursor).await;
        for schema in &world.schemas {
            let states = of_table(&rows, &schema.table);
            let found = shown_rows(schema, states.iter().map(|(id, state)| (id, state)));
            let expected = world.expected(schema, AsOf::NOW);
            assert_eq!(found, expected, "seed {seed}, {}", schema.table);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_start_from_checkpoints_converge_whatever_maintenance_does_meanwhile() {
    let (mut caught_up, mut began_again) = (0, 0);
    for seed in 0..HISTORIES / 2 {
        let history = History::generate(seed, Shape::WEEKS);
        let folder = tempfile::tempdir().unwrap();
        let config = GatewayConfig {
            late_window: Some(Shape::WEEKS_WINDOW),
            ..GatewayConfig::default()
        };
        let mut world = World::open_with(folder.path().to_owned(), &history, config).await;
        let mut rng = Rng::new(seed);
        let mut clients = Vec::new();
        for step in &history.steps {
            world.step(step).await;
            if rng.chance(8) {
                clients.push(load(&world.gateway()).await);
            }
            if rng.chance(25) {
                world.chore(&mut rng).await;
            }
        }
        for (mut rows, cursor) in clients {
            let gateway = world.gateway();
            match try_to_catch_up(&gateway, &mut rows, cursor).await {
                true => caught_up += 1,
                false => {
                    assert!(world.forgets(), "seed {seed}");
                    began_again += 1;
                    rows = load(&gateway).await.0;
                }
            }
            for schema in &world.schemas {
                let states = of_table(&rows, &schema.table);
                let found = shown_rows(schema, states.iter().map(|(id, state)| (id, state)));
                let expected = world.expected(schema, AsOf::NOW);
                assert_eq!(found, expected, "seed {seed}, {}", schema.table);
            }
        }
    }
    eprintln!("{caught_up} clients caught up, {began_again} began again");
    assert!(caught_up > 0);
}

/// Pulls everything above a cursor; false when it has expired.
async fn try_to_catch_up(gateway: &Gateway, rows: &mut Rows, cursor: Cursor) -> bool {
    let first = Pull {
        since: Since::Cursor(Some(cursor.clone())),
        limit: 1,
        schemas: None,
    };
    match gateway.pull_as(&first, &everything()).await {
        Ok(_) => catch_up(gateway, rows, cursor).await,
        Err(error) => {
            assert_eq!(code(error), ErrorCode::CursorExpired);
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_a_view_are_the_merge_of_all_deltas_now_and_as_of_any_seq() {
    for seed in 0..HISTORIES / 2 {
        let history = History::generate(seed, Shape::default());
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().to_owned(), &history).await;
        let mut rng = Rng::new(seed);
        for step in &history.steps {
            world.step(step).await;
            if rng.chance(10) {
                check_states(&world, &history, &mut rng).await;
            }
        }
        check_states(&world, &history, &mut rng).await;
    }
}

async fn check_states(world: &World, history: &History, rng: &mut Rng) {
    let seed = world.seed;
    let known: BTreeSet<[u8; 32]> = world.oracle.deltas().iter().map(|d| d.id).collect();
    let arrived = history
        .deltas()
        .filter(|d| known.contains(d.delta_id.as_bytes()));
    let all = merged(arrived);
    for schema in &world.schemas {
        let view = world.gateway().live().view(schema.table.as_str()).unwrap();
        let found = states(&view, None).await;
        // A key column of a revived row has no write; the row id has it, and the base too.
        let without_key = |states: &[(RowId, RowState)]| -> Vec<(RowId, RowState)> {
            let mut states = states.to_vec();
            let key = &schema.primary_key;
            for (_, state) in &mut states {
                state.cells.retain(|column, _| !key.contains(column));
            }
            states
        };
        let expected = of_table(&all, &schema.table);
        assert_eq!(without_key(&found), without_key(&expected), "seed {seed}");
        let ids = found.iter().map(|(id, state)| (id, state));
        let now = world.expected(schema, AsOf::NOW);
        assert_eq!(shown_rows(schema, ids), now, "seed {seed}");

        let ids: Vec<RowId> = found.iter().map(|(id, _)| id.clone()).collect();
        let by_id = row_states_of(&view, &ids).await.unwrap();
        assert_eq!(by_id.into_iter().collect::<Vec<_>>(), found, "seed {seed}");
        let nobody = [RowId::parse("nobody's row").unwrap()];
        assert!(row_states_of(&view, &nobody).await.unwrap().is_empty());
        if !ids.is_empty() {
            let after = usize::try_from(rng.below(ids.len() as u64)).unwrap();
            let rest = states(&view, Some(&ids[after])).await;
            assert_eq!(rest, found[after + 1..], "seed {seed}");
        }
        check_narrow(&view, schema, &found, rng).await;

        let seq = rng.between(0, world.oracle.last_seq());
        let at = Seq::from_u64(seq).unwrap();
        let then = view_at_seq(&view, at).await.unwrap().unwrap();
        let found = states(&then, None).await;
        let found = found.iter().map(|(id, state)| (id, state));
        let expected = world.expected(schema, AsOf::seq(seq));
        assert_eq!(
            shown_rows(schema, found),
            expected,
            "seed {seed}, seq {seq}"
        );
    }
}

async fn check_narrow(
    view: &Arc<ReadView>,
    schema: &TableSchema,
    whole: &[(RowId, RowState)],
    rng: &mut Rng,
) {
    let wanted = [rng.pick(&schema.columns).name.clone()];
    let pages = row_states(view, Some(&wanted), None);
    let narrow: Vec<_> = pages.try_collect().await.unwrap();
    let mut expected = whole.to_vec();
    for (_, state) in &mut expected {
        state.cells.retain(|column, _| wanted.contains(column));
    }
    assert_eq!(narrow.concat(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_what_a_client_computes_over_its_checkpoint() {
    for seed in 0..HISTORIES / 4 {
        let history = History::generate(seed, Shape::default());
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().to_owned(), &history).await;
        for (nth, step) in history.steps.iter().enumerate() {
            world.step(step).await;
            if nth % 10 != 0 {
                continue;
            }
            let gateway = world.gateway();
            let (rows, cursor) = load(&gateway).await;
            let now = gateway.digest(None, None, &everything()).await.unwrap();
            assert_eq!(now.cursor, cursor);
            for (schema, digest) in world.schemas.iter().zip(&now.tables) {
                let own = own_digest(schema, &of_table(&rows, &schema.table));
                assert_eq!(digest.table, schema.table);
                assert_eq!((digest.rows, digest.cells, digest.hash), own, "seed {seed}");
            }
        }
        // What was the digest at a seq stays it.
        let (seq, gateway) = (world.oracle.last_seq() / 2, world.gateway());
        let at = Some(Seq::from_u64(seq).unwrap());
        let then = gateway.digest(None, at, &everything()).await.unwrap();
        for (schema, digest) in world.schemas.iter().zip(&then.tables) {
            let rows = world.expected(schema, AsOf::seq(seq));
            assert_eq!(digest.rows, rows.len() as u64, "seed {seed}");
            let cells = rows.values().flat_map(BTreeMap::values);
            let cells = cells.filter(|text| *text != "null").count();
            assert_eq!(digest.cells, cells as u64, "seed {seed}");
        }
        let beyond = Some(Seq::from_u64(world.oracle.last_seq() + 1).unwrap());
        let error = gateway.digest(None, beyond, &everything()).await;
        assert_eq!(code(error.unwrap_err()), ErrorCode::CursorExpired);
    }
}

/// Rows, cells and hash, as a client has them.
fn own_digest(schema: &TableSchema, states: &[(RowId, RowState)]) -> (u64, u64, u64) {
    let (mut rows, mut cells, mut hash) = (0, 0, 0_u64);
    for (row_id, state) in states.iter().filter(|(_, state)| state.exists()) {
        rows += 1;
        let mut values: BTreeMap<ColumnName, Value> = state
            .visible_cells()
            .map(|(column, cell)| (column.clone(), cell.value.clone()))
            .collect();
        values.extend(schema.key_values(row_id).unwrap());
        for (column, value) in values.iter().filter(|(_, value)| **value != Value::Null) {
            cells += 1;
            hash = hash.wrapping_add(cell_digest(&schema.table, row_id, column, value));
        }
    }
    (rows, cells, hash)
}

fn code(error: Error) -> ErrorCode {
    match error {
        Error::Refused(refusal) => refusal.code,
        other => panic!("{other}"),
    }
}

/// A lake with the table `wide` of forty rows of a hundred thousand bytes, and one of four megabytes.
struct Wide {
    world: World,
    _folder: tempfile::TempDir,
}

const WIDE: &str = r#"{"table": "wide", "columns": [{"name": "a", "type": "string"}, {"name": "b", "type": "string"},
    {"name": "c", "type": "string"}, {"name": "d", "type": "string"}]}"#;

impl Wide {
    async fn open() -> Wide {
        let history = History {
            seed: 0,
            schemas: vec![schemas::schema(WIDE)],
            steps: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        let world = World::open(folder.path().to_owned(), &history).await;
        let wide = Wide {
            world,
            _folder: folder,
        };
        let text = |row: usize, length: usize| format!("{row:04}").repeat(length / 4);
        let mut deltas: Vec<RowDelta> = (0..40)
            .map(|row| wide_delta(row, 1, &[("a", text(row, 100_000))]))
            .collect();
        let large: Vec<(&str, String)> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|column| (column, text(99, 1_000_000)))
            .collect();
        deltas.push(wide_delta(99, 1, &large));
        wide.push(deltas).await;
        wide
    }

    async fn push(&self, deltas: Vec<RowDelta>) {
        let push = Push {
            client_id: deltas[0].client_id.clone(),
            deltas,
            last_seen: Seq::ZERO,
            schemas: None,
        };
        self.world.gateway().push(push).await.unwrap();
    }

    fn schema(&self) -> &TableSchema {
        &self.world.schemas[0]
    }

    async fn sql(&self, sql: &str) {
        self.world.sql(sql).await;
    }

    async fn refused(&self, request: CheckpointRequest) -> ErrorCode {
        let gateway = self.world.gateway();
        let answer = gateway.checkpoint(request, &everything()).await;
        code(answer.unwrap_err())
    }
}

fn wide_delta(row: usize, moment: u64, values: &[(&str, String)]) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("wide").unwrap(),
        row_id: RowId::parse(&format!("row {row:02}")).unwrap(),
        client_id: ClientId::parse("ana").unwrap(),
        hlc: Hlc::new(START_MS + moment, 0).unwrap(),
    };
    let change = |(column, value): &(&str, String)| ColumnChange {
        column: ColumnName::parse(column).unwrap(),
        value: Value::from(value.as_str()),
    };
    RowDelta::new(Op::Update, key, values.iter().map(change).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_resumed_after_any_chunk_is_the_same_whatever_happened_since() {
    let wide = Wide::open().await;
    let gateway = wide.world.gateway();
    let native = request(CheckpointForm::Native);
    let (seq, whole) = chunks(&gateway, native.clone()).await;
    assert!(whole.len() >= 6, "{} chunks", whole.len());
    let mut expected = Rows::new();
    for chunk in &whole {
        assert!(chunk.bytes.len() < 3 << 20, "{} bytes", chunk.bytes.len());
        apply(&mut expected, &page(&gateway, chunk));
    }
    assert_eq!(expected.len(), 41);

    let (mut read, mut deltas) = (Rows::new(), 0);
    let mut resume = None;
    for round in 0..whole.len() {
        let again = CheckpointRequest {
            resume: resume.clone(),
            ..native.clone()
        };
        let answer = gateway.checkpoint(again, &everything()).await.unwrap();
        assert_eq!(answer.seq, seq, "the seq stays");
        let mut rest = answer.chunks;
        let chunk = rest.try_next().await.unwrap().unwrap();
        deltas += page(&gateway, &chunk).deltas.len();
        apply(&mut read, &page(&gateway, &chunk));
        // A chunk that ends inside the large row names the row before it.
        if resume.as_ref() == Some(&chunk.resume) {
            let chunk = rest.try_next().await.unwrap().unwrap();
            apply(&mut read, &page(&gateway, &chunk));
        }
        resume = Some(chunk.resume);
        let later = 2 + u64::try_from(round).unwrap();
        let change = [("b", format!("later {round}"))];
        wide.push(vec![wide_delta(round, later, &change)]).await;
        match round % 3 {
            0 => wide.sql("call system.flush('wide')").await,
            1 => wide.sql("call system.compact('wide')").await,
            _ => {}
        }
    }
    let rest = CheckpointRequest { resume, ..native };
    for chunk in chunks(&gateway, rest).await.1 {
        apply(&mut read, &page(&gateway, &chunk));
    }
    assert_eq!(read, expected);
    assert!(
        deltas <= 46,
        "{deltas}: no row but the large one came twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_checkpoint_is_one_insert_a_row_with_every_column() {
    let wide = Wide::open().await;
    let gateway = wide.world.gateway();
    let mut gone = wide_delta(3, 5, &[]);
    gone.op = Op::Delete;
    gone.delta_id = gone.computed_id();
    wide.push(vec![gone]).await;
    wide.sql("call system.flush('wide')").await;
    let (seq, chunks) = chunks(&gateway, request(CheckpointForm::Legacy)).await;
    let mut loaded = Rows::new();
    for chunk in &chunks {
        let page = page(&gateway, chunk);
        assert!(!page.has_more && page.cursor == seq && !page.deltas.is_empty());
        for delta in &page.deltas {
            let row = (delta.delta.table.clone(), delta.delta.row_id.clone());
            let op = match loaded.contains_key(&row) {
                false => Op::Insert,
                true => Op::Update,
            };
            assert_eq!(
                delta.delta.op, op,
                "one INSERT a row, then what is left of it"
            );
        }
        apply(&mut loaded, &page);
    }
    for state in loaded.values() {
        assert_eq!(state.cells.len(), 4, "no column is left out");
        let stamps = state.cells.values().map(|cell| Some(&cell.stamp));
        assert!(
            stamps
                .into_iter()
                .all(|stamp| stamp == state.written.as_ref())
        );
    }
    let view = gateway.live().view("wide").unwrap();
    let expected = states(&view, None).await;
    let expected = expected.iter().map(|(id, state)| (id, state));
    let found = of_table(&loaded, view.table());
    let found = found.iter().map(|(id, state)| (id, state));
    let schema = wide.schema();
    assert_eq!(shown_rows(schema, found), shown_rows(schema, expected));
    assert_eq!(loaded.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_something_else_is_told_to_begin_anew() {
    let wide = Wide::open().await;
    let gateway = wide.world.gateway();
    let (_, chunks) = chunks(&gateway, request(CheckpointForm::Native)).await;
    let token = chunks[0].resume.clone();
    let ask = |form, tables: Option<&str>, resume: &str| CheckpointRequest {
        tables: tables.map(|table| vec![TableName::parse(table).unwrap()]),
        resume: Some(resume.to_owned()),
        form,
    };
    let native = CheckpointForm::Native;
    let expired = ErrorCode::CursorExpired;
    for wrong in ["", "x", "7.8", &token[1..], &format!("{token}=")] {
        assert_eq!(
            wide.refused(ask(native, None, wrong)).await,
            expired,
            "{wrong}"
        );
    }
    let of_another_form = ask(CheckpointForm::Legacy, None, &token);
    assert_eq!(wide.refused(of_another_form).await, expired);
    let of_other_tables = ask(native, Some("wide"), &token);
    assert_eq!(wide.refused(of_other_tables).await, expired);
    let (cursor, rest) = token.split_once('.').unwrap();
    let cursor: Cursor = cursor.parse().unwrap();
    let others = [
        Cursor {
            seq: cursor.seq.next(),
            ..cursor.clone()
        },
        Cursor {
            rules: 1,
            ..cursor.clone()
        },
        Cursor {
            claims: 1,
            ..cursor.clone()
        },
        Cursor {
            epoch: "5f0c3c1e-0000-4000-8000-000000000001".parse().unwrap(),
            ..cursor
        },
    ];
    for other in others {
        let forged = ask(native, None, &format!("{other}.{rest}"));
        assert_eq!(wide.refused(forged).await, expired, "{other:?}");
    }
    let unknown = CheckpointRequest {
        tables: Some(vec![TableName::parse("nothing").unwrap()]),
        ..request(native)
    };
    assert_eq!(wide.refused(unknown).await, ErrorCode::UnknownTable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_reader_of_whole_tables_is_told_to_come_back() {
    let wide = Wide::open().await;
    let gateway = wide.world.gateway();
    let native = || request(CheckpointForm::Native);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(gateway.checkpoint(native(), &everything()).await.unwrap());
    }
    assert_eq!(wide.refused(native()).await, ErrorCode::BackpressureError);
    let digest = gateway.digest(None, None, &everything()).await;
    assert_eq!(code(digest.unwrap_err()), ErrorCode::BackpressureError);
    drop(open.pop());
    gateway.digest(None, None, &everything()).await.unwrap();
    gateway.checkpoint(native(), &everything()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_rows_has_a_checkpoint_that_says_so() {
    let history = History {
        seed: 0,
        schemas: schemas::all(),
        steps: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(folder.path().to_owned(), &history).await;
    let (rows, cursor) = load(&world.gateway()).await;
    assert!(rows.is_empty());
    assert_eq!(cursor.seq, Seq::ZERO);
    let legacy = chunks(&world.gateway(), request(CheckpointForm::Legacy)).await;
    assert!(legacy.1.is_empty());
}
