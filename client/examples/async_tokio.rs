//! Syncing inside an async program: `cargo run --example async_tokio -- todos.db http://127.0.0.1:7420`.
//!
//! The crate itself knows no runtime. What it needs of one is two functions, which are below for tokio.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lakesync_client::{
    AsyncSync, HttpTransport, LocalDb, Runtime, SessionOptions, SystemClock, Wish,
};
use lakesync_proto::{ClientId, GatewayId};

struct Tokio;

impl Runtime for Tokio {
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a runtime's sleep is what the driver asks for"
    )]
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(time))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "async_tokio FILE URL [GATEWAY]";
    let file = arguments.next().ok_or(usage)?;
    let url = arguments.next().ok_or(usage)?;
    let gateway = arguments.next().unwrap_or_else(|| "public".to_owned());

    let db = LocalDb::open(
        &file,
        ClientId::parse("async-example")?,
        Arc::new(SystemClock),
    )?;
    let transport = HttpTransport::new(&url, GatewayId::parse(&gateway)?)?;
    let sync = AsyncSync::new(db.clone(), transport, SessionOptions::default());
    let remote = sync.remote();
    let running = tokio::spawn(async move { sync.run(&Tokio).await });

    // The program goes on with its own work here. This one shows how syncing goes, until somebody presses Ctrl-C.
    let shown = db
        .watch_status()
        .on_change(|status| eprintln!("{status:?}"));
    tokio::signal::ctrl_c().await?;
    remote.wish(Wish::Stop);
    let status = running.await?;
    drop(shown);
    eprintln!("ended: {:?}", status.phase);
    Ok(())
}
