//! `lakesync sql`: statements in, rows out; embedded or through the server, with no flag.

use std::io::{Read as _, Stdout, Write as _, stdout};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::util::display::array_value_to_string;
use clap::Args;
use datafusion::prelude::DataFrame;
use futures::StreamExt as _;
use lakesync_proto::GatewayId;
use ureq::BodyReader;

use super::connection::Connection;
use super::progress;
use super::remote::Remote;
use super::render::{Format, RenderError, RowWriter};
use super::{CliError, DirArgs};
use crate::dml::writes;
use crate::lake::Lake;
use crate::server::ARROW_STREAM;
use crate::statement::Access;
use crate::syntax::{LakeStatement, SQL_BYTES_MAX, parse, split};

/// What `lakesync sql` is asked for.
#[derive(Args, Debug)]
pub struct SqlArgs {
    #[command(flatten)]
    place: DirArgs,
    /// The statements, separated by semicolons; without it they are read from standard input.
    #[arg(short, long, value_name = "SQL")]
    command: Option<String>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Runs the statements one after another; the first that fails ends it.
///
/// # Errors
/// When the directory cannot be reached or a statement fails.
pub async fn run(args: SqlArgs) -> Result<(), CliError> {
    let text = match args.command {
        Some(text) => text,
        None => {
            let mut text = String::new();
            std::io::stdin()
                .take(SQL_BYTES_MAX as u64 + 1)
                .read_to_string(&mut text)?;
            text
        }
    };
    let statements = split(&text)?;
    let connection = Connection::open(&args.place.dir, &args.place.gateway).await?;
    for sql in statements {
        let written = match &connection {
            Connection::Embedded { lake, gateway } => {
                embedded(lake, gateway, sql, args.format).await
            }
            Connection::Server(server) => {
                let (server, sql, format) = (Arc::clone(server), sql.to_owned(), args.format);
                tokio::task::spawn_blocking(move || remote(&server, &sql, format)).await?
            }
        };
        match written {
            Err(error) if is_closed_output(error.as_ref()) => return Ok(()),
            written => note(args.format, written?),
        }
    }
    Ok(())
}

async fn embedded(
    lake: &Lake,
    gateway: &GatewayId,
    sql: &str,
    format: Format,
) -> Result<usize, CliError> {
    let Some(statement) = parse(sql)?.pop() else {
        return Ok(0);
    };
    let frame = planned(lake, gateway, statement).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let mut rows = Output::new(format, &schema)?;
    let mut batches = frame.execute_stream().await.map_err(crate::Error::from)?;
    while let Some(batch) = batches.next().await {
        rows.write(&batch.map_err(crate::Error::from)?)?;
    }
    rows.finish()
}

/// Plans a statement; a call, which runs at once, shows how far it is.
async fn planned(
    lake: &Lake,
    gateway: &GatewayId,
    statement: LakeStatement,
) -> Result<DataFrame, crate::Error> {
    let is_call = matches!(statement, LakeStatement::Call(_));
    let run = lake.run(statement, Access::Everything, gateway);
    match is_call {
        true => progress::shown(lake, run).await,
        false => run.await,
    }
}

/// All rows of one statement.
pub(super) struct Answer {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
}

/// Runs one statement whose answer is small.
///
/// # Errors
/// When it cannot be sent, or fails.
pub(super) async fn answer(connection: &Connection, sql: &str) -> Result<Answer, CliError> {
    match connection {
        Connection::Embedded { lake, gateway } => {
            let statement = parse(sql)?.pop().ok_or("there is no statement")?;
            let frame = planned(lake, gateway, statement).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            let batches = frame.collect().await.map_err(crate::Error::from)?;
            Ok(Answer { schema, batches })
        }
        Connection::Server(server) => {
            let (server, sql) = (Arc::clone(server), sql.to_owned());
            let ask = move || -> Result<Answer, CliError> {
                let statement = parse(&sql)?.pop().ok_or("there is no statement")?;
                let batches = asked(&server, &sql, &statement)?;
                let schema = batches.schema();
                let batches = batches.collect::<Result<_, _>>()?;
                Ok(Answer { schema, batches })
            };
            tokio::task::spawn_blocking(ask).await?
        }
    }
}

fn remote(server: &Remote, sql: &str, format: Format) -> Result<usize, CliError> {
    let Some(statement) = parse(sql)?.pop() else {
        return Ok(0);
    };
    let batches = asked(server, sql, &statement)?;
    let schema = batches.schema();
    let mut rows = Output::new(format, &schema)?;
    for batch in batches {
        rows.write(&batch?)?;
    }
    rows.finish()
}

/// The rows that the server answers a statement with, as they come.
fn asked(
    server: &Remote,
    sql: &str,
    statement: &LakeStatement,
) -> Result<StreamReader<BodyReader<'static>>, CliError> {
    let path = match reads(statement) {
        true => "/v1/sql",
        false => "/v1/admin/sql",
    };
    let body = serde_json::json!({ "sql": sql, "gateway": server.gateway() }).to_string();
    let answer = server.post(path, body.as_bytes(), ARROW_STREAM)?;
    let body = answer
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    Ok(StreamReader::try_new(body, None)?)
}

/// Where rows go: a plan is printed as the text that it is, everything else in the format asked for.
enum Output {
    Rows(RowWriter<Stdout>),
    Plan(usize),
}

impl Output {
    fn new(format: Format, schema: &SchemaRef) -> Result<Self, CliError> {
        let is_plan = schema
            .fields()
            .iter()
            .map(|field| field.name())
            .eq(["plan_type", "plan"]);
        match is_plan && format == Format::Table {
            true => Ok(Self::Plan(0)),
            false => Ok(Self::Rows(RowWriter::new(format, schema, stdout())?)),
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), CliError> {
        match self {
            Self::Rows(rows) => Ok(rows.write(batch)?),
            Self::Plan(count) => {
                for row in 0..batch.num_rows() {
                    let cell = |column: usize| array_value_to_string(batch.column(column), row);
                    writeln!(stdout(), "── {} ──\n{}\n", cell(0)?, cell(1)?.trim_end())
                        .map_err(RenderError::from)?;
                    *count += 1;
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<usize, CliError> {
        match self {
            Self::Rows(rows) => Ok(rows.finish()?),
            Self::Plan(count) => Ok(count),
        }
    }
}

/// Whether the endpoint that only reads takes the statement; when in doubt it may judge.
fn reads(statement: &LakeStatement) -> bool {
    match statement {
        LakeStatement::Call(_) => false,
        LakeStatement::Query(statement) => !writes(statement),
        LakeStatement::ExplainCall { .. } => true,
        LakeStatement::Ddl(ddl) => ddl.reads(),
    }
}

fn note(format: Format, rows: usize) {
    if format == Format::Table {
        let noun = if rows == 1 { "row" } else { "rows" };
        drop(writeln!(std::io::stderr(), "({rows} {noun})"));
    }
}

fn is_closed_output(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<RenderError>()
        .is_some_and(RenderError::is_closed_output)
}
