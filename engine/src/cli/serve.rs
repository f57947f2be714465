//! `lakesync serve`.

use std::net::SocketAddr;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, DirArgs};
use crate::lake::Lake;
use crate::server::Server;

/// What `lakesync serve` is asked for.
#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    place: DirArgs,
    /// The address to listen on; port 0 picks a free one. Loopback only, as there is no authentication yet.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the directory cannot be opened or the address cannot be listened on.
pub async fn run(args: ServeArgs) -> Result<(), CliError> {
    let gateway = lakesync_proto::GatewayId::parse(&args.place.gateway)?;
    let lake = Lake::builder(&args.place.dir)
        .with_gateway(gateway)
        .open()
        .await?;
    let server = Server::bind(lake.clone(), args.listen).await?;
    eprintln!(
        "{} holds {}",
        lake.directory().root().display(),
        tables(&lake)
    );
    eprintln!("listening on {}", server.url());
    eprintln!("no authentication: only this machine can reach it. Stop with Ctrl-C");
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("stopping: requests under way are finished first");
    };
    server.run(stop).await?;
    Ok(())
}

fn tables(lake: &Lake) -> String {
    let count: usize = lake
        .gateways()
        .map(|gateway| gateway.live().schemas().len())
        .sum();
    match count {
        0 => "no tables yet; make one with POST /v1/admin/schema/public, or `lakesync push`"
            .to_owned(),
        1 => "1 table".to_owned(),
        count => format!("{count} tables"),
    }
}
