//! `lakesync client status`: where a client database stands.
//!
//! Invariant: without `--verify` nobody is asked, so it answers offline, at once. With it the numbers of both sides are of
//! one cursor, or it says that they cannot be compared yet.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use clap::Args;
use lakesync_client::{LocalDb, Overview, SchemaState, TableDigest, TableOverview, Transport as _};
use lakesync_proto::Cursor;
use serde_json::{Value as Json, json};

use super::address::{Address, TokenArgs, hint};
use super::{explained, open};
use crate::cli::CliError;
use crate::cli::text_table::TextTable;

const EXAMPLES: &str = "\
Examples:
  lakesync client status ana.db
  lakesync client status ana.db --verify     # asks the gateway for its sums, and compares table by table
  lakesync client status ana.db --json | jq .outbox.pending";

/// What `lakesync client status` is asked for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    #[command(flatten)]
    file: super::FileArgs,
    /// Writes one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Asks the gateway for the sums over its rows and compares them with those here; a difference ends with 1.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    token: TokenArgs,
}

/// Shows it.
pub(super) fn run(args: &StatusArgs) -> Result<(), CliError> {
    let file = &args.file.file;
    let db = open(file)?;
    let overview = db.overview().map_err(explained)?;
    let verified = match args.verify {
        true => Some(verify(&db, file, args, &overview)?),
        false => None,
    };
    let address = Address::of(&db, file).ok();
    let shown = match args.json {
        true => to_json(&db, &overview, address.as_ref(), verified.as_ref()).to_string(),
        false => to_text(&db, &overview, address.as_ref(), verified.as_ref())?,
    };
    writeln!(std::io::stdout(), "{shown}")?;
    match verified {
        Some(verified) if !verified.differing.is_empty() => Err(format!(
            "{} differ from the gateway; `lakesync client sync {} --verify` loads them anew",
            verified.differing.join(", "),
            file.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// What the comparison with the gateway showed.
struct Verified {
    /// Deltas that the gateway has and this database does not, when the two are not at one place.
    lag: Option<u64>,
    differing: Vec<String>,
    tables: Vec<(TableDigest, TableDigest)>,
}

fn verify(
    db: &LocalDb,
    file: &Path,
    args: &StatusArgs,
    overview: &Overview,
) -> Result<Verified, CliError> {
    let transport = Address::of(db, file)?.transport(&args.token)?;
    let theirs = transport
        .digest(&db.client_id())
        .map_err(|error| hint(error.into()))?;
    let ours = db.digest().map_err(explained)?;
    let there: Cursor = theirs.cursor.parse()?;
    let lag = there.seq.as_u64().saturating_sub(overview.seq.as_u64());
    if lag > 0 || overview.epoch.as_ref() != Some(&there.epoch) {
        return Ok(Verified {
            lag: Some(lag),
            differing: Vec::new(),
            tables: Vec::new(),
        });
    }
    let empty = |table: &TableDigest| TableDigest {
        table: table.table.clone(),
        rows: 0,
        cells: 0,
        hash: 0,
    };
    let find = |tables: &[TableDigest], wanted: &TableDigest| {
        let mut tables = tables.iter();
        let found = tables.find(|table| table.table == wanted.table);
        found.cloned().unwrap_or_else(|| empty(wanted))
    };
    // A table that one side does not have is a table without rows.
    let mut tables: Vec<_> = theirs.tables.iter().collect();
    let known = |table: &&TableDigest| theirs.tables.iter().any(|t| t.table == table.table);
    tables.extend(ours.tables.iter().filter(|table| !known(table)));
    let pairs = tables
        .into_iter()
        .map(|table| (find(&ours.tables, table), find(&theirs.tables, table)));
    let pairs: Vec<_> = pairs.collect();
    let differing = pairs.iter().filter(|(ours, theirs)| ours != theirs);
    Ok(Verified {
        lag: None,
        differing: differing.map(|(ours, _)| ours.table.to_string()).collect(),
        tables: pairs,
    })
}

fn to_text(
    db: &LocalDb,
    overview: &Overview,
    address: Option<&Address>,
    verified: Option<&Verified>,
) -> Result<String, CliError> {
    let mut text = String::new();
    writeln!(text, "client    {}", db.client_id())?;
    match address {
        Some(address) => writeln!(text, "gateway   {} at {}", address.gateway, address.url)?,
        None => writeln!(
            text,
            "gateway   not known to this file (`lakesync client init`)"
        )?,
    }
    writeln!(text, "place     {}", place(overview))?;
    if overview.skew_ms != 0 {
        let seconds = overview.skew_ms.unsigned_abs() / 1_000;
        let side = if overview.skew_ms > 0 {
            "behind"
        } else {
            "ahead of"
        };
        writeln!(
            text,
            "clock     {seconds} s {side} the gateway's; stamps follow the gateway's"
        )?;
    }
    let outbox = &overview.outbox;
    writeln!(
        text,
        "outbox    {} wait, {} on their way, {} acknowledged, {} kept until the warehouse has them",
        outbox.pending, outbox.in_flight, outbox.acknowledged, outbox.kept
    )?;
    if outbox.rejected > 0 {
        writeln!(
            text,
            "refused   {} dead letters: `lakesync client outbox FILE dead`",
            outbox.rejected
        )?;
    }
    if let Some(verified) = verified {
        writeln!(text, "verified  {}", verdict(verified))?;
    }
    if overview.tables.is_empty() {
        text.push_str("no tables yet: they come with the first sync");
    } else {
        let mut table = TextTable::new(["table", "rows", "waiting", "schema"]);
        for known in &overview.tables {
            let (rows, waiting) = (known.rows.to_string(), known.waiting.to_string());
            table.row([
                known.table.to_string(),
                rows,
                waiting,
                schema(overview, known),
            ]);
        }
        write!(text, "{table}")?;
    }
    Ok(text)
}

fn place(overview: &Overview) -> String {
    match (&overview.cursor, overview.is_loading) {
        (_, true) => "a first sync was begun; `lakesync client sync` goes on with it".to_owned(),
        (None, false) => "never synced".to_owned(),
        (Some(_), false) => format!(
            "everything up to seq {}; the warehouse has everything up to {}",
            overview.seq.as_u64(),
            overview.durable.as_u64()
        ),
    }
}

fn schema(overview: &Overview, table: &TableOverview) -> String {
    match &table.schema {
        None if overview.knows_gateway => "as the gateway's".to_owned(),
        None => "the gateway has not been asked".to_owned(),
        Some(SchemaState::GatewayBehind { .. }) => {
            "the gateway lacks columns: edits of them wait".to_owned()
        }
        Some(SchemaState::GatewayAhead) => {
            "the gateway has more columns: they come with the first edit of them".to_owned()
        }
        Some(SchemaState::Conflict { reason }) => format!("conflict: {reason}"),
        Some(SchemaState::UnknownToGateway { .. }) => {
            "the gateway has no such table: edits wait".to_owned()
        }
        Some(_) => "differs from the gateway's".to_owned(),
    }
}

fn verdict(verified: &Verified) -> String {
    match verified.lag {
        Some(lag) => format!(
            "cannot be compared yet: the gateway is {lag} deltas ahead; `lakesync client sync` first"
        ),
        None if verified.differing.is_empty() => {
            let rows: u64 = verified.tables.iter().map(|(ours, _)| ours.rows).sum();
            format!(
                "equal: {} tables, {rows} confirmed rows",
                verified.tables.len()
            )
        }
        None => format!("different: {}", verified.differing.join(", ")),
    }
}

fn to_json(
    db: &LocalDb,
    overview: &Overview,
    address: Option<&Address>,
    verified: Option<&Verified>,
) -> Json {
    let tables = overview.tables.iter().map(|table| {
        json!({
            "table": table.table.as_ref(),
            "rows": table.rows,
            "waiting": table.waiting,
            "schema": schema_word(overview, table),
        })
    });
    let outbox = &overview.outbox;
    json!({
        "clientId": db.client_id().as_ref(),
        "url": address.map(|address| &address.url),
        "gateway": address.map(|address| address.gateway.as_ref()),
        "seq": overview.seq.as_u64(),
        "epoch": overview.epoch.as_ref().map(AsRef::as_ref),
        "durable": overview.durable.as_u64(),
        "skewMs": overview.skew_ms,
        "synced": overview.cursor.is_some() && !overview.is_loading,
        "outbox": {
            "pending": outbox.pending,
            "inFlight": outbox.in_flight,
            "acknowledged": outbox.acknowledged,
            "kept": outbox.kept,
            "rejected": outbox.rejected,
        },
        "tables": tables.collect::<Vec<_>>(),
        "verified": verified.map(|verified| json!({
            "lag": verified.lag.unwrap_or(0),
            "equal": verified.lag.is_none() && verified.differing.is_empty(),
            "differing": verified.differing,
        })),
    })
}

fn schema_word(overview: &Overview, table: &TableOverview) -> &'static str {
    match &table.schema {
        None if overview.knows_gateway => "same",
        None => "notAsked",
        Some(SchemaState::GatewayBehind { .. }) => "gatewayBehind",
        Some(SchemaState::GatewayAhead) => "gatewayAhead",
        Some(SchemaState::Conflict { .. }) => "conflict",
        Some(SchemaState::UnknownToGateway { .. }) => "unknownToGateway",
        Some(_) => "other",
    }
}
