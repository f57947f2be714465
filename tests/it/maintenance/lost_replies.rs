//! A gateway whose catalog's answers get lost in the middle of maintenance: what took effect is found by looking, what
//! did not is done again, and the table reads right whatever was said.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use lakesync_compactor::{CompactionConfig, compact};
use lakesync_gateway::{Components, Gateway, GatewayConfig};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, GatewayId, Hlc, ManualClock, Op, Push, RowDelta,
    RowId, Seq, TableName, Value,
};
use lakesync_providers::lake::Warehouse;
use lakesync_providers::{LakeCatalog, register};
use lakesync_tests::faulty::{Fault, Faults, FaultyCatalog};
use lakesync_tests::history::Rng;

const NOW_MS: u64 = 1_700_000_000_000;
const TABLE: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;

/// A gateway behind a catalog that can be told to lose answers.
struct Shaky {
    gateway: Arc<Gateway>,
    faults: Arc<Faults>,
    rows: BTreeMap<String, i64>,
    pushes: u64,
    _folder: tempfile::TempDir,
}

impl Shaky {
    async fn open() -> Shaky {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open_local(folder.path()).await.unwrap();
        let faults = Arc::new(Faults::default());
        let catalog = FaultyCatalog::new(warehouse.catalog(), &faults);
        let components = Components {
            warehouse: warehouse.with_catalog(Arc::new(catalog)),
            database: folder.path().join("public.db"),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            lock: None,
        };
        let id = GatewayId::parse("public").unwrap();
        let gateway = Gateway::open(id, components, GatewayConfig::default());
        let gateway = gateway.await.unwrap();
        let definition = serde_json::from_str(TABLE).unwrap();
        gateway.put_schema(&definition).await.unwrap();
        Shaky {
            gateway,
            faults,
            rows: BTreeMap::new(),
            pushes: 0,
            _folder: folder,
        }
    }

    /// Some rows are set, some are deleted; then all of it is flushed.
    async fn edit(&mut self, rng: &mut Rng) {
        self.pushes += 1;
        let client_id = ClientId::parse("ana").unwrap();
        let mut deltas = Vec::new();
        for nth in 0..rng.between(1, 20) {
            let row = format!("row {}", rng.below(40));
            let key = DeltaKey {
                table: TableName::parse("t").unwrap(),
                row_id: RowId::parse(&row).unwrap(),
                client_id: client_id.clone(),
                hlc: Hlc::new(NOW_MS - 1_000 + self.pushes, u16::try_from(nth).unwrap()).unwrap(),
            };
            let value = i64::try_from(self.pushes * 100 + nth).unwrap();
            let change = ColumnChange {
                column: ColumnName::parse("v").unwrap(),
                value: Value::Long(value),
            };
            match rng.chance(70) {
                true => {
                    self.rows.insert(row, value);
                    deltas.push(RowDelta::new(Op::Update, key, vec![change]));
                }
                false => {
                    self.rows.remove(&row);
                    deltas.push(RowDelta::new(Op::Delete, key, Vec::new()));
                }
            }
        }
        let push = Push {
            client_id,
            deltas,
            last_seen: Seq::ZERO,
            schemas: None,
        };
        self.gateway.push(push).await.unwrap();
        self.gateway.flush(None).await.unwrap();
    }

    async fn check(&self, when: &str) {
        let catalog = LakeCatalog::default().with_gateway(self.gateway.live().views(), None);
        let ctx = SessionContext::new();
        register(&ctx, "sea", &Arc::new(catalog)).unwrap();
        let frame = ctx.sql("select row_id, v from sea.public.t").await.unwrap();
        let mut found = BTreeMap::new();
        for batch in frame.collect().await.unwrap() {
            let ids = batch.column(0).as_string::<i32>();
            let values = batch.column(1).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let twice = found.insert(ids.value(row).to_owned(), values.value(row));
                assert_eq!(twice, None, "{when}: {} is there twice", ids.value(row));
            }
        }
        assert_eq!(found, self.rows, "{when}");
    }

    async fn fold(&self) -> lakesync_compactor::Result<()> {
        let config = CompactionConfig::default();
        let fence = self.gateway.fence();
        let done = compact(self.gateway.live(), "t", Some(&fence), &config).await;
        done.map(drop)
    }

    fn is_folded(&self) -> bool {
        let view = self.gateway.live().view("t").unwrap();
        view.base.base_seq == view.log.max_seq
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_whose_answers_are_lost_take_effect_once() {
    let mut failed = 0;
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut lake = Shaky::open().await;
        for round in 0..8 {
            lake.edit(&mut rng).await;
            let faults: Vec<Fault> = (0..rng.below(4))
                .map(|_| *rng.pick(&[Fault::LostAnswer, Fault::LostRequest, Fault::Refused]))
                .collect();
            for fault in &faults {
                lake.faults.order("t", *fault);
            }
            let when = format!("seed {seed}, round {round}, {faults:?}");
            if lake.fold().await.is_err() {
                failed += 1;
                assert!(faults.contains(&Fault::Refused), "{when}");
            }
            lake.check(&when).await;
            lake.faults.clear();
            lake.fold().await.unwrap();
            assert!(lake.is_folded(), "{when}");
            lake.check(&when).await;
        }
    }
    assert!(failed > 0, "some were refused");
}
