//! `lakesync client status`: where a client database stands.
//!
//! Invariant: without `--verify` nobody is asked, so it answers offline, at once. With it the numbers of both sides are of
//! one cursor, or it says that they cannot be compared yet.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use clap::Args;
use lakesync_client::{LocalDb, Overview, SchemaState, TableOverview, Transport as _};
use lakesync_proto::Cursor;
use serde_json::{Value as Json, json};

use super::address::{Address, TokenArgs, hint};
use super::{counted, explained, open};
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
        false => to_text((&db, file), &overview, address.as_ref(), verified.as_ref())?,
    };
    writeln!(std::io::stdout(), "{shown}")?;
    match verified {
        Some(Verified::Different { tables }) => Err(format!(
            "{} of {file} differ from the gateway; `lakesync client sync {file} --verify` loads what differs anew",
            tables.join(", "),
            file = file.display(),
        )
        .into()),
        _ => Ok(()),
    }
}

/// What the comparison with the gateway showed.
enum Verified {
    /// The two are at different places: the gateway has so many deltas more.
    Apart { deltas: u64 },
    /// The same rows, so many.
    Equal { rows: u64 },
    /// These tables are not the same.
    Different { tables: Vec<String> },
}

fn verify(
    db: &LocalDb,
    file: &Path,
    args: &StatusArgs,
    overview: &Overview,
) -> Result<Verified, CliError> {
    let transport = Address::of(db, file)?.transport(&args.token)?;
    let theirs = transport.digest(&db.client_id());
    let theirs = theirs.map_err(|error| hint(explained(error.into())))?;
    let ours = db.digest().map_err(explained)?;
    let Some(differing) = ours.differing(&theirs) else {
        let there: Cursor = theirs.cursor.parse()?;
        let deltas = there.seq.as_u64().saturating_sub(overview.seq.as_u64());
        return Ok(Verified::Apart { deltas });
    };
    Ok(match differing.is_empty() {
        true => Verified::Equal {
            rows: ours.tables.iter().map(|table| table.rows).sum(),
        },
        false => Verified::Different {
            tables: differing.iter().map(ToString::to_string).collect(),
        },
    })
}

fn to_text(
    (db, file): (&LocalDb, &Path),
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
            "refused   {}: `lakesync client outbox {} dead`",
            counted(outbox.rejected, "dead letter"),
            file.display()
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
    match verified {
        Verified::Apart { deltas } => format!(
            "cannot be compared yet: the gateway is {} ahead; `lakesync client sync` first",
            counted(*deltas, "delta")
        ),
        Verified::Equal { rows: 1 } => "the one confirmed row is the gateway's".to_owned(),
        Verified::Equal { rows } => format!("{rows} confirmed rows are the gateway's"),
        Verified::Different { tables } => format!("different: {}", tables.join(", ")),
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
        "verified": verified.map(|verified| match verified {
            Verified::Apart { deltas } => json!({ "lag": deltas }),
            Verified::Equal { rows } => json!({ "equal": true, "rows": rows }),
            Verified::Different { tables } => json!({ "equal": false, "tables": tables }),
        }),
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
