//! Checkpoints and digests under sync rules: two tenants in one table, and no byte of the one in any answer to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt as _;
use lakesync_gateway::auth::{Identity, Role, Scope};
use lakesync_gateway::rules::{Audience, RuleSet};
use lakesync_gateway::{CheckpointForm, CheckpointRequest, Error, Gateway};
use lakesync_proto::{
    ClaimValue, Claims, ClientId, ColumnChange, ColumnName, DeltaKey, ErrorCode, Hlc, Op, Push,
    RowDelta, RowId, RowState, Seq, TableName, Value, cell_digest, decode_chunk,
};
use lakesync_tests::history::{History, START_MS};
use lakesync_tests::schemas;
use lakesync_tests::world::World;

const NOTES: &str = r#"{"table": "notes", "columns": [{"name": "owner", "type": "string"},
    {"name": "text", "type": "string"}]}"#;
const OWN: &[u8] = br#"{"version": 1, "buckets": [{"name": "own", "tables": ["notes"],
    "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}]}]}"#;

fn delta(op: Op, row: &str, moment: u64, values: &[(&str, &str)]) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("notes").unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse("importer").unwrap(),
        hlc: Hlc::new(START_MS + moment, 0).unwrap(),
    };
    let change = |(column, value): &(&str, &str)| ColumnChange {
        column: ColumnName::parse(column).unwrap(),
        value: Value::from(*value),
    };
    RowDelta::new(op, key, values.iter().map(change).collect())
}

async fn push(gateway: &Gateway, deltas: Vec<RowDelta>) {
    let push = Push {
        client_id: deltas[0].client_id.clone(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    };
    gateway.push(push).await.unwrap();
}

/// What the holder of a token of this subject sees.
fn audience(gateway: &Gateway, subject: &str) -> Arc<Audience> {
    let mut claims = Claims::new();
    claims.set("sub", vec![ClaimValue::Text(subject.to_owned())]);
    gateway.audience(&Identity {
        subject: Some(ClientId::parse(subject).unwrap()),
        role: Role::Client,
        scope: Scope::All,
        claims,
        expires_s: None,
    })
}

fn request(form: CheckpointForm) -> CheckpointRequest {
    CheckpointRequest {
        tables: None,
        resume: None,
        form,
    }
}

/// The bytes of a checkpoint, and its rows.
async fn load(
    gateway: &Gateway,
    form: CheckpointForm,
    audience: &Arc<Audience>,
) -> (Vec<u8>, BTreeMap<RowId, RowState>) {
    let checkpoint = gateway.checkpoint(request(form), audience).await.unwrap();
    let chunks: Vec<_> = checkpoint.chunks.try_collect().await.unwrap();
    let (mut bytes, mut rows) = (Vec::new(), BTreeMap::new());
    for chunk in chunks {
        bytes.extend_from_slice(&chunk.bytes);
        let page = decode_chunk(&chunk.bytes[4..], gateway.live().as_ref()).unwrap();
        for delta in &page.deltas {
            let row: &mut RowState = rows.entry(delta.delta.row_id.clone()).or_default();
            row.apply(&delta.delta);
        }
    }
    (bytes, rows)
}

fn holds(bytes: &[u8], sentinel: &str) -> bool {
    bytes
        .windows(sentinel.len())
        .any(|window| window == sentinel.as_bytes())
}

/// Rows of two tenants: plain ones, a deleted one, one that went from Ben to Ana, one that Ben deleted and Ana revived.
async fn two_tenants(world: &World) {
    let gateway = world.gateway();
    let first = vec![
        delta(
            Op::Insert,
            "ana-1",
            1,
            &[("owner", "ana"), ("text", "ANA-ONE")],
        ),
        delta(
            Op::Insert,
            "ben-1",
            1,
            &[("owner", "ben"), ("text", "BEN-ONE")],
        ),
        delta(
            Op::Insert,
            "ben-gone",
            1,
            &[("owner", "ben"), ("text", "BEN-GONE")],
        ),
        delta(
            Op::Insert,
            "ana-gone",
            1,
            &[("owner", "ana"), ("text", "ANA-GONE")],
        ),
        delta(
            Op::Insert,
            "given",
            1,
            &[("owner", "ben"), ("text", "BEN-GIVES")],
        ),
        delta(
            Op::Insert,
            "revived",
            1,
            &[("owner", "ben"), ("text", "BEN-BEFORE")],
        ),
    ];
    let then = vec![
        delta(Op::Delete, "ben-gone", 2, &[]),
        delta(Op::Delete, "ana-gone", 2, &[]),
        delta(
            Op::Update,
            "given",
            2,
            &[("owner", "ana"), ("text", "ANA-GIVEN")],
        ),
        delta(Op::Delete, "revived", 2, &[]),
        delta(Op::Insert, "revived", 3, &[("owner", "ana")]),
    ];
    push(&gateway, first).await;
    world.sql("call system.flush('notes')").await;
    world.sql("call system.compact('notes')").await;
    push(&gateway, then).await;
}

async fn open() -> (World, tempfile::TempDir) {
    let history = History {
        seed: 0,
        schemas: vec![schemas::schema(NOTES)],
        steps: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(folder.path().to_owned(), &history).await;
    two_tenants(&world).await;
    let rules = RuleSet::from_json(OWN).unwrap();
    world.gateway().set_rules(rules).await.unwrap();
    (world, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_holds_the_rows_of_its_audience_and_no_byte_of_anybody_elses() {
    let (world, _folder) = open().await;
    let gateway = world.gateway();
    for round in 0..2 {
        for form in [CheckpointForm::Native, CheckpointForm::Legacy] {
            for (who, rows, foreign) in [
                ("ana", &["ana-1", "given", "revived"][..], ["BEN-", "ben"]),
                ("ben", &["ben-1"][..], ["ANA-", "ana"]),
                ("eve", &[][..], ["ANA-", "BEN-"]),
            ] {
                let (bytes, found) = load(&gateway, form, &audience(&gateway, who)).await;
                let found: BTreeSet<&str> = found.keys().map(RowId::as_str).collect();
                assert_eq!(found, rows.iter().copied().collect(), "{who}, {form:?}");
                for sentinel in foreign {
                    assert!(!holds(&bytes, sentinel), "{who}, {form:?}: {sentinel}");
                }
            }
        }
        // The same from the base as from what is hot.
        if round == 0 {
            world.sql("call system.flush('notes')").await;
            world.sql("call system.compact('notes')").await;
        }
    }
    let all = Arc::new(Audience::everything());
    let (_, rows) = load(&gateway, CheckpointForm::Native, &all).await;
    assert_eq!(rows.len(), 6, "whom no rule binds has the tombstones too");
    assert_eq!(rows.values().filter(|row| row.exists()).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_of_what_its_audience_sees() {
    let (world, _folder) = open().await;
    let gateway = world.gateway();
    for who in ["ana", "ben", "eve"] {
        let audience = audience(&gateway, who);
        let (_, rows) = load(&gateway, CheckpointForm::Native, &audience).await;
        let digest = gateway.digest(None, None, &audience).await.unwrap();
        let table = &digest.tables[0];
        assert_eq!(table.rows, rows.len() as u64, "{who}");
        let (mut cells, mut hash) = (0, 0_u64);
        for (row_id, row) in &rows {
            for (column, cell) in row.visible_cells() {
                cells += 1;
                let cell = cell_digest(&table.table, row_id, column, &cell.value);
                hash = hash.wrapping_add(cell);
            }
        }
        assert_eq!((table.cells, table.hash), (cells, hash), "{who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_other_claims_or_other_rules_begins_anew() {
    let (world, _folder) = open().await;
    let gateway = world.gateway();
    let native = request(CheckpointForm::Native);
    let ana = audience(&gateway, "ana");
    let checkpoint = gateway.checkpoint(native.clone(), &ana).await.unwrap();
    assert_ne!(checkpoint.cursor.rules, 0);
    assert_ne!(checkpoint.cursor.claims, 0);
    let chunks: Vec<_> = checkpoint.chunks.try_collect().await.unwrap();
    let again = CheckpointRequest {
        resume: Some(chunks[0].resume.clone()),
        ..native
    };
    gateway.checkpoint(again.clone(), &ana).await.unwrap();
    let code = |error: Error| match error {
        Error::Refused(refusal) => {
            assert_eq!(refusal.code, ErrorCode::CursorExpired);
            refusal.details["checkpoint"].clone()
        }
        other => panic!("{other}"),
    };
    let ben = audience(&gateway, "ben");
    let error = gateway.checkpoint(again.clone(), &ben).await.unwrap_err();
    assert_eq!(code(error), "/v1/sync/public/checkpoint");
    let mut rules = RuleSet::from_json(OWN).unwrap();
    rules.buckets[0].name = "others".to_owned();
    gateway.set_rules(rules).await.unwrap();
    let ana = audience(&gateway, "ana");
    let error = gateway.checkpoint(again, &ana).await.unwrap_err();
    assert_eq!(code(error), "/v1/sync/public/checkpoint");
}
