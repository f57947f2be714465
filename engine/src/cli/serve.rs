//! `lakesync serve`.
//!
//! Steps: read the configuration → log → open the lake → listen → look after it → on the first signal stop listening,
//! finish what is under way, flush, and end with 0; a second signal ends at once.
//!
//! **Invariant:** what was acknowledged is in the durable log before any of this, so ending at once loses no data.

use std::io::Write as _;
use std::net::SocketAddr;

use clap::Args;
use lakesync_proto::GatewayId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::connection::lake_of;
use super::settings::ConfigArgs;
use super::{CliError, DirArgs};
use crate::config::{Config, LogFormat};
use crate::lake::Lake;
use crate::logs;
use crate::server::{ServeOptions, Server};
use crate::upkeep::{Upkeep, UpkeepOptions};

/// The exit code after a second signal: that of Ctrl-C.
const AT_ONCE: i32 = 130;

/// What `lakesync serve` is asked for.
#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    place: DirArgs,
    #[command(flatten)]
    settings: ConfigArgs,
    /// The address to listen on; port 0 picks a free one [default: 127.0.0.1:7420]. Loopback only without [auth].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// When a setting is wrong, the directory cannot be opened, or the address cannot be listened on.
pub async fn run(args: ServeArgs) -> Result<(), CliError> {
    let mut sources = args.settings.sources(&args.place)?;
    if let Some(listen) = args.listen {
        sources = sources.with_flag("--listen", "server.listen", &listen.to_string());
    }
    let config = Config::read(&sources)?;
    logs::begin(&config.log)?;
    let named = GatewayId::parse(&args.place.gateway)?;
    let lake = lake_of(&args.place.dir, &config);
    let gateways = config.gateways.iter().cloned().chain([named]);
    let lake = gateways.fold(lake, |lake, gateway| lake.with_gateway(gateway));
    let lake = lake.open().await?;
    let server = Server::bind_with(lake.clone(), options(&config)).await?;
    let upkeep = UpkeepOptions {
        connectors: config.connectors.clone(),
    };
    let upkeep = Upkeep::start(&lake, &server, upkeep)?;
    let signals = Signals::new()?;
    greet(&config, &lake, &server.url());
    let format = config.log.format;
    let served = server.run(signals.first(format)).await;
    upkeep.stop().await?;
    served?;
    say(format, "stopped: everything is flushed");
    Ok(())
}

fn options(config: &Config) -> ServeOptions {
    ServeOptions {
        listen: config.server.listen,
        tls: config.server.tls.clone(),
        auth: config.auth.clone(),
        http: config.http.clone(),
        drain: config.server.drain,
        idle: config.server.idle,
        tcp_connections: config.server.tcp_connections,
        statements: config.statements,
    }
}

/// What a person who starts a server wants to know.
fn greet(config: &Config, lake: &Lake, url: &str) {
    let format = config.log.format;
    let held = format!(
        "{} holds {}",
        lake.directory().root().display(),
        tables(lake)
    );
    say(format, &held);
    say(format, &format!("listening on {url}"));
    let open = !config.server.listen.ip().is_loopback();
    if open {
        say(
            format,
            &format!("other machines reach it at {}", config.server.listen),
        );
    }
    match (&config.auth, &config.server.tls) {
        (None, _) => say(
            format,
            "no authentication: only this machine can reach it. Stop with Ctrl-C",
        ),
        (Some(_), None) if open => say(
            format,
            "tokens travel in the clear: put a proxy with TLS before it, or set server.tls. Stop with Ctrl-C",
        ),
        (Some(auth), _) if auth.hs256.is_empty() => {
            say(
                format,
                "tokens of the key set are asked for. Stop with Ctrl-C",
            );
        }
        (Some(_), _) => say(
            format,
            "tokens are asked for; `lakesync token` mints one. Stop with Ctrl-C",
        ),
    }
}

/// Says something to whoever watches stderr: a person, or a program that reads JSON lines.
fn say(format: LogFormat, text: &str) {
    match format {
        // Whoever watched may be gone, which is no reason to stop serving.
        LogFormat::Text => drop(writeln!(std::io::stderr(), "{text}")),
        LogFormat::Json => tracing::info!("{text}"),
    }
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

/// What ends the process: Ctrl-C and SIGTERM, heard from now on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Resolves at the first signal; the second ends the process, whatever it is at.
    async fn first(mut self, format: LogFormat) {
        self.next().await;
        say(
            format,
            "stopping: requests under way are finished, then everything is flushed; once more ends it at once",
        );
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(AT_ONCE);
        });
    }
}
