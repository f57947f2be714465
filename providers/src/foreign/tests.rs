//! Tables as other programs make them: renamed and promoted columns, deletes by position and by value, old snapshots.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, FormatVersion, NestedField, PrimitiveType, Schema,
    Struct, Type,
};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent, TableUpdate};
use lakesync_proto::{GatewayId, Seq};
use tempfile::TempDir;

use super::*;
use crate::catalog::LakeCatalog;
use crate::lake::{
    Commit, PositionDeletes, WriteOptions, change_table, write_data_files, write_position_deletes,
};
use crate::live::Live;

struct Scene {
    warehouse: Warehouse,
    gateway: GatewayId,
    _folder: TempDir,
}

type Columns<'a> = &'a [(i32, &'a str, PrimitiveType)];

fn schema(columns: Columns<'_>) -> Schema {
    let fields = columns.iter().map(|(id, name, kind)| {
        Arc::new(NestedField::optional(
            *id,
            *name,
            Type::Primitive(kind.clone()),
        ))
    });
    Schema::builder().with_fields(fields).build().unwrap()
}

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open_local(folder.path()).await.unwrap();
        let gateway = GatewayId::parse("public").unwrap();
        warehouse.create_namespace(&gateway).await.unwrap();
        Scene {
            warehouse,
            gateway,
            _folder: folder,
        }
    }

    fn ident(name: &str) -> TableIdent {
        TableIdent::new(NamespaceIdent::new("public".to_owned()), name.to_owned())
    }

    async fn create(&self, name: &str, columns: Columns<'_>) -> Table {
        let creation = TableCreation::builder()
            .name(name.to_owned())
            .schema(schema(columns))
            .format_version(FormatVersion::V2)
            .build();
        let ident = Self::ident(name);
        let catalog = self.warehouse.catalog();
        catalog
            .create_table(ident.namespace(), creation)
            .await
            .unwrap()
    }

    async fn load(&self, name: &str) -> Table {
        let catalog = self.warehouse.catalog();
        catalog.load_table(&Self::ident(name)).await.unwrap()
    }

    async fn write(&self, name: &str, columns: &[(&str, ArrayRef)]) -> Vec<DataFile> {
        let batch = RecordBatch::try_from_iter(columns.to_vec()).unwrap();
        let options = WriteOptions::new("foreign");
        let table = self.load(name).await;
        write_data_files(&table, vec![batch], &options)
            .await
            .unwrap()
    }

    async fn append(&self, name: &str, columns: &[(&str, ArrayRef)]) -> i64 {
        let files = self.write(name, columns).await;
        self.commit(name, Commit::append(files)).await
    }

    async fn commit(&self, name: &str, commit: Commit<'_>) -> i64 {
        let table = commit
            .run(&self.warehouse, &Self::ident(name))
            .await
            .unwrap();
        table.metadata().current_snapshot_id().unwrap()
    }

    async fn evolve(&self, name: &str, columns: Columns<'_>) {
        let schema = schema(columns);
        let plan = |_: &Table| {
            Ok(vec![
                TableUpdate::AddSchema {
                    schema: schema.clone(),
                },
                TableUpdate::SetCurrentSchema { schema_id: -1 },
            ])
        };
        let changed = change_table(&self.warehouse, &Self::ident(name), None, plan).await;
        changed.unwrap();
    }

    async fn asked(&self, sql: &str) -> Result<Vec<String>, String> {
        let live = Live::new(self.warehouse.clone(), self.gateway.clone(), Seq::ZERO);
        let catalog = LakeCatalog::over(self.warehouse.clone()).with_gateway(live.views(), None);
        catalog.list_foreign().await.unwrap();
        let ctx = session(&self.warehouse);
        ctx.register_catalog("lake", Arc::new(catalog));
        let frame = ctx.sql(sql).await.map_err(|error| error.to_string())?;
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        let rows = shown.lines().filter(|line| !line.starts_with('+')).skip(1);
        Ok(rows.map(|row| row.split_whitespace().collect()).collect())
    }

    async fn says(&self, sql: &str, rows: &[&str]) {
        assert_eq!(self.asked(sql).await.unwrap(), rows, "{sql}");
    }
}

fn longs(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

use PrimitiveType::{Int, Long, String as Text};

#[tokio::test]
async fn columns_are_found_by_id_through_renames_promotions_and_reused_names() {
    let scene = Scene::new().await;
    scene
        .create("t", &[(1, "id", Int), (2, "a", Text), (3, "b", Text)])
        .await;
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let old = [
        ("id", ids),
        ("a", texts(&["a1", "a2"])),
        ("b", texts(&["b1", "b2"])),
    ];
    scene.append("t", &old).await;
    // `a` is now called `b`, what was `b` is gone, a new column has the name `a`, ids are longs.
    scene
        .evolve("t", &[(1, "id", Long), (2, "b", Text), (4, "a", Text)])
        .await;
    let new = [
        ("id", longs(&[3])),
        ("b", texts(&["a3"])),
        ("a", texts(&["new"])),
    ];
    scene.append("t", &new).await;
    let rows = ["|1|a1||", "|2|a2||", "|3|a3|new|"];
    scene.says("select * from t order by id", &rows).await;
    scene
        .says(
            "select b from t where a is null order by b",
            &["|a1|", "|a2|"],
        )
        .await;
    scene
        .says("select id from t where b = 'a2'", &["|2|"])
        .await;
    scene.says("select id from t where b = 'b2'", &[]).await;
    scene
        .says(
            "select count(*), max(id) from t where id < 3000000000",
            &["|3|3|"],
        )
        .await;
    let listed = "select table_name from information_schema.tables where table_schema = 'public'";
    scene.says(listed, &["|t|"]).await;
    let refused = scene
        .asked("insert into t values (4, 'b', 'a')")
        .await
        .unwrap_err();
    assert!(refused.contains("made by another program"), "{refused}");
    assert!(scene.asked("select * from nothing").await.is_err());
}

#[tokio::test]
async fn deletes_by_position_apply_to_their_files_and_limits_and_counts_hold() {
    let scene = Scene::new().await;
    scene.create("t", &[(1, "id", Long), (2, "a", Text)]).await;
    let ids: Vec<i64> = (0..100).collect();
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let before = scene
        .append("t", &[("id", longs(&ids)), ("a", texts(&names))])
        .await;
    let table = scene.load("t").await;
    let path = live_files(&table, None).await.unwrap()[0].path.clone();
    let deleted = [PositionDeletes {
        path: path.clone(),
        partition: Struct::empty(),
        positions: (0..100).filter(|place| place % 3 == 0).collect(),
    }];
    let options = WriteOptions::new("foreign");
    let deletes = write_position_deletes(&table, &deleted, &options)
        .await
        .unwrap();
    scene
        .commit("t", Commit::row_delta(Vec::new(), deletes))
        .await;
    scene
        .append("t", &[("id", longs(&[0])), ("a", texts(&["again"]))])
        .await;
    scene.says("select count(*) from t", &["|67|"]).await;
    scene
        .says(
            "select a from t where id < 5 order by id",
            &["|again|", "|1|", "|2|", "|4|"],
        )
        .await;
    scene
        .says(
            "select count(*) from (select * from t where id >= 0 limit 66)",
            &["|66|"],
        )
        .await;
    scene
        .says("select min(id), max(id) from t where id > 0", &["|1|98|"])
        .await;
    let count = |clause: String| format!("select count(*) from \"t@{clause}\"");
    scene
        .says(&count(format!("version:{before}")), &["|100|"])
        .await;
    scene.says(&count("ref:main".to_owned()), &["|67|"]).await;
    scene
        .says(
            &count("timestamp:2999-01-01T00:00:00Z".to_owned()),
            &["|67|"],
        )
        .await;
    for (moment, said) in [
        ("version:7", "no snapshot 7"),
        ("ref:audit", "no tag or branch `audit`"),
        ("timestamp:2001-01-01T00:00:00Z", "begins after 2001"),
        ("seq:7", "neither seq nor HLC"),
        ("hlc:7", "neither seq nor HLC"),
    ] {
        let error = scene.asked(&count(moment.to_owned())).await.unwrap_err();
        assert!(error.contains(said), "{moment}: {error}");
    }
}

#[tokio::test]
async fn deletes_by_value_apply_to_older_files_only_and_null_is_a_value() {
    let scene = Scene::new().await;
    let columns = [(1, "id", Long), (2, "a", Text)];
    scene.create("t", &columns).await;
    let a: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("z")]));
    scene
        .append("t", &[("id", longs(&[1, 2, 3])), ("a", a)])
        .await;
    // Two files of deletes by (a) and one by (id, a), written as tables with those columns are.
    let kept = |ids: &[i64], file: &DataFile| -> DataFile {
        DataFileBuilder::default()
            .content(DataContentType::EqualityDeletes)
            .file_path(file.file_path().to_owned())
            .file_format(file.file_format())
            .partition(Struct::empty())
            .record_count(file.record_count())
            .file_size_in_bytes(file.file_size_in_bytes())
            .equality_ids(Some(
                ids.iter().map(|id| i32::try_from(*id).unwrap()).collect(),
            ))
            .build()
            .unwrap()
    };
    scene.create("by_a", &[(2, "a", Text)]).await;
    let nulls: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let by_a = kept(&[2], &scene.write("by_a", &[("a", nulls)]).await[0]);
    scene
        .create("by_both", &[(1, "id", Long), (2, "a", Text)])
        .await;
    let both = [("id", longs(&[1, 3])), ("a", texts(&["other", "z"]))];
    let by_both = kept(&[1, 2], &scene.write("by_both", &both).await[0]);
    scene
        .commit("t", Commit::row_delta(Vec::new(), vec![by_a, by_both]))
        .await;
    scene.says("select * from t", &["|1|x|"]).await;
    let again: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    scene
        .append("t", &[("id", longs(&[4])), ("a", again)])
        .await;
    scene
        .says("select id from t order by id", &["|1|", "|4|"])
        .await;
    // The column that the deletes name is gone; they delete what they did.
    scene.evolve("t", &[(1, "id", Long), (5, "a", Text)]).await;
    scene
        .says("select * from t order by id", &["|1||", "|4||"])
        .await;
    scene.says("select count(*) from t", &["|2|"]).await;
}
