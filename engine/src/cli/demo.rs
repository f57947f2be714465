//! ★ `lakesync demo`: the main job from end to end, in a fresh directory, with everything real.
//!
//! Steps: open and serve → three clients with skewed clocks share rows, go offline, edit the same rows in plain SQL,
//! sync over HTTP → the same query before the flush, after it, after the compaction, after a late delta →
//! a query as of an earlier snapshot → the files. Every answer is compared with what the clients hold.

mod report;
mod story;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use lakesync_client::HttpTransport;
use lakesync_proto::GatewayId;
use tokio::sync::oneshot;

use super::CliError;
use crate::lake::Lake;
use crate::server::Server;
use report::Report;
use story::Story;

/// What `lakesync demo` is asked for.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// The data directory, which must be new; by default one is made under the system's temporary folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// When a step fails, or two answers that must be equal are not.
pub async fn run(args: DemoArgs) -> Result<(), CliError> {
    let dir = match args.dir {
        Some(dir) if dir.exists() => {
            return Err(format!("{} exists; the demo wants a new directory", dir.display()).into());
        }
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("lakesync-demo-{}", uuid::Uuid::now_v7())),
    };
    let lake = Lake::open(&dir).await?;
    let root = lake.directory().root().to_owned();
    let server = Server::bind(lake.clone(), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let url = server.url();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move { drop(stopped.await) }));
    let mut report = Report::new();
    report.title(&format!(
        "A gateway at {url}, its lake in {}",
        root.display()
    ))?;
    let told = tell(&lake, &url, &root, &mut report).await;
    drop(stop);
    serving.await??;
    told?;
    drop(lake);
    report.say(&format!(
        "All {} answers agree. Look around with\n  lakesync sql --dir {} -c 'select * from tasks'",
        report.checks(),
        root.display()
    ))?;
    Ok(())
}

async fn tell(lake: &Lake, url: &str, root: &Path, report: &mut Report) -> Result<(), CliError> {
    let transport = Arc::new(HttpTransport::new(url, GatewayId::parse("public")?)?);
    lake.create_table(story::TABLE).await?;
    let clients = root.join("demo-clients");
    std::fs::create_dir(&clients)?;

    let (story, shared) = story::blocking(Story::begin(clients, transport), Story::share).await?;
    report.title("Three clients, each with its own SQLite database, share four tasks")?;
    report.clocks(&story)?;
    report.rows(&shared)?;

    let (story, edits) = story::blocking(story, Story::edit_offline).await?;
    report.title("Offline, they edit the same tasks, in plain SQL on their own databases")?;
    report.edits(&edits)?;

    let (story, converged) = story::blocking(story, Story::sync_all).await?;
    report.title("They sync over HTTP, and all three hold the same rows")?;
    report.converged(&converged)?;

    const QUERY: &str = "select id, title, status, points, owner from tasks order by id";
    report.title("SQL over the hot deltas, before any flush")?;
    report.query(lake, QUERY, Some(&converged[0].rows)).await?;

    report.title("Flush: the deltas become Parquet, one Iceberg snapshot of the log")?;
    report
        .query(lake, "call system.flush('tasks')", None)
        .await?;
    report.query(lake, QUERY, Some(&converged[0].rows)).await?;

    report.title("Compaction: the log is folded into the base table, by a SQL plan")?;
    report
        .query(lake, "call system.compact('tasks')", None)
        .await?;
    report.query(lake, QUERY, Some(&converged[0].rows)).await?;

    let (story, late) = story::blocking(story, Story::late_edit).await?;
    report.title("A late edit arrives: stamped before the compaction, it loses the cell that was written since")?;
    report.edits(&late)?;
    let (_, now) = story::blocking(story, Story::sync_all).await?;
    report.query(lake, QUERY, Some(&now[0].rows)).await?;
    report.converged(&now)?;

    report.title("The past stays: the same query as of the flush")?;
    let snapshot = report.log_snapshot(lake).await?;
    report
        .query(
            lake,
            "select kind, snapshot_id, operation, seq, total_rows from \"tasks$snapshots\"",
            None,
        )
        .await?;
    let past = format!(
        "select id, title, status, points, owner from tasks version as of {snapshot} order by id"
    );
    report.query(lake, &past, Some(&converged[0].rows)).await?;

    report.title("Where the files lie")?;
    report.files(root)?;
    Ok(())
}
