//! The command line: `lakesync demo | serve | sql | push | compact | optimize | expire | vacuum | maintain | client |
//! generate | config | token`.
//!
//! **Invariant:** stdout carries data only; everything said to a person goes to stderr. Exit codes: 0
//! done, 1 failed, 2 wrong usage.

pub mod client;
pub mod connection;
pub mod demo;
pub mod generate;
pub mod maintain;
mod progress;
pub mod push;
pub mod remote;
pub mod render;
pub mod rows;
pub mod serve;
pub mod settings;
pub mod sql;
pub mod text_table;
pub mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A boxed error, for the outermost layer that only prints it.
pub type CliError = Box<dyn std::error::Error + Send + Sync>;

/// A local-first sync engine whose database is a data lake.
#[derive(Debug, Parser)]
#[command(name = "lakesync", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole of it in a fresh directory: three clients, a gateway, flush, compaction, SQL.
    Demo(demo::DemoArgs),
    /// Serves a data directory over HTTP until it is told to stop (Ctrl-C or SIGTERM).
    Serve(serve::ServeArgs),
    /// Runs SQL over hot and cold data: in this process, or through the server that holds the directory.
    Sql(sql::SqlArgs),
    /// Pushes the rows or deltas of an NDJSON file into a table.
    Push(push::PushArgs),
    /// Folds what a table has flushed into its base, so that every Iceberg reader sees it.
    Compact(maintain::CompactArgs),
    /// Folds, and puts a table's small, dead and unordered files right.
    Optimize(maintain::OptimizeArgs),
    /// Expires snapshots that the history does not keep, and deletes the files that only they reach.
    Expire(maintain::ExpireArgs),
    /// Lets go of everything that takes room and that the history does not need.
    Vacuum(maintain::VacuumArgs),
    /// Does all maintenance that is due, as a server does by itself.
    Maintain(maintain::MaintainArgs),
    /// A client's local database: make it, look into it, edit it, sync it.
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Prints the settings in force as TOML: what each means, its value, and where that came from.
    Config(settings::PrintArgs),
    /// Mints a token for a client, signed with the configured secret.
    Token(token::TokenArgs),
    /// Makes data to try things on.
    #[command(subcommand)]
    Generate(Generate),
}

#[derive(Debug, Subcommand)]
enum Generate {
    /// A table of the TPC-H benchmark, as NDJSON.
    Tpch(generate::TpchArgs),
}

/// Where the data is.
#[derive(Args, Clone, Debug)]
pub struct DirArgs {
    /// The data directory; it is made when there is none.
    #[arg(long, value_name = "DIR", default_value = "lakesync-data")]
    pub dir: PathBuf,
    /// The gateway, which is the SQL schema; `serve` and `push` make it when there is none.
    #[arg(long, value_name = "NAME", default_value = "public")]
    pub gateway: String,
}

/// Runs a parsed command line.
///
/// # Errors
/// Whatever the command failed with, ready to be printed.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Push(args) => push::run(args).await,
        Command::Compact(args) => maintain::compact(args).await,
        Command::Optimize(args) => maintain::optimize(args).await,
        Command::Expire(args) => maintain::expire(args).await,
        Command::Vacuum(args) => maintain::vacuum(args).await,
        Command::Maintain(args) => maintain::maintain(args).await,
        Command::Client(command) => client::run(command).await,
        Command::Config(args) => settings::print(&args),
        Command::Token(args) => token::run(&args),
        Command::Generate(Generate::Tpch(args)) => {
            generate::tpch(&args, std::io::stdout().lock(), std::io::stderr().lock())?;
            Ok(())
        }
    }
}
