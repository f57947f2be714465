//! Table pairs: creation, evolution, and what a crash between the two leaves.

use std::collections::HashMap;

use arrow::datatypes::{DataType, TimeUnit};
use iceberg::spec::{FormatVersion, Transform};
use lakesync_proto::columns;

use super::*;

const ALL_TYPES: [(&str, &str); 9] = [
    ("s", "string"),
    ("n", "number"),
    ("l", "long"),
    ("b", "boolean"),
    ("j", "json"),
    ("d", "decimal(10,2)"),
    ("day", "date"),
    ("t", "timestamp"),
    ("bin", "binary"),
];

#[tokio::test]
async fn a_table_is_a_base_and_a_log() {
    let lake = Lake::new().await;
    let schema = schema(&ALL_TYPES);
    for _ in 0..2 {
        lake.warehouse
            .create_table(&lake.gateway, &schema)
            .await
            .unwrap();
    }
    assert_eq!(
        lake.warehouse.tables(&lake.gateway).await.unwrap(),
        [name("t")]
    );
    let pair = lake.pair().await;
    assert_eq!(*pair.schema, schema);
    assert_eq!(pair.log.identifier().name(), "t__deltas");
    for table in [&pair.base, &pair.log] {
        assert_eq!(table.metadata().format_version(), FormatVersion::V2);
        assert_eq!(stored_schema(table).unwrap(), schema);
        assert_eq!(table.metadata().default_sort_order_id(), 0);
    }
    let base = pair.base.metadata().current_schema();
    assert_eq!(base.identifier_field_ids().collect::<Vec<_>>(), [1]);
    assert_eq!(base.field_by_id(1).unwrap().name, columns::ROW_ID);
    assert!(
        pair.base
            .metadata()
            .default_partition_spec()
            .is_unpartitioned()
    );
    let ids = column_ids(&pair.log).unwrap();
    assert_eq!(ids.get(&1), Some(&9), "after the log's own eight columns");
    let spec = pair.log.metadata().default_partition_spec();
    let [field] = spec.fields() else {
        panic!("{spec:?}")
    };
    assert_eq!((field.source_id, field.transform), (2, Transform::Day));
    let location = pair.log.metadata().location();
    assert!(
        location.ends_with("/warehouse/public/t__deltas"),
        "{location}"
    );
}

#[tokio::test]
async fn arrow_schemas_are_those_of_the_tables() {
    let lake = Lake::new().await;
    let schema = schema(&ALL_TYPES);
    lake.warehouse
        .create_table(&lake.gateway, &schema)
        .await
        .unwrap();
    let pair = lake.pair().await;
    let (base, log) = (
        base_arrow_schema(&schema).unwrap(),
        log_arrow_schema(&schema).unwrap(),
    );
    for (logical, table) in [(&base, &pair.base), (&log, &pair.log)] {
        let physical = arrow_schema(table).unwrap();
        assert!(physical.fields().iter().all(|f| !f.metadata().is_empty()));
        assert!(logical.fields().iter().all(|f| f.metadata().is_empty()));
        let parts = |schema: &arrow::datatypes::Schema| -> Vec<_> {
            let fields = schema.fields().iter();
            fields
                .map(|f| (f.name().clone(), f.data_type().clone(), f.is_nullable()))
                .collect()
        };
        assert_eq!(parts(logical), parts(&physical));
    }
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let of = |name: &str| log.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(of(columns::ARRIVED_AT), utc);
    assert_eq!(of(columns::DELTA_ID), DataType::FixedSizeBinary(32));
    assert_eq!(of(columns::OP), DataType::Int32);
    assert_eq!(of(columns::SET), DataType::LargeBinary);
    assert_eq!(of("t"), utc);
    assert_eq!(of("d"), DataType::Decimal128(10, 2));
    assert_eq!(of("j"), DataType::Utf8);
    let required: Vec<_> = log.fields().iter().filter(|f| !f.is_nullable()).collect();
    assert_eq!(required.len(), columns::LOG.len());
}

#[tokio::test]
async fn a_table_of_another_schema_is_not_overwritten() {
    let lake = Lake::with_table().await;
    let other = schema(&[("a", "long")]);
    let error = lake
        .warehouse
        .create_table(&lake.gateway, &other)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::AlreadyExists);
    assert!(error.to_string().contains("evolve"), "{error}");
}

#[tokio::test]
async fn a_crash_between_log_and_base_is_finished() {
    let lake = Lake::with_table().await;
    let base = lake.ident();
    lake.warehouse.catalog().drop_table(&base).await.unwrap();
    assert_eq!(
        lake.warehouse.tables(&lake.gateway).await.unwrap(),
        [name("t")]
    );
    let pair = lake.pair().await;
    assert_eq!(stored_schema(&pair.base).unwrap(), *pair.schema);
    lake.warehouse.catalog().drop_table(&base).await.unwrap();
    let schema = schema(&[("a", "string")]);
    lake.warehouse
        .create_table(&lake.gateway, &schema)
        .await
        .unwrap();
    assert!(lake.warehouse.catalog().table_exists(&base).await.unwrap());
}

#[tokio::test]
async fn a_column_is_added_to_log_and_base() {
    let lake = Lake::with_table().await;
    lake.append(&[&["a"]]).await;
    let before = lake.pair().await;
    let evolution = before
        .schema
        .evolve(&definition(&[("a", "string"), ("b", "long")]))
        .unwrap();
    for _ in 0..2 {
        let pair = lake
            .warehouse
            .evolve(&lake.gateway, &evolution, None)
            .await
            .unwrap();
        assert_eq!(*pair.schema, evolution.schema);
        for (now, then) in [(&pair.base, &before.base), (&pair.log, &before.log)] {
            let (now, then) = (column_ids(now).unwrap(), column_ids(then).unwrap());
            assert_eq!(now[&1], then[&1], "a column keeps its id");
            assert_eq!(now[&2], then[&1] + 1);
        }
        assert_eq!(pair.log.metadata().schemas_iter().len(), 2);
        assert_eq!(scanned(&pair.base).await, ["aA"]);
    }
}

#[tokio::test]
async fn a_crash_between_the_two_evolutions_is_finished() {
    let lake = Lake::with_table().await;
    let pair = lake.pair().await;
    let next = definition(&[("a", "string"), ("b", "long")]);
    let target = pair.schema.evolve(&next).unwrap().schema;
    let plan = |table: &Table| super::super::schema::evolution(Kind::Log, table, &target);
    let log = pair.log.identifier();
    change_table(&lake.warehouse, log, None, plan)
        .await
        .unwrap();
    assert_eq!(stored_schema(&pair.base).unwrap().version, 1);

    let reopened = lake.reopened().await;
    let pair = reopened.load(&lake.gateway, &name("t")).await.unwrap();
    assert_eq!(*pair.schema, target);
    assert_eq!(stored_schema(&pair.base).unwrap(), target);
    assert!(
        pair.base
            .metadata()
            .current_schema()
            .field_by_name("b")
            .is_some()
    );
}

#[tokio::test]
async fn a_dropped_column_leaves_the_base_and_stays_in_the_log() {
    let lake = Lake::new().await;
    let first = schema(&[("a", "string"), ("b", "string"), ("c", "string")]);
    lake.warehouse
        .create_table(&lake.gateway, &first)
        .await
        .unwrap();
    let created = lake.pair().await;
    let evolve = |from: &TableSchema, to: &[(&str, &str)]| from.evolve(&definition(to)).unwrap();

    let without = evolve(&first, &[("a", "string"), ("c", "string")]);
    let pair = lake
        .warehouse
        .evolve(&lake.gateway, &without, None)
        .await
        .unwrap();
    let names = |table: &Table| -> Vec<String> {
        let fields = arrow_schema(table).unwrap();
        fields.fields().iter().map(|f| f.name().clone()).collect()
    };
    assert_eq!(names(&pair.base), ["row_id", "a", "c"]);
    assert_eq!(names(&pair.log)[8..], ["a", "c", "b"]);
    assert_eq!(
        names(&pair.log),
        log_arrow_schema(&pair.schema)
            .unwrap()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect::<Vec<_>>()
    );

    // Its name comes back as another column: new ids in both tables, the old one is out of sight.
    let back = evolve(
        &without.schema,
        &[("a", "string"), ("c", "string"), ("b", "long")],
    );
    let pair = lake
        .warehouse
        .evolve(&lake.gateway, &back, None)
        .await
        .unwrap();
    assert_eq!(names(&pair.base), ["row_id", "a", "c", "b"]);
    assert_eq!(names(&pair.log)[8..], ["a", "c", "b"]);
    for (now, then) in [(&pair.base, &created.base), (&pair.log, &created.log)] {
        let (ids, old) = (column_ids(now).unwrap(), column_ids(then).unwrap());
        assert_eq!(ids[&2], old[&2], "the old number keeps its id");
        let field = now
            .metadata()
            .current_schema()
            .field_id_by_name("b")
            .unwrap();
        assert_eq!((ids[&4], field), (old[&3] + 1, old[&3] + 1));
    }
}

#[tokio::test]
async fn a_decimal_grows_and_nothing_else_changes_its_type() {
    let lake = Lake::new().await;
    let first = schema(&[("a", "string"), ("d", "decimal(5,2)")]);
    lake.warehouse
        .create_table(&lake.gateway, &first)
        .await
        .unwrap();
    let wider = first
        .evolve(&definition(&[("a", "string"), ("d", "decimal(20,2)")]))
        .unwrap();
    let pair = lake
        .warehouse
        .evolve(&lake.gateway, &wider, None)
        .await
        .unwrap();
    let field = arrow_schema(&pair.log).unwrap();
    let field = field.field_with_name("d").unwrap().data_type().clone();
    assert_eq!(field, DataType::Decimal128(20, 2));

    let mut forged = wider.clone();
    forged.schema.version += 1;
    forged.schema.columns[1].column_type = lakesync_proto::ColumnType::Long;
    let error = lake
        .warehouse
        .evolve(&lake.gateway, &forged, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::Invalid);
    assert!(error.to_string().contains("column d"), "{error}");
}

#[tokio::test]
async fn an_evolution_of_an_old_version_is_refused() {
    let lake = Lake::with_table().await;
    let first = lake.pair().await.schema;
    let one = first
        .evolve(&definition(&[("a", "string"), ("b", "long")]))
        .unwrap();
    let other = first
        .evolve(&definition(&[("a", "string"), ("c", "long")]))
        .unwrap();
    lake.warehouse
        .evolve(&lake.gateway, &one, None)
        .await
        .unwrap();
    let error = lake
        .warehouse
        .evolve(&lake.gateway, &other, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::Invalid);
    assert_eq!(*lake.pair().await.schema, one.schema);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let lake = Lake::with_table().await;
    lake.append(&[&["a", "b"]]).await;
    let key = [("lakesync.epoch", Some("e1"))];
    let none = [("lakesync.epoch", None)];
    let warehouse = &lake.warehouse;
    warehouse
        .set_namespace_properties(&lake.gateway, &none, &key)
        .await
        .unwrap();

    let reopened = lake.reopened().await;
    let gateways = reopened.namespaces().await.unwrap();
    assert_eq!(gateways, std::slice::from_ref(&lake.gateway));
    assert_eq!(reopened.tables(&lake.gateway).await.unwrap(), [name("t")]);
    let properties = reopened.namespace_properties(&lake.gateway).await.unwrap();
    let expected = [("exists", "true"), ("lakesync.epoch", "e1")];
    let expected: HashMap<_, _> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(properties, expected);
    let pair = reopened.load(&lake.gateway, &name("t")).await.unwrap();
    assert_eq!(scanned(&pair.base).await, ["aA", "bB"]);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let lake = Lake::new().await;
    let error = lake
        .warehouse
        .load(&lake.gateway, &name("t"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::NotFound);
    assert_eq!(error.to_string(), "table public.t does not exist");
    let nobody = GatewayId::parse("nobody").unwrap();
    let error = lake.warehouse.tables(&nobody).await.unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::NotFound);
    let error = lake
        .warehouse
        .create_table(&nobody, &schema(&[("a", "long")]))
        .await;
    assert_eq!(error.unwrap_err().kind(), LakeErrorKind::NotFound);
}
