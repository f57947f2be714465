//! The catalog as iceberg's trait defines it.

use std::collections::HashMap;

use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{ErrorKind, NamespaceIdent, TableCreation};

use super::*;

fn space(dotted: &str) -> NamespaceIdent {
    NamespaceIdent::from_strs(dotted.split('.')).unwrap()
}

fn creation(name: &str) -> TableCreation {
    let field = NestedField::optional(7, "x", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([Arc::new(field)]).build();
    TableCreation::builder()
        .name(name.to_owned())
        .schema(schema.unwrap())
        .build()
}

#[tokio::test]
async fn namespaces_come_and_go() {
    let lake = Lake::new().await;
    let catalog = lake.warehouse.catalog();
    let properties = HashMap::from([("k".to_owned(), "v".to_owned())]);
    catalog
        .create_namespace(&space("x.y"), properties.clone())
        .await
        .unwrap();
    let again = catalog
        .create_namespace(&space("x.y"), HashMap::new())
        .await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::NamespaceAlreadyExists);
    let found = catalog.get_namespace(&space("x.y")).await.unwrap();
    assert_eq!(found.properties()["k"], "v");
    assert_eq!(found.properties()["exists"], "true");

    let names = |list: Vec<NamespaceIdent>| -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    };
    let all = catalog.list_namespaces(None).await.unwrap();
    assert_eq!(names(all), ["public", "x"]);
    let below = catalog.list_namespaces(Some(&space("x"))).await.unwrap();
    assert_eq!(names(below), ["x.y"]);
    assert!(
        catalog.namespace_exists(&space("x")).await.unwrap(),
        "it has one below"
    );
    assert!(!catalog.namespace_exists(&space("X")).await.unwrap());
    assert!(!catalog.namespace_exists(&space("publi")).await.unwrap());

    let other = HashMap::from([("l".to_owned(), "w".to_owned())]);
    catalog
        .update_namespace(&space("x.y"), other)
        .await
        .unwrap();
    let found = catalog.get_namespace(&space("x.y")).await.unwrap();
    assert!(!found.properties().contains_key("k"));
    catalog
        .create_table(&space("x.y"), creation("t"))
        .await
        .unwrap();
    let refused = catalog.drop_namespace(&space("x.y")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PreconditionFailed);
    let ident = TableIdent::new(space("x.y"), "t".to_owned());
    catalog.drop_table(&ident).await.unwrap();
    catalog.drop_namespace(&space("x.y")).await.unwrap();
    let gone = catalog.get_namespace(&space("x.y")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NamespaceNotFound);
}

#[tokio::test]
async fn tables_come_and_go() {
    let lake = Lake::new().await;
    let catalog = lake.warehouse.catalog();
    let public = space("public");
    let ident = |name: &str| TableIdent::new(public.clone(), name.to_owned());
    let table = catalog.create_table(&public, creation("t")).await.unwrap();
    assert_eq!(
        table.metadata().current_schema().field_id_by_name("x"),
        Some(1)
    );
    let again = catalog
        .create_table(&public, creation("t"))
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::TableAlreadyExists);
    let nowhere = catalog
        .create_table(&space("no"), creation("t"))
        .await
        .unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NamespaceNotFound);

    catalog
        .rename_table(&ident("t"), &ident("u"))
        .await
        .unwrap();
    assert!(!catalog.table_exists(&ident("t")).await.unwrap());
    let missing = catalog.load_table(&ident("t")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::TableNotFound);
    let missing = catalog
        .rename_table(&ident("t"), &ident("v"))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::TableNotFound);
    // The new table of the old name does not share a directory with the renamed one.
    let second = catalog.create_table(&public, creation("t")).await.unwrap();
    assert_ne!(second.metadata().location(), table.metadata().location());
    let taken = catalog
        .rename_table(&ident("t"), &ident("u"))
        .await
        .unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::TableAlreadyExists);
    assert_eq!(
        catalog.list_tables(&public).await.unwrap(),
        [ident("t"), ident("u")]
    );

    let location = second.metadata_location().unwrap().to_owned();
    catalog.drop_table(&ident("t")).await.unwrap();
    let missing = catalog.drop_table(&ident("t")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::TableNotFound);
    let back = catalog.register_table(&ident("w"), location).await.unwrap();
    assert_eq!(back.metadata().uuid(), second.metadata().uuid());
    catalog.purge_table(&ident("w")).await.unwrap();
    assert!(
        !back
            .file_io()
            .exists(back.metadata_location().unwrap())
            .await
            .unwrap()
    );
    assert_eq!(catalog.list_tables(&public).await.unwrap(), [ident("u")]);
}

#[tokio::test]
async fn views_of_other_programs_are_not_tables() {
    let lake = Lake::with_table().await;
    let database = rusqlite::Connection::open(lake.dir.path().join("catalog.db")).unwrap();
    database
        .execute(
            "UPDATE iceberg_tables SET iceberg_type = 'VIEW' WHERE table_name = 't'",
            [],
        )
        .unwrap();
    let catalog = lake.warehouse.catalog();
    assert!(!catalog.table_exists(&lake.ident()).await.unwrap());
    let listed = catalog.list_tables(&space("public")).await.unwrap();
    assert_eq!(listed.len(), 1);
    database
        .execute("UPDATE iceberg_tables SET iceberg_type = NULL", [])
        .unwrap();
    assert!(catalog.table_exists(&lake.ident()).await.unwrap());
    lake.append(&[&["a"]]).await;
}

#[tokio::test]
async fn the_pointer_and_its_predecessor_stand_in_the_row() {
    let lake = Lake::with_table().await;
    let first = lake.base().await.metadata_location().unwrap().to_owned();
    let second = lake.append(&[&["a"]]).await;
    let database = rusqlite::Connection::open(lake.dir.path().join("catalog.db")).unwrap();
    let row: [String; 6] = database
        .query_row(
            "SELECT catalog_name, table_namespace, table_name, metadata_location,
                 previous_metadata_location, iceberg_type
             FROM iceberg_tables WHERE table_name = 't'",
            [],
            |row| Ok([0, 1, 2, 3, 4, 5].map(|i| row.get(i).unwrap())),
        )
        .unwrap();
    let location = second.metadata_location().unwrap();
    assert_eq!(row, ["lakesync", "public", "t", location, &first, "TABLE"]);
    assert!(location.contains("/metadata/00001-"), "{location}");
    let log = second.metadata().metadata_log();
    assert_eq!(log.last().unwrap().metadata_file, first);
}

#[tokio::test]
async fn two_openings_of_a_catalog_see_each_other() {
    let lake = Lake::with_table().await;
    let other = lake.reopened().await;
    other.load(&lake.gateway, &name("t")).await.unwrap();
    lake.append(&[&["a"]]).await;
    let pair = other.load(&lake.gateway, &name("t")).await.unwrap();
    assert_eq!(scanned(&pair.base).await, ["aA"]);
}

#[tokio::test]
async fn an_unchanged_table_is_remembered() {
    let lake = Lake::with_table().await;
    let first = lake.base().await;
    let path = first
        .metadata_location()
        .unwrap()
        .trim_start_matches("file://")
        .to_owned();
    std::fs::rename(&path, format!("{path}.away")).unwrap();
    lake.base().await;
    let other = lake.reopened().await;
    other.load(&lake.gateway, &name("t")).await.unwrap_err();
}

#[tokio::test]
async fn icebergs_own_transactions_work_on_it() {
    let lake = Lake::with_table().await;
    let catalog = lake.warehouse.catalog();
    let files = lake.files(&[&["a"]]).await;
    let stale = lake.base().await;
    lake.append(&[&["b"]]).await;
    let transaction = Transaction::new(&stale);
    let append = transaction.fast_append().add_data_files(files);
    let transaction = append.apply(transaction).unwrap();
    let table = transaction.commit(catalog.as_ref()).await.unwrap();
    assert_eq!(scanned(&table).await, ["aA", "bB"]);
    let transaction = Transaction::new(&table);
    let set = transaction
        .update_table_properties()
        .set("k".to_owned(), "v".to_owned());
    let table = set
        .apply(transaction)
        .unwrap()
        .commit(catalog.as_ref())
        .await
        .unwrap();
    assert_eq!(table.metadata().properties()["k"], "v");
    assert_eq!(
        counts(&table, &["total-records", "total-data-files"]),
        ["2", "2"]
    );
}

#[tokio::test]
async fn namespace_properties_are_compared_and_set() {
    let lake = Lake::new().await;
    let cas = |expected: Option<&'static str>, set: Option<&'static str>| {
        let (warehouse, gateway) = (lake.warehouse.clone(), lake.gateway.clone());
        async move {
            let (expected, set) = ([("k", expected)], [("k", set), ("l", Some("1"))]);
            warehouse
                .set_namespace_properties(&gateway, &expected, &set)
                .await
        }
    };
    cas(None, Some("a")).await.unwrap();
    let error = cas(None, Some("b")).await.unwrap_err();
    assert!(matches!(
        &error,
        LakeError::NamespaceChanged { key, found: Some(found), .. } if key == "k" && found == "a"
    ));
    cas(Some("a"), None).await.unwrap();
    let properties = lake
        .warehouse
        .namespace_properties(&lake.gateway)
        .await
        .unwrap();
    assert!(!properties.contains_key("k"));
    assert_eq!(properties["l"], "1");
    let nobody = GatewayId::parse("nobody").unwrap();
    let error = lake
        .warehouse
        .set_namespace_properties(&nobody, &[], &[])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::NotFound);
}
