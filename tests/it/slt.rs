//! The files of `tests/slt`, each against a lake of its own. `LAKESYNC_SLT_UPDATE=1` writes what was answered into them,
//! to be read before it is kept; `LAKESYNC_SLT=travel` runs those whose name holds the word.

use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use lakesync_tests::script::ScriptedLake;
use sqllogictest::{Runner, default_column_validator, default_normalizer, default_validator};

/// How many files run at a time.
const AT_A_TIME: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_answers_as_its_file_says() {
    let wanted = std::env::var("LAKESYNC_SLT").unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let listed = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = listed.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "slt"));
    files.retain(|file| file.to_string_lossy().contains(&wanted));
    files.sort();
    assert!(!files.is_empty(), "no file has `{wanted}` in its name");
    let ran = futures::stream::iter(files).map(|file| async move { (run(&file).await, file) });
    let ran: Vec<_> = ran.buffer_unordered(AT_A_TIME).collect().await;
    let failed = ran.into_iter().filter_map(|(said, file)| {
        let said = said.err()?;
        Some(format!("{}\n{said}", file.display()))
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

async fn run(file: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("lake");
    let mut runner = Runner::new(|| async { Ok(ScriptedLake::open(place.clone()).await) });
    let ran = match std::env::var_os("LAKESYNC_SLT_UPDATE").filter(|set| !set.is_empty()) {
        None => runner.run_file_async(file).await.map_err(|error| {
            let error = error.display(false);
            error.to_string()
        }),
        Some(_) => runner
            .update_test_file(
                file,
                " ",
                default_validator,
                default_normalizer,
                default_column_validator,
            )
            .await
            .map_err(|error| error.to_string()),
    };
    runner.shutdown_async().await;
    ran
}
