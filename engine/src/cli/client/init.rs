//! `lakesync client init`: makes a local database, or tells one that is there its gateway.
//!
//! Invariant: a gateway that says no is told before a file is made; one that is away is no reason to make none.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lakesync_client::{HttpTransport, LocalDb, Transport as _, TransportError};
use lakesync_proto::{ClientId, GatewayId, TableDefinition, TableSchema};

use super::address::{Address, TokenArgs, hint, read_token};
use super::{explained, unopened};
use crate::cli::CliError;
use crate::clock::SystemClock;

const EXAMPLES: &str = "\
Examples:
  lakesync client init ana.db --client-id ana --url http://localhost:7420
      the tables are the gateway's; without a gateway in reach they come with the first sync
  lakesync client init ana.db --client-id ana --url http://localhost:7420 --schema todos.json --create-tables
      todos.json: {\"table\": \"todos\", \"columns\": [{\"name\": \"title\", \"type\": \"string\"}]}
  lakesync client init ana.db --client-id ana --url https://sync.example.org --token-file ana.token
      again, to move to another address; rows and edits stay";

/// What `lakesync client init` is asked for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    #[command(flatten)]
    file: super::FileArgs,
    /// The id that this database's edits carry, and no other database's; with a token its `sub`.
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The server, as in http://localhost:7420; kept in the file.
    #[arg(long)]
    url: String,
    /// The gateway there; kept in the file.
    #[arg(long, value_name = "NAME", default_value = "public")]
    gateway: String,
    /// A file that holds the token to show; its path is kept in the file, the token is not.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    token: TokenArgs,
    /// A table to make here, as JSON of the form that the gateway takes; may be given several times.
    #[arg(long, value_name = "FILE")]
    schema: Vec<PathBuf>,
    /// Makes the tables of --schema on the gateway too, which takes an admin's token there.
    #[arg(long, requires = "schema")]
    create_tables: bool,
}

/// Makes the database and its tables.
pub(super) fn run(args: &InitArgs) -> Result<(), CliError> {
    let client_id = ClientId::parse(&args.client_id)?;
    let definitions = args.schema.iter().map(definition);
    let definitions = definitions.collect::<Result<Vec<_>, _>>()?;
    if let Some(file) = &args.token_file {
        read_token(file)?;
    }
    let address = Address {
        url: args.url.clone(),
        gateway: GatewayId::parse(&args.gateway)?,
        token_file: args.token_file.as_ref().map(absolute).transpose()?,
    };
    let transport = address.transport(&args.token)?;
    if args.create_tables {
        for definition in &definitions {
            transport
                .put_schema(definition)
                .map_err(|error| hint(explained(error.into())))?;
        }
    }
    let theirs = their_schemas(&transport)?;
    let path = &args.file.file;
    let db = LocalDb::open(path, client_id, Arc::new(SystemClock));
    let db = db.map_err(|error| unopened(path, error))?;
    let own = definitions.iter().map(TableSchema::from_definition);
    let own = own.collect::<Result<Vec<_>, _>>()?;
    for schema in own.iter().chain(theirs.iter().flatten()) {
        db.register(schema).map_err(explained)?;
    }
    address.keep(&db).map_err(explained)?;
    say(&db, args, theirs.as_deref())
}

fn definition(file: &PathBuf) -> Result<TableDefinition, CliError> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let body = fs::read(file).map_err(|error| at(&error))?;
    Ok(TableDefinition::from_json(&body).map_err(|error| at(&error))?)
}

/// The database may be used from anywhere, so a path in it means one file.
fn absolute(file: &PathBuf) -> Result<PathBuf, CliError> {
    Ok(std::path::absolute(file)?)
}

/// The gateway's tables; none when it is away.
fn their_schemas(transport: &HttpTransport) -> Result<Option<Vec<TableSchema>>, CliError> {
    match transport.schemas() {
        Ok(schemas) => Ok(Some(schemas)),
        Err(error @ TransportError::Unreachable { .. }) => {
            drop(writeln!(
                std::io::stderr(),
                "{}\nthe database works offline, and tables come with the first sync",
                hint(explained(error.into()))
            ));
            Ok(None)
        }
        Err(error) => Err(hint(explained(error.into()))),
    }
}

fn say(db: &LocalDb, args: &InitArgs, theirs: Option<&[TableSchema]>) -> Result<(), CliError> {
    let file = args.file.file.display();
    let overview = db.overview().map_err(explained)?;
    let mut tables = Vec::new();
    for table in &overview.tables {
        let unknown = theirs.is_some_and(|theirs| theirs.iter().all(|s| s.table != table.table));
        tables.push(match unknown {
            true => format!(
                "{} (the gateway has none of that name: its edits wait)",
                table.table
            ),
            false => table.table.to_string(),
        });
    }
    let tables = match tables.is_empty() {
        true => "none yet".to_owned(),
        false => tables.join(", "),
    };
    let mut out = std::io::stderr();
    writeln!(
        out,
        "{file}: client {} of gateway {} at {}\ntables: {tables}",
        db.client_id(),
        args.gateway,
        args.url
    )?;
    Ok(())
}
