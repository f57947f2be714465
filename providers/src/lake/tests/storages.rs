//! The storage, on disk and on an object store: both keep the same promises.

use bytes::Bytes;
use iceberg::io::{FileIO, FileIOBuilder, Storage};
use object_store::memory::InMemory;

use super::*;

/// What iceberg relies on, below `root` (a URI without a slash at the end).
async fn check(files: &FileIO, root: &str) {
    let uri = format!("{root}/a/b/file");
    assert!(!files.exists(&uri).await.unwrap());
    files
        .new_output(&uri)
        .unwrap()
        .write(Bytes::from("hello"))
        .await
        .unwrap();
    assert!(files.exists(&uri).await.unwrap());
    let input = files.new_input(&uri).unwrap();
    assert_eq!(input.metadata().await.unwrap().size, 5);
    assert_eq!(input.read().await.unwrap(), "hello");
    assert_eq!(
        input.reader().await.unwrap().read(1..3).await.unwrap(),
        "el"
    );
    files
        .new_output(&uri)
        .unwrap()
        .write(Bytes::from("again"))
        .await
        .unwrap();
    assert_eq!(input.read().await.unwrap(), "again");

    let big = format!("{root}/a/big");
    let part = Bytes::from(vec![7; 3 * 1024 * 1024]);
    let mut writer = files.new_output(&big).unwrap().writer().await.unwrap();
    for _ in 0..5 {
        writer.write(part.clone()).await.unwrap();
    }
    assert!(
        !files.exists(&big).await.unwrap(),
        "it appears when it is closed"
    );
    writer.close().await.unwrap();
    let size = files
        .new_input(&big)
        .unwrap()
        .metadata()
        .await
        .unwrap()
        .size;
    assert_eq!(size, 15 * 1024 * 1024);
    writer.close().await.unwrap_err();
    writer.write(part).await.unwrap_err();

    files.delete(&uri).await.unwrap();
    files.delete(&uri).await.unwrap();
    assert!(!files.exists(&uri).await.unwrap());
    files.new_input(&uri).unwrap().read().await.unwrap_err();
    files
        .delete_prefix(format!("{root}/nothing"))
        .await
        .unwrap();
    files.delete_prefix(format!("{root}/a")).await.unwrap();
    assert!(!files.exists(&big).await.unwrap());
    let kept = format!("{root}/kept");
    files
        .new_output(&kept)
        .unwrap()
        .write(Bytes::from("x"))
        .await
        .unwrap();
    let names = futures::stream::iter([kept.clone(), format!("{root}/missing")]);
    files.delete_stream(names).await.unwrap();
    assert!(!files.exists(&kept).await.unwrap());
}

#[tokio::test]
async fn the_disk_keeps_its_promises() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(object_store::local::LocalFileSystem::new());
    let storage = LakeStorage::local(store, dir.path().to_owned());
    let files = FileIOBuilder::new(Arc::new(storage)).build();
    check(&files, &format!("file://{}", dir.path().display())).await;
    check(&files, &dir.path().display().to_string()).await;
}

#[tokio::test]
async fn an_object_store_keeps_its_promises() {
    let storage = LakeStorage::remote(Arc::new(InMemory::new()), "s3://bucket/");
    let files = FileIOBuilder::new(Arc::new(storage.clone())).build();
    check(&files, "s3://bucket/lake").await;
    let outside = storage.exists("s3://other/x").await.unwrap_err();
    assert!(outside.to_string().contains("s3://bucket/"), "{outside}");
}

#[tokio::test]
async fn a_serialised_storage_finds_its_store_again() {
    let storage = LakeStorage::remote(Arc::new(InMemory::new()), "s3://serialised");
    storage
        .write("s3://serialised/x", Bytes::from("x"))
        .await
        .unwrap();
    let text = serde_json::to_string(&(&storage as &dyn Storage)).unwrap();
    let found: Box<dyn Storage> = serde_json::from_str(&text).unwrap();
    assert_eq!(found.read("s3://serialised/x").await.unwrap(), "x");
    drop((storage, found));
    let error = serde_json::from_str::<Box<dyn Storage>>(&text).unwrap_err();
    assert!(error.to_string().contains("no lake is open"), "{error}");
}

#[tokio::test]
async fn a_directory_may_have_any_name() {
    let parent = tempfile::tempdir().unwrap();
    for odd in ["a b", "50%", "a%20b", "x#1", "~ü", "q?&+", "[x]{y}"] {
        let dir = parent.path().join(odd);
        let warehouse = Warehouse::open_local(&dir).await.unwrap();
        let gateway = GatewayId::parse("g-1").unwrap();
        warehouse.create_namespace(&gateway).await.unwrap();
        let schema = schema(&[("a", "string")]);
        warehouse.create_table(&gateway, &schema).await.unwrap();
        let base = warehouse.load(&gateway, &name("t")).await.unwrap().base;
        let files = write(&base, &[&["a"]]).await;
        let path = files[0].file_path().to_owned();
        let table = Commit::append(files)
            .run(&warehouse, base.identifier())
            .await
            .unwrap();
        assert_eq!(scanned(&table).await, ["aA"], "{odd}");
        assert!(path.contains(odd), "{path}");
        assert!(dir.join("warehouse/g-1/t/data").is_dir());
        // DataFusion reads it by this path in the same store.
        let path = warehouse.object_path(&path).unwrap();
        use object_store::ObjectStoreExt;
        warehouse.object_store().head(&path).await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_lake_is_refused_by_name() {
    let lake = Lake::new().await;
    let path = lake.dir.path().join("catalog.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", 1000).unwrap();
    drop(database);
    let error = Warehouse::open_local(lake.dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::NewerFormat);
    let text = error.to_string();
    assert!(
        text.contains("catalog.db") && text.contains("newer lakesync"),
        "{text}"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Warehouse::open_local(&file).await.unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::Io);
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn a_lost_catalog_is_not_replaced_by_an_empty_one() {
    let lake = Lake::with_table().await;
    let dir = lake.dir.path().to_owned();
    let refused = async |what: &str| {
        let error = Warehouse::open_local(&dir).await.expect_err(what);
        assert_eq!(error.kind(), LakeErrorKind::Corrupt, "{what}");
        let text = error.to_string();
        assert!(text.contains("catalog.db is missing"), "{what}: {text}");
        assert!(text.contains("Restore catalog.db"), "{what}: {text}");
    };
    let warehouse = lake.warehouse;
    drop(warehouse);
    for gone in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        match std::fs::rename(dir.join(gone), dir.join(format!("{gone}.away"))) {
            Ok(()) => {}
            Err(e) => assert_ne!(gone, "catalog.db", "{e}"),
        }
    }
    refused("missing").await;
    std::fs::write(dir.join("catalog.db"), "").unwrap();
    refused("empty").await;
    std::fs::remove_file(dir.join("catalog.db")).unwrap();
    // Databases of gateways alone tell as much.
    std::fs::rename(dir.join("warehouse"), dir.join("away")).unwrap();
    std::fs::create_dir(dir.join("gateways")).unwrap();
    std::fs::write(dir.join("gateways/public.db"), "x").unwrap();
    refused("gateways").await;
    assert!(!dir.join("catalog.db").exists(), "a refusal makes nothing");
    std::fs::remove_dir(dir.join("warehouse")).unwrap();
    std::fs::rename(dir.join("away"), dir.join("warehouse")).unwrap();
    for back in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let away = dir.join(format!("{back}.away"));
        if away.exists() {
            std::fs::rename(away, dir.join(back)).unwrap();
        }
    }
    Warehouse::open_local(&dir).await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("warehouse")).unwrap();
    std::fs::create_dir(dir.path().join("gateways")).unwrap();
    std::fs::write(dir.path().join("gateways/notes.txt"), "x").unwrap();
    std::fs::write(dir.path().join("catalog.db"), "").unwrap();
    Warehouse::open_local(dir.path()).await.unwrap();
}
