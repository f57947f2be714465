//! A todo list in the terminal that works offline and syncs: two of them side by side are in the README.
//!
//! ```sh
//! lakesync serve &
//! cargo run -p lakesync-client --example todo -- ana.db --client-id ana --url http://localhost:7420
//! cargo run -p lakesync-client --example todo -- bo.db --client-id bo --url http://localhost:7420    # beside it
//! ```
//! Invariant: `todos.rs` is all that knows the data; the screen shows what its query gives and nothing else.

#![expect(unreachable_pub, reason = "a program has no one to publish to")]

mod frame;
mod lines;
mod link;
mod screen;
mod todos;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakesync_client::{HttpTransport, LocalDb, SystemClock, Transport};
use lakesync_proto::{ClientId, GatewayId};

use link::Link;
use todos::Todos;

const USAGE: &str =
    "usage: todo FILE [--client-id ID] [--url URL] [--gateway NAME] [--token TOKEN] [--offline]
  FILE         the local database; made when there is none, which needs --client-id
  --client-id  who this is: an id that no other database has
  --url        the server, as in http://localhost:7420; without it nothing is synced
  --gateway    the gateway there [default: public]
  --token      what to show it
  --offline    begin offline; the key o goes online
From a pipe it reads commands, a line each: help lists them.";

struct Arguments {
    file: PathBuf,
    client_id: Option<String>,
    url: Option<String>,
    gateway: String,
    token: Option<String>,
    offline: bool,
}

fn main() {
    let ran = arguments().and_then(|arguments| run(&arguments));
    if let Err(error) = ran {
        eprintln!("{error}");
        let mut source = error.source();
        while let Some(error) = source {
            eprintln!("  {error}");
            source = error.source();
        }
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let db = open(&arguments.file, arguments.client_id.as_deref())?;
    let todos = Todos::new(db)?;
    let transport = arguments.url.as_deref().map(|url| {
        let gateway = GatewayId::parse(&arguments.gateway)?;
        let transport = HttpTransport::new(url, gateway)?;
        Ok::<_, Box<dyn Error>>(match &arguments.token {
            Some(token) => transport.with_token(token),
            None => transport,
        })
    });
    let transport = transport.transpose()?;
    if !stdin().is_terminal() || !stdout().is_terminal() {
        let transport = transport
            .as_ref()
            .map(|transport| transport as &dyn Transport);
        return lines::run(&todos, transport, stdin().lock(), stdout());
    }
    let mut link = Link::new(todos.db().clone(), transport);
    if !arguments.offline {
        link.go_online();
    }
    let shown = screen::run(&todos, &mut link);
    link.go_offline();
    shown
}

fn open(file: &Path, client_id: Option<&str>) -> Result<LocalDb, Box<dyn Error>> {
    match client_id {
        Some(id) => Ok(LocalDb::open(
            file,
            ClientId::parse(id)?,
            Arc::new(SystemClock),
        )?),
        None if file.exists() => Ok(LocalDb::reopen(file, Arc::new(SystemClock))?),
        None => Err(format!(
            "{} is not there: a new one needs --client-id\n{USAGE}",
            file.display()
        )
        .into()),
    }
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut found = Arguments {
        file: PathBuf::new(),
        client_id: None,
        url: None,
        gateway: "public".to_owned(),
        token: None,
        offline: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || {
            given
                .next()
                .ok_or_else(|| format!("{argument} needs a value\n{USAGE}"))
        };
        match argument.as_str() {
            "--client-id" => found.client_id = Some(value()?),
            "--url" => found.url = Some(value()?),
            "--gateway" => found.gateway = value()?,
            "--token" => found.token = Some(value()?),
            "--offline" => found.offline = true,
            "-h" | "--help" => {
                drop(writeln!(stdout(), "{USAGE}"));
                std::process::exit(0);
            }
            option if option.starts_with('-') => return Err(USAGE.into()),
            _ if found.file.as_os_str().is_empty() => found.file = PathBuf::from(&argument),
            _ => return Err(USAGE.into()),
        }
    }
    match found.file.as_os_str().is_empty() {
        true => Err(USAGE.into()),
        false => Ok(found),
    }
}
